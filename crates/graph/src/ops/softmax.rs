//! `Softmax` and `LogSoftmax`.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs, resolve_axis};

/// Softmax along `axis`; before opset 13 over all axes from `axis` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Softmax {
    /// Axis, possibly negative.
    pub axis: i64,
    /// All axes from `axis` on are one (opset < 13).
    pub flattened: bool,
    /// Its logarithm.
    pub log: bool,
}

impl Softmax {
    pub(crate) fn parse(a: &Attributes, opset: i64) -> Self {
        let flattened = opset < 13;
        Self { axis: a.int("axis").unwrap_or(if flattened { 1 } else { -1 }), flattened, log: a.0.op_type() == "LogSoftmax" }
    }

    pub(super) fn name(&self) -> &'static str {
        if self.log { "LogSoftmax" } else { "Softmax" }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        resolve_axis(i.node, self.axis, x.shape.len())?;
        i.one(x.dtype, x.shape.clone())
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let rank = c.shape(0).len();
        let first = resolve_axis(c.node, self.axis, rank)?;
        let normalised = if self.flattened { first..rank } else { first..first + 1 };
        c.carry();
        for axis in normalised {
            c.freeze(0, axis, "normalises over it, so that removing a channel would change the others");
        }
        Ok(())
    }
}
