//! `pareto`: what accuracy the network keeps at which latency.

use std::path::Path;

use serde::Serialize;

use crate::arguments::{ParetoArgs, Shared};
use crate::failure::Result;
use crate::numbers::{count, percent, seconds};
use crate::progress::Progress;
use crate::{files, interrupt, output};

#[derive(Serialize)]
struct Body<'a> {
    out: &'a Path,
    front: &'a secateur::Front,
}

/// Finds the front.
///
/// # Errors
/// As [`secateur::pareto`].
pub fn run(a: &ParetoArgs, shared: &Shared) -> Result<()> {
    let (settings, to) = a.settings()?;
    files::load_model(&settings.model)?;
    interrupt::watch()?;
    let out = &a.job.out;
    let budgets = a.budgets as usize;
    let front = files::in_run(out, || secateur::pareto(settings, to, budgets, out, &mut Progress::new(shared.quiet).without_outlook()))?;
    print("pareto", &front, out, shared)
}

/// The front that `command` found, in `out`.
///
/// # Errors
/// Standard output is closed.
pub fn print(command: &str, front: &secateur::Front, out: &Path, shared: &Shared) -> Result<()> {
    if shared.json {
        return output::json(command, Body { out, front });
    }
    let row = |p: &secateur::FrontPoint| {
        vec![
            seconds(p.latency.ratio * front.dense_s),
            percent(p.latency.ratio),
            format!("[{}, {}]", percent(p.latency.ci.0), percent(p.latency.ci.1)),
            format!("{:.2}", p.score.percent),
            format!("{:.3}", p.score.loss),
            p.plan.display().to_string(),
        ]
    };
    let mut rows: Vec<Vec<String>> = front.points.iter().map(row).collect();
    rows.push(vec![
        seconds(front.dense_s),
        percent(1.0),
        String::new(),
        format!("{:.2}", front.dense.percent),
        format!("{:.3}", front.dense.loss),
        "dense".into(),
    ]);
    let figure = format!("held-out {}", front.dense.figure.name());
    let headings = ["latency", "of dense", "95 % interval", figure.as_str(), "loss", "plan"];
    output::say(&output::table(&headings, &rows, &[5]))?;
    output::say(&format!(
        "\nnot fine-tuned; {} scored, {} measured; {} on {}\n{}, {}",
        count(front.scored, "candidate"),
        front.measured,
        front.runtime,
        front.machine,
        out.join("front.csv").display(),
        out.join("front.svg").display()
    ))
}
