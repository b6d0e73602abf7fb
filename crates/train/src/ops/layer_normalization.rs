//! `LayerNormalization`.

use burn_backend::Shape;
use graph::ops::LayerNormalization;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &LayerNormalization, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?.to_vec();
    let axis = super::axis(at, op.axis, shape.len())?;
    let rows: usize = shape[..axis].iter().product();
    let columns: usize = shape[axis..].iter().product();
    if at.node.output(1).is_some() || at.node.output(2).is_some() {
        return Err(at.unsupported("its mean and deviation outputs are not supported"));
    }
    let row = Shape::from(vec![1, columns]);
    let x = B::float_reshape(at.input(0)?, Shape::from(vec![rows, columns]));
    let centred = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred.clone()), 1);
    let deviation = B::float_sqrt(B::float_add_scalar(variance, op.epsilon.into()));
    let mut y = B::float_div(centred, deviation);
    y = B::float_mul(y, B::float_reshape(at.input(1)?, row.clone()));
    if let Some(shift) = at.optional(2)? {
        y = B::float_add(y, B::float_reshape(shift, row));
    }
    at.set(0, B::float_reshape(y, Shape::from(shape)))
}
