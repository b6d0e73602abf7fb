//! Elementwise operators of one operand (and constants): activations, rounding, casts.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};
use crate::proto::tensor_proto::DataType;
use crate::tensor::{Data, Tensor};

/// An elementwise function.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Unary {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    /// Bounds from the attributes (opset < 11); `None` where they are inputs 1 and 2, or absent.
    Clip {
        min: Option<f32>,
        max: Option<f32>,
    },
    Sigmoid,
    /// `max(0, min(1, alpha·x + beta))`
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// `x·max(0, min(1, x/6 + 1/2))`
    HardSwish,
    Elu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Softplus,
    Softsign,
    Tanh,
    /// The Gaussian error linear unit; by tanh where `tanh` is set.
    Gelu {
        tanh: bool,
    },
    Mish,
    Erf,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Neg,
    Abs,
    Sign,
    Floor,
    Ceil,
    Round,
    Not,
    /// Whether it is no number.
    IsNan,
    Sin,
    Cos,
    /// To another element type.
    Cast {
        to: DataType,
    },
    Identity,
    /// The identity at inference.
    Dropout {
        ratio: f32,
    },
}

impl Unary {
    pub(crate) fn parse(a: &Attributes) -> Result<Option<Self>> {
        let alpha = |default| a.float("alpha").unwrap_or(default);
        Ok(Some(match a.0.op_type() {
            "Relu" => Self::Relu,
            "LeakyRelu" => Self::LeakyRelu { alpha: alpha(0.01) },
            "Clip" => Self::Clip { min: a.float("min"), max: a.float("max") },
            "Sigmoid" => Self::Sigmoid,
            "HardSigmoid" => Self::HardSigmoid { alpha: alpha(0.2), beta: a.float("beta").unwrap_or(0.5) },
            "HardSwish" => Self::HardSwish,
            "Elu" => Self::Elu { alpha: alpha(1.0) },
            "Selu" => Self::Selu { alpha: alpha(1.673_263_2), gamma: a.float("gamma").unwrap_or(1.050_701) },
            "Softplus" => Self::Softplus,
            "Softsign" => Self::Softsign,
            "Tanh" => Self::Tanh,
            "Gelu" => Self::Gelu { tanh: a.string("approximate") == Some("tanh") },
            "Mish" => Self::Mish,
            "Erf" => Self::Erf,
            "Exp" => Self::Exp,
            "Log" => Self::Log,
            "Sqrt" => Self::Sqrt,
            "Reciprocal" => Self::Reciprocal,
            "Neg" => Self::Neg,
            "Abs" => Self::Abs,
            "Sign" => Self::Sign,
            "Floor" => Self::Floor,
            "Ceil" => Self::Ceil,
            "Round" => Self::Round,
            "Not" => Self::Not,
            "IsNaN" => Self::IsNan,
            "Sin" => Self::Sin,
            "Cos" => Self::Cos,
            "Cast" => {
                let to = a.int("to").and_then(|t| i32::try_from(t).ok()).and_then(|t| DataType::try_from(t).ok());
                Self::Cast { to: to.ok_or_else(|| a.error("it does not say to which element type"))? }
            }
            "Identity" => Self::Identity,
            "Dropout" => Self::Dropout { ratio: a.float("ratio").unwrap_or(0.5) },
            _ => return Ok(None),
        }))
    }

    /// The operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relu => "Relu",
            Self::LeakyRelu { .. } => "LeakyRelu",
            Self::Clip { .. } => "Clip",
            Self::Sigmoid => "Sigmoid",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Elu { .. } => "Elu",
            Self::Selu { .. } => "Selu",
            Self::Softplus => "Softplus",
            Self::Softsign => "Softsign",
            Self::Tanh => "Tanh",
            Self::Gelu { .. } => "Gelu",
            Self::Mish => "Mish",
            Self::Erf => "Erf",
            Self::Exp => "Exp",
            Self::Log => "Log",
            Self::Sqrt => "Sqrt",
            Self::Reciprocal => "Reciprocal",
            Self::Neg => "Neg",
            Self::Abs => "Abs",
            Self::Sign => "Sign",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
            Self::Not => "Not",
            Self::IsNan => "IsNaN",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Cast { .. } => "Cast",
            Self::Identity => "Identity",
            Self::Dropout { .. } => "Dropout",
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let dtype = match self {
            Self::Cast { to } => *to,
            Self::IsNan => DataType::Bool,
            _ => x.dtype,
        };
        let folded = x.constant.as_deref().and_then(|c| self.fold(c));
        let mut out = vec![Some(folded.map_or_else(|| Fact::new(dtype, x.shape.clone()), Fact::constant))];
        // The mask of a Dropout is used by nobody at inference.
        out.resize(i.node.outputs.len().max(1), None);
        Ok(out)
    }

    /// The value on a constant, for the functions that occur in computations of shapes and bounds.
    fn fold(&self, c: &Tensor) -> Option<Tensor> {
        let on_f32 = |f: fn(f32) -> f32| c.to_f32().and_then(|v| c.with_f32(v.into_iter().map(f).collect()));
        let on_i64 = |f: fn(i64) -> i64| match &c.data {
            Data::I64(v) => Some(Tensor::new(c.shape.clone(), Data::I64(v.iter().map(|&x| f(x)).collect()))),
            _ => None,
        };
        match self {
            Self::Identity | Self::Dropout { .. } => Some(c.clone()),
            Self::Cast { to } => cast(c, *to),
            Self::Floor => on_f32(f32::floor),
            Self::Ceil => on_f32(f32::ceil),
            Self::Sqrt => on_f32(f32::sqrt),
            Self::Neg => on_i64(|x| -x).or_else(|| on_f32(|x| -x)),
            Self::Abs => on_i64(i64::abs).or_else(|| on_f32(f32::abs)),
            Self::Not => match &c.data {
                Data::Bool(v) => Some(Tensor::new(c.shape.clone(), Data::Bool(v.iter().map(|b| !b).collect()))),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        c.carry();
        Ok(())
    }
}

fn cast(c: &Tensor, to: DataType) -> Option<Tensor> {
    let as_f64 = || -> Vec<f64> {
        match &c.data {
            Data::F64(v) => v.clone(),
            _ => c
                .to_f32()
                .map(|v| v.into_iter().map(f64::from).collect())
                .or_else(|| c.to_i64().map(|v| v.into_iter().map(|x| x as f64).collect()))
                .unwrap_or_default(),
        }
    };
    let as_i64 = || c.to_i64().unwrap_or_else(|| as_f64().into_iter().map(|x| x as i64).collect());
    let data = match to {
        DataType::Float => Data::F32(as_f64().into_iter().map(|x| x as f32).collect()),
        DataType::Double => Data::F64(as_f64()),
        DataType::Float16 => Data::F16(as_f64().into_iter().map(half::f16::from_f64).collect()),
        DataType::Int64 => Data::I64(as_i64()),
        DataType::Int32 => Data::I32(as_i64().into_iter().map(|x| x as i32).collect()),
        DataType::Bool => Data::Bool(as_f64().into_iter().map(|x| x != 0.0).collect()),
        _ => return None,
    };
    (data.len() == c.len()).then(|| Tensor::new(c.shape.clone(), data))
}
