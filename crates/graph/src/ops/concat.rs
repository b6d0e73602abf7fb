//! `Concat`.

use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::labels::LONGEST;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::tensor::Tensor;

/// Operands joined along `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat {
    /// Axis, possibly negative.
    pub axis: i64,
}

impl Concat {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        // Before opset 4 the axis could be left out and was 1.
        Ok(Self { axis: a.int("axis").unwrap_or(1) })
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(parts) = (0..i.inputs.len()).map(|s| i.fact(s)).collect::<Option<Vec<_>>>() else { return i.unknown() };
        let Some(first) = parts.first() else { return i.error("it has no operand") };
        let axis = resolve_axis(i.node, self.axis, first.shape.len())?;
        let mut shape = first.shape.clone();
        shape[axis] = 0;
        for p in &parts {
            let fits = p.shape.len() == shape.len() && p.shape.iter().zip(&shape).enumerate().all(|(d, (a, b))| d == axis || a == b);
            if !fits {
                return i.error(format!("operand {:?} does not join {:?} along axis {axis}", p.shape, first.shape));
            }
            shape[axis] += p.shape[axis];
        }
        let constants: Option<Vec<&Tensor>> = parts.iter().map(|p| p.constant.as_deref()).collect();
        let folded = constants.and_then(|c| Tensor::concat(&c, axis));
        Ok(vec![Some(folded.map_or_else(|| Fact::new(first.dtype, shape), Fact::constant))])
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let rank = c.output_shape(0).len();
        let along = resolve_axis(c.node, self.axis, rank)?;
        let slots = 0..c.node.inputs.len();
        for axis in 0..rank {
            let places: Vec<_> = slots.clone().map(|s| c.input(s, axis)).collect();
            let labels = if axis != along {
                c.join(&places)
            } else if places.iter().all(|&p| c.at(p).is_none()) {
                None
            } else if c.output_shape(0)[axis] > LONGEST {
                for slot in slots.clone() {
                    c.freeze(slot, axis, "joins it to more than any network has channels");
                }
                None
            } else {
                let mut all = Vec::new();
                for (slot, &place) in places.iter().enumerate() {
                    match c.at(place) {
                        Some(labels) => {
                            all.extend_from_slice(&labels);
                            c.role(slot, axis, Role::Produced);
                        }
                        // Coordinates that nothing prunes keep their place among those that can go.
                        None => {
                            let fixed = c.labels.fresh(c.shape(slot)[axis]);
                            c.freeze_labels(&fixed, &format!("joins input {slot}, of which axis {axis} is no channel axis"));
                            all.extend_from_slice(&fixed);
                        }
                    }
                }
                Some(all.into())
            };
            c.set(0, axis, labels);
        }
        Ok(())
    }
}
