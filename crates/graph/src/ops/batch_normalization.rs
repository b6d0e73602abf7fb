//! `BatchNormalization`.

use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};

/// `scale·(x − mean)/√(var + epsilon) + shift` per channel; inputs x, scale, shift, mean, var.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormalization {
    /// Added to the variance.
    pub epsilon: f32,
    /// Share of the old running statistic kept at an update: `running·momentum + batch·(1 − momentum)`.
    pub momentum: f32,
}

impl BatchNormalization {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        if a.int("training_mode").unwrap_or(0) != 0 {
            return Err(a.error(
                "its training_mode is 1: at inference, too, it would normalise by the statistics of the batch; export the network in \
                 evaluation mode (`model.eval()` in PyTorch), or set training_mode to 0",
            ));
        }
        Ok(Self { epsilon: a.float("epsilon").unwrap_or(1e-5), momentum: a.float("momentum").unwrap_or(0.9) })
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let channels = x.shape.get(1).copied().unwrap_or(1);
        for slot in 1..5 {
            if let Some(p) = i.fact(slot).filter(|p| p.len() != channels) {
                return i.error(format!("input {:?} has {channels} channels, parameter {slot} has shape {:?}", x.shape, p.shape));
            }
        }
        let mut out = i.one(x.dtype, x.shape.clone())?;
        out.resize(i.node.outputs.len(), None);
        Ok(out)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let channel = if c.shape(0).len() > 1 { 1 } else { 0 };
        let places = [c.input(0, channel), c.input(1, 0), c.input(2, 0), c.input(3, 0), c.input(4, 0)];
        c.join(&places);
        for slot in 1..5 {
            c.role(slot, 0, Role::Produced);
        }
        c.carry();
        Ok(())
    }
}
