//! The before/after table of a run.

use std::path::Path;

use secateur::{Figure, Relative, Report};
use serde::Serialize;

use crate::arguments::Shared;
use crate::failure::{Failure, Result};
use crate::numbers::{count, duration, operations, percent, seconds, thousands};
use crate::output;

#[derive(Serialize)]
struct Body<'a> {
    directory: &'a Path,
    model: std::path::PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    dense: Option<&'a Path>,
    report: &'a Report,
}

/// Prints what a run came to, and judges it.
///
/// # Errors
/// The pruned network is slower than the budget.
pub fn print(command: &str, report: &Report, directory: &Path, dense: Option<&Path>, shared: &Shared) -> Result<()> {
    let model = directory.join("pruned.onnx");
    if shared.json {
        output::json(command, Body { directory, model, dense, report })?;
    } else {
        output::say(&text(report, directory))?;
    }
    let latency_s = report.pruned.latency_s;
    if latency_s > report.budget_s {
        return Err(Failure::Budget(format!(
            "the pruned network takes {}, {}; it was written all the same. \
             Compare it with `secateur measure`; on a quieter machine, or with a little less --budget, run it again",
            seconds(latency_s),
            over_budget(latency_s, &report.latency, report.budget_s)
        )));
    }
    Ok(())
}

/// By how much a latency is over its budget, and whether the measurement can tell.
pub fn over_budget(latency_s: f64, measured: &Relative, budget_s: f64) -> String {
    let over = 100.0 * (latency_s / budget_s - 1.0);
    let least_s = latency_s * measured.ci.0 / measured.ratio;
    let noise = if least_s <= budget_s { ", which the measurement cannot tell from the budget" } else { "" };
    format!("{over:.2} % over the budget {}{noise}", seconds(budget_s))
}

fn text(r: &Report, directory: &Path) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |a| format!("{a:.2} %"));
    let figure = r.figure.name();
    let mut lines = Vec::new();
    let mut answer = format!(
        "{}: {}, {} of the dense network's {}",
        directory.join("pruned.onnx").display(),
        seconds(r.pruned.latency_s),
        percent(r.latency.ratio),
        seconds(r.dense.latency_s)
    );
    if let (Some(dense), Some(pruned)) = (r.dense.test_accuracy, r.pruned.test_accuracy) {
        answer.push_str(&format!("; test accuracy {pruned:.2} % (dense {dense:.2} %)"));
    }
    if let Some(agreement) = r.pruned.test_agreement {
        let inputs = if r.drawn.is_some() { "drawn inputs" } else { "test inputs" };
        answer.push_str(&format!("; {figure} on {inputs} {agreement:.2} %"));
    }
    lines.push(answer);
    lines.push(String::new());
    let share = |a: u64, b: u64| if b == 0 { "–".to_owned() } else { percent(a as f64 / b as f64) };
    let (d, p) = (&r.dense, &r.pruned);
    let change = match (d.test_accuracy, p.test_accuracy) {
        (Some(a), Some(b)) => format!("{:+.2}", b - a),
        _ => "–".into(),
    };
    let rows = [
        ["latency".into(), seconds(d.latency_s), seconds(p.latency_s), percent(r.latency.ratio)],
        match r.figure {
            Figure::Accuracy => ["test accuracy".into(), shown(d.test_accuracy), shown(p.test_accuracy), change],
            Figure::Agreement => [figure.into(), String::new(), shown(p.test_agreement), String::new()],
        },
        ["parameters".into(), thousands(d.params), thousands(p.params), share(p.params, d.params)],
        ["multiply-accumulates".into(), operations(d.macs), operations(p.macs), share(p.macs, d.macs)],
        ["file size, bytes".into(), thousands(d.bytes), thousands(p.bytes), share(p.bytes, d.bytes)],
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    lines.push(output::table(&["", "dense", "pruned", "pruned / dense"], &rows, &[]));
    lines.push(String::new());
    let verdict = if r.within_tolerance {
        format!("met within {}", percent(r.settings.tolerance))
    } else if p.latency_s <= r.budget_s {
        format!("met, but more than {} below it: the latency steps are coarser than the tolerance", percent(r.settings.tolerance))
    } else {
        "not met".into()
    };
    lines.push(format!(
        "budget {}: {verdict} (ratio {} to {} at 95 %)",
        seconds(r.budget_s),
        percent(r.latency.ci.0),
        percent(r.latency.ci.1)
    ));
    lines.push(format!("target {} on {}", r.runtime, r.machine));
    let kept = r.layers.iter().filter(|l| l.kept == l.dense).count();
    let gone = r.layers.iter().filter(|l| l.kept == 0).count();
    let total = r.layers.len();
    lines.push(format!("layers {}: {kept} as they were, {} narrower, {gone} removed", total, total - kept - gone));
    if !r.rounding.widened.is_empty() {
        let added: usize = r.rounding.widened.iter().map(|w| w.to - w.from).sum();
        let (before, after) = (percent(r.rounding.before.ratio), percent(r.rounding.after.ratio));
        let groups = count(r.rounding.widened.len(), "group");
        lines.push(format!("right edges: {} more in {groups}, from {before} of the dense latency to {after}", count(added, "channel")));
    }
    lines.extend(r.drawn.clone());
    for step in &r.recovery {
        let taken = if step.taken { ", taken" } else { "" };
        lines.push(format!("held-out {figure} {:.2} %: {}{taken}", step.score.percent, step.what));
    }
    if let Some(after) = r.holdout_after.filter(|_| r.settings.recipe.epochs > 0.0) {
        lines.push(format!("held-out {figure} {after:.2} %: after fine-tuning"));
    }
    let spent: f64 = r.seconds.iter().map(|s| s.1).sum();
    lines.push(format!(
        "{} made, {} found in the table; {} of recorded work",
        count(r.probes.measured, "measurement"),
        r.probes.cached,
        duration(spent)
    ));
    lines.push(format!("report {}", directory.join("report.html").display()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use secateur::Relative;

    #[test]
    fn what_the_measurement_cannot_tell_from_the_budget_is_said() {
        let measured = |low| Relative { ratio: 0.7001, ci: (low, 0.708), median_s: 7.0e-4, dense_s: 1e-3, rounds: 500 };
        let told = |low| super::over_budget(7.001e-4, &measured(low), 7e-4);
        assert_eq!(told(0.696), "0.01 % over the budget 700.0 µs, which the measurement cannot tell from the budget");
        assert_eq!(told(0.70005), "0.01 % over the budget 700.0 µs");
    }
}
