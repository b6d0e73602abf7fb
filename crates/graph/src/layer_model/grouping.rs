//! Which widths a grouped convolution can have.

use crate::facts::Facts;
use crate::graph::{Graph, NodeId};
use crate::ops::{Conv, Op};

/// How the widths of a grouped convolution go together when its channels are pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// Whole partitions go (depthwise: one channel each): both widths are the same multiple of what a partition has.
    Partitions {
        /// Input channels of a partition.
        inputs: usize,
        /// Output channels of a partition.
        outputs: usize,
    },
    /// The same positions of all partitions go: each width is a multiple of their number.
    Slabs {
        /// Number of partitions.
        partitions: usize,
    },
}

impl Grouping {
    /// Of `group` partitions of `inputs` and `outputs` channels each; `None` where there is one.
    pub(super) fn of(group: usize, inputs: usize, outputs: usize) -> Option<Self> {
        match group {
            0 | 1 => None,
            _ if Conv::by_partition(group, inputs, outputs) => Some(Self::Partitions { inputs, outputs }),
            _ => Some(Self::Slabs { partitions: group }),
        }
    }

    /// The number of partitions at these widths; `None` where there is no such layer.
    pub fn partitions(self, in_width: usize, out_width: usize) -> Option<usize> {
        match self {
            Self::Partitions { inputs, outputs } => {
                let partitions = in_width / inputs.max(1);
                (partitions * inputs == in_width && partitions * outputs == out_width).then_some(partitions)
            }
            Self::Slabs { partitions } => {
                (in_width.is_multiple_of(partitions) && out_width.is_multiple_of(partitions)).then_some(partitions)
            }
        }
    }
}

/// How the widths of the layer at `node` go together; `None` where they are free of each other.
pub fn grouping(graph: &Graph, facts: &Facts, node: NodeId) -> Option<Grouping> {
    let node = graph.node(node);
    let w = facts.shape(node.input(1)?)?;
    match &node.op {
        Op::Conv(c) if w.len() > 2 => Grouping::of(c.group, w[1], w[0] / c.group.max(1)),
        Op::ConvTranspose(c) if w.len() > 2 => Grouping::of(c.group, w[0] / c.group.max(1), w[1]),
        _ => None,
    }
}
