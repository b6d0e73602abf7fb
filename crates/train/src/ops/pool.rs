//! `MaxPool` and `AveragePool`.

use burn_backend::Shape;
use graph::Node;
use graph::ops::{Pool, PoolKind};

use super::{conv, pad};
use crate::backend::Kernels;
use crate::error::Result;
use crate::run::{At, unsupported};

pub(super) fn check(node: &Node, op: &Pool) -> Result<()> {
    if node.output(1).is_some() {
        return Err(unsupported(node, "the positions of the maxima (its second output) are not supported".into()));
    }
    if matches!(op.kind, PoolKind::Average { .. }) && op.window.dilations.iter().any(|d| *d != 1) {
        return Err(unsupported(node, "dilated average pooling is not supported".into()));
    }
    Ok(())
}

pub(super) fn forward<B: Kernels>(op: &Pool, at: &mut At<'_, '_, B>) -> Result<()> {
    let (shape, out) = (at.shape(0)?, at.output_shape(0)?.to_vec());
    let spatial = shape.len().saturating_sub(2);
    super::check_spatial(at.node, spatial)?;
    check(at.node, op)?;
    let (mut kernel, mut stride, mut dilation) = ([1, 1], [1, 1], [1, 1]);
    let mut pads = [(0usize, 0usize); 2];
    let (mut size, mut result) = ([1, 1], [1, 1]);
    for d in 0..spatial {
        let slot = d + 2 - spatial;
        (size[slot], result[slot], kernel[slot]) = (shape[d + 2], out[d + 2], op.window.kernel[d]);
        (stride[slot], dilation[slot]) = (op.window.stride(d), op.window.dilation(d));
        pads[slot] = op.window.pad(d, shape[d + 2], kernel[slot]);
    }
    let x = conv::two_axes::<B>(at.input(0)?);
    // Padding that makes all windows whole: what is asked for, more where sizes are rounded up.
    let whole = [0, 1].map(|d| {
        let reach = (result[d] - 1) * stride[d] + dilation[d] * (kernel[d] - 1) + 1;
        (pads[d].0, reach.saturating_sub(size[d] + pads[d].0))
    });
    let y = match op.kind {
        PoolKind::Max => {
            let floor = f32::MIN;
            let x = pad::constant::<B>(x, &[(0, 0), (0, 0), whole[0], whole[1]], floor);
            B::max_pool2d(x, kernel, stride, [0, 0], dilation, false)
        }
        PoolKind::Average { include_pad } => {
            let counts = [0, 1].map(|d| -> Vec<f32> {
                let (low, high) = if include_pad { (0, pads[d].0 + size[d] + pads[d].1) } else { (pads[d].0, pads[d].0 + size[d]) };
                (0..result[d]).map(|o| ((o * stride[d] + kernel[d]).min(high) as f32 - (o * stride[d]).max(low) as f32).max(1.0)).collect()
            });
            let x = pad::constant::<B>(x, &[(0, 0), (0, 0), whole[0], whole[1]], 0.0);
            let y = B::avg_pool2d(x, kernel, stride, [0, 0], true, false);
            let area = (kernel[0] * kernel[1]) as f32;
            let ratios: Vec<f32> = counts[0].iter().flat_map(|a| counts[1].iter().map(move |b| area / (a * b))).collect();
            if ratios.iter().all(|r| *r == 1.0) { y } else { B::float_mul(y, at.tensor(&[1, 1, result[0], result[1]], ratios)) }
        }
    };
    at.set(0, B::float_reshape(y, Shape::from(out)))
}
