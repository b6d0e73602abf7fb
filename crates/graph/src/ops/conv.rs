//! `Conv`.

use super::window::Window;
use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Inference, Outputs};

/// Convolution: input `[N, C, …]`, weight `[F, C/group, …]`, optional bias `[F]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv {
    /// Strides, dilations, padding.
    pub window: Window,
    /// Number of independent partitions of the channels.
    pub group: usize,
}

impl Conv {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let group = usize::try_from(a.int("group").unwrap_or(1)).ok().filter(|&g| g > 0);
        Ok(Self { window: Window::parse(a)?, group: group.ok_or_else(|| a.error("group is not positive"))? })
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let (Some(x), Some(w)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
        if x.shape.len() < 3 || w.shape.len() != x.shape.len() {
            return i.error(format!("input {:?} and weight {:?} are not of one rank of at least 3", x.shape, w.shape));
        }
        if x.shape[1] != w.shape[1] * self.group || !w.shape[0].is_multiple_of(self.group) {
            return i.error(format!("input {:?} has {} channels, weight {:?} with group {} wants {}", x.shape, x.shape[1], w.shape, self.group, w.shape[1] * self.group));
        }
        let mut shape = vec![x.shape[0], w.shape[0]];
        shape.extend(self.window.output(i, &x.shape[2..], &w.shape[2..], false)?);
        i.one(x.dtype, shape)
    }
}
