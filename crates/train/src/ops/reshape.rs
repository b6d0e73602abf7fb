//! `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`: the same elements in another shape; `Expand`.

use burn_backend::Shape;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(at: &mut At<'_, '_, B>) -> Result<()> {
    let out = at.output_shape(0)?.to_vec();
    let x = at.input(0)?;
    at.set(0, B::float_reshape(x, Shape::from(out)))
}

pub(super) fn expand<B: Kernels>(at: &mut At<'_, '_, B>) -> Result<()> {
    let out = at.output_shape(0)?.to_vec();
    let mut shape = at.shape(0)?.to_vec();
    while shape.len() < out.len() {
        shape.insert(0, 1);
    }
    let x = B::float_reshape(at.input(0)?, Shape::from(shape));
    at.set(0, B::float_expand(x, Shape::from(out)))
}
