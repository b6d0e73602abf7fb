//! `LayerNormalization`.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Shape, TensorMetadata};
use graph::Node;
use graph::ops::LayerNormalization;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::{At, unsupported};

pub(super) fn check(node: &Node) -> Result<()> {
    if node.output(1).is_some() || node.output(2).is_some() {
        return Err(unsupported(node, "its mean and deviation outputs are not supported".into()));
    }
    Ok(())
}

pub(super) fn forward<B: Kernels>(op: &LayerNormalization, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?.to_vec();
    let axis = super::axis(at, op.axis, shape.len())?;
    let rows: usize = shape[..axis].iter().product();
    let columns: usize = shape[axis..].iter().product();
    check(at.node)?;
    let row = Shape::from(vec![1, columns]);
    let x = B::float_reshape(at.input(0)?, Shape::from(vec![rows, columns]));
    let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, op.epsilon.into()));
    let mut y = B::float_div(centred, deviation);
    let node = at.node;
    let per_column = |v: FloatTensor<B>| match v.shape().num_elements() {
        n if n == columns => Ok(B::float_reshape(v, row.clone())),
        _ => Err(unsupported(node, "its scale or shift is spread over the axes that it normalises".into())),
    };
    y = B::float_mul(y, per_column(at.input(1)?)?);
    if let Some(shift) = at.optional(2)? {
        y = B::float_add(y, per_column(shift)?);
    }
    at.set(0, B::float_reshape(y, Shape::from(shape)))
}
