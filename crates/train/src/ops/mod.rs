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

use graph::ops::Op;
use graph::{Facts, Node};

use crate::backend::Kernels;
use crate::error::{Error, Result};
use crate::network::Step;
use crate::run::{At, Run, unsupported};

/// Whether the node can be run at all; called at compile time for nodes that are not folded into constants. Shapes are looked
/// at where `facts` know them.
///
/// # Errors
/// Names node, operator and remedy.
pub(crate) fn check(node: &Node, facts: Option<&Facts>) -> Result<()> {
    let spatial = || node.input(0).zip(facts).and_then(|(v, f)| f.shape(v)).map(|s| s.len().saturating_sub(2));
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
        | Op::Opaque(_) => Err(unwritten(node)),
        Op::Conv(_) | Op::ConvTranspose(_) => spatial().map_or(Ok(()), |n| check_spatial(node, n)),
        Op::Pool(p) => pool::check(node, p).and_then(|()| spatial().map_or(Ok(()), |n| check_spatial(node, n))),
        Op::LayerNormalization(_) => layer_normalization::check(node),
        Op::Unary(u) => unary::check(node, u),
        Op::Binary(b) => binary::check(node, *b),
        Op::Reduce(r) => reduce::check(node, r),
        Op::Resize(r) => resize::check(node, r),
        // What they can be refused for depends on constants that a pass knows.
        Op::Gemm(_)
        | Op::MatMul
        | Op::BatchNormalization(_)
        | Op::Concat(_)
        | Op::Split(_)
        | Op::Slice(_)
        | Op::Gather(_)
        | Op::Pad(_)
        | Op::Softmax(_)
        | Op::Reshape(_)
        | Op::Flatten(_)
        | Op::Squeeze(_)
        | Op::Unsqueeze(_)
        | Op::Transpose(_)
        | Op::Expand
        | Op::Constant => Ok(()),
    }
}

fn unwritten(node: &Node) -> Error {
    let reason =
        "no forward and backward is written for it; export the network without it, or use a part of the network that ends before it";
    unsupported(node, reason.into())
}

/// That a window slides over one or two axes.
fn check_spatial(node: &Node, axes: usize) -> Result<()> {
    if (1..=2).contains(&axes) { Ok(()) } else { Err(unsupported(node, format!("{axes} spatial axes; 1 and 2 are supported"))) }
}

pub(crate) fn step<B: Kernels>(run: &mut Run<'_, B>, step: &Step) -> Result<()> {
    match step {
        Step::Node(id) => {
            let network = run.network;
            let node = network.graph.node(*id);
            if network.is_folded(node, run.facts) { Ok(()) } else { node_step(&mut At { run, node }) }
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
        | Op::Opaque(_) => Err(unwritten(at.node)),
    }
}

/// A possibly negative axis.
fn axis<B: Kernels>(at: &At<'_, '_, B>, axis: i64, rank: usize) -> Result<usize> {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&resolved) {
        Ok(resolved as usize)
    } else {
        Err(at.unsupported(format!("axis {axis} is out of range for rank {rank}")))
    }
}
