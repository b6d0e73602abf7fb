//! The solvers against each other on equal saliency, table and budget.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::choice::{Space, Values};
use crate::cost::StageCosts;
use crate::error::{Error, Result};
use crate::events::Observer;
use crate::methods::Chooser;
use crate::run::Run;
use crate::session::Session;
use crate::settings::{Settings, Solver};
use crate::stage::Stage;

/// Share of all saliency that each solver keeps at one budget; `None` where it finds no choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SolverRow {
    /// Budget as a share of the dense latency.
    pub share: f64,
    /// The published greedy programme.
    pub published: Option<f64>,
    /// The same linearised problem, exactly.
    pub exact: Option<f64>,
    /// All widths together, exactly.
    pub joint: Option<f64>,
    /// The same with residual branches removable.
    pub joint_depth: Option<f64>,
}

/// One step from the dense network by every solver, at each of `shares` of its latency as the table predicts it.
///
/// # Errors
/// As [`crate::profile`].
pub fn compare_solvers(settings: Settings, shares: &[f64], observer: &mut dyn Observer) -> Result<Vec<SolverRow>> {
    let folder = tempfile::tempdir().map_err(|e| Error::File { path: std::env::temp_dir(), cause: e.to_string() })?;
    rows(settings, folder.path(), shares, observer)
}

fn rows(settings: Settings, folder: &Path, shares: &[f64], observer: &mut dyn Observer) -> Result<Vec<SolverRow>> {
    let mut session = Session::open(settings, Run::create(folder)?, observer)?;
    let table = session.latency_table()?;
    let mut stage = Stage::dense(session.dense.clone());
    let saliency = session.saliency(&mut stage, 0)?;
    let costs = StageCosts::new(&table, &session.dense, &stage.analysis);
    let groups = &stage.analysis.groups;
    let (wide, deep) = (Space::new(groups, session.settings.chunk, false), Space::new(groups, session.settings.chunk, true));
    let (wide_values, deep_values) = (Values::kept_saliency(&wide, &saliency), Values::kept_saliency(&deep, &saliency));
    let total: f64 = saliency.channels.values().flatten().sum();
    let by = |space, values, solver| Chooser::new(&stage, space, values, &costs, solver);
    let choosers = [
        by(&wide, &wide_values, Solver::Published),
        by(&wide, &wide_values, Solver::Exact),
        by(&wide, &wide_values, Solver::Joint),
        by(&deep, &deep_values, Solver::Joint),
    ];
    let dense = choosers[2].dense_cost();
    let mut all = Vec::new();
    for &share in shares {
        let mut kept = [None; 4];
        for (k, chooser) in choosers.iter().enumerate() {
            kept[k] = match chooser.choose(dense * share) {
                Ok(choice) => Some(if k < 3 { wide_values.total(&choice) } else { deep_values.total(&choice) } / total),
                Err(e) if e.is_out_of_reach() => None,
                Err(e) => return Err(e),
            };
        }
        all.push(SolverRow { share, published: kept[0], exact: kept[1], joint: kept[2], joint_depth: kept[3] });
    }
    Ok(all)
}
