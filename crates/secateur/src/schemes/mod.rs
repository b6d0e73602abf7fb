//! Fine-grained structured pruning: every layer gets a scheme, and the network is trained to have it.
//!
//! Which weights go follows from their norms alone, see [`graph::scheme`]. What is written is a plain ONNX file with zeros in
//! the usual places, and a note in its metadata which layer has which scheme; a runtime that knows of sparsity finds it there.

mod job;
mod mapping;
mod report;
mod training;
mod work;

use std::path::Path;

use graph::scheme::{LayerScheme, write_schemes};

pub use job::SchemeJob;
pub use mapping::{Assigned, Mapping};
pub use report::{ReorderedRow, SCHEME_REPORT_VERSION, SchemeLatency, SchemePlan, SchemeReport, SchemeRow};

use crate::error::{Error, Result, stoppable};
use crate::evaluator::{Figure, Score};
use crate::events::Observer;
use crate::patience::Patience;
use crate::plan::file_hash;
use crate::run::Run;
use crate::settings::Settings;
use work::Work;

/// The file that makes a run one of schemes.
const JOB: &str = "schemes.json";

/// Brings the network of `settings` to the schemes of `job`; everything is left in the new directory `out`.
///
/// # Errors
/// Settings or a mapping that do not fit the network, and whatever reading, training, measuring or writing refuses. What was
/// done stays in `out`; [`resume_schemes`] goes on from it.
pub fn prune_to_schemes(settings: Settings, job: SchemeJob, out: &Path, observer: &mut dyn Observer) -> Result<SchemeReport> {
    job.check(&settings)?;
    if !settings.model.is_file() {
        return Err(Error::File { path: settings.model, cause: "there is no such file; name the ONNX file of the trained network".into() });
    }
    let run = Run::create(out)?;
    run.write_json("config.json", &settings)?;
    run.write_json(JOB, &job)?;
    stoppable(out, observer, |observer| execute(Work::open(settings, job, run, observer)?))
}

/// The run in `out` is one of schemes, to be continued by [`resume_schemes`].
pub fn is_scheme_run(out: &Path) -> bool {
    out.join(JOB).is_file()
}

/// Goes on with the run in `out` where it stopped, measuring in processes started by `worker`.
///
/// # Errors
/// There is no run of schemes in `out`; as [`prune_to_schemes`].
pub fn resume_schemes(out: &Path, worker: Option<latency::WorkerCommand>, observer: &mut dyn Observer) -> Result<SchemeReport> {
    let run = Run::open(out)?;
    let settings = run.settings(worker)?;
    let job = run.read_json(JOB)?;
    stoppable(out, observer, |observer| execute(Work::open(settings, job, run, observer)?))
}

fn execute(mut work: Work) -> Result<SchemeReport> {
    let dense_model = work.dense.model.clone();
    let dense_score = work.test_score("dense", &dense_model)?;
    work.dense_s = dense_latency(&mut work)?;

    let (start, reordered, reorder_check) = work.start()?;
    let trained = work.train(&start)?;
    work.stage("verifying")?;
    let check = work.verify(&start, &trained.model, &trained.masks)?;

    let mut model = trained.model.clone();
    let schemes: Vec<LayerScheme> = work.sparse().map(|a| LayerScheme { tensor: a.layer.tensor.clone(), scheme: a.scheme }).collect();
    write_schemes(&mut model, &schemes);
    for a in work.sparse() {
        let violated = |violation| Error::SchemeViolated { layer: a.layer.name.clone(), violation };
        a.scheme.validate(&a.layer.shape, &Work::weights(&model, &a.layer)?).map_err(violated)?;
    }
    let latency = work.dense_s.map(|dense_s| measure(&mut work, &model, dense_s)).transpose()?;
    let pruned_score = work.test_score("pruned", &model)?;
    let of = |score: Option<Score>, figure| score.filter(|s| s.figure == figure).map(|s| s.percent);
    work.run.write_model("pruned.onnx", &model)?;

    let row = |a: &Assigned| SchemeRow {
        name: a.layer.name.clone(),
        tensor: a.layer.tensor.clone(),
        regularity: a.scheme.regularity,
        rate: a.scheme.rate,
        weights: a.layer.weights(),
        kept: trained.masks.get(&a.layer.tensor).map_or(a.layer.weights(), graph::scheme::Mask::kept),
        dense_because: a.dense_because.clone(),
    };
    let layers: Vec<SchemeRow> = work.assigned.iter().map(row).collect();
    let reordered: Vec<ReorderedRow> =
        reordered.into_iter().map(|r| ReorderedRow { group: r.group, order: r.order, kept: r.kept }).collect();
    let plan = SchemePlan {
        version: SCHEME_REPORT_VERSION,
        model: work.settings.model.display().to_string(),
        model_hash: file_hash(&work.settings.model)?,
        training: work.job.training,
        seed: work.settings.seed,
        schemes: layers.clone(),
        reordered: reordered.clone(),
    };
    work.run.write_json("plan.json", &plan)?;
    let report = SchemeReport {
        version: SCHEME_REPORT_VERSION,
        settings: work.settings.clone(),
        job: work.job.clone(),
        layers,
        reordered,
        penalty: trained.penalty,
        dense_accuracy: of(dense_score, Figure::Accuracy),
        pruned_accuracy: of(pruned_score, Figure::Accuracy),
        pruned_agreement: of(pruned_score, Figure::Agreement),
        figure: work.learning.as_ref().map(|l| l.judge().figure()).unwrap_or_default(),
        holdout_before: trained.holdout_before,
        holdout_after: trained.holdout_after,
        twin_checks: reorder_check.into_iter().chain([check]).collect(),
        latency,
        seconds: work.run.journal.finished()?.into_iter().filter(|(_, seconds)| *seconds > 0.0).collect(),
    };
    work.run.write_json("report.json", &report)?;
    graph::write_atomically(&work.run.file("report.html")?, report.html()?.as_bytes())?;
    Ok(report)
}

/// Seconds of the dense network on the target; `None` without a budget.
fn dense_latency(work: &mut Work) -> Result<Option<f64>> {
    if work.bench.is_none() {
        return Ok(None);
    }
    work.stage("measuring the dense network")?;
    let Work { bench: Some(bench), run, dense, settings, .. } = work else { return Ok(None) };
    Ok(Some(bench.begin(run, &settings.model, &dense.model)?.median_s))
}

fn measure(work: &mut Work, model: &graph::Model, dense_s: f64) -> Result<SchemeLatency> {
    work.stage("measuring the result")?;
    let Work { bench: Some(bench), run, dense, settings, job, observer, .. } = work else {
        return Err(work::no_target());
    };
    let budget_s = job.budget.map_or(dense_s, |b| b.seconds(dense_s));
    let (limit, tolerance) = (budget_s / dense_s, settings.tolerance);
    let patience = Patience::of(settings, run, &mut **observer);
    let relative =
        patience.confirmed(bench, tolerance, &mut |bench| bench.confirmed(&run.journal, "final", &dense.model, model, limit, tolerance))?;
    Ok(SchemeLatency {
        runtime: bench.runtime().identity().to_string(),
        machine: latency::Machine::detect().to_string(),
        dense_s,
        budget_s,
        pruned_s: relative.ratio * dense_s,
        relative,
    })
}
