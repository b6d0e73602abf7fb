//! Meeting the budget as measured: choices are measured, the inner budget is corrected, and the one that is taken is confirmed
//! in separate processes.

use std::collections::HashSet;

use graph::{Decision, Model};
use latency::Protocol;

use crate::bench::{Relative, guiding};
use crate::bracket::Bracket;
use crate::choice::{Space, Values};
use crate::cost::{Forecast, LatencyTable};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::methods::Outcome;
use crate::patience::Patience;
use crate::saliency::Saliency;
use crate::session::Session;
use crate::stage::Stage;

/// What a budget is to be met with.
pub(crate) struct Aim<'a> {
    pub stage: &'a Stage,
    pub saliency: &'a Saliency,
    pub space: &'a Space,
    pub table: &'a LatencyTable,
    pub values: &'a Values,
    /// Choices beside the solver's may be taken to land inside the tolerance.
    pub beside: bool,
}

impl Aim<'_> {
    fn decision(&self, choice: &[usize]) -> Decision {
        self.space.decision(&self.stage.analysis.groups, self.saliency, choice)
    }

    /// Predicts latencies of choices; `dense` is the network that the table was made for.
    fn forecast(&self, dense: &crate::Analysis) -> Forecast<'_> {
        Forecast::new(self.table, dense, &self.stage.analysis, self.space)
    }
}

/// A choice that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tried {
    pub choice: Vec<usize>,
    /// By the calibrated table, seconds.
    pub predicted_s: f64,
    pub latency: Relative,
    /// From separate processes.
    pub confirmed: bool,
}

/// Attempts at landing inside the tolerance.
const ATTEMPTS: usize = 14;

/// Choices beside the solver's answers that are measured.
const BESIDE: usize = 10;

/// Choices that are confirmed before the last one is taken as it is.
const CONFIRMATIONS: usize = 5;

impl Session<'_> {
    /// Latencies at which the search ends, seconds ([`crate::Settings::landing`]).
    pub(crate) fn landing_s(&self) -> std::ops::RangeInclusive<f64> {
        self.settings.landing(self.budget_s)
    }

    /// That nothing of what was measured is at or below the budget.
    pub(crate) fn not_reached<'m>(&self, measured: impl Iterator<Item = &'m Relative>) -> Error {
        let best_s = measured.map(|r| self.seconds(r)).min_by(f64::total_cmp);
        Error::BudgetNotReached { budget_s: self.budget_s, best_s }
    }

    /// Finds the inner budget at which `choose` gives a network measured inside the tolerance, starting at `start`. Where the
    /// solver's answers jump over the tolerance, choices beside its last ones are measured, the most valuable first.
    ///
    /// # Errors
    /// No network at or below the budget was found.
    pub(crate) fn meet_budget(&mut self, aim: &Aim, start: f64, choose: &mut dyn FnMut(f64) -> Result<Vec<usize>>) -> Result<Outcome> {
        self.stage("meeting the budget as measured")?;
        let landing = self.landing_s();
        let mut tried: Vec<Tried> = Vec::new();
        let mut bracket = Bracket::new(start);
        for _ in 0..ATTEMPTS {
            let choice = match choose(bracket.inner()) {
                Ok(c) => c,
                Err(e) if e.is_out_of_reach() => {
                    bracket.out_of_reach();
                    continue;
                }
                Err(e) => return Err(e),
            };
            let k = self.try_choice(aim, choice, &mut tried)?;
            let latency_s = self.estimate_s(&tried[k]);
            if landing.contains(&latency_s) {
                let confirmed_s = self.confirm_choice(aim, &mut tried[k])?;
                if landing.contains(&confirmed_s) {
                    break;
                }
                bracket.corrected(confirmed_s, self.target_s());
                continue;
            }
            bracket.measured(latency_s, self.target_s(), latency_s > *landing.end());
            if bracket.width() < self.settings.tolerance / 20.0 {
                break;
            }
        }
        if aim.beside && !tried.iter().any(|t| landing.contains(&self.estimate_s(t))) {
            self.try_neighbours(aim, &mut tried)?;
        }
        let best = self.land(aim, &mut tried)?;
        let predicted_s = best.predicted_s;
        let (decision, rounding) = self.round_up(aim.stage, aim.saliency, aim.decision(&best.choice), best.latency)?;
        let stage = self.cut(aim.stage.clone(), &decision)?;
        Ok(Outcome { stage, latency: rounding.after.clone(), predicted_s, rounding, steps_spent: 0 })
    }

    /// The best of the choices tried, confirmed: inside the landing the most valuable, else what is nearest below the budget.
    fn land(&mut self, aim: &Aim, tried: &mut [Tried]) -> Result<Tried> {
        let landing = self.landing_s();
        for left in (0..=CONFIRMATIONS).rev() {
            // Where it is safe the most valuable; else what is nearest below the budget.
            let key = |t: &Tried| {
                let safe = landing.contains(&self.estimate_s(t));
                if safe { (1, aim.values.total(&t.choice)) } else { (0, self.estimate_s(t)) }
            };
            let best = |seconds: &dyn Fn(&Tried) -> f64| {
                let fits = (0..tried.len()).filter(|&k| seconds(&tried[k]) <= self.budget_s);
                fits.max_by(|&a, &b| key(&tried[a]).partial_cmp(&key(&tried[b])).unwrap_or(std::cmp::Ordering::Equal))
            };
            // What is told to be above the budget, and was measured below it, is worth a confirmation, too.
            match best(&|t| self.estimate_s(t)).or_else(|| best(&|t| self.seconds(&t.latency))) {
                None => break,
                Some(k) if tried[k].confirmed || left == 0 => return Ok(tried[k].clone()),
                Some(k) => self.confirm_choice(aim, &mut tried[k])?,
            };
        }
        Err(self.not_reached(tried.iter().map(|t| &t.latency)))
    }

    /// A ratio as seconds of the target at its usual pace.
    pub(crate) fn seconds(&self, latency: &Relative) -> f64 {
        latency.ratio * self.dense_s
    }

    /// Latency of what was tried, seconds: as confirmed, else as measured while searching, set right by what was confirmed of others.
    fn estimate_s(&self, tried: &Tried) -> f64 {
        let lean = if tried.confirmed { 1.0 } else { self.lean.factor() };
        lean * self.seconds(&tried.latency)
    }

    /// Measures the network of `choice`, once, and returns its place among those tried.
    fn try_choice(&mut self, aim: &Aim, choice: Vec<usize>, tried: &mut Vec<Tried>) -> Result<usize> {
        self.heed_stop()?;
        if let Some(known) = tried.iter().position(|t| t.choice == choice) {
            return Ok(known);
        }
        let model = aim.stage.analysis.apply(&aim.decision(&choice))?;
        let latency = self.guide(&[model])?.remove(0);
        let predicted_s = aim.forecast(&self.dense).seconds(&choice);
        let new = Tried { choice, predicted_s, latency, confirmed: false };
        let measured_s = self.estimate_s(&new);
        tried.push(new);
        self.tell(Event::Measured { attempt: tried.len(), predicted_s, measured_s });
        Ok(tried.len() - 1)
    }

    /// Measures the network of what was tried in separate processes, once, which replaces what was measured of it before; returns
    /// what it takes, seconds.
    fn confirm_choice(&mut self, aim: &Aim, tried: &mut Tried) -> Result<f64> {
        if !tried.confirmed {
            let model = aim.stage.analysis.apply(&aim.decision(&tried.choice))?;
            (tried.latency, tried.confirmed) = (self.confirm_guided(&model, &tried.latency)?, true);
        }
        Ok(self.seconds(&tried.latency))
    }

    /// Measures choices beside those tried that are predicted inside the tolerance, the most valuable first. What the table
    /// gets wrong near the budget is learnt from every measurement.
    fn try_neighbours(&mut self, aim: &Aim, tried: &mut Vec<Tried>) -> Result<()> {
        let landing = self.landing_s();
        let off = |s: &Self, t: &Tried| (s.estimate_s(t) - s.budget_s).abs();
        let nearest = |s: &Self, tried: &[Tried]| {
            let mut all: Vec<Tried> = tried.to_vec();
            all.sort_by(|a, b| off(s, a).total_cmp(&off(s, b)));
            all
        };
        let forecast = aim.forecast(&self.dense);
        let mut beside: Vec<(f64, Vec<usize>)> = Vec::new();
        let mut seen: HashSet<Vec<usize>> = HashSet::new();
        for t in nearest(self, tried).iter().take(3) {
            for n in crate::choice::neighbours(aim.space, &t.choice) {
                let predicted_s = forecast.seconds(&n);
                // Further off the table would have to be very wrong.
                if (predicted_s / t.predicted_s - 1.0).abs() < 0.2 && seen.insert(n.clone()) {
                    beside.push((predicted_s, n));
                }
            }
        }
        for _ in 0..BESIDE {
            let mut wrong: Vec<f64> = nearest(self, tried).iter().take(5).map(|t| self.estimate_s(t) / t.predicted_s).collect();
            wrong.sort_by(f64::total_cmp);
            let correction = wrong.get(wrong.len() / 2).copied().unwrap_or(1.0);
            let open = beside.iter().filter(|(s, c)| landing.contains(&(s * correction)) && tried.iter().all(|t| t.choice != *c));
            let best = open.max_by(|a, b| aim.values.total(&a.1).total_cmp(&aim.values.total(&b.1)));
            let Some((_, choice)) = best.cloned() else { break };
            let k = self.try_choice(aim, choice, tried)?;
            if landing.contains(&self.estimate_s(&tried[k])) && landing.contains(&self.confirm_choice(aim, &mut tried[k])?) {
                break;
            }
        }
        Ok(())
    }

    /// Latencies of networks that guide the search, all in the same rounds; waits while the device is too noisy.
    ///
    /// # Errors
    /// [`latency::Error::TooNoisy`] when patience is over.
    pub(crate) fn guide(&mut self, models: &[Model]) -> Result<Vec<Relative>> {
        self.steer(models, &guiding(), self.settings.tolerance)
    }

    /// Latencies of networks by `protocol`, all in the same rounds, each known within ±`steady`. Waits while the device is
    /// too noisy.
    ///
    /// # Errors
    /// As [`Session::guide`].
    pub(crate) fn steer(&mut self, models: &[Model], protocol: &Protocol, steady: f64) -> Result<Vec<Relative>> {
        let (dense, journal) = (&self.dense.model, &self.run.journal);
        let patience = Patience::of(&self.settings, &self.run, &mut *self.observer);
        patience.measured(&mut self.bench, steady, &mut |bench| bench.relative(journal, dense, models, protocol, steady))
    }

    /// Latency from separate processes of a network that was measured at `guided` while searching; how far the two are apart is learnt.
    ///
    /// # Errors
    /// As [`Session::confirm`].
    pub(crate) fn confirm_guided(&mut self, model: &Model, guided: &Relative) -> Result<Relative> {
        let latency = self.confirm("confirmed", model)?;
        self.lean.learn(guided.ratio, latency.ratio);
        Ok(latency)
    }

    /// Latency of a network for a decision, from separate processes; recorded under `name`. Waits while the device is too
    /// noisy.
    ///
    /// # Errors
    /// As [`Session::guide`].
    pub(crate) fn confirm(&mut self, name: &str, model: &Model) -> Result<Relative> {
        let (limit, tolerance) = (self.budget_s / self.dense_s, self.settings.tolerance);
        let (dense, journal) = (&self.dense.model, &self.run.journal);
        let patience = Patience::of(&self.settings, &self.run, &mut *self.observer);
        patience.confirmed(&mut self.bench, tolerance, &mut |bench| bench.confirmed(journal, name, dense, model, limit, tolerance))
    }
}
