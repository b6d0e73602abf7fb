//! What is known of the candidates of one mapping: predicted, measured and scored at most once each; and how a mapping lands at
//! the budget.

use std::collections::HashMap;
use std::ops::ControlFlow;

use graph::Model;
use latency::Protocol;
use search::evolution::Genome;

use super::Genes;
use super::scorer::{evaluator, project};
use super::solve::{Damage, Worth, fit};
use super::space::{Costs, Priced, RATES, Schemes, Space};
use super::table::timed;
use crate::bench::Relative;
use crate::bracket::Bracket;
use crate::cost::SchemeTable;
use crate::error::{Error, Result};
use crate::evaluator::{Evaluator, Score};
use crate::events::Event;
use crate::session::Session;

/// Noise up to which a latency may steer; networks in one round of measuring.
const STEERING_NOISE: f64 = 0.03;
const BATCH: usize = 4;

/// Rates at which each layer is pruned alone to see what it is worth.
const ALONE: [f64; 2] = [3.0, 10.0];

/// Share of the mean damage that losing all of any layer does at least.
const LEAST: f64 = 0.05;

/// Attempts of a solver at landing inside the tolerance.
const ATTEMPTS: usize = 8;

/// Best candidates of a search that are brought to the budget and measured, and attempts at each.
const FINALISTS: usize = 6;
const FITS: usize = 3;

/// Everything known about the candidates of a mapping.
pub(crate) struct Mapper<'s, 'o> {
    pub session: &'s mut Session<'o>,
    pub space: Space,
    pub table: SchemeTable,
    /// What is limited: seconds, or weights.
    pub costs: Costs,
    pub seconds: Costs,
    pub worth: Worth,
    /// Largest number of weights; where none, the latency is limited.
    weights: Option<f64>,
    /// Measured over predicted latency near the budget.
    bias: f64,
    evaluator: Option<Evaluator<Schemes>>,
    scores: HashMap<Genes, Score>,
    measured: HashMap<Genes, Relative>,
}

impl<'s, 'o> Mapper<'s, 'o> {
    /// Times the layers under all schemes they could have and fits the table to whole networks. `compression` limits weights in
    /// place of latency; candidates are trained for `tune_steps` steps before they are scored.
    ///
    /// # Errors
    /// Nothing can have a scheme; the runtime refuses a layer; the budget is below the floor.
    pub fn open(session: &'s mut Session<'o>, compression: Option<f64>, tune_steps: usize) -> Result<Self> {
        let space = Space::new(&session.dense)?;
        let table = timed(session, &space)?;
        let seconds = Costs::seconds(&space, &table);
        let weights = Costs::weights(&space);
        let limit = compression.map(|c| weights.total(&space.all_dense()) / c);
        let evaluator = match session.learning {
            Some(_) => Some(evaluator(session, &space, tune_steps)?),
            None => None,
        };
        let costs = if limit.is_some() { weights } else { seconds.clone() };
        let worth = Worth::equal(&space);
        let mapper = Self {
            session,
            space,
            table,
            costs,
            seconds,
            worth,
            weights: limit,
            bias: 1.0,
            evaluator,
            scores: HashMap::new(),
            measured: HashMap::new(),
        };
        mapper.check_floor()
    }

    /// Refuses a budget that no mapping reaches, and tells what is ahead.
    fn check_floor(self) -> Result<Self> {
        let least = |of: &Vec<Vec<f64>>| of.iter().flatten().copied().fold(f64::INFINITY, f64::min);
        let floor = |c: &Costs| (c.constant + c.of.iter().map(least).sum::<f64>()).max(0.0);
        let (budget_s, dense_s, floor_s) = (self.session.budget_s, self.session.dense_s, floor(&self.seconds));
        match self.weights {
            Some(limit) if floor(&self.costs) > limit => {
                let most = self.costs.total(&self.space.all_dense()) / floor(&self.costs);
                Err(Error::Setting(format!(
                    "the compression asked for is above what this network's layers reach, {most:.2} in all: layers that stay dense count, too; \
                     give --compression a smaller number"
                )))
            }
            None if floor_s > budget_s && floor_s > 0.9 * dense_s => {
                let runtime = self.session.bench.runtime().identity();
                Err(Error::Setting(format!(
                    "{runtime} gains next to no time by weights that are zero (at best {:.1} % of the dense latency is left), so no mapping meets \
                     the budget there; use a runtime with sparse kernels (--target engine), or remove whole channels with `prune`",
                    100.0 * floor_s / dense_s
                )))
            }
            None if floor_s > budget_s => Err(Error::BelowFloor { budget_s, floor_s, dense_s }),
            _ => {
                self.session.tell(Event::Outlook { dense_s, budget_s, floor_s, estimate_s: None });
                Ok(self)
            }
        }
    }

    pub fn seed(&self) -> u64 {
        self.session.settings.seed
    }

    /// The most that a candidate may cost, as predicted.
    pub fn limit(&self) -> f64 {
        self.weights.unwrap_or_else(|| self.session.target_s() / self.bias)
    }

    fn model(&self, genes: &[usize]) -> Result<Model> {
        project(&self.session.dense.model, &self.space.layers, &self.space.schemes(genes))
    }

    /// Predicted seconds.
    pub fn predicted_s(&self, genes: &[usize]) -> f64 {
        self.seconds.total(genes)
    }

    /// Measures what was not measured yet, several networks interleaved with the dense one.
    pub fn measure(&mut self, all: &[Genes]) -> Result<()> {
        let protocol = Protocol { precision: 0.008, time_limit_s: 2.0, min_rounds: 10, ..Protocol::default() };
        let mut open: Vec<Genes> = all.iter().filter(|g| !self.measured.contains_key(*g)).cloned().collect();
        open.sort();
        open.dedup();
        for batch in open.chunks(BATCH) {
            self.session.heed_stop()?;
            let models = batch.iter().map(|g| self.model(g)).collect::<Result<Vec<_>>>()?;
            let found = self.session.steer(&models, &protocol, STEERING_NOISE)?;
            for (genes, r) in batch.iter().zip(found) {
                let (predicted_s, measured_s) = (self.predicted_s(genes), self.session.seconds(&r));
                self.measured.insert(genes.clone(), r);
                self.session.tell(Event::Measured { attempt: self.measured.len(), predicted_s, measured_s });
            }
        }
        Ok(())
    }

    /// Measured latency of a candidate.
    ///
    /// # Errors
    /// What measuring refuses.
    pub fn latency(&mut self, genes: &Genes) -> Result<Relative> {
        self.measure(std::slice::from_ref(genes))?;
        self.measured.get(genes).cloned().ok_or_else(|| Error::Setting("the runtime measured nothing".into()))
    }

    /// Scores what was not scored yet.
    ///
    /// # Errors
    /// There are no data; [`Error::Interrupted`]; a candidate that cannot be run.
    pub fn score(&mut self, all: &[Genes]) -> Result<()> {
        let open: Vec<Genes> = all.iter().filter(|g| !self.scores.contains_key(*g)).cloned().collect();
        let schemes: Vec<Schemes> = open.iter().map(|g| self.space.schemes(g)).collect();
        let Some(evaluator) = &mut self.evaluator else { return Err(Error::Setting("scoring candidates needs `--data`".into())) };
        let (journal, observer) = self.session.journal_and_observer();
        let mut told = |done: usize, total: usize| {
            observer.event(Event::Progress { done, total, note: "candidates scored".into() });
            if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let Some(scores) = evaluator.score_all(journal, &schemes, &mut told)? else {
            return Err(Error::Interrupted { out: self.session.run.directory().to_owned() });
        };
        self.scores.extend(open.into_iter().zip(scores));
        Ok(())
    }

    pub fn score_of(&self, genes: &[usize]) -> Option<Score> {
        self.scores.get(genes).copied()
    }

    /// Candidates scored so far.
    pub fn scored(&self) -> usize {
        self.scores.len()
    }

    /// How good a scored candidate is, in (0, 1].
    pub fn quality(&self, genes: &[usize]) -> Option<f64> {
        self.score_of(genes).map(|s| (-s.loss).exp())
    }

    /// Tells how far a search is, with what `best` is predicted to take, and the seconds that are left.
    pub fn report(&mut self, what: String, best: Option<&Genes>, left_s: f64) {
        let accuracy = best.and_then(|g| self.score_of(g)).map(|s| s.percent);
        let latency_s = best.map(|g| self.predicted_s(g) * self.bias);
        let (measured, scored) = (self.measured.len(), self.scores.len());
        self.session.tell(Event::Search { what, accuracy, latency_s, measured, scored, left_s: Some(left_s) });
    }

    /// What layers are worth, from the loss that each one adds on held-out images when it alone is pruned to each of
    /// [`ALONE`]'s rates, under the regularity that `at_rate` gives (by free layer and rate). Without data all are worth the
    /// same.
    ///
    /// # Errors
    /// As [`Mapper::score`].
    pub fn weigh_layers(&mut self, at_rate: &dyn Fn(usize, usize) -> usize) -> Result<()> {
        if self.evaluator.is_none() {
            return Ok(());
        }
        let dense = self.space.all_dense();
        let mut alone: Vec<Vec<Genes>> = Vec::new();
        for k in 0..self.space.free.len() {
            let at = |wanted: f64| {
                let rate = RATES.iter().position(|&r| r == wanted).unwrap_or(0);
                let mut genes = dense.clone();
                (genes[2 * k], genes[2 * k + 1]) = (at_rate(k, rate), rate);
                Priced { space: &self.space, costs: &self.costs }.canonical(&mut genes);
                genes
            };
            alone.push(ALONE.map(at).to_vec());
        }
        let all: Vec<Genes> = std::iter::once(dense.clone()).chain(alone.iter().flatten().cloned()).collect();
        self.score(&all)?;
        let added = |genes: &Genes| Some(self.score_of(genes)?.loss - self.score_of(&dense)?.loss);
        let lost = |k: usize, genes: &Genes| Some(1.0 - self.space.chosen(genes).nth(k)?.1?.energy);
        let mut points: Vec<Vec<(f64, f64)>> = Vec::new();
        for (k, trials) in alone.iter().enumerate() {
            points.push(trials.iter().filter_map(|g| Some((lost(k, g)?, added(g)?.max(0.0)))).collect());
        }
        // A layer whose loss fell is worth something, too: a little of what layers are worth on average.
        let mean = points.iter().flatten().map(|p| p.1).sum::<f64>() / points.iter().flatten().count().max(1) as f64;
        for (lost, damage) in points.iter_mut().flatten() {
            *damage += LEAST * mean * *lost * *lost;
        }
        if points.iter().flatten().all(|p| p.1.is_finite()) && mean > 0.0 {
            self.worth = Worth { layers: points.iter().map(|p| Damage::convex(p)).collect() };
        }
        Ok(())
    }

    /// The answer of `choose`, which is given a predicted cost, that lands inside the tolerance as measured; else the one
    /// nearest below the budget.
    ///
    /// # Errors
    /// None is at or below the budget.
    pub fn meet(&mut self, choose: &dyn Fn(&Self, f64) -> Result<Genes>) -> Result<Genes> {
        if let Some(limit) = self.weights {
            return choose(self, limit);
        }
        let (landing, budget_s) = (self.session.landing_s(), self.session.budget_s);
        let mut bracket = Bracket::new(self.limit());
        let mut best: Option<(f64, Genes)> = None;
        for _ in 0..ATTEMPTS {
            let genes = match choose(self, bracket.inner()) {
                Ok(genes) => genes,
                Err(e) if e.is_out_of_reach() => {
                    bracket.out_of_reach();
                    continue;
                }
                Err(e) => return Err(e),
            };
            let latency = self.latency(&genes)?;
            let s = self.session.seconds(&latency);
            self.bias = s / self.predicted_s(&genes);
            if s <= budget_s && best.as_ref().is_none_or(|(b, _)| *b < s) {
                best = Some((s, genes));
            }
            if landing.contains(&s) {
                break;
            }
            bracket.measured(s, self.session.target_s(), s > *landing.end());
            if bracket.width() < self.session.settings.tolerance / 20.0 {
                break;
            }
        }
        best.map(|(_, genes)| genes).ok_or_else(|| self.session.not_reached(self.measured.values()))
    }

    /// The best of `candidates` (best first), brought to the budget as measured: rates are moved until the budget is used and
    /// not passed.
    ///
    /// # Errors
    /// None gets to the budget.
    pub fn land(&mut self, candidates: &[Genes]) -> Result<Genes> {
        self.session.stage("bringing the best mappings to the budget")?;
        let mut landed: Vec<Genes> = Vec::new();
        for first in candidates.iter().take(FINALISTS) {
            let (mut genes, mut bias) = (first.clone(), self.bias);
            for _ in 0..FITS {
                let limit = self.weights.unwrap_or_else(|| self.session.target_s() / bias);
                let Some(mut moved) = fit(&self.space, &self.worth, &self.costs, &genes, limit) else { break };
                Priced { space: &self.space, costs: &self.costs }.canonical(&mut moved);
                let latency = self.latency(&moved)?;
                let s = self.session.seconds(&latency);
                bias = s / self.predicted_s(&moved);
                let inside = self.weights.is_some() || self.session.landing_s().contains(&s);
                if (self.weights.is_some() || s <= self.session.budget_s) && !landed.contains(&moved) {
                    landed.push(moved.clone());
                }
                genes = moved;
                if inside {
                    break;
                }
            }
        }
        self.score(&landed)?;
        let quality = |g: &&Genes| self.quality(g).unwrap_or(f64::NEG_INFINITY);
        let best = landed.iter().max_by(|a, b| quality(a).total_cmp(&quality(b))).cloned();
        best.ok_or_else(|| self.session.not_reached(self.measured.values()))
    }
}
