//! Parameters and multiply-accumulates.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::facts::Facts;
use crate::graph::{Graph, ValueId};

/// What one node costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeCost {
    /// Learnt parameters that the node is the first to read (running statistics are not learnt).
    pub params: u64,
    /// Multiply-accumulates, for the input shapes of the facts, batch included. Elementwise work counts nothing.
    pub macs: u64,
}

/// What a model costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    /// Learnt parameters.
    pub params: u64,
    /// Multiply-accumulates, for the input shapes of the facts, batch included.
    pub macs: u64,
    /// By node, in the order of [`Graph::nodes`].
    pub per_node: Vec<NodeCost>,
}

/// Parameters and multiply-accumulates of every node. A tensor that several nodes read counts once.
pub fn cost(graph: &Graph, facts: &Facts) -> Costs {
    let mut seen: HashSet<ValueId> = HashSet::new();
    let mut per_node = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let shape = |v: Option<ValueId>| v.and_then(|v| facts.shape(v));
        let inputs: Vec<Option<&[usize]>> = node.inputs.iter().map(|&v| shape(v)).collect();
        let macs = shape(node.output(0)).map_or(0, |out| node.op.macs(&inputs, out));
        let mut params = 0;
        for (slot, v) in node.inputs.iter().enumerate().filter_map(|(s, v)| Some((s, (*v)?))) {
            if graph.is_stored(v) && facts.is_learnt(node, slot) && seen.insert(v) {
                params += facts.shape(v).map_or(0, |s| s.iter().product::<usize>() as u64);
            }
        }
        per_node.push(NodeCost { params, macs });
    }
    Costs { params: per_node.iter().map(|c| c.params).sum(), macs: per_node.iter().map(|c| c.macs).sum(), per_node }
}
