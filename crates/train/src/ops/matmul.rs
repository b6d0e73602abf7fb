//! `MatMul`.

use burn_backend::{Shape, TensorMetadata};

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(at: &mut At<'_, '_, B>) -> Result<()> {
    let (a, b) = (at.input(0)?, at.input(1)?);
    let (mut left, mut right) = (a.shape().to_vec(), b.shape().to_vec());
    if left.len() == 1 {
        left.insert(0, 1);
    }
    if right.len() == 1 {
        right.push(1);
    }
    let rank = left.len().max(right.len());
    while left.len() < rank {
        left.insert(0, 1);
    }
    while right.len() < rank {
        right.insert(0, 1);
    }
    let y = B::float_matmul(B::float_reshape(a, Shape::from(left)), B::float_reshape(b, Shape::from(right)));
    let out = at.output_shape(0)?.to_vec();
    at.set(0, B::float_reshape(y, Shape::from(out)))
}
