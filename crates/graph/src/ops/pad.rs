//! `Pad`.

use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Inference, Outputs, resolve_axis};

/// What the added values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadMode {
    /// One value.
    Constant,
    /// Mirrored without the border.
    Reflect,
    /// The border repeated.
    Edge,
    /// The other end.
    Wrap,
}

/// Values added around; amounts and value from the attributes (opset < 11) or from inputs 1 to 3.
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// What the added values are.
    pub mode: PadMode,
    /// Amounts as an attribute, all starts before all ends.
    pub pads: Option<Vec<i64>>,
    /// Value as an attribute.
    pub value: f32,
}

impl Pad {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let mode = match a.string("mode").unwrap_or("constant") {
            "constant" => PadMode::Constant,
            "reflect" => PadMode::Reflect,
            "edge" => PadMode::Edge,
            "wrap" => PadMode::Wrap,
            other => return Err(a.error(format!("mode `{other}` is not one of constant, reflect, edge, wrap"))),
        };
        Ok(Self { mode, pads: a.ints("pads").or_else(|| a.ints("paddings")), value: a.float("value").unwrap_or(0.0) })
    }

    /// `(start, end)` per axis of an operand of rank `rank` (negative amounts crop); `None` where they are not constants.
    ///
    /// # Errors
    /// Amounts that do not fit the rank.
    pub fn amounts(&self, i: &Inference, rank: usize) -> Result<Option<Vec<(i64, i64)>>> {
        let Some(pads) = self.pads.clone().or_else(|| i.ints(1)) else { return Ok(None) };
        let axes = match i.ints(3) {
            Some(a) => a,
            None if i.has(3) => return Ok(None),
            None => (0..rank as i64).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return i.error(format!("{} amounts for {} axes", pads.len(), axes.len()));
        }
        let mut out = vec![(0, 0); rank];
        for (k, &axis) in axes.iter().enumerate() {
            out[resolve_axis(i.node, axis, rank)?] = (pads[k], pads[axes.len() + k]);
        }
        Ok(Some(out))
    }

    /// The value added in [`PadMode::Constant`]; `None` where it is not a constant.
    pub fn fill(&self, i: &Inference) -> Option<f32> {
        if !i.has(2) {
            return Some(self.value);
        }
        i.constant(2).and_then(|t| t.to_f32().and_then(|v| v.first().copied()).or_else(|| t.to_i64().and_then(|v| v.first().map(|&x| x as f32))))
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(amounts) = self.amounts(i, x.shape.len())? else { return i.unknown() };
        let mut shape = Vec::with_capacity(amounts.len());
        for (&d, (a, b)) in x.shape.iter().zip(&amounts) {
            match usize::try_from(d as i64 + a + b) {
                Ok(n) => shape.push(n),
                Err(_) => return i.error(format!("amounts {amounts:?} crop more than {:?} has", x.shape)),
            }
        }
        i.one(x.dtype, shape)
    }
}
