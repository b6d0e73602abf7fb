//! `Reshape`.

use crate::attributes::Attributes;
use crate::coupling::Slabs;
use crate::coupling::labels::LONGEST;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Facts, Inference, Outputs, elements};
use crate::graph::{Graph, Node, ValueId};
use crate::movement::strides;
use crate::ops::{Op, Unary};
use crate::surgery::rewriter::Rewriter;
use std::ops::Range;

/// The same elements in another shape, given by input 1 (or the attribute, opset < 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reshape {
    /// A 0 in the shape is a size of 0 instead of "as in the operand".
    pub allow_zero: bool,
    /// Shape as an attribute.
    pub shape: Option<Vec<i64>>,
}

impl Reshape {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { allow_zero: a.int("allowzero").unwrap_or(0) != 0, shape: a.ints("shape") }
    }

    /// The target as the file gives it (with 0 and −1), if it is a constant.
    pub fn target(&self, i: &Inference) -> Option<Vec<i64>> {
        self.shape.clone().or_else(|| i.ints(1))
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(target) = self.target(i) else { return i.unknown() };
        let mut shape = Vec::with_capacity(target.len());
        for (d, &t) in target.iter().enumerate() {
            shape.push(match t {
                0 if !self.allow_zero => match x.shape.get(d) {
                    Some(&n) => n,
                    None => return i.error(format!("target {target:?} copies axis {d}, which {:?} does not have", x.shape)),
                },
                -1 => 1,
                n if n >= 0 => n as usize,
                n => return i.error(format!("target {target:?} holds {n}")),
            });
        }
        if let Some(free) = target.iter().position(|&t| t == -1) {
            let Some(known) = elements(&shape).filter(|&n| n > 0 && x.len().is_multiple_of(n)) else {
                return i.error(format!("{:?} does not reshape to {target:?}", x.shape));
            };
            shape[free] = x.len() / known;
        }
        if elements(&shape) != Some(x.len()) {
            return i.error(format!("{:?} does not reshape to {target:?}", x.shape));
        }
        match x.constant.as_deref().and_then(|c| c.reshape(&shape)) {
            Some(t) => Ok(vec![Some(Fact::constant(t))]),
            None => i.one(x.dtype, shape),
        }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        couple_reshape(c);
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let (Some(old), Some(x), Some(expected)) = (self.target(&r.old_inference()), r.new_shape(0), r.expected_output(0)) else {
            return Ok(());
        };
        let resolve = |target: &[i64]| -> Option<Vec<usize>> {
            let mut shape = Vec::with_capacity(target.len());
            for (d, &t) in target.iter().enumerate() {
                shape.push(if t == 0 && !self.allow_zero { *x.get(d)? } else { t.max(1) as usize });
            }
            if let Some(free) = target.iter().position(|&t| t == -1) {
                shape[free] = x.iter().product::<usize>().checked_div(shape.iter().product())?;
            }
            Some(shape)
        };
        // What the file computes or copies from the operand may follow by itself.
        let now = self.target(&r.new_inference());
        if now.as_deref().and_then(resolve).as_ref() == Some(&expected) {
            return Ok(());
        }
        let copies = |d: usize| !self.allow_zero && x.get(d) == expected.get(d);
        if let Some(wanted) =
            r.joined_target(1, &expected, copies).filter(|w| self.shape.is_none() && resolve(w).as_ref() == Some(&expected))
        {
            return r.want_ints(1, wanted);
        }
        let mut wanted: Vec<i64> = expected.iter().map(|&n| n as i64).collect();
        if self.shape.is_some() || r.is_stored(1) {
            for (w, &o) in wanted.iter_mut().zip(&old) {
                if o == -1 || (o == 0 && !self.allow_zero) {
                    *w = o;
                }
            }
        } else {
            // Computed in the graph: copy what is copied, and leave one size free, so that the batch stays dynamic.
            let before = r.old_shape(0).unwrap_or_default().to_vec();
            let after = r.old_output(0).unwrap_or_default().to_vec();
            let copied = |d: usize| blocks(&before, &after).iter().any(|b| b.0 == (d..d + 1) && b.1 == (d..d + 1));
            for (d, size) in wanted.iter_mut().enumerate().filter(|(d, _)| copied(*d) && !self.allow_zero) {
                debug_assert_eq!(Some(*size), x.get(d).map(|&n| n as i64));
                *size = 0;
            }
            // A size of 0 in the batch's place says it all; otherwise the axis that the batch went into is the free one.
            let holds_batch = blocks(&before, &after).iter().find(|b| b.0.contains(&0)).map(|b| b.1.clone()).unwrap_or(0..0);
            if let Some(d) = holds_batch.clone().find(|&d| wanted.get(d) != Some(&0) && d < wanted.len()) {
                let labelled = holds_batch.clone().find(|&d| r.kept_output(0, d).is_some()).unwrap_or(d);
                wanted[labelled] = -1;
            }
        }
        if resolve(&wanted).as_ref() != Some(&expected) {
            wanted = expected.iter().map(|&n| n as i64).collect();
        }
        if self.shape.is_some() {
            r.set_ints("shape", wanted);
            return Ok(());
        }
        r.want_ints(1, wanted)
    }
}

/// Runs of axes of `from` and of `to` with equal products: what is merged or split together. Sizes of 1 at the end belong
/// to the last run.
pub(crate) fn blocks(from: &[usize], to: &[usize]) -> Vec<(Range<usize>, Range<usize>)> {
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < from.len() && j < to.len() {
        let (si, sj) = (i, j);
        let (mut a, mut b) = (from[i], to[j]);
        (i, j) = (i + 1, j + 1);
        while a != b {
            if a < b && i < from.len() {
                a *= from[i];
                i += 1;
            } else if b < a && j < to.len() {
                b *= to[j];
                j += 1;
            } else {
                return vec![(0..from.len(), 0..to.len())];
            }
        }
        out.push((si..i, sj..j));
    }
    match out.last_mut() {
        Some(last) => (last.0.end, last.1.end) = (from.len(), to.len()),
        None => out.push((0..from.len(), 0..to.len())),
    }
    out
}

/// Labels through a change of shape: those of each run are laid out over its axes in reading order. Where they end up
/// varying along two axes, what is removed must be a slab: labels are made equal along all but one axis, the longest (the
/// last of equals) or, with [`Slabs::Parts`], the first that no coordinate is selected from by number.
pub(super) fn couple_reshape(c: &mut Coupling) {
    let (from, to) = (c.shape(0).to_vec(), c.output_shape(0).to_vec());
    if from.contains(&0) {
        return;
    }
    for (left, right) in blocks(&from, &to) {
        let mut labelled: Vec<usize> = left.clone().filter(|&a| c.get(0, a).is_some()).collect();
        labelled.sort_by_key(|&a| std::cmp::Reverse(from[a]));
        let Some((&axis, others)) = labelled.split_first() else { continue };
        for &other in others {
            c.freeze(0, other, "merges it with another channel axis");
        }
        let Some(labels) = c.get(0, axis) else { continue };
        // Over the run's elements in reading order, the label that the element's coordinate has.
        let inner: usize = from[axis + 1..left.end].iter().product();
        let count: usize = from[left.clone()].iter().product();
        if count > LONGEST {
            c.freeze_labels(&labels, "lays it out over more elements than can be followed");
            continue;
        }
        let flat = |e: usize| labels[e / inner % from[axis]];
        let dims = &to[right.clone()];
        let steps = strides(dims);
        let mut class = Vec::with_capacity(count);
        for e in 0..count {
            class.push(c.labels.find(flat(e)));
        }
        let at = |e: usize, d: usize| e / steps[d] % dims[d];
        let varies = |d: usize, class: &[u32]| (0..count).any(|e| at(e, d) > 0 && class[e] != class[e - steps[d]]);
        let mut along: Vec<usize> = (0..dims.len()).filter(|&d| varies(d, &class)).collect();
        match c.slabs {
            Slabs::Finest => along.sort_by_key(|&d| std::cmp::Reverse((dims[d], d))),
            Slabs::Parts => {
                along.sort_unstable();
                // Parts that are told apart by their number (queries, keys, values) are not what is meant.
                let output = c.node.output(0);
                let told_apart = |d: &usize| output.is_some_and(|v| selected(c.graph, c.facts, v, right.start + d, 8));
                if let Some(first) = along.iter().position(|d| !told_apart(d)) {
                    along.rotate_left(first);
                }
            }
        }
        // A single channel over the whole run: on the axis of the same size, if there is one.
        let chosen = along.first().copied().or_else(|| (0..dims.len()).find(|&d| dims[d] == from[axis]));
        let Some(chosen) = chosen else {
            c.freeze_labels(&labels, "spreads it over other axes");
            continue;
        };
        for e in 0..count {
            let first = at(e, chosen) * steps[chosen];
            c.labels.unify(class[e], class[first]);
        }
        let slabs = (0..dims[chosen]).map(|x| class[x * steps[chosen]]).collect();
        c.set(0, right.start + chosen, Some(slabs));
    }
}

/// Something selects coordinates of `axis` of `value` by number, before or after moving axes around.
fn selected(graph: &Graph, facts: &Facts, value: ValueId, axis: usize, depth: usize) -> bool {
    let rank = facts.shape(value).map_or(0, <[usize]>::len);
    let is = |given: i64| given == axis as i64 || given + rank as i64 == axis as i64;
    let follow = |node: &Node, to: usize| node.output(0).is_some_and(|o| depth > 0 && selected(graph, facts, o, to, depth - 1));
    graph.value(value).consumers.iter().filter(|(_, slot)| *slot == 0).any(|&(id, _)| {
        let node = graph.node(id);
        match &node.op {
            Op::Gather(g) => is(g.axis),
            Op::Split(s) => is(s.axis),
            Op::Slice(s) => {
                let axes = s.axes.clone().or_else(|| node.input(3).and_then(|v| facts.constant(v)).and_then(crate::Tensor::to_i64));
                axes.is_some_and(|a| a.into_iter().any(is))
            }
            Op::Transpose(t) => t.permutation(rank).iter().position(|&p| p == axis).is_some_and(|to| follow(node, to)),
            Op::Squeeze(_) | Op::Unsqueeze(_) => {
                // The axis of the same size after as many elements.
                let (Some(from), Some(to)) = (facts.shape(value), node.output(0).and_then(|o| facts.shape(o))) else { return false };
                let before: usize = from[..axis].iter().product();
                (0..to.len()).find(|&d| to[d] == from[axis] && to[..d].iter().product::<usize>() == before).is_some_and(|d| follow(node, d))
            }
            Op::Unary(Unary::Identity | Unary::Cast { .. }) => follow(node, axis),
            _ => false,
        }
    })
}
