//! `Transpose`.

use graph::ops::Transpose;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Transpose, at: &mut At<'_, '_, B>) -> Result<()> {
    let permutation = op.permutation(at.shape(0)?.len());
    let x = at.input(0)?;
    at.set(0, B::float_permute(x, &permutation))
}
