//! `Split`.

use burn_backend::Slice;
use graph::ops::Split;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Split, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?;
    let axis = super::axis(at, op.axis, shape.len())?;
    let x = at.input(0)?;
    let mut start = 0;
    for slot in 0..at.node.outputs.len() {
        if at.node.output(slot).is_none() {
            continue;
        }
        let length = at.output_shape(slot)?[axis];
        let mut slices: Vec<Slice> = shape.iter().map(|d| (0..*d).into()).collect();
        slices[axis] = (start..start + length).into();
        start += length;
        at.set(slot, B::float_slice(x.clone(), &slices))?;
    }
    Ok(())
}
