//! `Conv`.

use super::window::Window;
use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::labels::Axis;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};
use crate::surgery::rewriter::Rewriter;

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
        if w.shape.contains(&0) {
            return i.error(format!("weight {:?} is empty", w.shape));
        }
        if w.shape[1].checked_mul(self.group) != Some(x.shape[1]) || !w.shape[0].is_multiple_of(self.group) {
            return i.error(format!(
                "input {:?} has {} channels, weight {:?} with group {} wants {} times {}, and a multiple of {} filters",
                x.shape, x.shape[1], w.shape, self.group, self.group, w.shape[1], self.group
            ));
        }
        check_bias(i, w.shape[0])?;
        let mut shape = vec![x.shape[0], w.shape[0]];
        shape.extend(self.window.output(i, &x.shape[2..], &w.shape[2..], false)?);
        i.one(x.dtype, shape)
    }

    /// Whether a grouped convolution is coupled by whole partitions (a channel is a partition, `group` shrinks; depthwise
    /// is the case of one channel each) or by slabs (a channel is the same position in every partition). Both are exact;
    /// the finer of the two is taken.
    pub(crate) fn by_partition(group: usize, inputs: usize, outputs: usize) -> bool {
        group > 1 && group >= inputs.max(outputs)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let weight = c.shape(1);
        let (inputs, outputs) = (weight[1], weight[0] / self.group);
        for axis in 2..weight.len() {
            c.freeze(1, axis, "has it as a kernel axis");
            c.freeze(0, axis, "slides over it");
        }
        let (produced, bias) = (c.input(1, 0), c.input(2, 0));
        let out = c.join(&[produced, bias]);
        c.role(1, 0, Role::Produced);
        c.role(2, 0, Role::Produced);
        if self.group == 1 {
            let (x, consumed) = (c.input(0, 1), c.input(1, 1));
            c.join(&[x, consumed]);
            c.role(1, 1, Role::Consumed);
            c.contract(0, 1);
        } else if Self::by_partition(self.group, inputs, outputs) {
            c.freeze(1, 1, "keeps partitions whole");
            couple_partitions(c, c.get(0, 1), c.get(1, 0), self.group);
        } else {
            let (x, consumed) = (c.get(0, 1), c.get(1, 1));
            couple_slabs(c, &x, self.group);
            couple_slabs(c, &out, self.group);
            match (&x, &consumed) {
                (Some(x), Some(w)) => (0..w.len()).for_each(|j| c.labels.unify(x[j], w[j])),
                (Some(x), None) => c.freeze_labels(x, "reads it with a weight that is computed"),
                (None, Some(w)) => c.freeze_labels(w, "reads an axis that is never pruned"),
                (None, None) => {}
            }
            c.role(1, 1, Role::Consumed);
            c.contract(0, 1);
        }
        c.set(0, 1, out);
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let (Some(weight), Some(x)) = (r.old_shape(1), r.new_shape(0)) else { return Ok(()) };
        let inputs = weight[1];
        if Self::by_partition(self.group, inputs, weight[0] / self.group) && x[1] != inputs * self.group {
            r.set_int("group", (x[1] / inputs) as i64);
        }
        Ok(())
    }

    /// Multiply-accumulates: every output element sums over a partition's channels and the kernel.
    pub(super) fn macs(weight: &[usize], out: &[usize]) -> u64 {
        (out.iter().product::<usize>() * weight[1..].iter().product::<usize>()) as u64
    }
}

/// Input 2 of a convolution is a number per filter, where it is there.
pub(super) fn check_bias(i: &Inference, filters: usize) -> Result<()> {
    match i.fact(2) {
        Some(b) if b.shape != [filters] => i.error(format!("bias {:?} for {filters} filters", b.shape)),
        _ => Ok(()),
    }
}

/// Channels `x` and `w` (either may be on the axis of a different number per partition) live and die by whole partitions.
pub(super) fn couple_partitions(c: &mut Coupling, x: Axis, w: Axis, group: usize) {
    for p in 0..group {
        let part = |labels: &Axis| labels.as_ref().map_or(Vec::new(), |l| l[p * l.len() / group..(p + 1) * l.len() / group].to_vec());
        let (a, b) = (part(&x), part(&w));
        c.unify_all(&[a, b].concat());
    }
    match (x, w) {
        (None, Some(w)) => c.freeze_labels(&w, "reads an axis that is never pruned"),
        (Some(x), None) => c.freeze_labels(&x, "reads it with a weight that is computed"),
        _ => {}
    }
}

/// The same position in every partition is one channel.
pub(super) fn couple_slabs(c: &mut Coupling, labels: &Axis, group: usize) {
    let Some(labels) = labels else { return };
    let n = labels.len() / group;
    for j in 0..n {
        let slab: Vec<_> = (0..group).map(|p| labels[p * n + j]).collect();
        c.unify_all(&slab);
    }
}
