//! Residual branches that can be left out: `Add(x, f(x))` becomes `x`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{GroupId, Groups};
use crate::facts::Facts;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::ops::{Binary, Op};

/// A [`Branch`] of one model: its position in [`Groups::branches`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BranchId(pub u32);

impl BranchId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A residual branch: without it, readers of the addition read the skip value instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its position in [`Groups::branches`].
    pub id: BranchId,
    /// Name of the addition.
    pub name: String,
    /// The addition.
    pub add: NodeId,
    /// What stays.
    pub skip: ValueId,
    /// What goes.
    pub branch: ValueId,
    /// The nodes that disappear, the addition included, in topological order.
    pub nodes: Vec<NodeId>,
    /// Groups that live only inside.
    pub inner: Vec<GroupId>,
}

/// A branch is offered where its nodes are used by nothing else, read one value besides parameters, hold a layer with a
/// weight, and the skip comes from the same value without passing a layer, or through fewer layers.
pub(super) fn find(graph: &Graph, facts: &Facts, groups: &Groups) -> Vec<Branch> {
    let mut found = Vec::new();
    for add in &graph.nodes {
        let (Op::Binary(Binary::Add | Binary::Sum), [Some(a), Some(b)], Some(out)) = (&add.op, add.inputs.as_slice(), add.output(0)) else {
            continue;
        };
        let same = |x: ValueId| facts.get(x).is_some_and(|f| facts.get(out).is_some_and(|o| f.shape == o.shape && f.dtype == o.dtype));
        let captured = graph.value(out).consumers.iter().any(|&(n, _)| matches!(graph.node(n).op, Op::Opaque(_)));
        if a == b || !same(*a) || !same(*b) || graph.value(out).is_output || captured || graph.is_parameter(*a) || graph.is_parameter(*b) {
            continue;
        }
        let (before_a, before_b) = (ancestors(graph, *a), ancestors(graph, *b));
        let sides = [Side::of(graph, groups, add, *a, &before_b), Side::of(graph, groups, add, *b, &before_a)];
        let removable = |which: usize| {
            let (branch, skip) = (&sides[which], &sides[1 - which]);
            let from_one = branch.entries.len() == 1 && skip.entries.is_subset(&branch.entries);
            branch.layers > 0
                && from_one
                && (branch.layers, which) > (skip.layers, 1 - which)
                && !branch.nodes.iter().any(|&n| matches!(graph.node(n).op, Op::Opaque(_)))
        };
        let Some(which) = [1, 0].into_iter().find(|&w| removable(w)) else { continue };
        let (branch, skip) = if which == 0 { (*a, *b) } else { (*b, *a) };
        let mut nodes: Vec<NodeId> = sides[which].nodes.iter().copied().collect();
        nodes.push(add.id);
        let inside = |v: ValueId| {
            let value = graph.value(v);
            let written = graph.producer(v).is_none_or(|n| nodes.contains(&n.id) || (graph.is_parameter(v) && !graph.value(v).is_output));
            let stored = graph.is_parameter(v);
            written
                && (stored || v != out)
                && !value.is_output
                && (stored || graph.producer(v).is_some())
                && value.consumers.iter().all(|(n, _)| nodes.contains(n) || is_parameter_node(graph, *n))
        };
        let inner = groups.groups.iter().filter(|g| g.members.iter().all(|m| inside(m.value))).map(|g| g.id).collect();
        found.push(Branch { id: BranchId(found.len() as u32), name: add.name.clone(), add: add.id, skip, branch, nodes, inner });
    }
    found
}

fn is_parameter_node(graph: &Graph, n: NodeId) -> bool {
    graph.node(n).output(0).is_some_and(|o| graph.is_parameter(o))
}

/// The nodes that `v` is computed by.
fn ancestors(graph: &Graph, v: ValueId) -> Vec<bool> {
    let mut seen = vec![false; graph.nodes.len()];
    let mut wanted = vec![v];
    while let Some(v) = wanted.pop() {
        let Some(n) = graph.producer(v) else { continue };
        if !std::mem::replace(&mut seen[n.id.index()], true) {
            wanted.extend(n.inputs.iter().flatten());
        }
    }
    seen
}

/// One operand of an addition, and everything that is computed for it alone.
struct Side {
    nodes: BTreeSet<NodeId>,
    /// Values from outside, parameters aside.
    entries: BTreeSet<ValueId>,
    layers: usize,
}

impl Side {
    fn of(graph: &Graph, groups: &Groups, add: &Node, operand: ValueId, other: &[bool]) -> Self {
        let mut side = Self { nodes: BTreeSet::new(), entries: BTreeSet::new(), layers: 0 };
        // In reverse topological order, a node is inside if everything that reads it is.
        let mut frontier = BTreeSet::new();
        let take = |v: ValueId, nodes: &BTreeSet<NodeId>| {
            let value = graph.value(v);
            !value.is_output && value.consumers.iter().all(|(n, _)| *n == add.id || nodes.contains(n))
        };
        match graph.producer(operand) {
            Some(n) if take(operand, &side.nodes) && !other[n.id.index()] => {
                frontier.insert(n.id);
            }
            _ => {
                side.entries.insert(operand);
                return side;
            }
        }
        let mut reached = BTreeSet::new();
        while let Some(id) = frontier.pop_last() {
            let node = graph.node(id);
            if other[id.index()] || !node.outputs.iter().flatten().all(|&o| take(o, &side.nodes)) {
                reached.extend(node.outputs.iter().flatten().copied());
                continue;
            }
            side.nodes.insert(id);
            side.layers += usize::from(groups.layer(id).is_some());
            for &v in node.inputs.iter().flatten() {
                match graph.producer(v) {
                    Some(p) => {
                        frontier.insert(p.id);
                    }
                    None if graph.is_stored(v) => {}
                    None => {
                        reached.insert(v);
                    }
                }
            }
        }
        let read: BTreeSet<ValueId> = side.nodes.iter().flat_map(|&n| graph.node(n).inputs.iter().flatten().copied()).collect();
        side.entries = reached.intersection(&read).copied().filter(|&v| !graph.is_parameter(v)).collect();
        side
    }
}
