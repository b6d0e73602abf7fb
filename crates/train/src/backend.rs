//! The operators that get their own implementation on Burn's tape: [`Kernels`] is what the
//! interpreter asks of a backend beyond Burn's own operators, [`Gradients`] what a backend must
//! offer so that [`Autodiff`] over it can answer.

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients as Tape;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_backend::ops::ConvOptions;
use burn_backend::tensor::FloatTensor;
use burn_backend::{AllocationProperty, Backend, Bytes, DType, Shape, TensorMetadata};
use burn_flex::{Flex, FlexTensor, Layout};
use std::borrow::Cow;

use crate::kernels::{buffers, conv, norm};

/// Statistics of a batch per channel; the variance is biased (divided by the count).
#[derive(Debug, Clone, PartialEq)]
pub struct BatchStatistics {
    /// Means.
    pub mean: Vec<f32>,
    /// Variances.
    pub variance: Vec<f32>,
    /// Elements each was taken over.
    pub count: usize,
}

/// What [`Gradients::batch_norm_backward`] gives.
pub struct NormGradients<B: Backend> {
    x: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
}

/// Operators of the interpreter beyond Burn's own. Shapes must have been checked before.
pub trait Kernels: Backend {
    /// Two-dimensional convolution of `x` `[N, C, H, W]` with `w` `[O, C/groups, KH, KW]`, plus
    /// `bias` `[O]`.
    fn conv(x: FloatTensor<Self>, w: FloatTensor<Self>, bias: Option<FloatTensor<Self>>, shape: conv::Shape) -> FloatTensor<Self>;

    /// Convolution followed by a sum with `residual` and a Relu, as asked; for inference.
    fn conv_then(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
        residual: Option<FloatTensor<Self>>,
        relu: bool,
        shape: conv::Shape,
    ) -> FloatTensor<Self> {
        let y = Self::conv(x, w, bias, shape);
        let y = match residual {
            Some(r) => Self::float_add(y, r),
            None => y,
        };
        if relu { Self::relu(y) } else { y }
    }

    /// `relu?(scale·(x − mean)/√(variance + epsilon) + shift [+ residual])` with the statistics of
    /// the batch over all axes but the second.
    fn batch_norm_then(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        relu: bool,
        epsilon: f32,
    ) -> (FloatTensor<Self>, BatchStatistics);
}

/// Gradients of the [`Kernels`].
pub trait Gradients: Kernels {
    /// Gradient of the input.
    fn conv_input(x: FloatTensor<Self>, w: FloatTensor<Self>, dy: FloatTensor<Self>, shape: conv::Shape) -> FloatTensor<Self>;
    /// Gradient of the weight.
    fn conv_weight(x: FloatTensor<Self>, w: FloatTensor<Self>, dy: FloatTensor<Self>, shape: conv::Shape) -> FloatTensor<Self>;
    /// Gradient of the bias.
    fn conv_bias(x: FloatTensor<Self>, bias: FloatTensor<Self>, dy: FloatTensor<Self>, shape: conv::Shape) -> FloatTensor<Self>;
    /// Gradients of [`Kernels::batch_norm_then`]; `y` is given where there was a Relu.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm_backward(
        x: FloatTensor<Self>,
        y: Option<FloatTensor<Self>>,
        dy: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        statistics: &BatchStatistics,
        epsilon: f32,
        residual: bool,
    ) -> NormGradients<Self>;
}

fn options(shape: &conv::Shape) -> ConvOptions<2> {
    ConvOptions::new(shape.stride, shape.before, shape.dilation, shape.groups)
}

fn floats(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(tensor.to_contiguous().as_slice::<f32>().unwrap_or_default().to_vec()),
    }
}

fn tensor(shape: Shape, values: Vec<f32>) -> FlexTensor {
    let bytes = bytes::Bytes::from_owner(buffers::Recycled::new(values));
    let bytes = Bytes::from_shared(bytes, AllocationProperty::Native);
    FlexTensor::new(bytes, Layout::contiguous(shape), DType::F32)
}

fn is_f32(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::F32
}

fn norm_dims(shape: &Shape) -> norm::Dims {
    [shape[0], shape[1], shape[2..].iter().product()]
}

impl Kernels for Flex {
    fn conv(x: FlexTensor, w: FlexTensor, bias: Option<FlexTensor>, shape: conv::Shape) -> FlexTensor {
        Self::conv_then(x, w, bias, None, false, shape)
    }

    fn conv_then(
        x: FlexTensor,
        w: FlexTensor,
        bias: Option<FlexTensor>,
        residual: Option<FlexTensor>,
        relu: bool,
        shape: conv::Shape,
    ) -> FlexTensor {
        if !is_f32(&x) {
            let y = reference::conv::<Self>(x, w, bias, shape);
            let y = match residual {
                Some(r) => <Self as burn_backend::ops::FloatTensorOps<Self>>::float_add(y, r),
                None => y,
            };
            return if relu { <Self as burn_backend::ops::ActivationOps<Self>>::relu(y) } else { y };
        }
        let [height, width] = shape.output();
        let bias = bias.as_ref().map(floats);
        let residual = residual.as_ref().map(floats);
        let y = conv::forward(&shape, &floats(&x), &floats(&w), bias.as_deref(), residual.as_deref(), relu);
        tensor(Shape::from(vec![shape.batch, shape.channels[1], height, width]), y)
    }

    fn batch_norm_then(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        residual: Option<FlexTensor>,
        relu: bool,
        epsilon: f32,
    ) -> (FlexTensor, BatchStatistics) {
        if !is_f32(&x) {
            return reference::batch_norm_then::<Self>(x, scale, shift, residual, relu, epsilon);
        }
        let shape = x.shape();
        let dims = norm_dims(&shape);
        let x = floats(&x);
        let (mean, variance) = norm::statistics(&x, dims);
        let statistics = BatchStatistics { mean, variance, count: dims[0] * dims[2] };
        let (a, b) = crate::bn::affine(&floats(&scale), &floats(&shift), &statistics.mean, &statistics.variance, epsilon);
        let residual = residual.as_ref().map(floats);
        let y = norm::apply(&x, dims, &a, &b, residual.as_deref(), relu);
        (tensor(shape, y), statistics)
    }
}

impl Gradients for Flex {
    fn conv_input(x: FlexTensor, w: FlexTensor, dy: FlexTensor, shape: conv::Shape) -> FlexTensor {
        if !is_f32(&dy) {
            return reference::conv_input::<Self>(x, w, dy, shape);
        }
        tensor(x.shape(), conv::backward_input(&shape, &floats(&dy), &floats(&w)))
    }

    fn conv_weight(x: FlexTensor, w: FlexTensor, dy: FlexTensor, shape: conv::Shape) -> FlexTensor {
        if !is_f32(&dy) {
            return reference::conv_weight::<Self>(x, w, dy, shape);
        }
        tensor(w.shape(), conv::backward_weight(&shape, &floats(&x), &floats(&dy)))
    }

    fn conv_bias(x: FlexTensor, bias: FlexTensor, dy: FlexTensor, shape: conv::Shape) -> FlexTensor {
        if !is_f32(&dy) {
            return <Self as burn_backend::ops::ModuleOps<Self>>::conv2d_bias_backward(x, bias, dy);
        }
        tensor(bias.shape(), conv::backward_bias(&shape, &floats(&dy)))
    }

    fn batch_norm_backward(
        x: FlexTensor,
        y: Option<FlexTensor>,
        dy: FlexTensor,
        scale: FlexTensor,
        statistics: &BatchStatistics,
        epsilon: f32,
        residual: bool,
    ) -> NormGradients<Self> {
        if !is_f32(&dy) {
            return reference::batch_norm_backward::<Self>(x, y, dy, scale, epsilon);
        }
        let shape = x.shape();
        let inverse: Vec<f32> = statistics.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
        let y = y.as_ref().map(floats);
        let gradients = norm::backward(
            &floats(&x),
            y.as_deref(),
            &floats(&dy),
            norm_dims(&shape),
            &statistics.mean,
            &inverse,
            &floats(&scale),
            residual,
        );
        NormGradients {
            scale: tensor(scale.shape(), gradients.scale),
            shift: tensor(scale.shape(), gradients.shift),
            residual: residual.then(|| match gradients.residual {
                Some(g) => tensor(shape.clone(), g),
                None => dy.clone(),
            }),
            x: tensor(shape, gradients.x),
        }
    }
}

/// The same operators from Burn's own, for element types without a kernel here and as the
/// reference of the tests.
pub mod reference {
    use super::*;

    fn padded<B: Backend>(x: FloatTensor<B>, shape: &conv::Shape) -> FloatTensor<B> {
        if shape.before == shape.after {
            return x;
        }
        // Burn knows symmetric padding only: pad by hand, convolve without.
        let [top, left] = shape.before;
        let [bottom, right] = shape.after;
        let mut wide = x.shape();
        wide[2] += top + bottom;
        wide[3] += left + right;
        let inside = inner_of(&x.shape(), shape);
        let zeros = B::float_zeros(wide, &x.device(), x.dtype().into());
        B::float_slice_assign(zeros, &inside, x)
    }

    fn inner_of(x: &Shape, shape: &conv::Shape) -> [burn_backend::Slice; 4] {
        let [top, left] = shape.before;
        [(0..x[0]).into(), (0..x[1]).into(), (top..top + x[2]).into(), (left..left + x[3]).into()]
    }

    fn unpadded_options(shape: &conv::Shape) -> ConvOptions<2> {
        if shape.before == shape.after {
            return options(shape);
        }
        ConvOptions::new(shape.stride, [0, 0], shape.dilation, shape.groups)
    }

    /// See [`Kernels::conv`].
    pub fn conv<B: Backend>(x: FloatTensor<B>, w: FloatTensor<B>, bias: Option<FloatTensor<B>>, shape: conv::Shape) -> FloatTensor<B> {
        B::conv2d(padded::<B>(x, &shape), w, bias, unpadded_options(&shape))
    }

    /// See [`Gradients::conv_input`].
    pub fn conv_input<B: Backend>(x: FloatTensor<B>, w: FloatTensor<B>, dy: FloatTensor<B>, shape: conv::Shape) -> FloatTensor<B> {
        let inside = inner_of(&x.shape(), &shape);
        let dx = B::conv2d_x_backward(padded::<B>(x, &shape), w, dy, unpadded_options(&shape));
        if shape.before == shape.after { dx } else { B::float_slice(dx, &inside) }
    }

    /// See [`Gradients::conv_weight`].
    pub fn conv_weight<B: Backend>(x: FloatTensor<B>, w: FloatTensor<B>, dy: FloatTensor<B>, shape: conv::Shape) -> FloatTensor<B> {
        B::conv2d_weight_backward(padded::<B>(x, &shape), w, dy, unpadded_options(&shape))
    }

    fn host<B: Backend>(t: FloatTensor<B>) -> Vec<f32> {
        crate::tensors::to_f32::<B>(t)
    }

    /// See [`Kernels::batch_norm_then`].
    pub fn batch_norm_then<B: Backend>(
        x: FloatTensor<B>,
        scale: FloatTensor<B>,
        shift: FloatTensor<B>,
        residual: Option<FloatTensor<B>>,
        relu: bool,
        epsilon: f32,
    ) -> (FloatTensor<B>, BatchStatistics) {
        let shape = x.shape();
        let result = B::batch_norm_train(x, scale, shift, f64::from(epsilon));
        let y = match residual {
            Some(r) => B::float_add(result.output, r),
            None => result.output,
        };
        let y = if relu { B::relu(y) } else { y };
        let statistics = BatchStatistics {
            mean: host::<B>(result.mean),
            variance: host::<B>(result.variance),
            count: shape.iter().product::<usize>() / shape[1].max(1),
        };
        (y, statistics)
    }

    /// See [`Gradients::batch_norm_backward`].
    pub fn batch_norm_backward<B: Backend>(
        x: FloatTensor<B>,
        y: Option<FloatTensor<B>>,
        dy: FloatTensor<B>,
        scale: FloatTensor<B>,
        epsilon: f32,
    ) -> NormGradients<B> {
        let g = match y {
            Some(y) => B::relu_backward(y, dy),
            None => dy,
        };
        // The statistics again, in the precision of the tensors.
        let zeros = B::float_zeros(scale.shape(), &scale.device(), scale.dtype().into());
        let forward = B::batch_norm_train(x.clone(), scale.clone(), zeros, f64::from(epsilon));
        let back = B::batch_norm_train_backward(x, scale, forward.mean, forward.variance, f64::from(epsilon), g.clone());
        NormGradients { x: back.x_grad, scale: back.gamma_grad, shift: back.beta_grad, residual: Some(g) }
    }
}

#[derive(Debug)]
struct ConvStep;
#[derive(Debug)]
struct ConvBiasStep;

impl<B: Gradients> Backward<B, 2> for ConvStep {
    type State = (FloatTensor<B>, FloatTensor<B>, conv::Shape);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Tape, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, shape) = ops.state;
        let [node_x, node_w] = ops.parents;
        if let Some(node) = node_w {
            grads.register::<B>(node.id, B::conv_weight(x.clone(), w.clone(), dy.clone(), shape));
        }
        if let Some(node) = node_x {
            grads.register::<B>(node.id, B::conv_input(x, w, dy, shape));
        }
    }
}

impl<B: Gradients> Backward<B, 3> for ConvBiasStep {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, conv::Shape);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Tape, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, w, bias, shape) = ops.state;
        let [node_x, node_w, node_bias] = ops.parents;
        if let Some(node) = node_bias {
            grads.register::<B>(node.id, B::conv_bias(x.clone(), bias, dy.clone(), shape));
        }
        if let Some(node) = node_w {
            grads.register::<B>(node.id, B::conv_weight(x.clone(), w.clone(), dy.clone(), shape));
        }
        if let Some(node) = node_x {
            grads.register::<B>(node.id, B::conv_input(x, w, dy, shape));
        }
    }
}

/// State of a batch normalisation: input, output (where a Relu cut it), scale, statistics, ε.
type NormState<B> = (FloatTensor<B>, Option<FloatTensor<B>>, FloatTensor<B>, BatchStatistics, f32);

#[derive(Debug)]
struct NormStep;
#[derive(Debug)]
struct NormResidualStep;

fn norm_backward<B: Gradients>(state: NormState<B>, dy: FloatTensor<B>, residual: bool) -> NormGradients<B> {
    let (x, y, scale, statistics, epsilon) = state;
    B::batch_norm_backward(x, y, dy, scale, &statistics, epsilon, residual)
}

impl<B: Gradients> Backward<B, 3> for NormStep {
    type State = NormState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Tape, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let back = norm_backward::<B>(ops.state, dy, false);
        for (node, grad) in ops.parents.into_iter().zip([back.x, back.scale, back.shift]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: Gradients> Backward<B, 4> for NormResidualStep {
    type State = NormState<B>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Tape, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let back = norm_backward::<B>(ops.state, dy, ops.parents[3].is_some());
        let all = [Some(back.x), Some(back.scale), Some(back.shift), back.residual];
        for (node, grad) in ops.parents.into_iter().zip(all) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: Gradients, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn conv(x: FloatTensor<Self>, w: FloatTensor<Self>, bias: Option<FloatTensor<Self>>, shape: conv::Shape) -> FloatTensor<Self> {
        let (x, node_x) = x.into_parts();
        let (w, node_w) = w.into_parts();
        match bias {
            Some(bias) => {
                let (bias, node_bias) = bias.into_parts();
                let y = B::conv(x.clone(), w.clone(), Some(bias.clone()), shape);
                let step = Backward::<B, 3>::prepare::<C>(ConvBiasStep, [node_x, node_w, node_bias]);
                match step.compute_bound().stateful() {
                    OpsKind::Tracked(step) => step.finish((x, w, bias, shape), y),
                    OpsKind::UnTracked(step) => step.finish(y),
                }
            }
            None => {
                let y = B::conv(x.clone(), w.clone(), None, shape);
                let step = Backward::<B, 2>::prepare::<C>(ConvStep, [node_x, node_w]);
                match step.compute_bound().stateful() {
                    OpsKind::Tracked(step) => step.finish((x, w, shape), y),
                    OpsKind::UnTracked(step) => step.finish(y),
                }
            }
        }
    }

    fn batch_norm_then(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        residual: Option<FloatTensor<Self>>,
        relu: bool,
        epsilon: f32,
    ) -> (FloatTensor<Self>, BatchStatistics) {
        let (x, node_x) = x.into_parts();
        let (scale, node_scale) = scale.into_parts();
        let (shift, node_shift) = shift.into_parts();
        let (residual, node_residual) = match residual.map(|r| r.into_parts()) {
            Some((r, node)) => (Some(r), Some(node)),
            None => (None, None),
        };
        let (y, statistics) = B::batch_norm_then(x.clone(), scale.clone(), shift, residual, relu, epsilon);
        let state = (x, relu.then(|| y.clone()), scale, statistics.clone(), epsilon);
        let y = match node_residual {
            Some(node_residual) => {
                let nodes = [node_x, node_scale, node_shift, node_residual];
                let step = Backward::<B, 4>::prepare::<C>(NormResidualStep, nodes);
                match step.compute_bound().stateful() {
                    OpsKind::Tracked(step) => step.finish(state, y),
                    OpsKind::UnTracked(step) => step.finish(y),
                }
            }
            None => {
                let step = Backward::<B, 3>::prepare::<C>(NormStep, [node_x, node_scale, node_shift]);
                match step.compute_bound().stateful() {
                    OpsKind::Tracked(step) => step.finish(state, y),
                    OpsKind::UnTracked(step) => step.finish(y),
                }
            }
        };
        (y, statistics)
    }
}
