//! `Flatten`.

use super::reshape::couple_reshape;
use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};

/// Two axes: those before `axis`, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flatten {
    /// Axis, possibly negative; may equal the rank.
    pub axis: i64,
}

impl Flatten {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { axis: a.int("axis").unwrap_or(1) }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let rank = x.shape.len() as i64;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        if !(0..=rank).contains(&axis) {
            return i.error(format!("axis {} is out of range for rank {rank}", self.axis));
        }
        let (outer, inner) = x.shape.split_at(axis as usize);
        let shape = vec![outer.iter().product(), inner.iter().product()];
        match x.constant.as_deref().and_then(|c| c.reshape(&shape)) {
            Some(t) => Ok(vec![Some(Fact::constant(t))]),
            None => i.one(x.dtype, shape),
        }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        couple_reshape(c);
        Ok(())
    }
}
