//! Which activations are planar: where the kernels with pixels in their lanes are expected to be faster.
//!
//! All convolutions that keep rows and columns of one size are computed the same way, since each reads what another wrote; what has to
//! change its layout in between is copied. Sizes are tried one after the other, and kept where the estimated time of the whole network falls.

use std::collections::HashMap;

use crate::kernels::{Isa, strip_kernel};
use crate::layout::{Extent, LANES};
use crate::network::{Conv, Network, Operation, Step, TensorId};
use crate::sorted::Structure;

/// Operand and result of a convolution from which they come from memory rather than caches, in bytes.
const LARGE: usize = 16 << 20;

/// Rows and columns.
type Size = (usize, usize);

/// Time to copy one element from one layout to the other, in multiply-adds of 16 lanes.
const COPY: f64 = 2.0;

fn size(e: Extent) -> Size {
    (e.height, e.width)
}

/// The planar kernels can compute it: steps of 1, and as many pixels out as in.
fn is_plain(conv: &Conv, input: Extent, output: Extent) -> bool {
    conv.stride == (1, 1) && conv.weights.group == 1 && size(input) == size(output) && !output.is_vector()
}

/// Time of the kernels with filters in their lanes, in multiply-adds of 16 lanes.
fn blocked_cost(isa: Isa, s: Structure, conv: &Conv, output: Extent) -> f64 {
    let [filters, channels, kh, kw] = conv.weights.shape;
    let work = (s.sixteens * output.height * output.width) as f64;
    let share = s.sixteens as f64 / (filters.div_ceil(LANES) * channels * kh * kw) as f64;
    let factor = match isa {
        Isa::Avx512 if filters.div_ceil(LANES).is_multiple_of(2) && s.pairs * 2 == s.sixteens => 1.03,
        // Few multiply-adds per line of an input that comes from the second-level cache.
        Isa::Avx512 if channels > 64 && share * ((kh * kw * LANES) as f64) < 10.0 => 1.7,
        Isa::Avx512 => 1.35,
        Isa::Avx2 => 1.0,
        Isa::Neon | Isa::Plain => 1.2,
    };
    work * factor
}

/// Filters that the planar kernel should take at a time, and its time.
fn planar_cost(isa: Isa, s: Structure, input: Extent, output: Extent, gap: usize) -> Option<(usize, f64)> {
    let vectors = ((output.height - 1) * (output.width + gap) + output.width).div_ceil(LANES) as f64;
    // Over few pixels weights are read faster than the second-level cache gives them.
    let few = if vectors < 6.0 { 1.3 } else { 1.0 };
    // What comes from memory comes faster in one piece than from as many planes as there are channels.
    let large = if (input.len() + output.len()) * size_of::<f32>() > LARGE { 1.5 } else { 1.0 };
    let vectors = vectors * few * large;
    let eights = strip_kernel(isa, 8, 1).map(|_| (8, vectors * s.eights as f64 * 8.0 * 1.1));
    // Per weight and per survivor: the instructions of their multiply-adds, and of loading their pixels.
    let (weight, survivor) = if isa == Isa::Avx2 { (0.75, 1.3) } else { (1.08, 1.2) };
    let fours = strip_kernel(isa, 4, 1).map(|_| (4, vectors * (s.weights as f64 * weight + s.fours as f64 * survivor)));
    [eights, fours].into_iter().flatten().min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Filters that the planar kernel for these weights should take at a time.
pub(crate) fn planar_filters(isa: Isa, structure: Structure) -> usize {
    // Which is faster does not depend on how many pixels there are.
    const ONE: Extent = Extent { channels: 1, height: 1, width: 1 };
    planar_cost(isa, structure, ONE, ONE, 0).map_or(4, |c| c.0)
}

/// What a step wants of an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Planar,
    Blocks,
    Either,
}

struct Chooser<'a> {
    network: &'a Network,
    isa: Isa,
    /// Of the convolutions that planar kernels can compute.
    structures: Vec<Option<Structure>>,
    /// Columns between rows that the planar activations of a size need.
    gaps: HashMap<Size, usize>,
}

/// Layouts under which the network takes `cost`.
struct Layouts {
    planar: Vec<bool>,
    cost: f64,
}

impl Chooser<'_> {
    fn is_planar_conv(&self, i: usize, sizes: &[Size]) -> bool {
        self.structures[i].is_some() && sizes.contains(&size(self.network.extent(self.network.steps[i].output)))
    }

    fn wants(&self, i: usize, slot: usize, sizes: &[Size]) -> Wants {
        let step = &self.network.steps[i];
        match &step.operation {
            Operation::Conv(_) if self.is_planar_conv(i, sizes) => Wants::Planar,
            Operation::Conv(c) if slot == 0 && c.weights.group == 1 => {
                let e = self.network.extent(step.inputs[0]);
                let small = e.channels < LANES && !e.is_vector();
                if small || self.structures[i].is_none() && !e.is_vector() { Wants::Either } else { Wants::Blocks }
            }
            Operation::Pool { .. } | Operation::GlobalPool { .. } => Wants::Either,
            _ => Wants::Blocks,
        }
    }

    /// An input of few channels that only convolutions read stays planar, since 16 lanes would be mostly empty; so does one that
    /// planar convolutions read.
    fn is_planar_load(&self, t: TensorId, sizes: &[Size]) -> bool {
        let mut wants = Vec::new();
        for (i, step) in self.network.steps.iter().enumerate() {
            wants.extend(step.inputs.iter().enumerate().filter(|(_, o)| **o == t).map(|(slot, _)| self.wants(i, slot, sizes)));
        }
        let e = self.network.extent(t);
        let read = self.network.outputs.iter().any(|(_, o)| *o == t);
        let pooled = self.network.steps.iter().any(|s| s.inputs.contains(&t) && !matches!(s.operation, Operation::Conv(_)));
        let few = e.channels < LANES && !e.is_vector() && !read && !pooled && !wants.contains(&Wants::Blocks);
        few || wants.contains(&Wants::Planar)
    }

    fn layouts(&self, sizes: &[Size]) -> Layouts {
        let mut planar = vec![false; self.network.tensors.len()];
        let mut cost = 0.0;
        let mut copied: Vec<TensorId> = Vec::new();
        let elements = |t: TensorId| self.network.extent(t).len() as f64;
        for (i, step) in self.network.steps.iter().enumerate() {
            let is_planar = match &step.operation {
                Operation::Load(_) => self.is_planar_load(step.output, sizes),
                Operation::Conv(_) => self.is_planar_conv(i, sizes),
                Operation::Pool { .. } => planar[step.inputs[0].0],
                _ => false,
            };
            planar[step.output.0] = is_planar;
            for (slot, &t) in step.inputs.iter().enumerate() {
                let wants = self.wants(i, slot, sizes);
                if wants != Wants::Either && (wants == Wants::Planar) != planar[t.0] && !copied.contains(&t) {
                    copied.push(t);
                    cost += elements(t) * COPY;
                }
            }
            if let (Operation::Conv(conv), Some(s)) = (&step.operation, self.structures[i]) {
                let out = self.network.extent(step.output);
                let gap = self.gaps.get(&size(out)).copied().unwrap_or(0);
                cost += match planar_cost(self.isa, s, self.network.extent(step.inputs[0]), out, gap) {
                    Some((_, c)) if is_planar => c,
                    _ => blocked_cost(self.isa, s, conv, out),
                };
            }
        }
        cost += self.network.outputs.iter().filter(|(_, t)| planar[t.0]).map(|(_, t)| elements(*t) * COPY).sum::<f64>();
        Layouts { planar, cost }
    }
}

/// Chooses, and adds the copies from one layout to the other. Returns which activations are planar.
pub(crate) fn choose_layouts(network: &mut Network, isa: Isa) -> Vec<bool> {
    let structure = |s: &Step| match &s.operation {
        Operation::Conv(c) if is_plain(c, network.extent(s.inputs[0]), network.extent(s.output)) => Some(Structure::of(&c.weights)),
        _ => None,
    };
    let mut chooser = Chooser { network, isa, structures: network.steps.iter().map(structure).collect(), gaps: HashMap::new() };
    let mut all: Vec<Size> = Vec::new();
    for (step, s) in network.steps.iter().zip(&chooser.structures) {
        if let (Operation::Conv(conv), Some(_)) = (&step.operation, s) {
            let at = size(network.extent(step.output));
            let gap = chooser.gaps.entry(at).or_default();
            *gap = (*gap).max(conv.pad.1);
            if !all.contains(&at) {
                all.push(at);
            }
        }
    }
    let mut sizes = Vec::new();
    let mut best = chooser.layouts(&sizes);
    for at in all {
        sizes.push(at);
        let next = chooser.layouts(&sizes);
        if next.cost < best.cost {
            best = next;
        } else {
            sizes.pop();
        }
    }
    let wants: Vec<Vec<Wants>> =
        (0..network.steps.len()).map(|i| (0..network.steps[i].inputs.len()).map(|slot| chooser.wants(i, slot, &sizes)).collect()).collect();
    insert_copies(network, best.planar, &wants)
}

/// Adds a copy wherever an operand is not as its reader wants it; one per activation.
fn insert_copies(network: &mut Network, mut planar: Vec<bool>, wants: &[Vec<Wants>]) -> Vec<bool> {
    let mut copies = HashMap::new();
    for (mut step, wants) in std::mem::take(&mut network.steps).into_iter().zip(wants) {
        for (t, &wants) in step.inputs.iter_mut().zip(wants) {
            if wants != Wants::Either && (wants == Wants::Planar) != planar[t.0] {
                *t = copied(network, &mut planar, &mut copies, *t, &step.name);
            }
        }
        network.steps.push(step);
    }
    for i in 0..network.outputs.len() {
        let t = network.outputs[i].1;
        if planar[t.0] {
            let name = network.outputs[i].0.name.clone();
            network.outputs[i].1 = copied(network, &mut planar, &mut copies, t, &name);
        }
    }
    planar
}

/// `t` in the other layout.
fn copied(network: &mut Network, planar: &mut Vec<bool>, copies: &mut HashMap<TensorId, TensorId>, t: TensorId, name: &str) -> TensorId {
    *copies.entry(t).or_insert_with(|| {
        let output = network.tensor(network.extent(t));
        planar.push(!planar[t.0]);
        network.steps.push(Step { name: name.to_owned(), operators: vec![], operation: Operation::Reorder, inputs: vec![t], output });
        output
    })
}
