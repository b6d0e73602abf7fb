//! Elementwise operators of several operands with broadcasting.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, elements, resolve_axis};
use crate::movement::broadcast;
use crate::proto::tensor_proto::DataType;
use crate::tensor::{Data, Tensor};

/// An elementwise function of two operands; `Sum`, `Mean`, `Max` and `Min` take any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Mod,
    /// Leaky with a learnt slope as second operand, which broadcasts to the first.
    PRelu,
    Max,
    Min,
    Sum,
    Mean,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
}

/// Larger results are not held in memory.
const LARGEST_FOLDED: usize = 1 << 16;

impl Binary {
    pub(crate) fn parse(a: &Attributes) -> Result<Option<Self>> {
        Ok(Some(match a.0.op_type() {
            "Add" => Self::Add,
            "Sub" => Self::Sub,
            "Mul" => Self::Mul,
            "Div" => Self::Div,
            "Pow" => Self::Pow,
            "Mod" => Self::Mod,
            "PRelu" => Self::PRelu,
            "Max" => Self::Max,
            "Min" => Self::Min,
            "Sum" => Self::Sum,
            "Mean" => Self::Mean,
            "Equal" => Self::Equal,
            "Greater" => Self::Greater,
            "GreaterOrEqual" => Self::GreaterOrEqual,
            "Less" => Self::Less,
            "LessOrEqual" => Self::LessOrEqual,
            "And" => Self::And,
            "Or" => Self::Or,
            _ => return Ok(None),
        }))
    }

    /// The operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Mod => "Mod",
            Self::PRelu => "PRelu",
            Self::Max => "Max",
            Self::Min => "Min",
            Self::Sum => "Sum",
            Self::Mean => "Mean",
            Self::Equal => "Equal",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::And => "And",
            Self::Or => "Or",
        }
    }

    fn is_comparison(self) -> bool {
        matches!(self, Self::Equal | Self::Greater | Self::GreaterOrEqual | Self::Less | Self::LessOrEqual | Self::And | Self::Or)
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        self.check_alignment(i)?;
        let mut shape = Vec::new();
        let mut dtype = DataType::Float;
        for slot in 0..i.inputs.len() {
            let Some(f) = i.fact(slot) else { return i.unknown() };
            if slot == 0 {
                dtype = f.dtype;
            }
            shape = match broadcast(&shape, &f.shape) {
                Some(s) => s,
                None => return i.error(format!("operand of shape {:?} does not broadcast with {shape:?}", f.shape)),
            };
        }
        if self.is_comparison() {
            dtype = DataType::Bool;
        }
        let folded = match (i.constant(0), i.constant(1)) {
            (Some(a), Some(b)) if i.inputs.len() == 2 && elements(&shape).is_some_and(|n| n <= LARGEST_FOLDED) => {
                self.fold(&a.expand(&shape), &b.expand(&shape))
            }
            _ => None,
        };
        Ok(vec![Some(folded.map_or_else(|| Fact::new(dtype, shape), Fact::constant))])
    }

    /// Before opset 7 the axes of the second operand met those of the first from `axis` on (a slope of `PRelu` met the channels), since
    /// then both are aligned at their last: the same for most shapes, refused for others.
    fn check_alignment(self, i: &Inference) -> Result<()> {
        let (Some(a), Some(b)) = (i.fact(0), i.fact(1)) else { return Ok(()) };
        if i.model.opset() >= 7 || b.len() == 1 {
            return Ok(());
        }
        let rank = a.shape.len();
        let node = i.model.graph_proto().node.get(i.node.position);
        let first = match node.and_then(|n| Attributes(n).int("axis")) {
            _ if self == Self::PRelu && b.shape.len() == 1 && rank > 1 => 1,
            Some(axis) => resolve_axis(i.node, axis, rank)?,
            None => return Ok(()),
        };
        if first + b.shape.len() == rank {
            return Ok(());
        }
        i.error(format!(
            "operand {:?} meets {:?} from axis {first} on, as it did before opset 7; convert the model to opset 7 or later with \
             `onnx.version_converter.convert_version`",
            b.shape, a.shape
        ))
    }

    fn fold(self, a: &Tensor, b: &Tensor) -> Option<Tensor> {
        let shape = a.shape.clone();
        if let (Some(x), Some(y)) = (a.to_i64(), b.to_i64()) {
            let pairs = x.iter().copied().zip(y.iter().copied());
            if self.is_comparison() {
                return Some(Tensor::new(shape, Data::Bool(pairs.map(|(p, q)| self.compare(p as f64, q as f64)).collect())));
            }
            let values: Option<Vec<i64>> = pairs.map(|(p, q)| self.on_i64(p, q)).collect();
            let wide = Tensor::new(shape, Data::I64(values?));
            return match &a.data {
                Data::I64(_) => Some(wide),
                Data::I32(_) => Some(Tensor::new(wide.shape.clone(), Data::I32(wide.to_i64()?.into_iter().map(|v| v as i32).collect()))),
                _ => None,
            };
        }
        let (x, y) = (a.to_f32()?, b.to_f32()?);
        let pairs = x.into_iter().zip(y);
        if self.is_comparison() {
            return Some(Tensor::new(shape, Data::Bool(pairs.map(|(p, q)| self.compare(p.into(), q.into())).collect())));
        }
        let values: Option<Vec<f32>> = pairs.map(|(p, q)| self.on_f32(p, q)).collect();
        a.with_f32(values?)
    }

    fn compare(self, a: f64, b: f64) -> bool {
        match self {
            Self::Equal => a == b,
            Self::Greater => a > b,
            Self::GreaterOrEqual => a >= b,
            Self::Less => a < b,
            Self::LessOrEqual => a <= b,
            Self::And => a != 0.0 && b != 0.0,
            _ => a != 0.0 || b != 0.0,
        }
    }

    fn on_i64(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Self::Add | Self::Sum => a.checked_add(b),
            Self::Sub => a.checked_sub(b),
            Self::Mul => a.checked_mul(b),
            Self::Div => a.checked_div(b),
            Self::Mod => a.checked_rem_euclid(b),
            Self::Max => Some(a.max(b)),
            Self::Min => Some(a.min(b)),
            _ => None,
        }
    }

    fn on_f32(self, a: f32, b: f32) -> Option<f32> {
        match self {
            Self::Add | Self::Sum => Some(a + b),
            Self::Sub => Some(a - b),
            Self::Mul => Some(a * b),
            Self::Div => Some(a / b),
            Self::Pow => Some(a.powf(b)),
            Self::Max => Some(a.max(b)),
            Self::Min => Some(a.min(b)),
            _ => None,
        }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        c.broadcast(0..c.node.inputs.len());
        Ok(())
    }
}
