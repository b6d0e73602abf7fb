//! Elementwise operators of one operand.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use graph::ops::Unary;
use graph::{Node, is_float};

use crate::backend::Kernels;
use crate::error::Result;
use crate::network::Mode;
use crate::run::{At, unsupported};

pub(super) fn check(node: &Node, op: &Unary) -> Result<()> {
    match op {
        Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Not | Unary::IsNan => {
            Err(unsupported(node, "its gradient is zero everywhere; only its use on constants is supported".into()))
        }
        Unary::Cast { to } if !is_float(*to) => {
            Err(unsupported(node, format!("casting a computed value to {} is not differentiable", to.as_str_name())))
        }
        _ => Ok(()),
    }
}

fn softplus<B: Kernels>(x: FloatTensor<B>) -> FloatTensor<B> {
    // max(x, 0) + log(1 + exp(−|x|)) does not overflow.
    let tail = B::float_log1p(B::float_exp(B::float_neg(B::float_abs(x.clone()))));
    B::float_add(B::relu(x), tail)
}

pub(super) fn forward<B: Kernels>(op: &Unary, at: &mut At<'_, '_, B>) -> Result<()> {
    check(at.node, op)?;
    let x = at.input(0)?;
    let y = match op {
        Unary::Relu => B::relu(x),
        Unary::LeakyRelu { alpha } => B::leaky_relu(x, (*alpha).into()),
        Unary::Clip { min, max } => {
            let inference = at.inference();
            let bound = |attribute: Option<f32>, slot: usize| {
                attribute.or_else(|| inference.constant(slot).and_then(|t| t.to_f32()).and_then(|v| v.first().copied()))
            };
            let known = |slot: usize| !inference.has(slot) || inference.constant(slot).is_some();
            if !(known(1) && known(2)) {
                return Err(at.unsupported("its bounds are not constants"));
            }
            match (bound(*min, 1), bound(*max, 2)) {
                (Some(low), Some(high)) => B::float_clamp(x, low.into(), high.into()),
                (Some(low), None) => B::float_clamp_min(x, low.into()),
                (None, Some(high)) => B::float_clamp_max(x, high.into()),
                (None, None) => x,
            }
        }
        Unary::Sigmoid => B::sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => hard_sigmoid::<B>(x, *alpha, *beta),
        Unary::HardSwish => B::float_mul(x.clone(), hard_sigmoid::<B>(x, 1.0 / 6.0, 0.5)),
        Unary::Elu { alpha } => elu::<B>(x, *alpha),
        Unary::Selu { alpha, gamma } => B::float_mul_scalar(elu::<B>(x, *alpha), (*gamma).into()),
        Unary::Softplus => softplus::<B>(x),
        Unary::Softsign => {
            let denominator = B::float_add_scalar(B::float_abs(x.clone()), 1.0f32.into());
            B::float_div(x, denominator)
        }
        Unary::Tanh => B::float_tanh(x),
        Unary::Gelu { tanh: false } => B::gelu(x),
        Unary::Gelu { tanh: true } => {
            let cube = B::float_mul(B::float_mul(x.clone(), x.clone()), x.clone());
            let inner = B::float_add(x.clone(), B::float_mul_scalar(cube, 0.044_715f32.into()));
            let t = B::float_tanh(B::float_mul_scalar(inner, std::f32::consts::FRAC_2_PI.sqrt().into()));
            B::float_mul_scalar(B::float_mul(x, B::float_add_scalar(t, 1.0f32.into())), 0.5f32.into())
        }
        Unary::Mish => B::float_mul(x.clone(), B::float_tanh(softplus::<B>(x))),
        Unary::Erf => B::float_erf(x),
        Unary::Exp => B::float_exp(x),
        Unary::Log => B::float_log(x),
        Unary::Sqrt => B::float_sqrt(x),
        Unary::Reciprocal => B::float_recip(x),
        Unary::Neg => B::float_neg(x),
        Unary::Abs => B::float_abs(x),
        Unary::Sin => B::float_sin(x),
        Unary::Cos => B::float_cos(x),
        Unary::Cast { .. } | Unary::Identity => x,
        Unary::Dropout { ratio } => dropout(at, x, *ratio)?,
        Unary::Sign | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Not | Unary::IsNan => return check(at.node, op),
    };
    at.set(0, y)
}

fn hard_sigmoid<B: Kernels>(x: FloatTensor<B>, alpha: f32, beta: f32) -> FloatTensor<B> {
    let line = B::float_add_scalar(B::float_mul_scalar(x, alpha.into()), beta.into());
    B::float_clamp(line, 0.0f32.into(), 1.0f32.into())
}

fn elu<B: Kernels>(x: FloatTensor<B>, alpha: f32) -> FloatTensor<B> {
    let negative = B::float_clamp_max(x.clone(), 0.0f32.into());
    let negative = B::float_add_scalar(B::float_exp(negative), (-1.0f32).into());
    B::float_add(B::relu(x), B::float_mul_scalar(negative, alpha.into()))
}

/// Drops a share of the values in training; the mask follows from the seed of the pass. The share is input 1 where there is
/// one (opset ≥ 12). That input 2 says whether to drop anything does not count: the mode of the pass says so.
fn dropout<B: Kernels>(at: &At<'_, '_, B>, x: FloatTensor<B>, ratio: f32) -> Result<FloatTensor<B>> {
    if at.run.mode == Mode::Eval {
        return Ok(x);
    }
    let inference = at.inference();
    let ratio = match inference.constant(1).and_then(|t| t.to_f32()).as_deref() {
        Some([ratio]) => *ratio,
        _ if inference.has(1) => return Err(at.unsupported("its ratio is not a constant")),
        _ => ratio,
    };
    if ratio <= 0.0 {
        return Ok(x);
    }
    use rand::{Rng as _, SeedableRng as _};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(at.run.seed ^ (u64::from(at.node.id.0) << 32));
    let threshold = (f64::from(ratio) * f64::from(u32::MAX)) as u32;
    let kept = 1.0 / (1.0 - ratio).max(1e-6);
    let shape = x.shape();
    let mask = (0..shape.num_elements()).map(|_| if rng.next_u32() < threshold { 0.0 } else { kept }).collect();
    let mask = at.tensor(shape.as_slice(), mask);
    Ok(B::float_mul(x, mask))
}
