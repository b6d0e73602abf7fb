//! `ConvTranspose`.

use super::conv::{Conv, check_bias, couple_partitions, couple_slabs};
use super::window::{AutoPad, Window};
use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::labels::Axis;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};
use crate::surgery::rewriter::Rewriter;

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
        let full = w.stride(d).saturating_mul(size - 1).saturating_add(w.extent(d, kernel)).saturating_add(extra);
        let wanted = match (&self.output_shape, w.auto_pad) {
            (Some(s), _) => s.get(d).copied(),
            (None, AutoPad::SameUpper | AutoPad::SameLower) => Some(size.saturating_mul(w.stride(d))),
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
        let Some(filters) = w.shape[1].checked_mul(self.group).filter(|_| w.shape[0].is_multiple_of(self.group)) else {
            return i.error(format!("weight {:?} does not divide into {} partitions", w.shape, self.group));
        };
        check_bias(i, filters)?;
        let mut shape = vec![x.shape[0], filters];
        shape.extend((0..x.shape.len() - 2).map(|d| self.axis(d, x.shape[d + 2], w.shape[d + 2]).0));
        i.one(x.dtype, shape)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let weight = c.shape(1);
        let (inputs, outputs) = (weight[0] / self.group, weight[1]);
        for axis in 2..weight.len() {
            c.freeze(1, axis, "has it as a kernel axis");
            c.freeze(0, axis, "slides over it");
        }
        let (x, consumed, produced, bias) = (c.input(0, 1), c.input(1, 0), c.input(1, 1), c.input(2, 0));
        c.role(2, 0, Role::Produced);
        let out = if self.group == 1 {
            c.join(&[x, consumed]);
            c.role(1, 0, Role::Consumed);
            c.role(1, 1, Role::Produced);
            c.contract(0, 1);
            c.join(&[produced, bias])
        } else if Conv::by_partition(self.group, inputs, outputs) {
            c.freeze(1, 1, "keeps partitions whole");
            c.role(1, 0, Role::Produced);
            let (x, w) = (c.get(0, 1), c.get(1, 0));
            couple_partitions(c, x, w.clone(), self.group);
            // Every output of a partition goes with its inputs.
            let out = w.map(|w| (0..self.group * outputs).map(|f| w[f / outputs * inputs]).collect());
            join_bias(c, &out);
            out
        } else {
            c.join(&[x, consumed]);
            let (x, w) = (c.get(0, 1), c.get(1, 0));
            couple_slabs(c, &x, self.group);
            couple_slabs(c, &w, self.group);
            c.role(1, 0, Role::Consumed);
            c.role(1, 1, Role::Produced);
            c.contract(0, 1);
            let out = c.get(1, 1).map(|w| (0..self.group * outputs).map(|f| w[f % outputs]).collect());
            join_bias(c, &out);
            out
        };
        c.set(0, 1, out);
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let (Some(weight), Some(x)) = (r.old_shape(1), r.new_shape(0)) else { return Ok(()) };
        let inputs = weight[0] / self.group;
        if Conv::by_partition(self.group, inputs, weight[1]) && x[1] != weight[0] {
            r.set_int("group", (x[1] / inputs) as i64);
        }
        Ok(())
    }

    /// Multiply-accumulates: every input element is spread over a partition's output channels and the kernel.
    pub(super) fn macs(x: &[usize], weight: &[usize]) -> u64 {
        (x.iter().product::<usize>() * weight[1..].iter().product::<usize>()) as u64
    }
}

fn join_bias(c: &mut Coupling, out: &Axis) {
    match (out, c.get(2, 0)) {
        (Some(out), Some(bias)) => out.iter().zip(bias.iter()).for_each(|(&a, &b)| c.labels.unify(a, b)),
        (None, Some(bias)) => c.freeze_labels(&bias, "has a weight that is computed"),
        (Some(out), None) if c.input(2, 0).is_some() => c.freeze_labels(out, "has a bias that is computed"),
        _ => {}
    }
}
