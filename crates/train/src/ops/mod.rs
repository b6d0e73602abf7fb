//! The operators: one file each, named as in `graph`.

mod batch_normalization;
mod binary;
mod concat;
mod conv;
mod conv_transpose;
mod gather;
mod gemm;
mod layer_normalization;
mod matmul;
mod pad;
mod pool;
mod reduce;
mod reshape;
mod resize;
mod slice;
mod softmax;
mod split;
mod transpose;
mod unary;

pub(crate) use conv::window;

use graph::Node;
use graph::ops::Op;

use crate::backend::Kernels;
use crate::error::Result;
use crate::network::Step;
use crate::run::{At, Run, unsupported};

/// Whether the operator can be run at all; called at compile time for nodes that are not folded
/// into constants.
///
/// # Errors
/// Names node, operator and remedy.
pub(crate) fn check(node: &Node) -> Result<()> {
    match &node.op {
        Op::Where
        | Op::Shape
        | Op::ConstantOfShape(_)
        | Op::Range
        | Op::InstanceNormalization(_)
        | Op::GroupNormalization(_)
        | Op::Lrn(_)
        | Op::Recurrent(_)
        | Op::DepthSpace(_)
        | Op::Tile
        | Op::Opaque(_) => Err(unsupported(
            node,
            "no forward and backward is written for it; export the network without it, or use a part of the network that ends before it"
                .into(),
        )),
        Op::Unary(u) => unary::check(node, u),
        Op::Binary(b) => binary::check(node, *b),
        Op::Resize(r) => resize::check(node, r),
        _ => Ok(()),
    }
}

pub(crate) fn step<B: Kernels>(run: &mut Run<'_, B>, step: &Step) -> Result<()> {
    match step {
        Step::Node(id) => {
            let node = run.network.graph.node(*id);
            let folded = node.outputs.iter().flatten().all(|v| run.facts.constant(*v).is_some());
            if folded { Ok(()) } else { node_step(&mut At { run, node }) }
        }
        Step::Fused { conv, norm, add, relu } => batch_normalization::fused(run, *conv, *norm, *add, *relu),
    }
}

fn node_step<B: Kernels>(at: &mut At<'_, '_, B>) -> Result<()> {
    match &at.node.op {
        Op::Conv(op) => conv::forward(op, at),
        Op::ConvTranspose(op) => conv_transpose::forward(op, at),
        Op::Gemm(op) => gemm::forward(op, at),
        Op::MatMul => matmul::forward(at),
        Op::BatchNormalization(op) => batch_normalization::forward(op, at),
        Op::LayerNormalization(op) => layer_normalization::forward(op, at),
        Op::Unary(op) => unary::forward(op, at),
        Op::Binary(op) => binary::forward(*op, at),
        Op::Concat(op) => concat::forward(op, at),
        Op::Split(op) => split::forward(op, at),
        Op::Slice(op) => slice::forward(op, at),
        Op::Gather(op) => gather::forward(op, at),
        Op::Pad(op) => pad::forward(op, at),
        Op::Pool(op) => pool::forward(op, at),
        Op::Reduce(op) => reduce::forward(op, at),
        Op::Softmax(op) => softmax::forward(op, at),
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => reshape::forward(at),
        Op::Transpose(op) => transpose::forward(op, at),
        Op::Resize(op) => resize::forward(op, at),
        Op::Expand => reshape::expand(at),
        Op::Constant => Ok(()),
        Op::Where
        | Op::Shape
        | Op::ConstantOfShape(_)
        | Op::Range
        | Op::InstanceNormalization(_)
        | Op::GroupNormalization(_)
        | Op::Lrn(_)
        | Op::Recurrent(_)
        | Op::DepthSpace(_)
        | Op::Tile
        | Op::Opaque(_) => check(at.node),
    }
}

/// A possibly negative axis.
fn axis<B: Kernels>(at: &At<'_, '_, B>, axis: i64, rank: usize) -> Result<usize> {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..=rank as i64).contains(&resolved) {
        Ok(resolved as usize)
    } else {
        Err(at.unsupported(format!("axis {axis} is out of range for rank {rank}")))
    }
}
