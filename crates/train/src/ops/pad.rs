//! `Pad`.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Scalar, Shape, Slice, TensorMetadata};
use graph::ops::{Pad, PadMode};

use super::slice::select;
use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

/// `x` inside a tensor filled with `value`; amounts are `(before, after)` per axis.
pub(super) fn constant<B: Kernels>(x: FloatTensor<B>, amounts: &[(usize, usize)], value: f32) -> FloatTensor<B> {
    if amounts.iter().all(|a| *a == (0, 0)) {
        return x;
    }
    let shape = x.shape();
    let wide: Vec<usize> = shape.iter().zip(amounts).map(|(d, (a, b))| d + a + b).collect();
    let inside: Vec<Slice> = shape.iter().zip(amounts).map(|(d, (a, _))| (*a..a + d).into()).collect();
    let value: Scalar = value.into();
    let full = B::float_full(Shape::from(wide), value, &x.device(), x.dtype().into());
    B::float_slice_assign(full, &inside, x)
}

pub(super) fn forward<B: Kernels>(op: &Pad, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?;
    let inference = at.inference();
    let Some(amounts) = op.amounts(&inference, shape.len())? else { return Err(at.unsupported("its amounts are not constants")) };
    let mut x = at.input(0)?;
    let y = match op.mode {
        PadMode::Constant => {
            let Some(value) = op.fill(&inference) else { return Err(at.unsupported("its value is not a constant")) };
            if amounts.iter().any(|(a, b)| *a < 0 || *b < 0) {
                let kept: Vec<Slice> = shape
                    .iter()
                    .zip(&amounts)
                    .map(|(d, (a, b))| ((-a).max(0) as usize..(*d as i64 - (-b).max(0)) as usize).into())
                    .collect();
                x = B::float_slice(x, &kept);
            }
            let amounts: Vec<_> = amounts.iter().map(|(a, b)| ((*a).max(0) as usize, (*b).max(0) as usize)).collect();
            constant::<B>(x, &amounts, value)
        }
        PadMode::Reflect | PadMode::Edge | PadMode::Wrap => {
            for (axis, ((before, after), size)) in amounts.iter().zip(shape).enumerate() {
                if (*before, *after) == (0, 0) {
                    continue;
                }
                let n = *size as i64;
                let source = |i: i64| match op.mode {
                    PadMode::Edge => i.clamp(0, n - 1),
                    PadMode::Wrap => i.rem_euclid(n),
                    _ => {
                        let period = (2 * (n - 1)).max(1);
                        let i = i.rem_euclid(period);
                        i.min(period - i)
                    }
                };
                let kept: Vec<usize> = (-before..n + after).map(|i| source(i) as usize).collect();
                x = select::<B>(x, axis, &kept);
            }
            x
        }
    };
    at.set(0, y)
}
