//! `prune --budget-params`: to a size, without measuring; data serve for recovery only.

use std::path::{Path, PathBuf};

use secateur::{Recover, Run, Scope, Settings, SizeBudget, SizeReport, prune_to_size, write_json};
use serde::Serialize;

use crate::arguments::{PruneArgs, Shared};
use crate::failure::{Failure, Result};
use crate::files::{checking_runtimes, load_model, shapes};
use crate::numbers::{operations, percent, thousands};
use crate::output;

#[derive(Serialize)]
struct Body<'a> {
    directory: &'a Path,
    model: PathBuf,
    report: &'a SizeReport,
}

/// Prunes to a size.
///
/// # Errors
/// As [`secateur::prune_to_size`]; flags that ask for training, or lie outside their range.
pub fn run(a: &PruneArgs, budget: SizeBudget, shared: &Shared) -> Result<()> {
    if a.job.tuning.epochs > 0.0 {
        return Err(Failure::Usage(
            "--budget-params prunes by the weights alone and trains nothing: give `--epochs 0` (`--recover lsq` still solves for \
             weights); to fine-tune, prune to a latency with --budget, or train the result with your own tools"
                .into(),
        ));
    }
    let settings = a.job.in_range(Settings::default().budget, a.job.choice.criterion)?;
    Run::must_be_free(&a.job.out)?;
    let model = load_model(&a.job.model)?;
    let runtimes = checking_runtimes(&model, &a.job.target.spec());
    let shapes = shapes(a.job.choice.measuring.latency_batch, &a.shape);
    let dense = (settings.recover != Recover::None).then(|| model.clone());
    let mut cut = prune_to_size(model, budget, &shapes, Scope::but(&a.job.choice.keep), &runtimes)?;
    if let Some(dense) = dense {
        cut.recover(&dense, &shapes, &settings)?;
    }
    let report = cut.report;
    let out = &a.job.out;
    std::fs::create_dir_all(out).map_err(|e| Failure::at(out, format!("it cannot be made: {e}")))?;
    let written = out.join("pruned.onnx");
    cut.model.save(&written)?;
    if a.write_twin {
        cut.twin.save(out.join("twin.onnx"))?;
    }
    write_json(&out.join("size.json"), &report)?;
    if shared.json {
        return output::json("prune", Body { directory: &a.job.out, model: written, report: &report });
    }
    output::say(&text(&report, &written))
}

fn text(r: &SizeReport, model: &Path) -> String {
    let share = |a: u64, b: u64| percent(a as f64 / b.max(1) as f64);
    let mut lines = vec![format!(
        "{}: {} parameters, {} of {}; {} MACs, {} of {}",
        model.display(),
        thousands(r.params_after),
        share(r.params_after, r.params_before),
        thousands(r.params_before),
        operations(r.macs_after),
        share(r.macs_after, r.macs_before),
        operations(r.macs_before)
    )];
    for a in &r.assumed {
        let dims: Vec<String> = a.shape.iter().map(ToString::to_string).collect();
        lines.push(format!("the file leaves the size of `{0}` open; taken here: --shape {0}={1}", a.input, dims.join(",")));
    }
    let checks = r.checks.iter().map(|c| c.relative_difference).fold(0.0, f64::max);
    let runtime = r.checks.first().map_or("", |c| c.runtime.as_str());
    lines.push(format!("computes what the network computes with these channels silenced: relative difference {checks:.1e} in {runtime}"));
    for g in &r.groups {
        for reason in &g.approximations {
            lines.push(format!("  but for an approximation in {}: {reason}", g.name));
        }
    }
    let rows: Vec<Vec<String>> = r
        .groups
        .iter()
        .map(|g| {
            let what = match &g.frozen {
                Some(reason) => reason.clone(),
                None if g.kept == g.channels => "all stay".into(),
                None => String::new(),
            };
            vec![g.name.clone(), g.channels.to_string(), g.kept.to_string(), what]
        })
        .collect();
    lines.push(String::new());
    lines.push(output::table(&["group", "channels", "kept", ""], &rows, &[3]));
    lines.push(String::new());
    lines.extend(r.drawn.clone());
    for step in &r.recovery {
        let taken = if step.taken { ", taken" } else { "" };
        lines.push(format!("held-out {} {:.2} %: {}{taken}", step.score.figure.name(), step.score.percent, step.what));
    }
    if r.recovery.is_empty() {
        lines.push("the weights are as they were: recover it (--recover lsq), train it, or judge it as it is".into());
    }
    lines.join("\n")
}
