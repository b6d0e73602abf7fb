//! The main job, from settings to a report, and the parts of it that are commands of their own.

use std::path::Path;

use graph::{InputShapes, Model};
use latency::Runtime;

use crate::analysis::Analysis;
use crate::cost::LatencyTable;
use crate::error::{Error, Result, stoppable};
use crate::evaluator::{Figure, Score};
use crate::events::{Event, Observer};
use crate::learning::Split;
use crate::methods;
use crate::plan::Plan;
use crate::report::{REPORT_VERSION, Report, Row};
use crate::run::Run;
use crate::session::Session;
use crate::settings::Settings;
use crate::staircases::Staircases;
use crate::verify::{TwinCheck, check_anywhere};

/// Prunes the network of `settings` to its budget; everything is left in the new directory `out`.
///
/// # Errors
/// Settings that do not fit, a network with nothing to prune, a budget that cannot be reached, and whatever reading,
/// measuring, training or writing refuses. What was done stays in `out`; [`resume`] goes on from it.
pub fn prune(settings: Settings, out: &Path, observer: &mut dyn Observer) -> Result<Report> {
    settings.check()?;
    if !settings.model.is_file() {
        return Err(Error::File { path: settings.model, cause: "there is no such file; name the ONNX file of the trained network".into() });
    }
    let run = Run::create(out)?;
    run.write_json("config.json", &settings)?;
    stoppable(out, observer, |observer| execute(settings, run, observer))
}

/// Goes on with the run in `out` where it stopped, measuring in processes started by `worker`. Steps in its journal are not done again; no measurement it holds is
/// repeated.
///
/// # Errors
/// There is no run in `out`; as [`prune`].
pub fn resume(out: &Path, worker: Option<latency::WorkerCommand>, observer: &mut dyn Observer) -> Result<Report> {
    let run = Run::open(out)?;
    let settings = run.settings(worker)?;
    stoppable(out, observer, |observer| execute(settings, run, observer))
}

fn execute(settings: Settings, run: Run, observer: &mut dyn Observer) -> Result<Report> {
    let mut session = Session::open(settings, run, observer)?;
    let dense_score = session.test_score("dense", &session.dense.model.clone())?;
    let started = std::time::Instant::now();
    let outcome = methods::run(&mut session)?;
    let search_s = started.elapsed().as_secs_f64();
    let stage = &outcome.stage;
    let plan = session.plan(stage, &outcome.latency, session.budget_s)?;
    session.run.write_json("plan.json", &plan)?;

    let tuned = session.fine_tune(stage, &plan.cut, outcome.steps_spent)?;
    session.stage("measuring the result")?;
    let latency = session.confirm("final", &tuned.model)?;
    let latency_s = latency.ratio * session.dense_s;
    let within = latency_s <= session.budget_s && latency_s >= session.budget_s * (1.0 - session.settings.tolerance);
    let pruned_score = session.test_score("pruned", &tuned.model)?;
    session.run.write_model("pruned.onnx", &tuned.model)?;

    let pruned = Analysis::new(tuned.model, &InputShapes::batch(session.settings.latency_batch))?;
    let report = Report {
        version: REPORT_VERSION,
        machine: latency::Machine::detect().to_string(),
        runtime: session.bench.runtime().identity().to_string(),
        dense: row("dense", &session.dense, session.dense_s, dense_score)?,
        pruned: row("pruned", &pruned, latency_s, pruned_score)?,
        budget_s: session.budget_s,
        latency,
        within_tolerance: within,
        predicted_s: outcome.predicted_s,
        rounding: outcome.rounding.clone(),
        figure: session.learning.as_ref().map(|l| l.judge().figure()).unwrap_or_default(),
        drawn: session.learning.as_ref().and_then(|l| l.drawn().map(str::to_owned)),
        recovery: tuned.recovery,
        holdout_before: tuned.holdout_before,
        holdout_after: tuned.holdout_after,
        twin_checks: std::mem::take(&mut session.twin_checks),
        removed_layers: plan.layers.iter().filter(|l| l.kept == 0).map(|l| l.name.clone()).collect(),
        layers: plan.layers,
        probes: session.bench.probes(),
        seconds: session.run.journal.finished()?.into_iter().filter(|(_, seconds)| *seconds > 0.0).collect(),
        search_s,
        settings: session.settings.clone(),
    };
    session.run.write_json("report.json", &report)?;
    let page = session.run.file("report.html")?;
    graph::write_atomically(&page, report.html()?.as_bytes())?;
    Ok(report)
}

fn row(name: &str, analysis: &Analysis, latency_s: f64, score: Option<Score>) -> Result<Row> {
    let costs = analysis.costs();
    let of = |figure: Figure| score.filter(|s| s.figure == figure).map(|s| s.percent);
    Ok(Row {
        name: name.into(),
        latency_s,
        params: costs.params,
        macs: costs.macs,
        bytes: analysis.model.to_bytes()?.len() as u64,
        test_accuracy: of(Figure::Accuracy),
        test_agreement: of(Figure::Agreement),
    })
}

impl Session<'_> {
    /// Score on the test split, through the interpreter; recorded. `None` without data.
    fn test_score(&mut self, name: &str, model: &Model) -> Result<Option<Score>> {
        let Some(learning) = &self.learning else { return Ok(None) };
        let figure = learning.judge().figure().name();
        self.stage(&format!("test {figure} of the {name} network"))?;
        let Some(learning) = &self.learning else { return Ok(None) };
        self.run.journal.step(&format!("test score {name}"), || learning.score(model, Split::Test, None).map(Some))
    }
}

/// Applies a plan to a network of the structure it was made for; what each step makes is checked against its masked twin, in the
/// first of `runtimes` that runs it.
///
/// # Errors
/// The plan names what the network does not have; a step's result is not its masked twin, or no runtime runs that.
pub fn apply(model: Model, plan: &Plan, runtimes: &[Box<dyn Runtime>]) -> Result<(Model, Vec<TwinCheck>)> {
    let (mut checks, shapes) = (Vec::new(), InputShapes::default());
    let smaller = plan.cut.apply_each(model, &shapes, &mut |before, decision, after| {
        let twin = before.masked_twin(decision)?;
        checks.extend(check_anywhere(before, decision, &twin, after, &shapes, &[], runtimes)?);
        Ok(())
    })?;
    Ok((smaller, checks))
}

/// What is known of a network on a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Latency of the network as it is, seconds.
    pub dense_s: f64,
    /// Its layers, timed alone and calibrated.
    pub table: LatencyTable,
    /// Which widths are worth keeping, where asked for.
    pub staircases: Option<Staircases>,
}

/// Times the layers of a network on the target, without pruning anything; with `staircases`, finds those too.
///
/// # Errors
/// As [`prune`], as far as the latency table; no budget is out of reach.
pub fn profile(settings: Settings, out: &Path, staircases: bool, observer: &mut dyn Observer) -> Result<Profile> {
    let run = Run::create(out)?;
    stoppable(out, observer, |observer| {
        let mut session = Session::open(settings, run, observer)?;
        let table = session.timed_table()?;
        session.tell(Event::Note { text: format!("latency table: {}", session.table_path().display()) });
        let staircases = staircases.then(|| session.staircases()).transpose()?;
        Ok(Profile { dense_s: session.dense_s, table, staircases })
    })
}
