//! `Gemm`.

use burn_backend::{Shape, TensorMetadata};
use graph::ops::Gemm;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &Gemm, at: &mut At<'_, '_, B>) -> Result<()> {
    let (a, b, c) = (at.input(0)?, at.input(1)?, at.optional(2)?);
    let a = if op.trans_a { B::float_swap_dims(a, 0, 1) } else { a };
    let b = if op.trans_b { B::float_swap_dims(b, 0, 1) } else { b };
    let mut y = B::float_matmul(a, b);
    if op.alpha != 1.0 {
        y = B::float_mul_scalar(y, op.alpha.into());
    }
    if let Some(c) = c {
        let mut shape = c.shape().to_vec();
        while shape.len() < 2 {
            shape.insert(0, 1);
        }
        let c = B::float_reshape(c, Shape::from(shape));
        let c = if op.beta == 1.0 { c } else { B::float_mul_scalar(c, op.beta.into()) };
        y = B::float_add(y, c);
    }
    at.set(0, y)
}
