//! Attention written in matrix products: `softmax(f(Q·K))·V`, with `f` elementwise (scaling, a mask).
//!
//! No weight is stored in it, so it is no layer; what it costs depends on the number of heads and on their width.

use crate::facts::Facts;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::ops::{Binary, Op, Unary};

/// One attention, with its sizes: queries `[batch, heads, queries, query_width]`, keys `[batch, heads, query_width, keys]`,
/// values `[batch, heads, keys, value_width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// The product of queries and keys.
    pub scores: NodeId,
    /// The product with the values.
    pub mix: NodeId,
    /// The nodes between the two with the slot that each reads the one before in; a softmax among them.
    pub between: Vec<(NodeId, usize)>,
    /// Products made side by side beside the heads.
    pub batch: usize,
    /// Heads; all products side by side where the operands have three axes.
    pub heads: usize,
    /// Positions that ask.
    pub queries: usize,
    /// Positions that are asked.
    pub keys: usize,
    /// Width of a head's queries and keys.
    pub query_width: usize,
    /// Width of a head's values.
    pub value_width: usize,
}

/// Nodes between the two products that are followed.
const LONGEST: usize = 8;

impl Attention {
    /// All attentions of a graph, in its order.
    pub fn find(graph: &Graph, facts: &Facts) -> Vec<Self> {
        graph.nodes.iter().filter_map(|n| Self::at(graph, facts, n.id)).collect()
    }

    /// The attention whose queries and keys meet in `node`.
    pub fn at(graph: &Graph, facts: &Facts, node: NodeId) -> Option<Self> {
        let scores = graph.node(node);
        let (q, k) = product(graph, scores)?;
        let mut between = Vec::new();
        let mut at = scores.output(0)?;
        let mut normalised = false;
        let mix = loop {
            let (next, slot) = follow(graph, at)?;
            match &next.op {
                Op::MatMul if normalised && slot == 0 => break next,
                Op::Softmax(s) if !normalised && !s.log => {
                    let rank = facts.shape(at)?.len() as i64;
                    normalised = s.axis == -1 || s.axis == rank - 1;
                    if !normalised {
                        return None;
                    }
                }
                Op::Unary(Unary::Identity | Unary::Dropout { .. } | Unary::Cast { .. }) => {}
                Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div) | Op::Where => {}
                _ => return None,
            }
            between.push((next.id, slot));
            at = next.output(0).filter(|_| between.len() < LONGEST)?;
        };
        let (_, v) = product(graph, mix)?;
        let (q, k, v) = (facts.shape(q)?, facts.shape(k)?, facts.shape(v)?);
        let out = facts.shape(scores.output(0)?)?;
        let rank = out.len();
        if rank < 3 || q.len() != rank || k.len() != rank || v.len() != rank || facts.shape(at)? != out {
            return None;
        }
        Some(Self {
            scores: node,
            mix: mix.id,
            between,
            batch: out[..rank - 3].iter().product(),
            heads: out[rank - 3],
            queries: out[rank - 2],
            keys: out[rank - 1],
            query_width: q[rank - 1],
            value_width: v[rank - 1],
        })
    }

    /// Multiply-accumulates of the two products.
    pub fn macs(&self) -> u64 {
        (self.batch * self.heads * self.queries * self.keys * (self.query_width + self.value_width)) as u64
    }
}

/// The operands of a product of two computed values.
fn product(graph: &Graph, node: &Node) -> Option<(ValueId, ValueId)> {
    let (a, b) = (node.input(0)?, node.input(1)?);
    (matches!(node.op, Op::MatMul) && !graph.is_parameter(a) && !graph.is_parameter(b)).then_some((a, b))
}

/// The only node that reads `value`, and where; a test for NaN beside it, which guards rows that are masked all over, is
/// passed over.
fn follow(graph: &Graph, value: ValueId) -> Option<(&Node, usize)> {
    let v = graph.value(value);
    let guard = |n: NodeId| matches!(graph.node(n).op, Op::Unary(Unary::IsNan));
    let mut readers = v.consumers.iter().filter(|(n, _)| !guard(*n));
    match (readers.next(), readers.next(), v.is_output) {
        (Some(&(id, slot)), None, false) => Some((graph.node(id), slot)),
        _ => None,
    }
}
