//! Reductions over axes, global pooling too.

use burn_backend::{Shape, TensorMetadata};
use graph::Node;
use graph::ops::{Reduce, ReduceKind};

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::{At, unsupported};

pub(super) fn check(node: &Node, op: &Reduce) -> Result<()> {
    match op.kind {
        ReduceKind::Prod | ReduceKind::ArgMax => Err(unsupported(node, "no gradient is written for it".into())),
        ReduceKind::Mean
        | ReduceKind::Sum
        | ReduceKind::Max
        | ReduceKind::Min
        | ReduceKind::L2
        | ReduceKind::GlobalAveragePool
        | ReduceKind::GlobalMaxPool => Ok(()),
    }
}

pub(super) fn forward<B: Kernels>(op: &Reduce, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?;
    let Some(axes) = op.resolve_axes(&at.inference(), shape.len())? else { return Err(at.unsupported("its axes are not constants")) };
    let mut x = at.input(0)?;
    // Trailing axes are one: a single contiguous pass.
    let trailing = !axes.is_empty() && axes.iter().rev().enumerate().all(|(i, a)| *a + 1 + i == shape.len());
    let axes = if trailing && axes.len() > 1 {
        let first = axes[0];
        let mut merged = shape[..first].to_vec();
        merged.push(shape[first..].iter().product());
        x = B::float_reshape(x, Shape::from(merged));
        vec![first]
    } else {
        axes
    };
    let y = match op.kind {
        ReduceKind::Mean | ReduceKind::GlobalAveragePool => axes.iter().fold(x, |x, a| B::float_mean_dim(x, *a)),
        ReduceKind::Sum => axes.iter().fold(x, |x, a| B::float_sum_dim(x, *a)),
        ReduceKind::Max | ReduceKind::GlobalMaxPool => axes.iter().fold(x, |x, a| B::float_max_dim(x, *a)),
        ReduceKind::Min => axes.iter().fold(x, |x, a| B::float_neg(B::float_max_dim(B::float_neg(x), *a))),
        ReduceKind::L2 => {
            let square = B::float_mul(x.clone(), x);
            B::float_sqrt(axes.iter().fold(square, |x, a| B::float_sum_dim(x, *a)))
        }
        ReduceKind::Prod | ReduceKind::ArgMax => return check(at.node, op),
    };
    let out = at.output_shape(0)?.to_vec();
    at.set(0, if y.shape().as_slice() == out.as_slice() { y } else { B::float_reshape(y, Shape::from(out)) })
}
