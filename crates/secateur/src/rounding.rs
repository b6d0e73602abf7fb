//! Right-edge rounding: a width in the middle of a latency step is raised to the step's right edge. More channels at the same
//! latency can only help; a last step of every method. Only what lies just above the widths decided is timed: a few probes per
//! group, where whole staircases would take hundreds.

use std::collections::{BTreeSet, HashMap};

use graph::{Decision, GroupId, Layer, Model};
use latency::{ModelBytes, Pace, Protocol};
use serde::{Deserialize, Serialize};

use crate::bench::Relative;
use crate::budget::format_seconds;
use crate::error::Result;
use crate::events::Event;
use crate::saliency::Saliency;
use crate::session::Session;
use crate::stage::Stage;
use crate::staircases::{LEAST_DELTA, Width, single_layer};

/// A group that was widened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Widened {
    /// The group.
    pub group: String,
    /// Channels that the method kept.
    pub from: usize,
    /// Channels kept now.
    pub to: usize,
}

/// What rounding did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rounding {
    /// Groups widened; empty where every width was an edge already, or where no widening stayed within the budget.
    pub widened: Vec<Widened>,
    /// Latency before.
    pub before: Relative,
    /// Latency after.
    pub after: Relative,
}

/// Sets of widenings that are measured: all, then the half with the least channels added, and so on.
const ATTEMPTS: usize = 3;

impl Session<'_> {
    /// Raises the widths of `decision` about `stage` to right edges, as long as the network stays inside the landing as
    /// measured. `latency` is that of `decision`, confirmed.
    ///
    /// # Errors
    /// The runtime refuses a layer; as [`Session::confirm`].
    pub(crate) fn round_up(
        &mut self,
        stage: &Stage,
        saliency: &Saliency,
        decision: Decision,
        latency: Relative,
    ) -> Result<(Decision, Rounding)> {
        let mut rounding = Rounding { widened: Vec::new(), before: latency.clone(), after: latency };
        if !self.settings.round_up {
            return Ok((decision, rounding));
        }
        let mut all = self.widenings(stage, &decision)?;
        for _ in 0..ATTEMPTS {
            if all.is_empty() {
                break;
            }
            let mut wider = decision.clone();
            for (group, w) in &all {
                wider.keep.insert(*group, saliency.best(*group, w.to));
            }
            let wider = wider.normalised(&stage.analysis.groups);
            let model: Model = stage.analysis.apply(&wider)?;
            let measured = self.confirm("confirmed", &model)?;
            if self.seconds(&measured) <= *self.landing_s().end() {
                let added: usize = all.iter().map(|(_, w)| w.to - w.from).sum();
                let (with, without) = (format_seconds(self.seconds(&measured)), format_seconds(self.seconds(&rounding.before)));
                let text = format!("right edges: {added} channels more in {} groups; {with} with them, {without} without", all.len());
                self.tell(Event::Note { text });
                rounding.widened = all.into_iter().map(|(_, w)| w).collect();
                rounding.after = measured;
                return Ok((wider, rounding));
            }
            all.truncate(all.len() / 2);
        }
        Ok((decision, rounding))
    }

    /// Groups of `decision` whose layers, each timed alone at the widths decided, take no longer with more channels; the least
    /// widened first.
    fn widenings(&mut self, stage: &Stage, decision: &Decision) -> Result<Vec<(GroupId, Widened)>> {
        let a = &stage.analysis;
        let gone = |g: GroupId| decision.removed_branches.iter().any(|b| a.groups.branches[b.index()].inner.contains(&g));
        let removed = |l: &Layer| decision.removed_branches.iter().any(|b| a.groups.branches[b.index()].nodes.contains(&l.node));
        let width = |g: GroupId| if gone(g) { 0 } else { decision.width(a.groups.group(g)) };
        // Per group and count: its layers at their widths.
        let mut asked: Vec<(GroupId, Vec<AtCount>)> = Vec::new();
        for g in a.groups.prunable().filter(|g| !gone(g.id)) {
            let layers =
                a.layers.iter().enumerate().filter(|(_, l)| l.inputs.iter().chain(&l.outputs).any(|(x, _)| *x == g.id) && !removed(l));
            let layers: Vec<usize> = layers.map(|(k, _)| k).collect();
            let at = |count: usize| {
                let of = |&layer: &usize| {
                    let (input, output) = a.layers[layer].widths(|x| if x == g.id { count } else { width(x) });
                    Width { layer, input, output, asked: 0 }
                };
                AtCount { count, layers: layers.iter().map(of).collect() }
            };
            let counts = wider(width(g.id), g.size);
            if !counts.is_empty() && !layers.is_empty() {
                asked.push((g.id, std::iter::once(width(g.id)).chain(counts).map(at).collect()));
            }
        }
        let distinct: BTreeSet<Width> = asked.iter().flat_map(|(_, counts)| counts.iter().flat_map(|c| &c.layers)).copied().collect();
        let times = self.layer_times(stage, &distinct.into_iter().collect::<Vec<_>>())?;
        let mut all = Vec::new();
        for (group, counts) in asked {
            let total = |c: &AtCount| c.layers.iter().filter_map(|w| times.get(w)).sum::<f64>();
            let Some((here, beyond)) = counts.split_first() else { continue };
            let limit = total(here) * (1.0 + LEAST_DELTA);
            if let Some(edge) = beyond.iter().rev().find(|c| total(c) <= limit) {
                all.push((group, Widened { group: a.groups.group(group).name.clone(), from: here.count, to: edge.count }));
            }
        }
        all.sort_by_key(|(_, w)| w.to - w.from);
        Ok(all)
    }

    /// Seconds of single layers of `stage`; what the latency table holds is not measured again.
    fn layer_times(&mut self, stage: &Stage, widths: &[Width]) -> Result<HashMap<Width, f64>> {
        let mut models: Vec<ModelBytes> = Vec::new();
        let mut position: HashMap<String, usize> = HashMap::new();
        let mut of = Vec::with_capacity(widths.len());
        for w in widths {
            let model = single_layer(&stage.analysis, w)?;
            let next = models.len();
            let at = *position.entry(self.bench.runtime().model_key(&model)?).or_insert(next);
            if at == next {
                models.push(model);
            }
            of.push(at);
        }
        self.stage("looking for right edges")?;
        let (bench, observer) = self.bench_and_observer();
        let (measured, _) = bench.layers(&models, &Protocol::staircase(0), &mut |done, total| {
            observer.event(Event::Progress { done, total, note: "layers timed".into() });
        })?;
        let pace = Pace::of(&measured);
        Ok(widths.iter().zip(of).map(|(w, k)| (*w, pace.seconds(&measured[k]))).collect())
    }
}

/// The layers of a group at their widths, where the group has `count` channels.
struct AtCount {
    count: usize,
    layers: Vec<Width>,
}

/// Counts above `count` at which a latency step may end: the next multiples of the vector widths and blocks of today's
/// kernels, and everything.
fn wider(count: usize, size: usize) -> Vec<usize> {
    let edges = [4, 8, 16, 32].map(|v| count.next_multiple_of(v).min(size));
    let all: BTreeSet<usize> = edges.into_iter().chain([size]).filter(|&c| c > count && c <= 2 * count + 8).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wider_counts_not_far_off_are_looked_at() {
        assert_eq!(wider(16, 16), Vec::<usize>::new());
        assert_eq!(wider(13, 64), [16, 32]);
        assert_eq!(wider(8, 16), [16]);
        assert_eq!(wider(40, 64), [48, 64]);
        assert_eq!(wider(2, 64), [4, 8]);
        for (count, size) in [(1, 7), (5, 9), (31, 33), (100, 1000)] {
            assert!(wider(count, size).iter().all(|&c| c > count && c <= size));
        }
    }
}
