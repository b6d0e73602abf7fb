//! `Slice`.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::surgery::rewriter::Rewriter;

/// Longest axis of an operand.
const LONGEST_AXIS: usize = 1 << 24;

/// Strided selection; starts, ends and axes from the attributes (opset < 10) or from inputs 1 to 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Starts as an attribute.
    pub starts: Option<Vec<i64>>,
    /// Ends as an attribute.
    pub ends: Option<Vec<i64>>,
    /// Axes as an attribute.
    pub axes: Option<Vec<i64>>,
}

impl Slice {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { starts: a.ints("starts"), ends: a.ints("ends"), axes: a.ints("axes") }
    }

    /// For every axis of an operand of `shape`, the coordinates kept, in order; `None` where the bounds are not constants.
    ///
    /// # Errors
    /// Bounds that do not fit.
    pub fn coordinates(&self, i: &Inference, shape: &[usize]) -> Result<Option<Vec<Vec<usize>>>> {
        let from = |attribute: &Option<Vec<i64>>, slot| attribute.clone().or_else(|| i.ints(slot));
        let (Some(starts), Some(ends)) = (from(&self.starts, 1), from(&self.ends, 2)) else { return Ok(None) };
        let axes = match from(&self.axes, 3) {
            Some(a) => a,
            None if i.has(3) => return Ok(None),
            None => (0..starts.len() as i64).collect(),
        };
        let steps = match i.ints(4) {
            Some(s) => s,
            None if i.has(4) => return Ok(None),
            None => vec![1; starts.len()],
        };
        if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
            return i.error("starts, ends, axes and steps are not of one length");
        }
        if let Some(long) = shape.iter().find(|&&d| d > LONGEST_AXIS) {
            return i.error(format!("it cuts an operand {shape:?}, whose axis of {long} is too long to follow; give a smaller --shape"));
        }
        let mut kept: Vec<Vec<usize>> = shape.iter().map(|&d| (0..d).collect()).collect();
        for (k, &axis) in axes.iter().enumerate() {
            let axis = resolve_axis(i.node, axis, shape.len())?;
            let (dim, step) = (shape[axis] as i64, steps[k]);
            let wrap = |x: i64| if x < 0 { x.saturating_add(dim) } else { x };
            let mut out = Vec::new();
            if step > 0 {
                let (mut at, end) = (wrap(starts[k]).clamp(0, dim), wrap(ends[k]).clamp(0, dim));
                while at < end {
                    out.push(at as usize);
                    at = at.saturating_add(step);
                }
            } else if step < 0 {
                let (mut at, end) = (wrap(starts[k]).clamp(-1, dim - 1), wrap(ends[k]).clamp(-1, dim - 1));
                while at > end {
                    out.push(at as usize);
                    at = at.saturating_add(step);
                }
            } else {
                return i.error("a step of 0");
            }
            kept[axis] = out;
        }
        Ok(Some(kept))
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(kept) = self.coordinates(i, &x.shape)? else { return i.unknown() };
        if let Some(c) = x.constant.as_deref() {
            let sliced = kept.iter().enumerate().fold(c.clone(), |t, (axis, keep)| t.select(axis, keep));
            return Ok(vec![Some(Fact::constant(sliced))]);
        }
        i.one(x.dtype, kept.iter().map(Vec::len).collect())
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let shape = c.shape(0);
        let Some(kept) = self.coordinates(&c.inference(), shape)? else {
            (0..shape.len()).for_each(|axis| c.freeze(0, axis, "cuts it at bounds that are computed"));
            return Ok(());
        };
        for (axis, keep) in kept.iter().enumerate() {
            let Some(labels) = c.get(0, axis) else { continue };
            if keep.windows(2).all(|w| w[1] == w[0] + 1) {
                let selected = keep.iter().map(|&k| labels[k]).collect();
                c.set(0, axis, Some(selected));
            } else {
                c.freeze_labels(&labels, "takes every other coordinate of it, or reverses it");
            }
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let Some(shape) = r.old_shape(0).map(<[usize]>::to_vec) else { return Ok(()) };
        let i = r.old_inference();
        let read = |attribute: &Option<Vec<i64>>, slot| attribute.clone().or_else(|| i.ints(slot));
        let (Some(mut starts), Some(mut ends), Some(kept)) = (read(&self.starts, 1), read(&self.ends, 2), self.coordinates(&i, &shape)?)
        else {
            return Ok(());
        };
        let axes = read(&self.axes, 3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let mut changed = false;
        for (k, &axis) in axes.iter().enumerate() {
            let axis = resolve_axis(r.node, axis, shape.len())?;
            let Some(stay) = r.kept_input(0, axis).map(<[usize]>::to_vec) else { continue };
            let (Some(&first), Some(&last)) = (kept[axis].first(), kept[axis].last()) else { continue };
            // Bounds that mean "from the start" and "to the end" mean it still.
            if first > 0 {
                starts[k] = stay.iter().filter(|&&s| s < first).count() as i64;
                changed = true;
            }
            if last + 1 < shape[axis] {
                ends[k] = stay.iter().filter(|&&s| s <= last).count() as i64;
                changed = true;
            }
        }
        if !changed {
            return Ok(());
        }
        if self.starts.is_some() {
            r.set_ints("starts", starts);
            r.set_ints("ends", ends);
            return Ok(());
        }
        r.want_ints(1, starts)?;
        r.want_ints(2, ends)
    }
}
