//! HALP: latency table + saliency knapsack (Shen et al., NeurIPS 2022), and the same with multiply-accumulates as the cost.
//!
//! Stepwise: train a little and collect saliency, choose what to keep at the step's budget, cut, go on. Cut weights are
//! removed at once rather than masked to the end: the smaller network computes exactly what the masked one would (the twin
//! check proves it every time) and trains faster.

use super::{Outcome, geometric};
use crate::choice::{Space, Values, Widths, from_prefixes, joint_problem, linearised};
use crate::cost::{LayerCosts, Macs, StageCosts};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::meeting::Aim;
use crate::saliency::Saliency;
use crate::session::Session;
use crate::settings::Solver;
use crate::stage::Stage;

/// What is held under the budget while choosing. The final budget is a measured latency in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    Latency,
    Macs,
}

/// Cells of the capacity axis of the published programme and of its exact counterpart.
const RESOLUTION: usize = 20_000;

pub(super) fn run(session: &mut Session, cost: Cost) -> Result<Outcome> {
    let table = session.latency_table()?;
    let mut stage = Stage::dense(session.dense.clone());
    let budgets = geometric(1.0, session.budget_s / session.dense_s, session.settings.steps);
    let mut spent = 0;
    for (t, share) in budgets.iter().enumerate() {
        session.stage(&format!("step {} of {}: saliency", t + 1, budgets.len()))?;
        let last = t + 1 == budgets.len();
        stage.analysis = stage.analysis.with_slabs(session.slabs(t, budgets.len()))?;
        let saliency = session.saliency(&mut stage, t)?;
        spent += session.steps_per_saliency();
        let space = Space::new(&stage.analysis.groups, session.settings.chunk, session.depth());
        let values = session.values(&stage, &space, &saliency, t)?;
        let latency = StageCosts::new(&table, &session.dense, &stage.analysis);
        let macs = Macs::new(&stage.analysis.graph, &stage.analysis.facts, &stage.analysis.priced);
        let costs: &dyn LayerCosts = if cost == Cost::Latency { &latency } else { &macs };
        // The whole way is measured as a share of the dense network's cost, constants included.
        let dense_cost = if cost == Cost::Latency { session.dense_s } else { Macs::total(&session.dense) };
        let aim = if last { session.target_s() / session.dense_s } else { *share };
        let values = balanced(session, &stage, &space, &saliency, &values, costs, aim * dense_cost)?;
        let chooser = Chooser::new(&stage, &space, &values, costs, session.settings.solver);
        if last {
            // The inner budget that lands at the wanted latency is found by measuring.
            let goal = Aim { stage: &stage, saliency: &saliency, space: &space, table: &table, values: &values, beside: true };
            let found = session.meet_budget(&goal, aim * dense_cost, &mut |inner| chooser.choose(inner))?;
            return Ok(Outcome { steps_spent: spent, ..found });
        }
        // A step that is below what this stage can reach is left to the last one, which knows the floor.
        let choice = match chooser.choose(aim * dense_cost) {
            Ok(c) => c,
            Err(Error::Search(search::Error::Infeasible { .. })) => continue,
            Err(e) => return Err(e),
        };
        let decision = space.decision(&stage.analysis.groups, &saliency, &choice);
        stage = session.cut(stage, &decision)?;
    }
    Err(Error::Setting("--steps is 0".into()))
}

/// Weights of what lives in removable branches against everything else that are tried.
pub(super) const BALANCES: [f64; 6] = [1.0 / 16.0, 1.0 / 8.0, 0.25, 0.5, 1.0, 2.0];

/// Depth against width: the measured damage of a branch and the saliency of channels are estimates of one thing made in two
/// ways, so their balance is not known. A few balances are solved for, and the one whose network does best on held-out images
/// with BatchNorm re-estimated is taken.
fn balanced(
    session: &mut Session,
    stage: &Stage,
    space: &Space,
    saliency: &Saliency,
    values: &Values,
    costs: &dyn LayerCosts,
    budget: f64,
) -> Result<Values> {
    if space.branches.is_empty() {
        return Ok(values.clone());
    }
    let mut tried: Vec<(Vec<usize>, f64, Values)> = Vec::new();
    for balance in BALANCES {
        let weighted = values.weighted(space, balance);
        let choice = match Chooser::new(stage, space, &weighted, costs, session.settings.solver).choose(budget) {
            Ok(c) => c,
            Err(Error::Search(search::Error::Infeasible { .. })) => return Ok(values.clone()),
            Err(e) => return Err(e),
        };
        if tried.iter().all(|(c, ..)| *c != choice) {
            tried.push((choice, balance, weighted));
        }
    }
    let decisions: Vec<_> = tried.iter().map(|(c, ..)| space.decision(&stage.analysis.groups, saliency, c)).collect();
    let mut evaluator = session.evaluator(stage)?;
    let scores = session.score(&mut evaluator, stage, &decisions)?;
    for ((_, balance, _), score) in tried.iter().zip(&scores) {
        session.tell(Event::Note { text: format!("depth against width {balance}: held-out loss {:.3}", score.loss) });
    }
    let best = tried.into_iter().zip(scores).min_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
    Ok(best.map_or_else(|| values.clone(), |((_, _, v), _)| v))
}

/// Chooses options for inner budgets by the solver that was asked for.
pub(crate) struct Chooser<'a> {
    space: &'a Space,
    values: &'a Values,
    costs: &'a dyn LayerCosts,
    widths: Widths<'a>,
    layers: &'a [graph::Layer],
    solver: Solver,
    joint: Option<search::Problem>,
}

impl<'a> Chooser<'a> {
    pub(crate) fn new(stage: &'a Stage, space: &'a Space, values: &'a Values, costs: &'a dyn LayerCosts, solver: Solver) -> Self {
        let layers = &stage.analysis.priced;
        let widths = Widths::new(&stage.analysis.groups, layers, space);
        let joint = (solver == Solver::Joint).then(|| joint_problem(space, &widths, layers, values, costs));
        Self { space, values, costs, widths, layers, solver, joint }
    }

    /// Cost of the stage as it is.
    pub(crate) fn dense_cost(&self) -> f64 {
        self.cost_of(&self.space.keep_all())
    }

    /// Cost of a choice, all widths as they then are.
    fn cost_of(&self, choice: &[usize]) -> f64 {
        let widths = self.widths.all(self.space, choice);
        self.costs.constant() + widths.iter().enumerate().map(|(l, &(i, o))| self.costs.cost(l, i, o)).sum::<f64>()
    }

    /// The best choice whose cost, constants included, is at most `budget`.
    pub(crate) fn choose(&self, budget: f64) -> Result<Vec<usize>> {
        if let Some(problem) = &self.joint {
            return Ok(search::joint::solve(problem, budget - self.costs.constant(), &search::Limits::default())?.choice);
        }
        let present = self.space.keep_all();
        let (groups, fixed) = linearised(self.space, &self.widths, self.layers, self.values, self.costs, &present);
        let mut left = budget - fixed - self.costs.constant();
        loop {
            let prefixes = match self.solver {
                Solver::Published => search::knapsack::published(&groups, left, RESOLUTION)?,
                _ => search::knapsack::exact(&groups, left, RESOLUTION)?,
            };
            let choice = from_prefixes(self.space, &prefixes.kept);
            // Linearised costs can be too low where several groups write one layer: what is over comes off the budget.
            let over = self.cost_of(&choice) - budget;
            if over <= 1e-9 * budget {
                return Ok(choice);
            }
            left -= over.max(1e-3 * budget);
        }
    }
}
