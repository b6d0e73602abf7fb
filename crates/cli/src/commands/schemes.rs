//! `prune --scheme` and `prune --mapping`: weights instead of channels.

use std::path::{Path, PathBuf};

use secateur::{SchemeJob, SchemeReport, Settings};
use serde::Serialize;

use super::report::over_budget;
use crate::arguments::Shared;
use crate::failure::{Failure, Result};
use crate::numbers::{count, duration, percent, seconds, thousands};
use crate::progress::Progress;
use crate::{files, interrupt, output};

#[derive(Serialize)]
struct Body<'a> {
    directory: &'a Path,
    model: PathBuf,
    report: &'a SchemeReport,
}

/// Prunes to schemes.
///
/// # Errors
/// As [`secateur::prune_to_schemes`].
pub fn run(settings: Settings, job: SchemeJob, out: &Path, shared: &Shared) -> Result<()> {
    files::load_model(&settings.model)?;
    interrupt::watch()?;
    let r = files::in_run(out, || secateur::prune_to_schemes(settings, job, out, &mut Progress::new(shared.quiet)))?;
    print("prune", &r, out, shared)
}

/// Prints what a run came to, and judges it.
///
/// # Errors
/// The pruned network is slower than the budget.
pub fn print(command: &str, report: &SchemeReport, directory: &Path, shared: &Shared) -> Result<()> {
    if shared.json {
        output::json(command, Body { directory, model: directory.join("pruned.onnx"), report })?;
    } else {
        output::say(&text(report, directory))?;
    }
    match &report.latency {
        Some(l) if !l.met() => Err(Failure::Budget(format!(
            "the pruned network takes {} on {}, {}; it was written all the same. \
             A runtime that does not skip zeros takes as long as before; for one that does, give a higher rate",
            seconds(l.pruned_s),
            l.runtime,
            over_budget(l.pruned_s, &l.relative, l.budget_s)
        ))),
        _ => Ok(()),
    }
}

fn text(r: &SchemeReport, directory: &Path) -> String {
    let (all, kept) = r.totals();
    let sparse = r.layers.iter().filter(|l| l.kept < l.weights).count();
    let mut answer = format!(
        "{}: {} of the weights stay in {}, a compression of {:.2}",
        directory.join("pruned.onnx").display(),
        percent(kept as f64 / all.max(1) as f64),
        count(sparse, "layer"),
        all as f64 / kept.max(1) as f64
    );
    if let (Some(dense), Some(pruned)) = (r.dense_accuracy, r.pruned_accuracy) {
        answer.push_str(&format!("; test accuracy {pruned:.2} % (dense {dense:.2} %)"));
    }
    if let Some(agreement) = r.pruned_agreement {
        answer.push_str(&format!("; {agreement:.2} % agreement with the dense network"));
    }
    let mut lines = vec![answer, String::new()];
    let row = |name: &str, regularity: String, weights: usize, kept: usize, note: &str| {
        let rate = format!("{:.2}", weights as f64 / kept.max(1) as f64);
        vec![name.to_owned(), regularity, rate, thousands(weights as u64), thousands(kept as u64), note.to_owned()]
    };
    let mut rows: Vec<Vec<String>> = r
        .layers
        .iter()
        .map(|l| row(&l.name, l.regularity.to_string(), l.weights, l.kept, l.dense_because.as_deref().unwrap_or("")))
        .collect();
    rows.push(row("total", String::new(), all, kept, ""));
    lines.push(output::table(&["layer", "regularity", "rate", "weights", "kept", ""], &rows, &[1, 5]));
    lines.push(String::new());
    if let Some(l) = &r.latency {
        let verdict = if l.met() { "met" } else { "not met" };
        lines.push(format!(
            "budget {}: {verdict}; {} of the dense network's {} ({} to {} at 95 %)",
            seconds(l.budget_s),
            percent(l.relative.ratio),
            seconds(l.dense_s),
            percent(l.relative.ci.0),
            percent(l.relative.ci.1)
        ));
        lines.push(format!("target {} on {}", l.runtime, l.machine));
    }
    if let Some(lambda) = r.penalty {
        lines.push(format!("penalty {lambda:.2e}"));
    }
    if let (Some(before), Some(after)) = (r.holdout_before, r.holdout_after) {
        lines.push(format!("held-out {} {before:.2} % after pruning, {after:.2} % after fine-tuning", r.figure.name()));
    }
    if !r.reordered.is_empty() {
        lines.push(format!("filters of {} reordered", count(r.reordered.len(), "group")));
    }
    let worst = r.twin_checks.iter().map(|c| c.relative_difference).fold(0.0, f64::max);
    let runtime = r.twin_checks.last().map_or("", |c| c.runtime.as_str());
    lines.push(format!(
        "every layer has its regularity, and computes what its masked weights compute: relative difference {worst:.1e} in {runtime}"
    ));
    let spent: f64 = r.seconds.iter().map(|s| s.1).sum();
    lines.push(format!("{} of recorded work; report {}", duration(spent), directory.join("report.html").display()));
    lines.join("\n")
}
