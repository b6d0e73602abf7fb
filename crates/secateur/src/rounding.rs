//! Right-edge rounding: a width in the middle of a latency step is raised to the step's right edge. More channels at the same
//! latency can only help; a last step of every method.

use graph::{Decision, Model};
use serde::{Deserialize, Serialize};

use crate::bench::Relative;
use crate::error::Result;
use crate::events::Event;
use crate::saliency::Saliency;
use crate::session::Session;
use crate::stage::Stage;

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
    /// The staircases cannot be measured; as [`Session::confirm`].
    pub(crate) fn round_up(&mut self, stage: &Stage, saliency: &Saliency, decision: Decision, latency: Relative) -> Result<(Decision, Rounding)> {
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
                self.tell(Event::Note { text: format!("right edges: {added} channels in {} groups at no cost", all.len()) });
                rounding.widened = all.into_iter().map(|(_, w)| w).collect();
                rounding.after = measured;
                return Ok((wider, rounding));
            }
            all.truncate(all.len() / 2);
        }
        Ok((decision, rounding))
    }

    /// Groups of `decision` that are not at a right edge, the least widened first. Staircases are those of the dense network;
    /// groups are found again by name.
    fn widenings(&mut self, stage: &Stage, decision: &Decision) -> Result<Vec<(graph::GroupId, Widened)>> {
        let stairs = self.staircases()?;
        let groups = &stage.analysis.groups;
        let gone = |g: graph::GroupId| decision.removed_branches.iter().any(|b| groups.branches[b.index()].inner.contains(&g));
        let mut all = Vec::new();
        for g in groups.prunable().filter(|g| !gone(g.id)) {
            let Some(steps) = stairs.groups.iter().find(|s| s.name == g.name) else { continue };
            let from = decision.width(g);
            let to = steps.right_edge(from, stairs.delta).min(g.size);
            if to > from {
                all.push((g.id, Widened { group: g.name.clone(), from, to }));
            }
        }
        all.sort_by_key(|(_, w)| w.to - w.from);
        Ok(all)
    }
}
