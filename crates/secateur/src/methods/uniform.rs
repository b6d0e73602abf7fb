//! The control: one width fraction for every group, the most salient channels kept, no branch removed.

use super::Outcome;
use crate::choice::{Space, Values};
use crate::error::{Error, Result};
use crate::meeting::Aim;
use crate::session::Session;
use crate::stage::Stage;

pub(super) fn run(session: &mut Session) -> Result<Outcome> {
    let table = session.latency_table()?;
    let mut stage = Stage::dense(session.dense.clone());
    let saliency = session.saliency(&mut stage, 0)?;
    let spent = session.steps_per_saliency();
    // Every count is an option: the fraction is rounded per group, nothing else.
    let space = Space::new(&stage.analysis.groups, 1, false);
    let choose = |fraction: f64| -> Result<Vec<usize>> {
        if fraction <= 0.0 {
            return Err(Error::Setting("no width fraction meets the budget".into()));
        }
        Ok(space
            .groups
            .iter()
            .map(|g| {
                let size = stage.analysis.groups.groups[g.group.index()].size as f64;
                let wanted = (fraction * size).round().max(1.0) as usize;
                g.counts.iter().rposition(|&c| c <= wanted).unwrap_or(0)
            })
            .collect())
    };
    let start = (session.target_s() / session.dense_s).min(1.0);
    let values = Values::kept_saliency(&space, &saliency);
    let goal = Aim { stage: &stage, saliency: &saliency, space: &space, table: &table, values: &values, beside: false };
    let found = session.meet_budget(&goal, start, &mut |inner| choose(inner.min(1.0)))?;
    Ok(Outcome { steps_spent: spent, ..found })
}
