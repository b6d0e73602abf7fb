//! `Gather`.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};

/// Entries of input 0 at the indices of input 1 along `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// Axis, possibly negative.
    pub axis: i64,
}

impl Gather {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { axis: a.int("axis").unwrap_or(0) }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let (Some(x), Some(at)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
        let axis = resolve_axis(i.node, self.axis, x.shape.len())?;
        let mut shape = x.shape[..axis].to_vec();
        shape.extend(&at.shape);
        shape.extend(&x.shape[axis + 1..]);
        if let (Some(c), Some(indices)) = (x.constant.as_deref(), i.ints(1)) {
            let dim = x.shape[axis] as i64;
            let wrapped: Vec<i64> = indices.iter().map(|&k| if k < 0 { k + dim } else { k }).collect();
            if let Some(bad) = wrapped.iter().find(|k| !(0..dim).contains(*k)) {
                return i.error(format!("index {bad} is out of range for axis {axis} of {:?}", x.shape));
            }
            let keep: Vec<usize> = wrapped.into_iter().map(|k| k as usize).collect();
            if let Some(t) = c.select(axis, &keep).reshape(&shape) {
                return Ok(vec![Some(Fact::constant(t))]);
            }
        }
        i.one(x.dtype, shape)
    }
}
