//! LACP-style: evolution over the widths that the latency staircase leaves, under a latency limit (after Liu et al.,
//! BenchCouncil Transactions 1(1), 2021; encoding, operators, fitness and numbers are ours).
//!
//! Fitness is the held-out loss of the candidate with inherited weights and BatchNorm re-estimated. The calibrated table says
//! what is feasible; whatever enters the elite is measured end to end and leaves it again if it is over the budget.

use std::time::Instant;

use search::evolution::{Evolution, Genome, Settings as Evolving};

use super::trials::{Choice, Trials};
use super::{Outcome, halp};
use crate::choice::Space;
use crate::cost::Forecast;
use crate::error::Result;
use crate::session::Session;
use crate::settings::Settings;

/// Candidates in the elite; once there is one, half of a population are mutants, two in five crossovers, and the rest drawn anew.
const ELITE: usize = 10;

/// From the dense network, at random.
pub(super) fn run(session: &mut Session) -> Result<Outcome> {
    evolve(Trials::open(session)?, 0)
}

/// HALP's steps, and for its last one the evolution, from answers of the joint solver.
pub(super) fn run_after_halp(session: &mut Session) -> Result<Outcome> {
    let seeds = session.settings.seeds;
    let approach = halp::approach(session, halp::Cost::Latency)?;
    evolve(Trials::at(session, approach)?, seeds)
}

fn evolve(mut trials: Trials, seeds: usize) -> Result<Outcome> {
    let settings = &trials.session.settings;
    let generations = settings.generations;
    let mut evolution = Evolution::new(evolving(settings));
    let (budget_s, target_s) = (trials.session.budget_s, trials.session.target_s());
    // Measured over predicted latency of the elite: what the table is wrong by at this budget.
    let mut bias = 1.0;
    let start = Instant::now();
    for generation in 0..generations {
        trials.session.stage(&format!("generation {} of {generations}", generation + 1))?;
        let seeded = if generation == 0 && seeds > 0 { trials.solutions(target_s, seeds)? } else { Vec::new() };
        if next_generation(&mut trials, &mut evolution, target_s / bias, &seeded)?.is_empty() {
            break;
        }
        bias = measure_elite(&mut trials, &mut evolution, budget_s)?.unwrap_or(bias);
        let left_s = start.elapsed().as_secs_f64() / (generation + 1) as f64 * (generations - generation - 1) as f64;
        trials.report(format!("generation {} of {generations}", generation + 1), Some(left_s));
    }
    let elite: Vec<Choice> = evolution.elite(4 * ELITE).into_iter().map(|s| s.genes.clone()).collect();
    trials.finish(elite)
}

/// Asks for a generation at `budget_s` predicted seconds, scores it and tells: the less loss, the fitter. Returns it; empty
/// where nothing new is found.
pub(super) fn next_generation(trials: &mut Trials, evolution: &mut Evolution, budget_s: f64, seeds: &[Choice]) -> Result<Vec<Choice>> {
    let generation = {
        let genome = Widthwise::new(&trials.space, trials.forecast());
        evolution.ask(&genome, budget_s, seeds)
    };
    trials.score(&generation)?;
    for c in &generation {
        evolution.tell(c.clone(), trials.score_of(c).map_or(f64::NEG_INFINITY, |s| -s.loss));
    }
    Ok(generation)
}

/// How the settings want to evolve.
pub(super) fn evolving(settings: &Settings) -> Evolving {
    let population = settings.population;
    Evolving {
        population,
        elite: ELITE.min(population),
        mutants: population / 2,
        crossovers: population * 2 / 5,
        seed: settings.seed,
        ..Evolving::default()
    }
}

/// Rounds of measuring a changed elite, per generation.
const ROUNDS: usize = 3;

/// Measures what is new in the elite and rejects what is over the budget, until the elite stays as it is. Returns the median
/// of measured over predicted latency.
fn measure_elite(trials: &mut Trials, evolution: &mut Evolution, budget_s: f64) -> Result<Option<f64>> {
    let tolerance = trials.session.settings.tolerance;
    for _ in 0..ROUNDS {
        let elite: Vec<Choice> = evolution.elite(ELITE).into_iter().map(|s| s.genes.clone()).collect();
        if elite.iter().all(|c| trials.seconds(c).is_some()) {
            break;
        }
        trials.measure(&elite)?;
        // What is a little over can still be moved inside; it would only mislead as a parent from further off.
        for c in elite.iter().filter(|c| trials.seconds(c).is_some_and(|s| s > budget_s * (1.0 + tolerance))) {
            evolution.reject(c);
        }
    }
    let mut ratios: Vec<f64> = trials.corrections();
    ratios.sort_by(f64::total_cmp);
    Ok(ratios.get(ratios.len() / 2).copied())
}

/// Genes are the options of the space; their cost is predicted latency.
struct Widthwise<'a> {
    space: &'a Space,
    forecast: Forecast<'a>,
    arities: Vec<usize>,
}

impl<'a> Widthwise<'a> {
    fn new(space: &'a Space, forecast: Forecast<'a>) -> Self {
        let arities = space.groups.iter().map(|g| g.counts.len()).chain(space.branches.iter().map(|_| 2)).collect();
        Self { space, forecast, arities }
    }
}

impl Genome for Widthwise<'_> {
    fn arities(&self) -> &[usize] {
        &self.arities
    }

    fn canonical(&self, genes: &mut [usize]) {
        self.space.canonical(genes);
    }

    fn cost(&self, genes: &[usize]) -> f64 {
        self.forecast.seconds(genes)
    }
}
