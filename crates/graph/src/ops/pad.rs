//! `Pad`.

use crate::attributes::Attributes;
use crate::coupling::labels::LONGEST;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs, resolve_axis};
use crate::surgery::rewriter::Rewriter;

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
        i.constant(2)
            .and_then(|t| t.to_f32().and_then(|v| v.first().copied()).or_else(|| t.to_i64().and_then(|v| v.first().map(|&x| x as f32))))
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(amounts) = self.amounts(i, x.shape.len())? else { return i.unknown() };
        let mut shape = Vec::with_capacity(amounts.len());
        for (&d, &(a, b)) in x.shape.iter().zip(&amounts) {
            let left = (d as i64).checked_add(a.min(0)).and_then(|n| n.checked_add(b.min(0))).filter(|n| *n >= 0);
            let Some(left) = left else { return i.error(format!("amounts {amounts:?} crop more than {:?} has", x.shape)) };
            let Some(n) = left.checked_add(a.max(0)).and_then(|n| n.checked_add(b.max(0))) else {
                return i.error(format!("amounts {amounts:?} add more to {:?} than any machine holds", x.shape));
            };
            shape.push(n as usize);
        }
        i.one(x.dtype, shape)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let i = c.inference();
        let rank = c.shape(0).len();
        let Some(amounts) = self.amounts(&i, rank)? else {
            (0..rank).for_each(|axis| c.freeze(0, axis, "adds to it an amount that is computed"));
            return Ok(());
        };
        for (axis, &(before, after)) in amounts.iter().enumerate() {
            let Some(labels) = c.get(0, axis) else { continue };
            if (before, after) == (0, 0) {
                c.set(0, axis, Some(labels));
            } else if before < 0 || after < 0 {
                c.freeze_labels(&labels, "crops it");
            } else if before.saturating_add(after) > LONGEST as i64 {
                c.freeze_labels(&labels, "adds more to it than any network has channels");
            } else if self.mode != PadMode::Constant {
                c.freeze_labels(&labels, "repeats parts of it as padding");
            } else {
                // An added coordinate is a constant: it constrains nothing, and goes where what it is combined with goes.
                let (before, after) = (c.labels.fresh(before as usize), c.labels.fresh(after as usize));
                let all = [&before[..], &labels[..], &after[..]].concat();
                c.set(0, axis, Some(all.into()));
            }
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let Some(x) = r.old_shape(0).map(<[usize]>::to_vec) else { return Ok(()) };
        let i = r.old_inference();
        let Some(mut amounts) = self.amounts(&i, x.len())? else { return Ok(()) };
        let axes: Vec<usize> = match i.ints(3) {
            Some(a) => a.into_iter().map(|a| resolve_axis(r.node, a, x.len())).collect::<Result<_>>()?,
            None => (0..x.len()).collect(),
        };
        for (axis, amount) in amounts.iter_mut().enumerate() {
            let Some(kept) = r.kept_output(0, axis) else { continue };
            let (start, end) = (amount.0.max(0) as usize, amount.0.max(0) as usize + x[axis]);
            if *amount != (0, 0) {
                *amount = (kept.iter().filter(|&&k| k < start).count() as i64, kept.iter().filter(|&&k| k >= end).count() as i64);
            }
        }
        let wanted: Vec<i64> = axes.iter().map(|&a| amounts[a].0).chain(axes.iter().map(|&a| amounts[a].1)).collect();
        match &self.pads {
            Some(pads) if *pads == wanted => Ok(()),
            Some(_) => {
                let name = if r.has_attribute("pads") { "pads" } else { "paddings" };
                r.set_ints(name, wanted);
                Ok(())
            }
            None => r.want_ints(1, wanted),
        }
    }
}
