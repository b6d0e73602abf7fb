//! How much of a network its groups reach: the share of its layers' weights and work that can be removed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::coupling::Groups;
use crate::facts::Facts;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;

/// Weights and work of the layers (`Conv`, `ConvTranspose`, `Gemm`, `MatMul` with a stored weight, `LSTM`, `GRU`), and how
/// much of it some decision can remove.
///
/// An element of a weight can be removed if one of its coordinates belongs to a channel of a group that is not frozen; work
/// is counted in proportion. A weight that several layers share counts once as parameters.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// Elements of the weights.
    pub params: f64,
    /// Those that can be removed.
    pub prunable_params: f64,
    /// Elements of the weights of `Conv`, `Gemm` and `MatMul` alone.
    pub plain_params: f64,
    /// Those that can be removed.
    pub prunable_plain_params: f64,
    /// Multiply-accumulates of the layers, for the input shapes of the facts.
    pub macs: f64,
    /// Those that can be removed.
    pub prunable_macs: f64,
}

impl Coverage {
    /// Share of the weights that can be removed, 0 for a network without layers.
    pub fn params_share(&self) -> f64 {
        if self.params > 0.0 { self.prunable_params / self.params } else { 0.0 }
    }

    /// Share of the weights of `Conv`, `Gemm` and `MatMul` that can be removed, 0 for a network without any.
    pub fn plain_share(&self) -> f64 {
        if self.plain_params > 0.0 { self.prunable_plain_params / self.plain_params } else { 0.0 }
    }

    /// Share of the work that can be removed, 0 for a network without layers.
    pub fn macs_share(&self) -> f64 {
        if self.macs > 0.0 { self.prunable_macs / self.macs } else { 0.0 }
    }
}

/// What of the layers of `graph` the groups reach.
pub fn coverage(graph: &Graph, facts: &Facts, groups: &Groups) -> Coverage {
    let mut free: BTreeMap<(ValueId, usize), usize> = BTreeMap::new();
    for m in groups.prunable().flat_map(|g| &g.members) {
        *free.entry((m.value, m.axis)).or_default() += m.coordinates.iter().map(Vec::len).sum::<usize>();
    }
    let mut seen = BTreeSet::new();
    let mut all = Coverage::default();
    for node in &graph.nodes {
        let mut share = None;
        for v in weights(graph, node) {
            let Some(shape) = facts.shape(v) else { continue };
            let stays: f64 = shape
                .iter()
                .enumerate()
                .map(|(axis, &d)| 1.0 - free.get(&(v, axis)).copied().unwrap_or(0) as f64 / d.max(1) as f64)
                .product();
            share = Some(share.unwrap_or(0.0f64).max(1.0 - stays));
            if seen.insert(v) {
                let count = shape.iter().product::<usize>() as f64;
                all.params += count;
                all.prunable_params += count * (1.0 - stays);
                if matches!(node.op, Op::Conv(_) | Op::Gemm(_) | Op::MatMul) {
                    all.plain_params += count;
                    all.prunable_plain_params += count * (1.0 - stays);
                }
            }
        }
        if let Some(share) = share {
            let inputs: Vec<Option<&[usize]>> = node.inputs.iter().map(|v| v.and_then(|v| facts.shape(v))).collect();
            let macs = node.output(0).and_then(|o| facts.shape(o)).map_or(0, |out| node.op.macs(&inputs, out)) as f64;
            all.macs += macs;
            all.prunable_macs += macs * share;
        }
    }
    all
}

/// The learnt parameters: floating-point tensors stored in the file, or computed from stored ones alone, that other nodes
/// read. Scalars, which are bounds and factors of the architecture, and running statistics are not among them.
pub fn parameters(graph: &Graph, facts: &Facts) -> Vec<ValueId> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for node in &graph.nodes {
        if node.outputs.iter().flatten().any(|&o| graph.is_parameter(o)) {
            continue;
        }
        for (slot, v) in node.inputs.iter().enumerate().filter_map(|(s, v)| Some((s, (*v)?))) {
            if facts.is_learnt(node, slot) && graph.is_parameter(v) && seen.insert(v) {
                all.push(v);
            }
        }
    }
    all
}

/// The stored (or computed from stored) weights of a layer.
fn weights<'a>(graph: &'a Graph, node: &'a Node) -> impl Iterator<Item = ValueId> + 'a {
    let slots: &[usize] = match node.op {
        Op::Conv(_) | Op::ConvTranspose(_) => &[1],
        Op::Gemm(_) | Op::MatMul => &[0, 1],
        Op::Recurrent(_) => &[1, 2],
        _ => &[],
    };
    slots.iter().filter_map(|&s| node.input(s)).filter(|&v| graph.is_parameter(v))
}
