//! `Constant`, `ConstantOfShape` and `Range`.

use crate::attributes::Attributes;
use crate::coupling::labels::LONGEST;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, elements};
use crate::map_type;
use crate::model::constant_value;
use crate::surgery::rewriter::Rewriter;
use crate::tensor::Tensor;

/// Larger results are not held in memory.
pub(super) const LARGEST_FOLDED: usize = 1 << 20;

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let Some(node) = i.model.graph_proto().node.get(i.node.position) else { return i.unknown() };
    // A constant this program does not compute with (a string, say) is unknown, not an error.
    Ok(vec![constant_value(node).ok().map(Fact::constant)])
}

/// A tensor of one value, of the shape given by input 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantOfShape {
    /// The value, one element.
    pub value: Tensor,
}

impl ConstantOfShape {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let value = a.tensor("value").map(Tensor::decode).transpose()?.unwrap_or_else(|| Tensor::f32([1], vec![0.0]));
        if value.len() != 1 {
            return Err(a.error("its value is not one element"));
        }
        Ok(Self { value })
    }

    /// A tensor of one value is as good with fewer coordinates along any axis: a weight of a file made to be small, zeros that
    /// are joined on, the initial state of a recurrence.
    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        if self.value.to_f32().is_some() {
            for (axis, &dim) in c.output_shape(0).iter().enumerate().filter(|(_, d)| **d <= LONGEST) {
                let labels = c.labels.fresh(dim);
                c.set(0, axis, Some(labels));
            }
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        match r.expected_output(0) {
            Some(shape) if r.old_output(0) != Some(&shape) => {
                let wanted: Vec<i64> = shape.into_iter().map(|d| d as i64).collect();
                if !r.can_patch(0) && r.new_ints(0).as_ref() != Some(&wanted) {
                    return Err(r.node.error("its shape is computed in a way that does not follow the channels"));
                }
                r.want_ints(0, wanted)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(shape) = i.ints(0) else { return i.unknown() };
        let shape: Vec<usize> = shape.into_iter().map(|d| d.max(0) as usize).collect();
        let Some(count) = elements(&shape).filter(|&c| c <= LARGEST_FOLDED) else { return i.one(self.value.data.dtype(), shape) };
        let data = map_type!(&self.value.data, v => vec![v[0]; count]);
        Ok(vec![Some(Fact::constant(Tensor::new(shape, data)))])
    }
}

pub(super) fn infer_range(i: &Inference) -> Result<Outputs> {
    let one = |slot| i.ints(slot).and_then(|v| v.first().copied());
    let (Some(start), Some(limit), Some(step)) = (one(0), one(1), one(2)) else { return i.unknown() };
    if step == 0 {
        return i.error("a step of 0");
    }
    let mut values = Vec::new();
    let mut at = start;
    while (step > 0 && at < limit) || (step < 0 && at > limit) {
        if values.len() >= LARGEST_FOLDED {
            return i.unknown();
        }
        values.push(at);
        at = at.saturating_add(step);
    }
    Ok(vec![Some(Fact::constant(Tensor::vec_i64(values)))])
}
