//! `map`: which pruning scheme suits each layer.

use std::path::{Path, PathBuf};

use secateur::MapReport;
use serde::Serialize;

use crate::arguments::{MapArgs, Shared};
use crate::failure::{Failure, Result};
use crate::numbers::{count, milliseconds, percent, seconds};
use crate::progress::Progress;
use crate::{files, interrupt, output};

#[derive(Serialize)]
struct Body<'a> {
    out: &'a Path,
    mapping: &'a MapReport,
}

/// Maps.
///
/// # Errors
/// As [`secateur::map`]; the file to write exists.
pub fn run(a: &MapArgs, shared: &Shared) -> Result<()> {
    let (settings, how) = a.settings()?;
    files::load_model(&settings.model)?;
    files::must_be_new(&a.out, "--out")?;
    let work = beside(&a.out);
    interrupt::watch()?;
    let report = match secateur::map(settings, how, &work, &mut Progress::new(shared.quiet)) {
        Ok(report) => report,
        Err(secateur::Error::Interrupted { .. }) => {
            let text = format!("stopped; what was done is kept in {}: the same command goes on from there", work.display());
            return Err(Failure::Stopped(text));
        }
        Err(e) => {
            // Another budget is another mapping, for which this one's work is in the way.
            if files::is_useless(&work, &e) || matches!(e, secateur::Error::BudgetNotReached { .. }) {
                files::forget_run(&work)?;
            }
            return Err(e.into());
        }
    };
    graph::write_atomically(&a.out, report.toml().as_bytes())?;
    files::forget_run(&work)?;
    if shared.json {
        return output::json("map", Body { out: &a.out, mapping: &report });
    }
    output::say(&text(&report, &a.out))
}

/// Where a mapping is worked on: a folder beside the file.
fn beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".work");
    out.with_file_name(name)
}

fn text(r: &MapReport, out: &Path) -> String {
    let row = |l: &secateur::MappedLayer| {
        vec![l.name.clone(), l.scheme.to_string(), milliseconds(l.dense_s), milliseconds(l.predicted_s), percent(l.energy), l.why.clone()]
    };
    let rows: Vec<Vec<String>> = r.layers.iter().map(row).collect();
    let headings = ["layer", "scheme", "dense, ms", "mapped, ms", "energy kept", "why"];
    let latency_s = r.latency.ratio * r.dense_s;
    let mut lines = vec![
        output::table(&headings, &rows, &[1, 5]),
        String::new(),
        format!(
            "{} measured, {} of dense [{}, {}]; predicted {}; {:.2}x fewer weights",
            seconds(latency_s),
            percent(r.latency.ratio),
            percent(r.latency.ci.0),
            percent(r.latency.ci.1),
            seconds(r.predicted_s),
            r.compression
        ),
    ];
    if let Some(budget_s) = r.budget_s {
        lines.push(format!("budget {}: {} of it used", seconds(budget_s), percent(latency_s / budget_s)));
    }
    if let (Some(dense), Some(score)) = (r.dense_score, r.score) {
        lines.push(format!(
            "held out {:.2} % (dense {:.2} %), loss {:.3} (dense {:.3}): cut at once, not trained; {}",
            score.percent,
            dense.percent,
            score.loss,
            dense.loss,
            count(r.scored, "candidate") + " scored"
        ));
    }
    lines.push(format!("{} on {}", r.runtime, r.machine));
    lines.push(format!("{} written; go on with `secateur prune {} --mapping {0} …`", out.display(), r.settings.model.display()));
    lines.join("\n")
}
