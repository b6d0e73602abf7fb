//! Applying a decision: the smaller model, and its masked twin.

mod dead;
mod declared;
mod permute;
pub(crate) mod rewriter;
mod twin;

use std::cell::OnceCell;
use std::collections::HashMap;

pub use permute::{can_permute, permute};
pub use twin::masked_twin;

use crate::coupling::{Frozen, Group, Groups};
use crate::decision::Decision;
use crate::error::Result;
use crate::facts::{Facts, InputShapes};
use crate::graph::{Graph, ValueId};
use crate::model::Model;
use crate::ops::Op;

/// The model without what `decision` removes. A decision that keeps everything gives the model unchanged.
///
/// Every shape of the result is checked against what the decision says it must be, for the input shapes of `facts`.
///
/// # Errors
/// A decision that does not fit `groups`, and places that no rule can rewrite.
pub fn apply(model: &Model, graph: &Graph, facts: &Facts, groups: &Groups, decision: &Decision) -> Result<Model> {
    cut(model, graph, facts, groups, decision, &Elsewhere::default(), false)
}

fn cut(
    model: &Model,
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    decision: &Decision,
    elsewhere: &Elsewhere,
    shapes_only: bool,
) -> Result<Model> {
    decision.check(groups)?;
    let kept = Kept::new(facts, groups, decision);
    if kept.axes.is_empty() && decision.removed_branches.is_empty() {
        return Ok(model.clone());
    }
    let mut rewriter = rewriter::Rewriter::new(model, graph, facts, &kept, elsewhere);
    rewriter.shapes_only = shapes_only;
    for &b in &decision.removed_branches {
        let branch = groups.branch(b);
        rewriter.leave_out(branch.add, branch.skip);
    }
    let mut small = rewriter.run()?;
    dead::remove(model, &mut small);
    declared::update(graph, facts, &kept, &mut small);
    Ok(small)
}

/// Facts at other sizes of what the file leaves open, made when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere(OnceCell<Vec<(InputShapes, Facts)>>);

impl Elsewhere {
    pub(crate) fn get(&self, model: &Model, graph: &Graph, facts: &Facts) -> &[(InputShapes, Facts)] {
        self.0.get_or_init(|| {
            let all = facts.other_sizes(model, graph).into_iter();
            all.filter_map(|shapes| Facts::infer(model, graph, &shapes).ok().map(|f| (shapes, f))).collect()
        })
    }
}

/// For every axis that becomes shorter, the coordinates that stay, ascending.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) axes: HashMap<(ValueId, usize), Vec<usize>>,
}

impl Kept {
    pub(crate) fn new(facts: &Facts, groups: &Groups, decision: &Decision) -> Self {
        let mut stays: HashMap<(ValueId, usize), Vec<bool>> = HashMap::new();
        for g in &groups.groups {
            let Some(keep) = decision.keep.get(&g.id).filter(|k| k.len() < g.size) else { continue };
            for m in &g.members {
                let dim = facts.shape(m.value).and_then(|s| s.get(m.axis)).copied().unwrap_or(0);
                let flags = stays.entry((m.value, m.axis)).or_insert_with(|| vec![true; dim]);
                for channel in (0..g.size).filter(|c| keep.binary_search(c).is_err()) {
                    for &c in &m.coordinates[channel] {
                        flags[c] = false;
                    }
                }
            }
        }
        let axes = stays
            .into_iter()
            .map(|(place, flags)| (place, flags.iter().enumerate().filter(|(_, s)| **s).map(|(i, _)| i).collect()))
            .collect();
        Self { axes }
    }

    /// The coordinates that stay; `None` where all do.
    pub(crate) fn get(&self, value: ValueId, axis: usize) -> Option<&[usize]> {
        self.axes.get(&(value, axis)).map(Vec::as_slice)
    }

    /// The shape of `value` afterwards.
    pub(crate) fn shape(&self, facts: &Facts, value: ValueId) -> Option<Vec<usize>> {
        let old = facts.shape(value)?;
        Some(old.iter().enumerate().map(|(axis, &d)| self.get(value, axis).map_or(d, <[usize]>::len)).collect())
    }
}

/// Freezes the groups of which a channel cannot be taken out because of something that is computed from shapes: each
/// such group is tried, and the error becomes its reason.
pub(crate) fn freeze_what_cannot_be_rewritten(model: &Model, graph: &Graph, facts: &Facts, groups: &mut Groups) {
    let elsewhere = Elsewhere::default();
    for at in 0..groups.groups.len() {
        let g = &groups.groups[at];
        if g.frozen.is_some() || g.size < 2 || !depends_on_shapes(graph, g) {
            continue;
        }
        let decision = Decision { keep: [(g.id, (1..g.size).collect())].into(), ..Decision::default() };
        if let Err(e) = cut(model, graph, facts, groups, &decision, &elsewhere, true) {
            let g = &mut groups.groups[at];
            g.frozen = Some(Frozen { reason: e.to_string(), at: g.name.clone() });
            g.min_keep = g.size;
        }
    }
}

fn depends_on_shapes(graph: &Graph, g: &Group) -> bool {
    g.members.iter().any(|m| {
        let value = graph.value(m.value);
        let readers = value.consumers.iter().map(|&(n, _)| graph.node(n));
        readers.chain(graph.producer(m.value)).any(|n| {
            let computed = |slot: usize| n.input(slot).is_some_and(|v| !graph.is_stored(v));
            match n.op {
                Op::Shape => true,
                Op::ConstantOfShape(_) => computed(0),
                Op::Reshape(_) | Op::Expand | Op::Slice(_) | Op::Split(_) | Op::Pad(_) | Op::Resize(_) | Op::Gather(_) => {
                    (1..n.inputs.len()).any(computed)
                }
                _ => false,
            }
        })
    })
}
