//! `Concat`.

use graph::ops::Concat;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Concat, at: &mut At<'_, '_, B>) -> Result<()> {
    let axis = super::axis(at, op.axis, at.output_shape(0)?.len())?;
    let mut parts = Vec::with_capacity(at.node.inputs.len());
    for slot in 0..at.node.inputs.len() {
        if at.shape(slot)?[axis] > 0 {
            parts.push(at.input(slot)?);
        }
    }
    if parts.is_empty() {
        return Err(at.unsupported("all of its parts are empty"));
    }
    at.set(0, B::float_cat(parts, axis))
}
