//! `LRN`, `InstanceNormalization` and `GroupNormalization`.

use super::conv::couple_slabs;
use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};

/// `x/(bias + alpha/size·Σ x²)^beta`, the sum over `size` neighbouring channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lrn {
    /// Channels summed over.
    pub size: i64,
    /// Factor of the sum.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Added to the sum.
    pub bias: f32,
}

impl Lrn {
    pub(crate) fn parse(a: &Attributes) -> Self {
        let float = |name, default| a.float(name).unwrap_or(default);
        Self { size: a.int("size").unwrap_or(1), alpha: float("alpha", 1e-4), beta: float("beta", 0.75), bias: float("bias", 1.0) }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        c.carry();
        if self.size > 1 {
            // The neighbours of a channel that stays are those that stay.
            c.statistic(1, Vec::new(), true);
        }
        Ok(())
    }
}

/// `scale·(x − mean)/√(var + epsilon) + shift` with the statistics of each channel of each sample; inputs x, scale, shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InstanceNormalization {
    /// Added to the variance.
    pub epsilon: f32,
}

impl InstanceNormalization {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { epsilon: a.float("epsilon").unwrap_or(1e-5) }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let places = [c.input(0, 1), c.input(1, 0), c.input(2, 0)];
        c.join(&places);
        c.role(1, 0, Role::Produced);
        c.role(2, 0, Role::Produced);
        c.carry();
        // Channels folded into the normalised axes are part of the statistic.
        for axis in 2..c.shape(0).len() {
            c.statistic(axis, Vec::new(), true);
        }
        Ok(())
    }
}

/// The same with the statistics of groups of channels; scale and shift per channel (opset 21) or per group (18).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// Number of groups.
    pub groups: usize,
}

impl GroupNormalization {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let groups = a.int("num_groups").and_then(|g| usize::try_from(g).ok()).filter(|&g| g > 0);
        Ok(Self { epsilon: a.float("epsilon").unwrap_or(1e-5), groups: groups.ok_or_else(|| a.error("num_groups is not positive"))? })
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let channels = c.shape(0).get(1).copied().unwrap_or(0);
        if !channels.is_multiple_of(self.groups) {
            return Err(c.node.error(format!("{channels} channels are no multiple of its {} groups", self.groups)));
        }
        let labels = c.get(0, 1);
        couple_slabs(c, &labels, self.groups);
        let per_channel = |slot: usize| c.shape(slot) == [channels] && channels != self.groups;
        let parameters: Vec<(usize, usize)> = (1..3).filter(|&s| per_channel(s)).map(|s| (s, 0)).collect();
        for &(slot, axis) in &parameters {
            let places = [c.input(0, 1), c.input(slot, axis)];
            c.join(&places);
            c.role(slot, axis, Role::Produced);
        }
        c.carry();
        c.statistic(1, parameters, true);
        for axis in 2..c.shape(0).len() {
            c.freeze(0, axis, "normalises over it, so that removing a channel would change the statistic");
        }
        if channels == self.groups {
            // One channel per group: a parameter cannot be told from one per group.
            c.freeze(0, 1, "has as many groups as channels");
        }
        Ok(())
    }
}

/// The shape of the operand, which all of them keep.
pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let Some(x) = i.fact(0) else { return i.unknown() };
    if x.shape.len() < 2 {
        return i.error(format!("input {:?} has no channel axis", x.shape));
    }
    i.one(x.dtype, x.shape.clone())
}
