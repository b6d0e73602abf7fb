//! The candidates of one search over a network: each predicted, measured and scored at most once, and the last steps
//! that the searches share: landing inside the tolerance by measured latency, and taking the best that lands.

use std::collections::HashMap;

use graph::{Decision, Model};
use latency::Protocol;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::halp::Approach;
use super::{Chooser, Outcome};
use crate::bench::Relative;
use crate::choice::{Space, Values, neighbours};
use crate::cost::{Forecast, LatencyTable, StageCosts};
use crate::error::Result;
use crate::evaluator::{Evaluator, Score};
use crate::events::Event;
use crate::saliency::Saliency;
use crate::session::Session;
use crate::settings::Solver;
use crate::stage::Stage;

/// A choice of options in the search's space.
pub(super) type Choice = Vec<usize>;

/// Noise up to which a latency may steer a search; what is taken in the end is measured more closely.
const STEERING_NOISE: f64 = 0.03;

/// Networks in one round of measuring.
const BATCH: usize = 8;

/// Candidates whose measured latency lies this close to the budget are moved inside the tolerance.
const NEAR: f64 = 0.12;

/// Candidates that are moved, and moves tried of each.
const MOVED: usize = 6;
const MOVES: usize = 4;

/// Candidates that are confirmed before the search gives up.
const CONFIRMATIONS: usize = 6;

/// Everything known about the candidates of a search.
pub(super) struct Trials<'s, 'o> {
    pub session: &'s mut Session<'o>,
    /// The network whose candidates these are: dense, or cut in steps before; perhaps trained a little while saliency was collected.
    pub stage: Stage,
    pub space: Space,
    pub values: Values,
    saliency: Saliency,
    table: LatencyTable,
    evaluator: Evaluator,
    measured: HashMap<Choice, Relative>,
    scores: HashMap<Choice, Score>,
    steps_spent: usize,
}

impl<'s, 'o> Trials<'s, 'o> {
    /// Times the layers, collects saliency on the dense network, opens the space.
    ///
    /// # Errors
    /// There are no data to score on; what measuring and training refuse.
    pub fn open(session: &'s mut Session<'o>) -> Result<Self> {
        let table = session.latency_table()?;
        let mut stage = Stage::dense(session.dense.clone());
        session.stage("saliency")?;
        let saliency = session.saliency(&mut stage, 0)?;
        let steps_spent = session.steps_per_saliency();
        Self::at(session, Approach { table, stage, saliency, step: 0, steps_spent })
    }

    /// Candidates of a network that was cut and trained before.
    ///
    /// # Errors
    /// As [`Trials::open`].
    pub fn at(session: &'s mut Session<'o>, approach: Approach) -> Result<Self> {
        let Approach { table, stage, saliency, step, steps_spent } = approach;
        let space = session.space(&stage, session.depth())?;
        let values = session.values(&stage, &space, &saliency, step)?;
        let evaluator = session.evaluator(&stage)?;
        let (measured, scores) = (HashMap::new(), HashMap::new());
        Ok(Self { session, stage, space, values, saliency, table, evaluator, measured, scores, steps_spent })
    }

    /// Predicts latencies of choices.
    pub fn forecast(&self) -> Forecast<'_> {
        Forecast::new(&self.table, &self.session.dense, &self.stage.analysis, &self.space)
    }

    pub fn decision(&self, choice: &[usize]) -> Decision {
        self.space.decision(&self.stage.analysis.groups, &self.saliency, choice)
    }

    fn model(&self, choice: &[usize]) -> Result<Model> {
        self.stage.analysis.apply(&self.decision(choice))
    }

    /// Measured seconds of a choice, if it was measured.
    pub fn seconds(&self, choice: &[usize]) -> Option<f64> {
        self.measured.get(choice).map(|r| self.session.seconds(r))
    }

    /// Measured latency of a choice, if it was measured.
    pub fn latency(&self, choice: &[usize]) -> Option<Relative> {
        self.measured.get(choice).cloned()
    }

    /// Candidates scored so far.
    pub fn scored(&self) -> usize {
        self.scores.len()
    }

    /// The score of a choice, if it has one.
    pub fn score_of(&self, choice: &[usize]) -> Option<Score> {
        self.scores.get(choice).copied()
    }

    /// Measured seconds over predicted seconds at a choice; what the table got wrong there, it gets wrong beside it.
    pub fn correction(&self, choice: &[usize]) -> f64 {
        self.seconds(choice).map_or(1.0, |s| s / self.forecast().seconds(choice))
    }

    /// Measured over predicted seconds of everything measured.
    pub fn corrections(&self) -> Vec<f64> {
        let forecast = self.forecast();
        self.measured.iter().map(|(c, r)| self.session.seconds(r) / forecast.seconds(c)).collect()
    }

    /// Measures what was not measured yet, several networks interleaved with the dense one.
    ///
    /// # Errors
    /// What the target refuses; a device that stays too noisy.
    pub fn measure(&mut self, choices: &[Choice]) -> Result<()> {
        let protocol = Protocol { precision: 0.01, time_limit_s: 1.0, min_rounds: 10, ..Protocol::default() };
        let open = unknown(&self.measured, choices);
        let total = open.len();
        for (k, batch) in open.chunks(BATCH).enumerate() {
            self.session.heed_stop()?;
            self.session.tell(Event::Progress { done: k * BATCH, total, note: "candidates measured".into() });
            let models = batch.iter().map(|c| self.model(c)).collect::<Result<Vec<_>>>()?;
            let found = self.session.steer(&models, &protocol, STEERING_NOISE)?;
            self.measured.extend(batch.iter().cloned().zip(found));
        }
        Ok(())
    }

    /// Scores what was not scored yet.
    ///
    /// # Errors
    /// A candidate that cannot be run.
    pub fn score(&mut self, choices: &[Choice]) -> Result<()> {
        let open = unknown(&self.scores, choices);
        let decisions: Vec<Decision> = open.iter().map(|c| self.decision(c)).collect();
        let scores = self.session.score(&mut self.evaluator, &self.stage, &decisions)?;
        self.scores.extend(open.into_iter().zip(scores));
        Ok(())
    }

    /// Sorts by score, best first; what has none comes last.
    pub fn by_score(&self, choices: &mut [Choice]) {
        let loss = |c: &Choice| self.scores.get(c).map_or(f64::INFINITY, |s| s.loss);
        choices.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
    }

    /// `n` different solutions of the joint problem at `budget_s` predicted seconds: depth balanced against width in several
    /// ways, saliencies perturbed at random (as SPDY does, Frantar and Alistarh, ICML 2022).
    ///
    /// # Errors
    /// The solver's, other than that nothing fits the budget.
    pub fn solutions(&mut self, budget_s: f64, n: usize) -> Result<Vec<Choice>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.session.settings.seed ^ 0x50d1);
        let mut found: Vec<Choice> = Vec::new();
        let costs = StageCosts::new(&self.table, &self.session.dense, &self.stage.analysis);
        for k in 0..4 * n {
            if found.len() == n {
                break;
            }
            self.session.heed_stop()?;
            // The first solutions are those of HALP's balances, unperturbed.
            let balances = super::halp::BALANCES;
            let balance = if self.space.branches.is_empty() { 1.0 } else { balances[(k + 3) % balances.len()] };
            let spread = if k < balances.len() { 0.0 } else { 1.0 };
            let values = self.values.weighted(&self.space, balance).perturbed(&mut || (spread * (rng.random::<f64>() * 2.0 - 1.0)).exp());
            match Chooser::new(&self.stage, &self.space, &values, &costs, Solver::Joint).choose(budget_s) {
                Ok(mut choice) => {
                    self.space.canonical(&mut choice);
                    if !found.contains(&choice) {
                        found.push(choice);
                    }
                }
                Err(e) if e.is_out_of_reach() => break,
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// Tells how far a search is, and the best that was measured at or below the budget so far.
    pub fn report(&mut self, what: String, left_s: Option<f64>) {
        let at_budget = self.measured.iter().filter_map(|(c, r)| Some((self.score_of(c)?, self.session.seconds(r))));
        let best = at_budget.filter(|(_, s)| *s <= self.session.budget_s).min_by(|a, b| a.0.loss.total_cmp(&b.0.loss));
        let (accuracy, latency_s) = best.map(|(score, s)| (score.percent, s)).unzip();
        let (measured, scored) = (self.measured.len(), self.scores.len());
        self.session.tell(Event::Search { what, accuracy, latency_s, measured, scored, left_s });
    }

    /// The best candidate inside the tolerance, from `candidates` and what lies beside those that only come near, confirmed in
    /// separate processes.
    ///
    /// # Errors
    /// None is at or below the budget.
    pub fn finish(mut self, mut candidates: Vec<Choice>) -> Result<Outcome> {
        self.session.stage("landing inside the tolerance")?;
        self.score(&candidates)?;
        self.by_score(&mut candidates);
        candidates.dedup();
        let budget_s = self.session.budget_s;
        let landing = self.session.landing_s();
        candidates.truncate(4 * MOVED);
        self.measure(&candidates)?;
        let mut moved = Vec::new();
        for seed in candidates.iter().filter(|c| self.seconds(c).is_some_and(|s| (s / budget_s - 1.0).abs() < NEAR)).take(MOVED) {
            moved.extend(self.beside(seed));
        }
        self.measure(&moved)?;
        let mut landed: Vec<Choice> =
            candidates.iter().chain(&moved).filter(|c| self.seconds(c).is_some_and(|s| landing.contains(&s))).cloned().collect();
        self.score(&landed)?;
        self.by_score(&mut landed);
        landed.dedup();
        let mut beside: Vec<Choice> = candidates.into_iter().chain(moved).filter(|c| !landed.contains(c)).collect();
        beside.sort();
        beside.dedup();
        let mut open: Vec<Choice> = landed.into_iter().chain(beside).collect();
        let mut last: Option<(Choice, Relative)> = None;
        for _ in 0..CONFIRMATIONS {
            let Some(choice) = self.next_to_confirm(&open).map(|k| open.remove(k)) else { break };
            let Some(guided) = self.latency(&choice) else { continue };
            let latency = self.session.confirm_guided(&self.model(&choice)?, &guided)?;
            self.measured.insert(choice.clone(), latency.clone());
            let s = self.session.seconds(&latency);
            self.session.tell(Event::Measured {
                attempt: self.measured.len(),
                predicted_s: self.forecast().seconds(&choice),
                measured_s: s,
            });
            if landing.contains(&s) {
                last = Some((choice, latency));
                break;
            }
            if s <= budget_s && last.as_ref().is_none_or(|(_, l)| l.ratio < latency.ratio) {
                last = Some((choice, latency));
            }
        }
        let Some((choice, latency)) = last else {
            return Err(self.session.not_reached(self.measured.values()));
        };
        let predicted_s = self.forecast().seconds(&choice);
        let (decision, rounding) = self.session.round_up(&self.stage, &self.saliency, self.decision(&choice), latency)?;
        let stage = self.session.cut(self.stage, &decision)?;
        Ok(Outcome { stage, latency: rounding.after.clone(), predicted_s, rounding, steps_spent: self.steps_spent })
    }

    /// Which of `open` to confirm next, their latencies set right by what was confirmed of others: the first inside the landing;
    /// else, which is better than nothing, what is nearest to it.
    fn next_to_confirm(&self, open: &[Choice]) -> Option<usize> {
        let (landing, budget_s, lean) = (self.session.landing_s(), self.session.budget_s, self.session.lean.factor());
        let told: Vec<f64> = open.iter().map(|c| self.seconds(c).map_or(f64::INFINITY, |s| lean * s)).collect();
        let off = |s: f64| (landing.start() - s).max(s - landing.end());
        let nearest = |most: f64| (0..told.len()).filter(|&k| told[k] <= most).min_by(|&a, &b| off(told[a]).total_cmp(&off(told[b])));
        let inside = told.iter().position(|s| landing.contains(s));
        // What is told to be above the budget, and was measured below it, comes last.
        inside.or_else(|| nearest(budget_s)).or_else(|| nearest(lean * budget_s))
    }

    /// Choices beside `seed` that are predicted inside the tolerance, the most valuable first.
    fn beside(&self, seed: &Choice) -> Vec<Choice> {
        let landing = self.session.landing_s();
        if self.seconds(seed).is_some_and(|s| landing.contains(&s)) {
            return Vec::new();
        }
        let (forecast, correction) = (self.forecast(), self.correction(seed));
        let inside = |c: &Choice| landing.contains(&(forecast.seconds(c) * correction));
        let mut near: Vec<(f64, Choice)> =
            neighbours(&self.space, seed).into_iter().filter(inside).map(|c| (self.values.total(&c), c)).collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        near.into_iter().take(MOVES).map(|(_, c)| c).collect()
    }
}

/// Those of `choices` that nothing is known of yet, each once.
fn unknown<T>(known: &HashMap<Choice, T>, choices: &[Choice]) -> Vec<Choice> {
    let mut open: Vec<Choice> = Vec::new();
    for c in choices {
        if !known.contains_key(c) && !open.contains(c) {
            open.push(c.clone());
        }
    }
    open
}
