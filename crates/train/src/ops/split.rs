//! `Split`.

use burn_backend::Slice;
use graph::ops::Split;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Split, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?;
    let axis = super::axis(at, op.axis, shape.len())?;
    let parts = op.parts(shape[axis], at.inference().ints(1), at.node.outputs.len());
    let x = at.input(0)?;
    let mut start = 0;
    for (slot, length) in parts.into_iter().enumerate() {
        let part = start..start + length;
        start = part.end;
        // A part that nothing reads has no name.
        if at.node.output(slot).is_none() {
            continue;
        }
        let mut slices: Vec<Slice> = shape.iter().map(|d| (0..*d).into()).collect();
        slices[axis] = part.into();
        at.set(slot, B::float_slice(x.clone(), &slices))?;
    }
    Ok(())
}
