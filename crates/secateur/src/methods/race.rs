//! The race: HALP's steps, and for the last one several answers at the budget, each trained a little, the worse half of them
//! dropped until one is left (successive halving: Jamieson and Talwalkar, AISTATS 2016).
//!
//! What a network can do right after it was cut says little about where it ends (`docs/results/methods.md`), what it can do after
//! some training says more. The one that is left goes on from where its training stands; its steps count against the
//! fine-tuning, those of the others are the price of the search.

use std::time::Instant;

use graph::{InputShapes, Model};
use serde::{Deserialize, Serialize};
use train::{Hooks, Network, Progress, Recipe};

use super::Outcome;
use super::halp::{self, Approach, BALANCES, Chooser, Cost};
use crate::choice::{Space, Values};
use crate::error::{Error, Result};
use crate::evaluator::Score;
use crate::events::Event;
use crate::meeting::Aim;
use crate::session::Session;
use crate::tuning::told;

/// Weights of what lives in removable branches beyond those that HALP tries: they keep depth whatever it costs in width.
const DEEP: [f64; 2] = [8.0, 32.0];

/// Rungs of the race train for this share of the fine-tuning that is left, the first one; each later one twice as long.
const FIRST_RUNG: f64 = 1.0 / 16.0;

/// Steps of the first rung at most: after so many, order does not change with the length of the fine-tuning.
const LONGEST: usize = 400;

/// Held-out images that contenders are judged on at most.
const IMAGES: usize = 5000;

pub(super) fn run(session: &mut Session) -> Result<Outcome> {
    let approach = halp::approach(session, Cost::Latency)?;
    let field = line_up(session, &approach)?;
    halve(session, field, approach.steps_spent)
}

/// One way to choose at the budget.
struct Way {
    name: String,
    values: Values,
    cost: Cost,
    /// Takes part however its answer does as it is cut.
    always: bool,
}

/// A network at the budget, measured, and how far it is trained.
struct Contender {
    way: String,
    outcome: Outcome,
    /// Its network as trained so far.
    model: Model,
    score: Option<Score>,
}

/// Different networks at the budget, from the ways there are to weigh the last step.
fn line_up(session: &mut Session, approach: &Approach) -> Result<Vec<Contender>> {
    let Approach { table, stage, saliency, .. } = approach;
    let space = Space::new(&stage.analysis.groups, session.settings.chunk, session.depth());
    let (mut field, mut best_s): (Vec<Contender>, Option<f64>) = (Vec::new(), None);
    for way in ways(session, approach, &space)? {
        if field.len() == session.settings.contenders {
            break;
        }
        let costs = way.cost.layers(&session.dense, table, stage);
        let chooser = Chooser::new(stage, &space, &way.values, &*costs, session.settings.solver);
        let aim = Aim { stage, saliency, space: &space, table, values: &way.values, beside: true };
        let outcome = match session.meet_budget(&aim, way.cost.goal(session), &mut |inner| chooser.choose(inner)) {
            Ok(outcome) => outcome,
            // Another way may.
            Err(Error::BudgetNotReached { best_s: found, .. }) => {
                best_s = best_s.into_iter().chain(found).min_by(f64::total_cmp);
                continue;
            }
            Err(e) => return Err(e),
        };
        let cut = &outcome.stage.cut;
        if field.iter().all(|c| c.outcome.stage.cut != *cut) {
            let model = outcome.stage.analysis.model.clone();
            field.push(Contender { way: way.name, outcome, model, score: None });
        }
    }
    if field.is_empty() {
        return Err(Error::BudgetNotReached { budget_s: session.budget_s, best_s });
    }
    Ok(field)
}

/// The ways to weigh the last step, those whose answers do best on held-out images as they are cut first. Answers that are the
/// same before they are brought to the budget are taken once.
fn ways(session: &mut Session, approach: &Approach, space: &Space) -> Result<Vec<Way>> {
    let Approach { table, stage, saliency, step, .. } = approach;
    let values = session.values(stage, space, saliency, *step)?;
    let weights = Values::kept_weights(space, &stage.analysis);
    let mut all = vec![
        Way { name: "multiply-accumulates".into(), values: values.clone(), cost: Cost::Macs, always: true },
        Way { name: "saliency and weights kept".into(), values: values.mixed(&weights, space), cost: Cost::Latency, always: true },
        Way { name: "weights kept".into(), values: weights, cost: Cost::Latency, always: true },
    ];
    let balances = if space.branches.is_empty() { vec![1.0] } else { [&BALANCES[..], &DEEP].concat() };
    for balance in balances {
        all.push(Way {
            name: format!("depth against width {balance}"),
            values: values.weighted(space, balance),
            cost: Cost::Latency,
            always: false,
        });
    }
    let mut chosen = Vec::new();
    let mut ways: Vec<Way> = Vec::new();
    for way in all {
        let costs = way.cost.layers(&session.dense, table, stage);
        match Chooser::new(stage, space, &way.values, &*costs, session.settings.solver).choose(way.cost.goal(session)) {
            Ok(choice) if !chosen.contains(&choice) => {
                chosen.push(choice);
                ways.push(way);
            }
            Ok(_) => {}
            Err(e) if e.is_out_of_reach() => {}
            Err(e) => return Err(e),
        }
    }
    let decisions: Vec<_> = chosen.iter().map(|c| space.decision(&stage.analysis.groups, saliency, c)).collect();
    let mut evaluator = session.evaluator(stage)?;
    let scores = session.score(&mut evaluator, stage, &decisions)?;
    let mut ranked: Vec<(f64, Way)> = scores.iter().map(|s| s.loss).zip(ways).collect();
    ranked.sort_by(|a, b| b.1.always.cmp(&a.1.always).then(a.0.total_cmp(&b.0)));
    Ok(ranked.into_iter().map(|(_, w)| w).collect())
}

/// What the journal keeps of a contender after a rung.
#[derive(Debug, Serialize, Deserialize)]
struct Ran {
    score: Score,
    /// File of the network.
    model: String,
}

/// Trains all and drops the worse half, until one is left: it is handed over as trained so far. `steps_spent` were spent before.
fn halve(session: &mut Session, mut field: Vec<Contender>, steps_spent: usize) -> Result<Outcome> {
    let all = session.learning.as_ref().map_or(0, |l| l.steps(&session.settings));
    let first = ((all.saturating_sub(steps_spent) as f64 * FIRST_RUNG) as usize).min(LONGEST);
    let mut spent = 0;
    for rung in 0.. {
        if field.len() == 1 {
            break;
        }
        let steps = first << rung;
        let of = field.len();
        for (k, contender) in field.iter_mut().enumerate() {
            session.stage(&format!("race, rung {}: network {} of {of}, {steps} steps", rung + 1, k + 1))?;
            run_rung(session, contender, rung, steps)?;
            let Some(score) = contender.score else { continue };
            let text = format!("race, rung {}, by {}: held-out loss {:.3}, {:.2} %", rung + 1, contender.way, score.loss, score.percent);
            session.tell(Event::Note { text });
        }
        spent += steps;
        let loss = |c: &Contender| c.score.map_or(f64::INFINITY, |s| s.loss);
        field.sort_by(|a, b| loss(a).total_cmp(&loss(b)));
        // Where nothing is trained, a second look shows what the first did.
        field.truncate(if steps == 0 { 1 } else { of.div_ceil(2) });
    }
    let Some(Contender { way, mut outcome, model, .. }) = field.into_iter().next() else {
        return Err(Error::BudgetNotReached { budget_s: session.budget_s, best_s: None });
    };
    session.tell(Event::Note { text: format!("race won by {way}") });
    outcome.stage.analysis = outcome.stage.analysis.with_model(model, session.settings.latency_batch)?;
    Ok(Outcome { steps_spent: steps_spent + spent, ..outcome })
}

/// Recovers a contender before its first rung, trains it for `steps` steps and scores it on held-out images. One that diverges
/// has no score.
fn run_rung(session: &mut Session, contender: &mut Contender, rung: usize, steps: usize) -> Result<()> {
    let name = format!("race rung {rung} {}", contender.way);
    if let Some(Ran { score, model }) = session.run.journal.recall(&name)? {
        session.tell(Event::Recalled { what: name });
        contender.model = Model::load(session.run.file(&model)?)?;
        contender.score = Some(score);
        return Ok(());
    }
    let began = Instant::now();
    let gone = || Error::Setting("the data are gone".into());
    let learning = session.learning.as_ref().ok_or_else(gone)?;
    if rung == 0 {
        let (stage, shapes) = (&contender.outcome.stage, InputShapes::batch(session.settings.latency_batch));
        contender.model = learning.recover(&stage.analysis.model, |dense| stage.cut.apply(dense, &shapes), &session.settings)?.model;
    }
    contender.score = None;
    if steps > 0 {
        let (data, teacher) = (learning.data().clone(), learning.teacher().clone());
        // Every rung ends with small steps, as the fine-tuning will, on images of its own.
        let usual = learning.recipe_for(&session.settings, steps);
        let seed = usual.seed.wrapping_add(1000 + rung as u64);
        let recipe = Recipe { warmup_steps: usual.warmup_steps.min(steps / 4), seed, ..usual };
        let mut network = Network::compile(&contender.model)?;
        let observer = session.observer();
        let mut progress = |p: &Progress| told(observer, p);
        let mut hooks = Hooks { progress: Some(&mut progress), ..Hooks::default() };
        match train::fit(&mut network, Some(&teacher), &data, &recipe, &mut hooks) {
            Err(train::Error::Diverged { .. }) => return Ok(()),
            fitted => fitted?,
        };
        session.heed_stop()?;
        network.write_back(&mut contender.model)?;
    }
    let learning = session.learning.as_ref().ok_or_else(gone)?;
    let score = learning.score(&contender.model, learning.choosing(), Some(IMAGES))?;
    let model = format!("steps/race-{rung}-{}.onnx", contender.way.replace(' ', "-"));
    session.run.write_model(&model, &contender.model)?;
    session.run.journal.record(&name, &Ran { score, model }, began.elapsed().as_secs_f64())?;
    contender.score = Some(score);
    Ok(())
}
