//! `BatchNormalization`, alone and joined with its neighbours.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Shape, TensorMetadata};
use graph::ops::{BatchNormalization, Op};
use graph::{NodeId, ValueId};

use super::conv;
use crate::backend::Kernels;
use crate::bn::affine;
use crate::error::Result;
use crate::network::Mode;
use crate::run::{At, Run};
use crate::tensors;

fn per_channel<B: Kernels>(at: &At<'_, '_, B>, rank: usize, values: Vec<f32>) -> FloatTensor<B> {
    let mut shape = vec![1; rank];
    shape[1] = values.len();
    at.tensor(&shape, values)
}

/// Running statistics as a scale and a shift that depend on the parameters by Burn operators,
/// so that evaluation mode can be differentiated too.
fn eval<B: Kernels>(op: &BatchNormalization, at: &mut At<'_, '_, B>, x: FloatTensor<B>) -> Result<FloatTensor<B>> {
    let (scale, shift) = (at.input(1)?, at.input(2)?);
    let rank = x.shape().num_dims();
    let running = &at.run.network.running[at.run.network.running_of[&at.node.id]];
    let inverse: Vec<f32> = running.variance.iter().map(|v| 1.0 / (v + op.epsilon).sqrt()).collect();
    let mean = per_channel(at, rank, running.mean.clone());
    let inverse = per_channel(at, rank, inverse);
    let mut shape = vec![1; rank];
    shape[1] = running.mean.len();
    let shape = Shape::from(shape);
    let scale = B::float_mul(B::float_reshape(scale, shape.clone()), inverse);
    let shift = B::float_sub(B::float_reshape(shift, shape), B::float_mul(mean, scale.clone()));
    Ok(B::float_add(B::float_mul(x, scale), shift))
}

pub(super) fn forward<B: Kernels>(op: &BatchNormalization, at: &mut At<'_, '_, B>) -> Result<()> {
    let x = at.input(0)?;
    let y = match at.run.mode {
        Mode::Eval => eval(op, at, x)?,
        Mode::Train => train(op, at, x, None, false)?,
    };
    at.set(0, y)
}

fn train<B: Kernels>(
    op: &BatchNormalization,
    at: &mut At<'_, '_, B>,
    x: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    relu: bool,
) -> Result<FloatTensor<B>> {
    let (scale, shift) = (at.input(1)?, at.input(2)?);
    let (y, statistics) = B::batch_norm_then(x, scale, shift, residual, relu, op.epsilon);
    let index = at.run.network.running_of[&at.node.id];
    at.run.statistics.push((index, statistics));
    Ok(y)
}

/// A convolution (evaluation only) and/or a normalisation, with the sum and Relu that follow.
pub(super) fn fused<B: Kernels>(
    run: &mut Run<'_, B>,
    conv: Option<NodeId>,
    norm: Option<NodeId>,
    add: Option<(NodeId, ValueId)>,
    relu: Option<NodeId>,
) -> Result<()> {
    let graph = &run.network.graph;
    let last = relu.or(add.map(|a| a.0)).or(norm).or(conv);
    let Some(last) = last.map(|id| graph.node(id)) else { return Ok(()) };
    let residual = match add {
        Some((id, other)) => Some(run.read(graph.node(id), other)?),
        None => None,
    };
    let y = match (conv, norm.map(|id| graph.node(id))) {
        (Some(id), norm) => {
            let node = graph.node(id);
            let Op::Conv(op) = &node.op else { return Ok(()) };
            let mut at = At { run: &mut *run, node };
            let shape = conv::shape(op, &at)?;
            let (x, w, bias) = (at.input(0)?, at.input(1)?, at.optional(2)?);
            let (w, bias) = match norm {
                Some(norm) => {
                    let Op::BatchNormalization(op) = &norm.op else { return Ok(()) };
                    fold(&mut At { run: &mut *run, node: norm }, op, w, bias)?
                }
                None => (w, bias),
            };
            let residual = residual.map(conv::two_axes::<B>);
            B::conv_then(conv::two_axes::<B>(x), conv::two_axes::<B>(w), bias, residual, relu.is_some(), shape)
        }
        (None, Some(node)) => {
            let Op::BatchNormalization(op) = &node.op else { return Ok(()) };
            let mut at = At { run: &mut *run, node };
            let x = at.input(0)?;
            match at.run.mode {
                Mode::Train => train(op, &mut at, x, residual, relu.is_some())?,
                Mode::Eval => {
                    let y = eval(op, &mut at, x)?;
                    let y = match residual {
                        Some(r) => B::float_add(y, r),
                        None => y,
                    };
                    if relu.is_some() { B::relu(y) } else { y }
                }
            }
        }
        (None, None) => return Ok(()),
    };
    let mut at = At { run, node: last };
    let out = at.output_shape(0)?.to_vec();
    let y = if y.shape().as_slice() == out.as_slice() { y } else { B::float_reshape(y, Shape::from(out)) };
    at.set(0, y)
}

/// Normalisation by running statistics taken into the weights and bias of the convolution before.
fn fold<B: Kernels>(
    at: &mut At<'_, '_, B>,
    op: &BatchNormalization,
    w: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> Result<(FloatTensor<B>, Option<FloatTensor<B>>)> {
    let (scale, shift) = (at.input(1)?, at.input(2)?);
    let running = &at.run.network.running[at.run.network.running_of[&at.node.id]];
    let (scale, shift) = (tensors::to_f32::<B>(scale), tensors::to_f32::<B>(shift));
    let (a, mut b) = affine(&scale, &shift, &running.mean, &running.variance, op.epsilon);
    if let Some(bias) = bias {
        for ((b, bias), a) in b.iter_mut().zip(tensors::to_f32::<B>(bias)).zip(&a) {
            *b += bias * a;
        }
    }
    let mut shape = vec![1; w.shape().num_dims()];
    shape[0] = a.len();
    let w = B::float_mul(w, at.tensor(&shape, a));
    let bias = at.tensor(&[b.len()], b);
    Ok((w, Some(bias)))
}
