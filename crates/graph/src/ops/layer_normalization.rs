//! `LayerNormalization`.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Inference, Outputs};

/// Normalisation over the axes from `axis` on; inputs x, scale, optional shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNormalization {
    /// First normalised axis, possibly negative.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNormalization {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { axis: a.int("axis").unwrap_or(-1), epsilon: a.float("epsilon").unwrap_or(1e-5) }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let mut out = i.one(x.dtype, x.shape.clone())?;
        out.resize(i.node.outputs.len(), None);
        Ok(out)
    }
}
