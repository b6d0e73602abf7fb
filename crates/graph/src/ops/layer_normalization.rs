//! `LayerNormalization`.

use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs, resolve_axis};

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
        resolve_axis(i.node, self.axis, x.shape.len())?;
        let mut out = i.one(x.dtype, x.shape.clone())?;
        out.resize(i.node.outputs.len(), None);
        Ok(out)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let rank = c.shape(0).len();
        let first = resolve_axis(c.node, self.axis, rank)?;
        c.carry();
        for axis in first..rank {
            let own = axis - first;
            for slot in 1..3 {
                if c.shape(slot).get(own) == Some(&c.shape(0)[axis]) {
                    let places = [c.input(0, axis), c.input(slot, own)];
                    c.join(&places);
                    c.role(slot, own, Role::Produced);
                }
            }
            let along = |slot: &usize| c.shape(*slot).get(own) == Some(&c.shape(0)[axis]);
            let parameters = (1..3).filter(along).map(|slot| (slot, own)).collect();
            c.statistic(axis, parameters, true);
            if c.node.outputs.iter().skip(1).flatten().next().is_some() {
                c.freeze(0, axis, "gives out its statistics");
            }
        }
        Ok(())
    }
}
