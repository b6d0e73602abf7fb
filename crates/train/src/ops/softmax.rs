//! `Softmax` and `LogSoftmax`.

use burn_backend::Shape;
use graph::ops::Softmax;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Softmax, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?.to_vec();
    let mut axis = super::axis(at, op.axis, shape.len())?;
    let mut x = at.input(0)?;
    if op.flattened {
        let rows: usize = shape[..axis].iter().product();
        let columns: usize = shape[axis..].iter().product();
        x = B::float_reshape(x, Shape::from(vec![rows, columns]));
        axis = 1;
    }
    let y = if op.log { B::log_softmax(x, axis) } else { B::softmax(x, axis) };
    at.set(0, B::float_reshape(y, Shape::from(shape)))
}
