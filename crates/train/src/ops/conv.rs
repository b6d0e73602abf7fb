//! `Conv`.

use burn_backend::Shape;
use burn_backend::tensor::FloatTensor;
use graph::ops::Conv;

use crate::backend::Kernels;
use crate::error::Result;
use crate::kernels::conv;
use crate::run::At;

/// The convolution as one over two spatial axes.
pub(super) fn shape<B: Kernels>(op: &Conv, at: &At<'_, '_, B>) -> Result<conv::Shape> {
    let (x, w) = (at.shape(0)?, at.shape(1)?);
    let spatial = x.len().saturating_sub(2);
    super::check_spatial(at.node, spatial)?;
    window(op, x, w).ok_or_else(|| at.unsupported(format!("a weight of shape {w:?} for {spatial} spatial axes")))
}

/// The same from the shapes of input and weight; `None` for other than one or two spatial axes.
pub(crate) fn window(op: &Conv, x: &[usize], w: &[usize]) -> Option<conv::Shape> {
    let spatial = x.len().saturating_sub(2);
    if !(1..=2).contains(&spatial) || w.len() != x.len() {
        return None;
    }
    let window = &op.window;
    let mut shape = conv::Shape {
        batch: x[0],
        channels: [x[1], w[0]],
        groups: op.group,
        input: [1, 1],
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        before: [0, 0],
        after: [0, 0],
    };
    for d in 0..spatial {
        let slot = d + 2 - spatial;
        shape.input[slot] = x[d + 2];
        shape.kernel[slot] = w[d + 2];
        shape.stride[slot] = window.stride(d);
        shape.dilation[slot] = window.dilation(d);
        (shape.before[slot], shape.after[slot]) = window.pad(d, x[d + 2], w[d + 2]);
    }
    Some(shape)
}

/// A tensor with one spatial axis gets a second one.
pub(super) fn two_axes<B: Kernels>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    use burn_backend::TensorMetadata;
    let shape = tensor.shape();
    if shape.num_dims() == 3 { B::float_reshape(tensor, Shape::from(vec![shape[0], shape[1], 1, shape[2]])) } else { tensor }
}

pub(super) fn forward<B: Kernels>(op: &Conv, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = shape(op, at)?;
    let (x, w, bias) = (at.input(0)?, at.input(1)?, at.optional(2)?);
    let y = B::conv(two_axes::<B>(x), two_axes::<B>(w), bias, shape);
    let out = at.output_shape(0)?.to_vec();
    at.set(0, if out.len() == 3 { B::float_reshape(y, Shape::from(out)) } else { y })
}
