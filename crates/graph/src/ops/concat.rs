//! `Concat`.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::tensor::Tensor;

/// Operands joined along `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat {
    /// Axis, possibly negative.
    pub axis: i64,
}

impl Concat {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        // Before opset 4 the axis could be left out and was 1.
        Ok(Self { axis: a.int("axis").unwrap_or(1) })
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(parts) = (0..i.inputs.len()).map(|s| i.fact(s)).collect::<Option<Vec<_>>>() else { return i.unknown() };
        let Some(first) = parts.first() else { return i.error("it has no operand") };
        let axis = resolve_axis(i.node, self.axis, first.shape.len())?;
        let mut shape = first.shape.clone();
        shape[axis] = 0;
        for p in &parts {
            let fits = p.shape.len() == shape.len() && p.shape.iter().zip(&shape).enumerate().all(|(d, (a, b))| d == axis || a == b);
            if !fits {
                return i.error(format!("operand {:?} does not join {:?} along axis {axis}", p.shape, first.shape));
            }
            shape[axis] += p.shape[axis];
        }
        let constants: Option<Vec<&Tensor>> = parts.iter().map(|p| p.constant.as_deref()).collect();
        let folded = constants.and_then(|c| Tensor::concat(&c, axis));
        Ok(vec![Some(folded.map_or_else(|| Fact::new(first.dtype, shape), Fact::constant))])
    }
}
