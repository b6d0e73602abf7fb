//! `ConvTranspose`.

use super::window::{AutoPad, Window};
use crate::attributes::Attributes;
use crate::error::Result;
use crate::facts::{Inference, Outputs};

/// Transposed convolution: input `[N, C, …]`, weight `[C, F/group, …]`, optional bias `[F]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Strides, dilations, padding.
    pub window: Window,
    /// Number of independent partitions of the channels.
    pub group: usize,
    /// Extra size at the end per spatial axis; empty for none.
    pub output_padding: Vec<usize>,
    /// Output sizes, where given; padding follows from them.
    pub output_shape: Option<Vec<usize>>,
}

impl ConvTranspose {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let group = usize::try_from(a.int("group").unwrap_or(1)).ok().filter(|&g| g > 0);
        Ok(Self {
            window: Window::parse(a)?,
            group: group.ok_or_else(|| a.error("group is not positive"))?,
            output_padding: a.sizes("output_padding")?.unwrap_or_default(),
            output_shape: a.sizes("output_shape")?,
        })
    }

    /// Output size and padding `(start, end)` along spatial axis `d`.
    pub fn axis(&self, d: usize, size: usize, kernel: usize) -> (usize, (usize, usize)) {
        let w = &self.window;
        let extra = self.output_padding.get(d).copied().unwrap_or(0);
        let full = w.stride(d) * (size - 1) + extra + w.dilation(d) * (kernel - 1) + 1;
        let wanted = match (&self.output_shape, w.auto_pad) {
            (Some(s), _) => s.get(d).copied(),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => Some(size * w.stride(d)),
            _ => None,
        };
        match wanted {
            Some(out) => {
                let total = full.saturating_sub(out);
                let (small, large) = (total / 2, total - total / 2);
                (out, if w.auto_pad == AutoPad::SameUpper { (small, large) } else { (large, small) })
            }
            None => {
                let (before, after) = w.pad(d, size, kernel);
                (full.saturating_sub(before + after), (before, after))
            }
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let (Some(x), Some(w)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
        if x.shape.len() < 3 || w.shape.len() != x.shape.len() || x.shape[1] != w.shape[0] || x.shape.contains(&0) || w.shape.contains(&0) {
            return i.error(format!("input {:?} and weight {:?} do not fit", x.shape, w.shape));
        }
        let mut shape = vec![x.shape[0], w.shape[1] * self.group];
        shape.extend((0..x.shape.len() - 2).map(|d| self.axis(d, x.shape[d + 2], w.shape[d + 2]).0));
        i.one(x.dtype, shape)
    }
}
