//! `Split`.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::surgery::rewriter::Rewriter;

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
        let all = parts.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
        if all != Some(x.shape[axis]) || parts.len() != i.node.outputs.len() {
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

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let shape = c.shape(0);
        let along = resolve_axis(c.node, self.axis, shape.len())?;
        let mut start = 0;
        for slot in 0..c.node.outputs.len() {
            let size = c.output_shape(slot).get(along).copied().unwrap_or(0);
            for axis in 0..shape.len() {
                let labels = c.get(0, axis).map(|l| if axis == along { l[start..start + size].into() } else { l });
                c.set(slot, axis, labels);
            }
            if c.node.output(slot).is_none() && c.get(0, along).is_some() {
                c.freeze(0, along, "leaves out one of its parts");
            }
            start += size;
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let Some(shape) = r.old_shape(0).map(<[usize]>::to_vec) else { return Ok(()) };
        let along = resolve_axis(r.node, self.axis, shape.len())?;
        if r.kept_input(0, along).is_none() {
            return Ok(());
        }
        let wanted: Vec<i64> = (0..r.node.outputs.len()).map(|s| r.expected_output(s).map_or(0, |e| e[along] as i64)).collect();
        let equal = wanted.windows(2).all(|w| w[0] == w[1]);
        if self.sizes.is_some() || (r.opset() < 13 && !equal) {
            r.set_ints("split", wanted);
        } else if r.node.input(1).is_some() || !equal {
            r.remove_attribute("num_outputs");
            return r.want_ints(1, wanted);
        }
        Ok(())
    }
}
