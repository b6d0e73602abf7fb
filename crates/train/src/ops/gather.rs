//! `Gather` with constant indices.

use burn_backend::Shape;
use graph::ops::Gather;

use super::slice::select;
use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Gather, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?;
    let axis = super::axis(at, op.axis, shape.len())?;
    let Some(indices) = at.inference().ints(1) else { return Err(at.unsupported("its indices are not constants")) };
    let size = shape[axis] as i64;
    let kept: Option<Vec<usize>> =
        indices.iter().map(|i| if *i < 0 { i + size } else { *i }).map(|i| usize::try_from(i).ok().filter(|i| *i < shape[axis])).collect();
    let Some(kept) = kept else { return Err(at.unsupported(format!("an index is out of range for an axis of {size}"))) };
    let y = select::<B>(at.input(0)?, axis, &kept);
    let out = at.output_shape(0)?.to_vec();
    at.set(0, B::float_reshape(y, Shape::from(out)))
}
