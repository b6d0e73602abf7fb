//! `Reshape`.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};

/// The same elements in another shape, given by input 1 (or the attribute, opset < 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    /// A 0 in the shape is a size of 0 instead of "as in the operand".
    pub allow_zero: bool,
    /// Shape as an attribute.
    pub shape: Option<Vec<i64>>,
}

impl Reshape {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { allow_zero: a.int("allowzero").unwrap_or(0) != 0, shape: a.ints("shape") }
    }

    /// The target as the file gives it (with 0 and −1), if it is a constant.
    pub fn target(&self, i: &Inference) -> Option<Vec<i64>> {
        self.shape.clone().or_else(|| i.ints(1))
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(target) = self.target(i) else { return i.unknown() };
        let mut shape = Vec::with_capacity(target.len());
        for (d, &t) in target.iter().enumerate() {
            shape.push(match t {
                0 if !self.allow_zero => match x.shape.get(d) {
                    Some(&n) => n,
                    None => return i.error(format!("target {target:?} copies axis {d}, which {:?} does not have", x.shape)),
                },
                -1 => 1,
                n if n >= 0 => n as usize,
                n => return i.error(format!("target {target:?} holds {n}")),
            });
        }
        if let Some(free) = target.iter().position(|&t| t == -1) {
            let known: usize = shape.iter().product();
            if known == 0 || !x.len().is_multiple_of(known) {
                return i.error(format!("{:?} does not reshape to {target:?}", x.shape));
            }
            shape[free] = x.len() / known;
        }
        if shape.iter().product::<usize>() != x.len() {
            return i.error(format!("{:?} does not reshape to {target:?}", x.shape));
        }
        match x.constant.as_deref().and_then(|c| c.reshape(&shape)) {
            Some(t) => Ok(vec![Some(Fact::constant(t))]),
            None => i.one(x.dtype, shape),
        }
    }
}
