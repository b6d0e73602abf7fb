//! Layers fitted to a reference network by least squares, without a gradient.
//!
//! Both networks run the same inputs, node by node. Where the smaller one comes to a convolution or matrix product whose
//! output differs from the reference's, its weights are replaced by the solution of `min Σ ‖W x + b − y‖²`: `x` is what the
//! layer reads behind the layers that were fitted before it, `y` the reference's output at the channels the layer has (He et
//! al., ICCV 2017, who fit the layer after the cut; here all layers behind it). Where the output is added to something else,
//! `y` is what is missing from the reference's *sum*, so that the error of the other operand is made up for as well (ibid.,
//! section 3.3).
//!
//! The weights that a layer had are the origin of the ridge: no layer gets worse on the samples than it was.

mod normal;
mod place;
mod samples;

use std::collections::HashMap;
use std::sync::Arc;

use burn_backend::DType;
use burn_flex::Flex;
use graph::{Facts, NodeId, ValueId};

use crate::data::Batch;
use crate::error::{Error, Result};
use crate::network::{Mode, Network, Step};
use crate::ops;
use crate::run::Run;
use crate::tensors;
use normal::{Change, Moments, best_change};
use place::{Intercept, Place, Target};
use samples::{Host, Outputs, Reads};

/// Samples per unknown of a layer that are taken, where there are so many.
const PER_UNKNOWN: usize = 32;

/// Samples of a layer that are taken at least, where there are so many.
const LEAST: usize = 4096;

/// Multiply-accumulates that the sums of one layer may take before samples are left out.
const EFFORT: usize = 40_000_000_000;

/// Every this many images one is held back to choose the ridge on.
const HELD: usize = 5;

/// Largest difference of a layer's output to the reference's, relative to the largest output, that is rounding.
const ROUNDING: f32 = 1e-5;

/// What became of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Node.
    pub node: String,
    /// Squared error of its outputs before, as a share of the variance of what they should be.
    pub before: f64,
    /// The same after.
    pub after: f64,
    /// The ridge, as a share of the mean squared input; `None` where no weights predicted better than those it had.
    pub ridge: Option<f64>,
}

/// Fits the layers of `network` to `reference`, from which it was cut, on `batches`. `kept` tells, by weight, which of the
/// reference's output channels the layer has; weights that are not in it are left as they are. Layers come back in the
/// order in which they were fitted; those whose outputs are the reference's are not among them.
///
/// # Errors
/// Inputs that do not fit the networks; no batch.
pub fn least_squares(
    network: &mut Network,
    reference: &Network,
    kept: &HashMap<String, Vec<usize>>,
    batches: &[Batch],
    seed: u64,
) -> Result<Vec<Fitted>> {
    if batches.is_empty() {
        return Err(Error::Recipe("least squares need at least one batch of inputs".into()));
    }
    let plain = network.plain();
    let facts = |n: &Network| batches.iter().map(|b| n.facts(b.len())).collect::<Result<Vec<_>>>();
    let (ours, theirs) = (facts(&plain)?, facts(reference)?);
    let changes = Sweep::new([&plain, reference], [&ours, &theirs], kept, batches, seed)?.run()?;
    for (param, values) in changes.params {
        network.params[param].values = values;
    }
    for (running, mean) in changes.means {
        network.running[running].mean = mean;
    }
    Ok(changes.fitted)
}

#[derive(Default)]
struct Changes {
    /// By position in [`Network::params`].
    params: HashMap<usize, Vec<f32>>,
    /// By position in [`Network::running`].
    means: HashMap<usize, Vec<f32>>,
    fitted: Vec<Fitted>,
}

/// Both networks on all batches, in step.
struct Sweep<'a> {
    network: &'a Network,
    reference: &'a Network,
    kept: &'a HashMap<String, Vec<usize>>,
    runs: Vec<Run<'a, Flex>>,
    /// The reference's passes, done up to (not with) node `at`.
    references: Vec<Run<'a, Flex>>,
    at: usize,
    /// The reference's value of the sum that a node of the network computes.
    sums: HashMap<NodeId, ValueId>,
    images: usize,
    seed: u64,
    changes: Changes,
}

fn begin<'a>(network: &'a Network, facts: &'a Facts, batch: &Batch, keep: &[ValueId]) -> Result<Run<'a, Flex>> {
    let (inputs, wanted) = (&network.graph.inputs, batch.shape.as_slice());
    let &[input] = inputs.as_slice() else {
        return Err(Error::Input { input: "-".into(), reason: format!("the network has {} inputs; least squares feed one", inputs.len()) });
    };
    let found = facts.need_shape(&network.graph, input)?;
    if found != wanted {
        let reason = format!("it has shape {wanted:?}, the network wants {found:?}");
        return Err(Error::Input { input: network.graph.value(input).name.clone(), reason });
    }
    let mut run = Run::new(network, facts, Mode::Eval, DType::F32, keep);
    run.set(input, tensors::from_f32::<Flex>(&batch.shape, batch.inputs.clone(), DType::F32));
    for p in network.params() {
        run.set(p.id, tensors::from_f32::<Flex>(&p.shape, p.values.clone(), DType::F32));
    }
    Ok(run)
}

impl<'a> Sweep<'a> {
    fn new(
        [network, reference]: [&'a Network; 2],
        [ours, theirs]: [&'a [Arc<Facts>]; 2],
        kept: &'a HashMap<String, Vec<usize>>,
        batches: &[Batch],
        seed: u64,
    ) -> Result<Self> {
        // What the layers are compared with is kept until it was.
        let places: Vec<Place> = network.graph.nodes.iter().filter_map(|n| Place::find(network, reference, n, kept)).collect();
        let keep: Vec<ValueId> = places.iter().flat_map(|p| [Some(p.theirs), p.sum.as_ref().map(|s| s.theirs)]).flatten().collect();
        let runs = batches.iter().zip(ours).map(|(b, f)| begin(network, f, b, &[])).collect::<Result<_>>()?;
        let references = batches.iter().zip(theirs).map(|(b, f)| begin(reference, f, b, &keep)).collect::<Result<_>>()?;
        let images = batches.iter().map(Batch::len).sum();
        let sums = places.iter().filter_map(|p| p.sum.as_ref().map(|s| (s.node, s.theirs))).collect();
        Ok(Self { network, reference, kept, runs, references, at: 0, sums, images, seed, changes: Changes::default() })
    }

    fn run(mut self) -> Result<Changes> {
        for node in &self.network.graph.nodes {
            match Place::find(self.network, self.reference, node, self.kept) {
                Some(place) => self.layer(node.id, &place)?,
                None => self.execute(node.id)?,
            }
        }
        crate::kernels::buffers::release();
        Ok(self.changes)
    }

    /// Runs a node of the network, a normalisation with the means it has by now.
    fn execute(&mut self, node: NodeId) -> Result<()> {
        let moved = self.network.running_of.get(&node).and_then(|r| self.changes.means.get(r));
        for run in &mut self.runs {
            match moved {
                Some(mean) => place::normalise(run, node, mean)?,
                None => ops::step(run, &Step::Node(node))?,
            }
        }
        if let Some(&sum) = self.sums.get(&node) {
            self.release(sum);
        }
        Ok(())
    }

    /// Frees a value of the reference as soon as the reference itself is done with it.
    fn release(&mut self, value: ValueId) {
        let open = self.reference.graph.value(value).consumers.iter().filter(|(n, _)| n.index() >= self.at).count();
        for run in &mut self.references {
            run.release(value, open as u32);
        }
    }

    /// Runs the reference as far as it takes to know `value`.
    fn advance(&mut self, value: ValueId) -> Result<()> {
        while self.references.iter().any(|r| r.get(value).is_none()) && self.at < self.reference.graph.nodes.len() {
            let id = self.reference.graph.nodes[self.at].id;
            for run in &mut self.references {
                ops::step(run, &Step::Node(id))?;
            }
            self.at += 1;
        }
        Ok(())
    }

    fn layer(&mut self, id: NodeId, place: &Place) -> Result<()> {
        let inputs: Vec<_> = self.runs.iter().map(|r| r.get(place.x)).collect();
        let weight = self.network.params[place.weight].values.clone();
        self.execute(id)?;
        self.advance(place.theirs)?;
        let known = |v: ValueId| self.runs.iter().all(|r| r.get(v).is_some());
        let sum = place.sum.as_ref().filter(|s| known(s.other)).cloned();
        if let Some(sum) = &sum {
            self.advance(sum.theirs)?;
        }
        let mut work = Work::default();
        let mut differs = false;
        for (b, x) in inputs.iter().cloned().enumerate() {
            let (run, theirs) = (&self.runs[b], &self.references[b]);
            let host = |r: &Run<'a, Flex>, v: ValueId| r.get(v).map(Host::of).ok_or_else(|| lost(r, v));
            let target = match &sum {
                Some(s) => Target::Sum { theirs: host(theirs, s.theirs)?, other: host(run, s.other)?, norm: s.norm.clone() },
                None => Target::Output(host(theirs, place.theirs)?),
            };
            let Some(x) = x.map(Host::of) else { return Err(lost(run, place.x)) };
            let y = host(run, place.y)?;
            differs |= target.differs(&place.reads, &y, &place.kept, ROUNDING);
            work.parts.push((x, y, target));
        }
        if differs {
            let change = work.solve(place, self.images, self.seed ^ u64::from(id.0));
            if let Some((changes, fitted)) = change {
                self.take(id, place, weight, &changes, fitted);
                for (run, x) in self.runs.iter_mut().zip(inputs) {
                    if let Some(x) = x {
                        run.restore(place.x, x);
                    }
                }
                self.repeat(id, place)?;
            }
        }
        self.release(place.theirs);
        Ok(())
    }

    /// Keeps the change of a layer.
    fn take(&mut self, id: NodeId, place: &Place, mut weight: Vec<f32>, changes: &[Change], fitted: (f64, f64)) {
        let outputs = place.kept.len();
        let per_part = outputs / changes.len().max(1);
        for (g, change) in changes.iter().enumerate() {
            let d = change.weights.len() / per_part.max(1);
            for (k, delta) in change.weights.iter().enumerate() {
                let (o, i) = (g * per_part + k / d, k % d);
                let at = if place.transposed { i * outputs + o } else { o * d + i };
                weight[at] = (f64::from(weight[at]) + delta / place.factor) as f32;
            }
        }
        let offsets: Vec<f64> = changes.iter().flat_map(|c| c.offsets.iter().copied()).collect();
        match place.intercept {
            Intercept::Param { param, factor } => {
                let values = self.changes.params.get(&param).unwrap_or(&self.network.params[param].values);
                let moved = values.iter().zip(&offsets).map(|(v, b)| (f64::from(*v) + b / factor) as f32).collect();
                self.changes.params.insert(param, moved);
            }
            Intercept::Norm(running) => {
                let mean = &self.network.running[running].mean;
                self.changes.means.insert(running, mean.iter().zip(&offsets).map(|(m, b)| (f64::from(*m) - b) as f32).collect());
            }
            Intercept::None => {}
        }
        self.changes.params.insert(place.weight, weight);
        // The ridge of the widest part stands for all.
        let ridge = changes.iter().filter_map(|c| c.ridge).fold(None, |m: Option<f64>, r| Some(m.map_or(r, |m| m.max(r))));
        self.changes.fitted.push(Fitted { node: self.network.graph.node(id).name.clone(), before: fitted.0, after: fitted.1, ridge });
    }

    /// Runs a layer again with its new weights.
    fn repeat(&mut self, id: NodeId, place: &Place) -> Result<()> {
        let own = match place.intercept {
            Intercept::Param { param, .. } => vec![place.weight, param],
            _ => vec![place.weight],
        };
        for run in &mut self.runs {
            for &p in &own {
                let param = &self.network.params[p];
                let values = self.changes.params.get(&p).unwrap_or(&param.values).clone();
                run.set(param.id, tensors::from_f32::<Flex>(&param.shape, values, DType::F32));
            }
        }
        self.execute(id)
    }
}

fn lost(run: &Run<'_, Flex>, v: ValueId) -> Error {
    Error::Input { input: run.network.graph.value(v).name.clone(), reason: "it was not computed; this is a defect of the program".into() }
}

/// Inputs, outputs and wanted outputs of a layer, by batch.
#[derive(Default)]
struct Work {
    parts: Vec<(Host, Host, Target)>,
}

impl Work {
    /// The changes of the layer's partitions, and its error before and after as shares of the target's variance.
    fn solve(&self, place: &Place, images: usize, seed: u64) -> Option<(Vec<Change>, (f64, f64))> {
        let outputs = place.kept.len();
        let groups = match place.reads {
            Reads::Patches(s) => s.groups,
            Reads::Rows => 1,
        };
        let per_part = outputs / groups;
        let mut sample = Vec::new();
        let (x, y, _) = self.parts.first()?;
        samples::read(&place.reads, x, [0, 0], 0, &mut sample);
        let (d, positions) = (sample.len(), samples::positions(&place.reads, y));
        let width = d + per_part;
        let most = (EFFORT / (d * width * groups).max(1)).max(4 * d);
        let wanted = (PER_UNKNOWN * d).max(LEAST).min(most);
        let per_image = wanted.div_ceil(images.max(1)).clamp(1, positions.max(1));
        let mut moments: Vec<[Moments; 2]> = (0..groups).map(|_| [Moments::new(d, per_part), Moments::new(d, per_part)]).collect();
        let (mut spread, mut image) = (Spread::new(outputs), 0u64);
        for (x, y, target) in &self.parts {
            let y = Outputs::new(&place.reads, y);
            let target = target.outputs(&place.reads);
            for n in 0..x.shape[0] {
                let held = usize::from(image % HELD as u64 == HELD as u64 - 1);
                let at = samples::chosen(positions, per_image, seed.wrapping_add(image.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
                image += 1;
                for (g, moments) in moments.iter_mut().enumerate() {
                    sample.clear();
                    for &position in &at {
                        samples::read(&place.reads, x, [n, position], g, &mut sample);
                        for o in g * per_part..(g + 1) * per_part {
                            let missing = target.missing(&y, n, o, place.kept[o], position);
                            spread.add(o, y.at(n, o, position) + missing);
                            sample.push(missing);
                        }
                    }
                    moments[held].add(&sample);
                }
            }
        }
        let intercept = !matches!(place.intercept, Intercept::None);
        let changes: Vec<Change> = moments.iter().map(|[fitted, held]| best_change(fitted, held, intercept)).collect();
        let all: Vec<Moments> = moments.iter().map(|[fitted, held]| fitted.merged(held)).collect();
        let before: f64 = all.iter().map(Moments::residual).sum();
        let after: f64 = all.iter().zip(&changes).map(|(m, c)| m.error(c)).sum();
        let variance = spread.total().max(f64::MIN_POSITIVE);
        (before.is_finite() && after < before).then(|| (changes, (before / variance, after / variance)))
    }
}

/// Σ of squared distances to the mean, by channel.
struct Spread {
    sums: Vec<[f64; 3]>,
}

impl Spread {
    fn new(channels: usize) -> Self {
        Self { sums: vec![[0.0; 3]; channels] }
    }

    fn add(&mut self, channel: usize, v: f64) {
        let [n, first, second] = &mut self.sums[channel];
        *n += 1.0;
        *first += v;
        *second += v * v;
    }

    fn total(&self) -> f64 {
        self.sums.iter().map(|[n, first, second]| (second - first * first / n.max(1.0)).max(0.0)).sum()
    }
}
