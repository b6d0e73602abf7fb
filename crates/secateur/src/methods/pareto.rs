//! Accuracy against latency over a range of budgets, in one run and before any fine-tuning is paid for: the joint solver's
//! answers at each budget, evolved on where that is asked for, scored on held-out images; what no other candidate beats is
//! measured.

use std::path::{Path, PathBuf};

use search::evolution::Evolution;
use serde::{Deserialize, Serialize};

use super::geometric;
use super::lacp::{evolving, next_generation};
use super::trials::{Choice, Trials};
use crate::bench::Relative;
use crate::error::{Error, Result, stoppable};
use crate::evaluator::{Figure, Score};
use crate::events::Observer;
use crate::plan::Cut;
use crate::run::Run;
use crate::session::Session;
use crate::settings::{Method, Settings};
use crate::stage::Stage;

/// Version of the front's form.
pub const FRONT_VERSION: u32 = 1;

/// A network that no other candidate beats in both latency and held-out loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// Measured against the dense network.
    pub latency: Relative,
    /// Predicted by the calibrated table, seconds.
    pub predicted_s: f64,
    /// On held-out images, BatchNorm re-estimated, not fine-tuned.
    pub score: Score,
    /// Its plan, for `apply`.
    pub plan: PathBuf,
}

/// The front of a network on a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// Form of this file.
    pub version: u32,
    /// What was asked; `budget` is the least.
    pub settings: Settings,
    /// Runtime with version and options.
    pub runtime: String,
    /// Machine.
    pub machine: String,
    /// The dense network's latency, seconds.
    pub dense_s: f64,
    /// Its score.
    pub dense: Score,
    /// Ascending in latency.
    pub points: Vec<FrontPoint>,
    /// Candidates scored.
    pub scored: usize,
    /// Candidates measured.
    pub measured: usize,
}

/// The file that makes a run one of a front.
const RANGE: &str = "pareto.json";

/// The budgets of a front, besides the least, which is that of its settings.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Range {
    /// The largest, a share of the dense latency.
    to: f64,
    /// How many there are.
    budgets: usize,
}

/// Searches at `budgets` budgets between `settings.budget` and `to` (a share of the dense latency), and leaves `front.json`,
/// `front.csv`, `front.svg` and a plan per point in the new directory `out`. With [`Method::Halp`] the candidates are the joint
/// solver's; [`Method::Lacp`], [`Method::Evolution`] and [`Method::Auto`] evolve them for `settings.generations` generations per
/// budget.
///
/// # Errors
/// As [`crate::prune`]; there are no data to score on; another method.
pub fn pareto(settings: Settings, to: f64, budgets: usize, out: &Path, observer: &mut dyn Observer) -> Result<Front> {
    settings.check()?;
    if settings.data.is_none() || settings.score_images == 0 {
        return Err(Error::Setting(
            "a front is one of accuracy, which is judged on held-out images: give `--data`, and --score-images above 0".into(),
        ));
    }
    if !matches!(settings.method, Method::Auto | Method::Halp | Method::Lacp | Method::Evolution) {
        return Err(Error::Setting(format!(
            "--method {} makes no front: its points are the joint solver's answers (halp), or evolved from them (lacp, evolution and auto)",
            settings.method
        )));
    }
    if !(to > 0.0 && to < 1.0) {
        return Err(Error::Setting(format!("the largest budget is {to} of the dense latency; it must lie between the least and 1")));
    }
    let run = Run::create(out)?;
    // Nothing is trained: what is scored are the dense network's weights.
    let settings = Settings { recipe: train::Recipe { epochs: 0.0, ..settings.recipe.clone() }, ..settings };
    let range = Range { to, budgets };
    run.write_json("config.json", &settings)?;
    run.write_json(RANGE, &range)?;
    stoppable(out, observer, |observer| execute(settings, range, run, observer))
}

/// The run in `out` is one of a front, to be continued by [`resume_pareto`].
pub fn is_pareto_run(out: &Path) -> bool {
    out.join(RANGE).is_file()
}

/// Goes on with the front in `out` where it stopped, measuring in processes started by `worker`.
///
/// # Errors
/// There is no front in `out`; as [`pareto`].
pub fn resume_pareto(out: &Path, worker: Option<latency::WorkerCommand>, observer: &mut dyn Observer) -> Result<Front> {
    let run = Run::open(out)?;
    let settings = run.settings(worker)?;
    let range = run.read_json(RANGE)?;
    stoppable(out, observer, |observer| execute(settings, range, run, observer))
}

fn execute(settings: Settings, Range { to, budgets }: Range, run: Run, observer: &mut dyn Observer) -> Result<Front> {
    let mut session = Session::open(settings, run, observer)?;
    let from = session.budget_s / session.dense_s;
    if !(from..1.0).contains(&to) {
        return Err(Error::Setting(format!(
            "the largest budget is {to} of the dense latency; it must lie between the least ({from:.3}) and 1"
        )));
    }
    let mut trials = Trials::open(&mut session)?;
    let dense = trials.space.keep_all();
    trials.score(std::slice::from_ref(&dense))?;
    let dense_score = trials.score_of(&dense).ok_or_else(|| Error::Setting("the dense network has no score".into()))?;
    let shares: Vec<f64> = if budgets < 2 { vec![from] } else { std::iter::once(to).chain(geometric(to, from, budgets - 1)).collect() };
    let dense_s = trials.session.dense_s;
    let mut all: Vec<Choice> = Vec::new();
    for (k, share) in shares.iter().enumerate() {
        trials.session.stage(&format!("budget {} of {}: {:.1} % of the dense latency", k + 1, shares.len(), 100.0 * share))?;
        all.extend(candidates(&mut trials, share * dense_s)?);
    }
    all.sort();
    all.dedup();
    let (points, measured) = measured_front(&mut trials, all)?;
    trials.session.stage("writing the front")?;
    let mut front = Front {
        version: FRONT_VERSION,
        settings: trials.session.settings.clone(),
        runtime: trials.session.bench.runtime().identity().to_string(),
        machine: latency::Machine::detect().to_string(),
        dense_s,
        dense: dense_score,
        points: Vec::new(),
        scored: trials.scored(),
        measured,
    };
    for (k, choice) in points.iter().enumerate() {
        front.points.push(trials.front_point(choice, k)?);
    }
    let run = &trials.session.run;
    run.write_json("front.json", &front)?;
    graph::write_atomically(&run.file("front.csv")?, front.csv().as_bytes())?;
    graph::write_atomically(&run.file("front.svg")?, front.svg()?.as_bytes())?;
    Ok(front)
}

/// Scored candidates at one budget.
fn candidates(trials: &mut Trials, budget_s: f64) -> Result<Vec<Choice>> {
    let seeds = trials.solutions(budget_s, trials.session.settings.seeds.max(1))?;
    trials.score(&seeds)?;
    if trials.session.settings.method == Method::Halp {
        return Ok(seeds);
    }
    let generations = trials.session.settings.generations;
    let mut evolution = Evolution::new(evolving(&trials.session.settings));
    let mut all = Vec::new();
    for generation in 0..generations {
        let first = if generation == 0 { seeds.clone() } else { Vec::new() };
        let new = next_generation(trials, &mut evolution, budget_s, &first)?;
        if new.is_empty() {
            break;
        }
        all.extend(new);
    }
    Ok(all)
}

/// What of `all` no other beats: by predicted latency first, by measured latency in the end. Ascending in latency; with the
/// number measured.
fn measured_front(trials: &mut Trials, all: Vec<Choice>) -> Result<(Vec<Choice>, usize)> {
    trials.session.stage("measuring the front")?;
    let value = |trials: &Trials, c: &Choice| trials.score_of(c).map_or(f64::NEG_INFINITY, |s| -s.loss);
    let predicted: Vec<(f64, f64)> = {
        let forecast = trials.forecast();
        all.iter().map(|c| (forecast.seconds(c), value(trials, c))).collect()
    };
    let near: Vec<Choice> = search::pareto::front(&predicted).into_iter().map(|k| all[k].clone()).collect();
    trials.measure(&near)?;
    let points: Vec<(f64, f64)> = near.iter().map(|c| (trials.seconds(c).unwrap_or(f64::NAN), value(trials, c))).collect();
    Ok((search::pareto::front(&points).into_iter().map(|k| near[k].clone()).collect(), near.len()))
}

impl Trials<'_, '_> {
    /// Writes the plan of a point.
    fn front_point(&self, choice: &Choice, k: usize) -> Result<FrontPoint> {
        let missing = || Error::Setting("a point of the front was not measured".into());
        let (latency, score) = (self.latency(choice).ok_or_else(missing)?, self.score_of(choice).ok_or_else(missing)?);
        let session = &self.session;
        let decision = self.decision(choice);
        let shapes = graph::InputShapes::batch(session.settings.latency_batch);
        let smaller = self.stage.analysis.apply(&decision)?;
        crate::verify::check(&self.stage.analysis, &decision, &smaller, session.bench.runtime())?;
        let smaller = crate::Analysis::new(smaller, &shapes)?;
        let cut = Cut { steps: vec![decision.to_named(&self.stage.analysis.groups, &self.stage.analysis.graph)] };
        let plan = session.plan(&Stage { analysis: smaller, cut }, &latency, session.seconds(&latency))?;
        let path = session.run.write_json(&format!("plans/{:02}.json", k + 1), &plan)?;
        Ok(FrontPoint { latency, predicted_s: self.forecast().seconds(choice), score, plan: path })
    }
}

impl Front {
    /// One line per point: latency in milliseconds, share of the dense latency with its interval, held-out accuracy (or agreement) and loss.
    pub fn csv(&self) -> String {
        let figure = if self.dense.figure == Figure::Accuracy { "accuracy" } else { "agreement" };
        let mut out = format!("latency_ms,ratio,ratio_low,ratio_high,predicted_ms,holdout_{figure},holdout_loss,plan\n");
        for p in &self.points {
            let l = &p.latency;
            out.push_str(&format!(
                "{:.4},{:.4},{:.4},{:.4},{:.4},{:.2},{:.4},{}\n",
                1e3 * l.ratio * self.dense_s,
                l.ratio,
                l.ci.0,
                l.ci.1,
                1e3 * p.predicted_s,
                p.score.percent,
                p.score.loss,
                p.plan.display()
            ));
        }
        out
    }

    /// Held-out accuracy (or agreement) against measured latency.
    ///
    /// # Errors
    /// The plot cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        use plotters::prelude::*;
        let broken = |e: &dyn std::fmt::Display| Error::Setting(format!("the front cannot be drawn: {e}"));
        let mut out = String::new();
        {
            let root = SVGBackend::with_string(&mut out, (720, 440)).into_drawing_area();
            root.fill(&WHITE).map_err(|e| broken(&e))?;
            let mut chart = ChartBuilder::on(&root)
                .margin(16)
                .x_label_area_size(44)
                .y_label_area_size(56)
                .build_cartesian_2d(0.0..1e3 * self.dense_s * 1.05, 0.0..100.0)
                .map_err(|e| broken(&e))?;
            chart
                .configure_mesh()
                .x_desc("latency, ms (measured)")
                .y_desc(format!("held-out {} before fine-tuning, %", self.dense.figure.name()))
                .draw()
                .map_err(|e| broken(&e))?;
            let points: Vec<(f64, f64)> = self.points.iter().map(|p| (1e3 * p.latency.ratio * self.dense_s, p.score.percent)).collect();
            chart.draw_series(LineSeries::new(points.clone(), &BLUE)).map_err(|e| broken(&e))?;
            chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, BLUE.filled()))).map_err(|e| broken(&e))?;
            let dense = (1e3 * self.dense_s, self.dense.percent);
            chart.draw_series([TriangleMarker::new(dense, 6, BLACK.filled())]).map_err(|e| broken(&e))?;
            root.present().map_err(|e| broken(&e))?;
        }
        Ok(out)
    }
}
