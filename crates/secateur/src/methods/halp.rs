//! HALP: latency table + saliency knapsack (Shen et al., NeurIPS 2022), and the same with multiply-accumulates as the cost.
//!
//! Stepwise: train a little and collect saliency, choose what to keep at the step's budget, cut, go on. Cut weights are
//! removed at once rather than masked to the end: the smaller network computes exactly what the masked one would (the twin
//! check proves it every time) and trains faster.

use super::{Outcome, geometric};
use crate::analysis::Analysis;
use crate::choice::{Space, Values, Widths, from_prefixes, joint_problem, linearised};
use crate::cost::{LatencyTable, LayerCosts, Macs, StageCosts};
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

/// A network at its last step, with what the choice is made from.
pub(super) struct Approach {
    pub table: LatencyTable,
    pub stage: Stage,
    pub saliency: Saliency,
    /// Which step it is.
    pub step: usize,
    pub steps_spent: usize,
}

pub(super) fn run(session: &mut Session, cost: Cost) -> Result<Outcome> {
    let Approach { table, stage, saliency, step, steps_spent } = approach(session, cost)?;
    let goal = cost.goal(session);
    let costs = cost.layers(&session.dense, &table, &stage);
    let (space, values) = weigh(session, (&stage, &saliency), &*costs, step, goal)?;
    let chooser = Chooser::new(&stage, &space, &values, &*costs, session.settings.solver);
    // The inner budget that lands at the wanted latency is found by measuring.
    let aim = Aim { stage: &stage, saliency: &saliency, space: &space, table: &table, values: &values, beside: true };
    let found = session.meet_budget(&aim, goal, &mut |inner| chooser.choose(inner))?;
    Ok(Outcome { steps_spent, ..found })
}

/// Goes all steps but the last, of which it collects the saliency.
pub(super) fn approach(session: &mut Session, cost: Cost) -> Result<Approach> {
    let table = session.latency_table()?;
    let mut stage = Stage::dense(session.dense.clone());
    let budgets = geometric(1.0, session.budget_s / session.dense_s, session.settings.steps);
    let mut steps_spent = 0;
    for (step, share) in budgets.iter().enumerate() {
        session.stage(&format!("step {} of {}: saliency", step + 1, budgets.len()))?;
        stage.analysis = stage.analysis.with_slabs(session.slabs(step, budgets.len()))?;
        let saliency = session.saliency(&mut stage, step)?;
        steps_spent += session.steps_per_saliency();
        if step + 1 == budgets.len() {
            return Ok(Approach { table, stage, saliency, step, steps_spent });
        }
        // The whole way is measured as a share of the dense network's cost, constants included.
        let goal = share * cost.of_dense(session);
        let costs = cost.layers(&session.dense, &table, &stage);
        let (space, values) = weigh(session, (&stage, &saliency), &*costs, step, goal)?;
        // A step that is below what this stage can reach is left to the last one, which knows the floor.
        let choice = match Chooser::new(&stage, &space, &values, &*costs, session.settings.solver).choose(goal) {
            Ok(c) => c,
            Err(e) if e.is_out_of_reach() => continue,
            Err(e) => return Err(e),
        };
        let decision = space.decision(&stage.analysis.groups, &saliency, &choice);
        stage = session.cut(stage, &decision)?;
    }
    Err(Error::Setting("--steps is 0".into()))
}

impl Cost {
    /// What the layers of `stage` cost; `table` was made for `dense`.
    pub fn layers<'t>(self, dense: &Analysis, table: &'t LatencyTable, stage: &Stage) -> Box<dyn LayerCosts + 't> {
        let a = &stage.analysis;
        match self {
            Self::Latency => Box::new(StageCosts::new(table, dense, a)),
            Self::Macs => Box::new(Macs::new(&a.graph, &a.facts, &a.priced)),
        }
    }

    /// What a network may cost that is to meet the budget, if it costs its share of the latency.
    pub fn goal(self, session: &Session) -> f64 {
        self.of_dense(session) * session.target_s() / session.dense_s
    }

    /// What the dense network costs.
    fn of_dense(self, session: &Session) -> f64 {
        match self {
            Self::Latency => session.dense_s,
            Self::Macs => Macs::total(&session.dense),
        }
    }
}

/// What may be chosen at step `step`, and what it is worth at a budget of `goal`.
fn weigh(
    session: &mut Session,
    (stage, saliency): (&Stage, &Saliency),
    costs: &dyn LayerCosts,
    step: usize,
    goal: f64,
) -> Result<(Space, Values)> {
    let space = Space::new(&stage.analysis.groups, session.settings.chunk, session.depth());
    let values = session.values(stage, &space, saliency, step)?;
    let values = balanced(session, stage, &space, saliency, &values, costs, goal)?;
    Ok((space, values))
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
            Err(e) if e.is_out_of_reach() => return Ok(values.clone()),
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
