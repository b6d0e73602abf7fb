//! Where a layer stands in both networks: what it reads and should give, and where its offset goes.

use std::collections::HashMap;

use burn_flex::Flex;
use graph::ops::{Binary, Op};
use graph::{Node, NodeId, ValueId};

use super::samples::{Host, Outputs, Reads};
use crate::bn::affine;
use crate::error::Result;
use crate::network::{Network, Param};
use crate::ops;
use crate::run::Run;
use crate::tensors;

/// Where a constant that is added to a layer's outputs can be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Intercept {
    /// In a bias that is added `factor` times.
    Param { param: usize, factor: f64 },
    /// In the running mean of the normalisation behind it.
    Norm(usize),
    /// Nowhere.
    None,
}

/// A layer of the network and its counterpart.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub x: ValueId,
    pub y: ValueId,
    pub reads: Reads,
    /// Position of its weight in [`Network::params`].
    pub weight: usize,
    /// The weight is stored as `[K, F]`.
    pub transposed: bool,
    /// The product counts this often.
    pub factor: f64,
    pub intercept: Intercept,
    /// By output channel, the reference's.
    pub kept: Vec<usize>,
    /// The reference's output.
    pub theirs: ValueId,
    /// The sum that the output is an operand of.
    pub sum: Option<Sum>,
}

/// `a·x + b`, by channel.
type Affine = (Vec<f32>, Vec<f32>);

/// A sum behind a layer, with at most a normalisation between.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    /// The node that adds, in the network.
    pub node: NodeId,
    /// The other operand, in the network.
    pub other: ValueId,
    /// The sum, in the reference.
    pub theirs: ValueId,
    /// The normalisation between as `a·y + b`, by channel.
    pub norm: Option<Affine>,
}

fn param(network: &Network, v: Option<ValueId>) -> Option<usize> {
    let v = v?;
    network.params().iter().position(|p| p.id == v)
}

/// The parameter at input `slot`, read by nothing else.
fn own(network: &Network, node: &Node, slot: usize) -> Option<usize> {
    let i = param(network, node.input(slot))?;
    (network.graph.value(network.params()[i].id).consumers.len() == 1).then_some(i)
}

/// What reads the output of `node`, if one thing does.
fn next<'n>(network: &'n Network, node: &Node) -> Option<&'n Node> {
    network.only_reader(node.output(0)?)
}

/// The sum that a layer's output goes into, and the normalisation between.
fn chain<'n>(network: &'n Network, node: &Node) -> Option<(Option<&'n Node>, &'n Node)> {
    let sum = |n: &&Node| matches!(n.op, Op::Binary(Binary::Add)) && n.inputs.len() == 2;
    let first = next(network, node)?;
    if sum(&first) {
        return Some((None, first));
    }
    let normalised = matches!(first.op, Op::BatchNormalization(_));
    next(network, first).filter(|n| normalised && sum(n)).map(|n| (Some(first), n))
}

impl Place {
    /// The place of `node`, if it is a layer that can be fitted: a convolution or product with a stored weight of its own and
    /// a counterpart in the reference.
    pub fn find(network: &Network, reference: &Network, node: &Node, kept: &HashMap<String, Vec<usize>>) -> Option<Self> {
        let facts = network.facts(1).ok()?;
        let weight = own(network, node, 1)?;
        let Param { name, shape, .. } = &network.params()[weight];
        let (reads, transposed, factor) = match &node.op {
            Op::Conv(op) => {
                let (x, w) = (facts.shape(node.input(0)?)?, facts.shape(node.input(1)?)?);
                (Reads::Patches(ops::window(op, x, w)?), false, 1.0)
            }
            Op::Gemm(g) if !g.trans_a && g.alpha != 0.0 => (Reads::Rows, !g.trans_b, f64::from(g.alpha)),
            Op::MatMul if shape.len() == 2 => (Reads::Rows, true, 1.0),
            _ => return None,
        };
        let outputs = shape[usize::from(transposed)];
        let kept = kept.get(name).filter(|k| k.len() == outputs)?.clone();
        let v = reference.graph.find(name)?;
        let [(counterpart, 1)] = reference.graph.value(v).consumers[..] else { return None };
        let counterpart = reference.graph.node(counterpart);
        let y = node.output(0)?;
        Some(Self {
            x: node.input(0)?,
            y,
            reads,
            weight,
            transposed,
            factor,
            intercept: intercept(network, node, outputs),
            kept,
            theirs: counterpart.output(0)?,
            sum: Sum::find(network, reference, node, counterpart),
        })
    }
}

fn intercept(network: &Network, node: &Node, outputs: usize) -> Intercept {
    let bias = own(network, node, 2).filter(|&p| network.params()[p].values.len() == outputs);
    if let Some(param) = bias {
        let factor = if let Op::Gemm(g) = &node.op { f64::from(g.beta) } else { 1.0 };
        return if factor == 0.0 { Intercept::None } else { Intercept::Param { param, factor } };
    }
    match next(network, node).filter(|n| matches!(n.op, Op::BatchNormalization(_)) && n.input(0) == node.output(0)) {
        Some(norm) => match network.running_of.get(&norm.id) {
            // A mean that another node reads as well is not this layer's to move.
            Some(r) if network.running_of.values().filter(|other| *other == r).count() == 1 => Intercept::Norm(*r),
            _ => Intercept::None,
        },
        None => Intercept::None,
    }
}

impl Sum {
    fn find(network: &Network, reference: &Network, node: &Node, counterpart: &Node) -> Option<Self> {
        let ((norm, sum), (their_norm, theirs)) = (chain(network, node)?, chain(reference, counterpart)?);
        if sum.name != theirs.name || norm.is_some() != their_norm.is_some() {
            return None;
        }
        let operand = norm.unwrap_or(node).output(0)?;
        let other = sum.inputs.iter().flatten().copied().find(|v| *v != operand)?;
        let facts = network.facts(1).ok()?;
        let same = facts.shape(other).is_some() && facts.shape(other) == facts.shape(operand);
        if !same || network.graph.is_stored(other) {
            return None;
        }
        let norm = norm.map(|n| normalisation(network, n, None)).map_or(Some(None), |n| n.map(Some))?;
        Some(Self { node: sum.id, other, theirs: theirs.output(0)?, norm })
    }
}

/// A normalisation as `a·x + b`, with another mean than its own where one is given.
fn normalisation(network: &Network, node: &Node, mean: Option<&[f32]>) -> Option<Affine> {
    let Op::BatchNormalization(op) = &node.op else { return None };
    let running = &network.running()[*network.running_of.get(&node.id)?];
    let facts = network.facts(1).ok()?;
    // Of a vector every form has the same elements in the same order.
    let vector = |slot: usize| match param(network, node.input(slot).and_then(|v| network.stored_form(v))) {
        Some(i) => Some(network.params()[i].values.clone()),
        None => facts.constant(node.input(slot)?)?.to_f32(),
    };
    Some(affine(&vector(1)?, &vector(2)?, mean.unwrap_or(&running.mean), &running.variance, op.epsilon))
}

/// Runs a normalisation with other means than its own.
pub(super) fn normalise(run: &mut Run<'_, Flex>, id: NodeId, mean: &[f32]) -> Result<()> {
    let network = run.network;
    let node = network.graph.node(id);
    let (Some(x), Some(y), Some((a, b))) = (node.input(0), node.output(0), normalisation(network, node, Some(mean))) else {
        return ops::step(run, &crate::network::Step::Node(id));
    };
    let mut host = Host::of(run.read(node, x)?);
    let per_channel = host.values.len() / (host.shape[0] * a.len()).max(1);
    for (k, plane) in host.values.chunks_exact_mut(per_channel.max(1)).enumerate() {
        let (a, b) = (a[k % a.len()], b[k % b.len()]);
        plane.iter_mut().for_each(|v| *v = a * *v + b);
    }
    run.set(y, tensors::from_f32::<Flex>(&host.shape, host.values, run.dtype));
    Ok(())
}

/// What a layer's outputs should be.
pub(super) enum Target {
    /// The reference's outputs.
    Output(Host),
    /// What makes the sum with the other operand the reference's.
    Sum { theirs: Host, other: Host, norm: Option<Affine> },
}

impl Target {
    pub fn outputs(&self, reads: &Reads) -> Wanted<'_> {
        match self {
            Self::Output(theirs) => Wanted { theirs: Outputs::new(reads, theirs), sum: None },
            Self::Sum { theirs, other, norm } => {
                Wanted { theirs: Outputs::new(reads, theirs), sum: Some((Outputs::new(reads, other), norm.as_ref())) }
            }
        }
    }

    /// Some output is not what it should be, by more than `rounding` of the largest.
    pub fn differs(&self, reads: &Reads, y: &Host, kept: &[usize], rounding: f32) -> bool {
        let largest = y.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let (ours, wanted) = (Outputs::new(reads, y), self.outputs(reads));
        let positions = super::samples::positions(reads, y);
        (0..y.shape[0]).any(|n| {
            (0..kept.len()).any(|o| (0..positions).any(|p| wanted.missing(&ours, n, o, kept[o], p).abs() > f64::from(rounding * largest)))
        })
    }
}

/// [`Target`] by image, channel and position.
pub(super) struct Wanted<'a> {
    theirs: Outputs<'a>,
    sum: Option<(Outputs<'a>, Option<&'a Affine>)>,
}

impl Wanted<'_> {
    /// What output channel `o`, the reference's channel `their`, lacks.
    pub fn missing(&self, ours: &Outputs<'_>, n: usize, o: usize, their: usize, position: usize) -> f64 {
        let (y, theirs) = (ours.at(n, o, position), self.theirs.at(n, their, position));
        let Some((other, norm)) = &self.sum else { return theirs - y };
        let part = theirs - other.at(n, o, position);
        match norm {
            None => part - y,
            Some((a, b)) => {
                let (a, b) = (f64::from(a[o]), f64::from(b[o]));
                // A channel that the normalisation silences has no say in the sum.
                if a.abs() < 1e-6 { 0.0 } else { (part - b) / a - y }
            }
        }
    }
}
