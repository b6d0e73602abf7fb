//! `ConvTranspose`.

use burn_backend::ops::ConvTransposeOptions;
use burn_backend::{Shape, Slice};
use graph::ops::ConvTranspose;

use super::conv;
use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

pub(super) fn forward<B: Kernels>(op: &ConvTranspose, at: &mut At<'_, '_, B>) -> Result<()> {
    let (x, w) = (at.shape(0)?, at.shape(1)?);
    let out = at.output_shape(0)?.to_vec();
    let spatial = x.len().saturating_sub(2);
    super::check_spatial(at.node, spatial)?;
    let (mut stride, mut dilation, mut more) = ([1, 1], [1, 1], [0, 0]);
    let mut kept: Vec<Slice> = vec![(0..out[0]).into(), (0..out[1]).into(), (0..1).into(), (0..1).into()];
    for d in 0..spatial {
        let slot = d + 2 - spatial;
        (stride[slot], dilation[slot]) = (op.window.stride(d), op.window.dilation(d));
        let full = stride[slot] * (x[d + 2] - 1) + dilation[slot] * (w[d + 2] - 1) + 1;
        let (size, (before, _)) = op.axis(d, x[d + 2], w[d + 2]);
        more[slot] = (before + size).saturating_sub(full);
        kept[slot + 2] = (before..before + size).into();
    }
    let (x, w, bias) = (at.input(0)?, at.input(1)?, at.optional(2)?);
    let options = ConvTransposeOptions::new(stride, [0, 0], more, dilation, op.group);
    let y = B::conv_transpose2d(conv::two_axes::<B>(x), conv::two_axes::<B>(w), bias, options);
    at.set(0, B::float_reshape(B::float_slice(y, &kept), Shape::from(out)))
}
