//! `Split`.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};

/// An operand cut along `axis`; part sizes from the attribute (opset < 13), from input 1, or equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Axis, possibly negative.
    pub axis: i64,
    /// Part sizes as an attribute.
    pub sizes: Option<Vec<i64>>,
}

impl Split {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { axis: a.int("axis").unwrap_or(0), sizes: a.ints("split") }
    }

    /// Part sizes for an axis of `dim`, of which `given` come from input 1.
    pub fn parts(&self, dim: usize, given: Option<Vec<i64>>, outputs: usize) -> Vec<usize> {
        match given.or_else(|| self.sizes.clone()) {
            Some(s) => s.into_iter().map(|x| x.max(0) as usize).collect(),
            None => {
                let chunk = dim.div_ceil(outputs.max(1));
                (0..outputs).map(|k| chunk.min(dim.saturating_sub(k * chunk))).collect()
            }
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let axis = resolve_axis(i.node, self.axis, x.shape.len())?;
        if i.has(1) && i.ints(1).is_none() {
            return i.unknown();
        }
        let parts = self.parts(x.shape[axis], i.ints(1), i.node.outputs.len());
        if parts.iter().sum::<usize>() != x.shape[axis] || parts.len() != i.node.outputs.len() {
            return i.error(format!("parts {parts:?} for {} outputs do not make up axis {axis} of {:?}", i.node.outputs.len(), x.shape));
        }
        let mut start = 0;
        Ok(parts
            .into_iter()
            .map(|n| {
                let keep: Vec<usize> = (start..start + n).collect();
                start += n;
                let mut shape = x.shape.clone();
                shape[axis] = n;
                Some(match x.constant.as_deref() {
                    Some(c) => Fact::constant(c.select(axis, &keep)),
                    None => Fact::new(x.dtype, shape),
                })
            })
            .collect())
    }
}
