//! `measure`: networks against each other, interleaved.

use latency::{Comparison, Measurement, PairComparison, Protocol, Verdict};
use serde::Serialize;

use crate::arguments::{MeasureArgs, Shared};
use crate::failure::{Failure, Result};
use crate::files;
use crate::numbers::{count, milliseconds, percent};
use crate::output;

#[derive(Serialize)]
struct Body<'a> {
    target: String,
    runtime: String,
    machine: &'a latency::Machine,
    protocol: &'a Protocol,
    processes: u32,
    models: Vec<Row<'a>>,
    pairs: &'a [PairComparison],
}

#[derive(Serialize)]
struct Row<'a> {
    model: &'a str,
    median_s: f64,
    ci_s: (f64, f64),
    p10_s: f64,
    p90_s: f64,
    min_s: f64,
    samples: usize,
    resolved: bool,
    two_states: bool,
    outliers: usize,
    rounds_invalidated: usize,
    setup_s: f64,
}

/// Measures.
///
/// # Errors
/// The runtime refuses a model, or the noise leaves a comparison open.
pub fn run(a: &MeasureArgs, shared: &Shared) -> Result<()> {
    let spec = a.target.spec();
    let models = files::model_bytes(&a.models, &a.shapes)?;
    let protocol = Protocol { precision: a.precision, time_limit_s: a.time_limit, ..Protocol::confirm() };
    protocol.check().map_err(|e| Failure::Usage(e.to_string()))?;
    let runtime = latency::runtime(&spec)?;
    if !shared.quiet {
        let seconds = models.len() as f64 * a.time_limit * f64::from(a.processes);
        for model in &models {
            if let Some(note) = runtime.placement(model)?.and_then(|p| p.note()) {
                eprintln!("{}: {note}", model.name);
            }
        }
        eprintln!("measuring on {}, {} at most", runtime.identity(), crate::numbers::duration(seconds));
    }
    let Comparison { measurements, pairs } = if a.processes > 1 {
        latency::compare_in_processes(&files::worker()?, a.processes as usize, &spec, &models, &protocol)?
    } else {
        latency::compare(&*runtime, &models, &protocol)?
    };
    if shared.json {
        let rows = measurements.iter().map(row).collect();
        let machine = latency::Machine::detect();
        let (target, runtime) = (spec.to_string(), runtime.identity().to_string());
        let body = Body { target, runtime, machine: &machine, protocol: &protocol, processes: a.processes, models: rows, pairs: &pairs };
        output::json("measure", body)?;
    } else {
        output::say(&text(&measurements, &pairs))?;
        output::say(&format!("\n{}; {}", runtime.identity(), latency::Machine::detect()))?;
    }
    judge(&measurements, &pairs)
}

fn row(m: &Measurement) -> Row<'_> {
    Row {
        model: &m.model,
        median_s: m.median_s,
        ci_s: m.ci,
        p10_s: m.p10,
        p90_s: m.p90,
        min_s: m.min,
        samples: m.n,
        resolved: m.resolved,
        two_states: m.two_states,
        outliers: m.outliers,
        rounds_invalidated: m.rounds_invalidated,
        setup_s: m.setup_s,
    }
}

fn text(measurements: &[Measurement], pairs: &[PairComparison]) -> String {
    let rows: Vec<Vec<String>> = measurements
        .iter()
        .enumerate()
        .map(|(k, m)| {
            let mut cells = vec![
                m.model.clone(),
                milliseconds(m.median_s),
                format!("[{}, {}]", milliseconds(m.ci.0), milliseconds(m.ci.1)),
                milliseconds(m.min),
                m.n.to_string(),
            ];
            match k.checked_sub(1).and_then(|k| pairs.get(k)) {
                Some(p) => cells.extend([percent(p.ratio), format!("[{}, {}]", percent(p.ci.0), percent(p.ci.1)), p.verdict.to_string()]),
                None => cells.extend(["100.0 %".into(), String::new(), "reference".into()]),
            }
            cells
        })
        .collect();
    let mut out = output::table(&["model", "median ms", "95 % interval", "min", "runs", "of the first", "95 % interval", ""], &rows, &[7]);
    for m in measurements {
        if m.two_states {
            out.push_str(&format!(
                "\nnote: {} ran in two states (such as two clock frequencies); the median lies between them or in one",
                m.model
            ));
        }
        if !m.resolved {
            out.push_str(&format!("\nnote: {}: {}", m.model, unresolved(m)));
        }
    }
    out
}

/// Why a latency is not known as asked.
fn unresolved(m: &Measurement) -> String {
    if m.relative_half_width() > m.protocol.precision {
        return format!("the latency is known to ±{} only, ±{} was asked", percent(m.relative_half_width()), percent(m.protocol.precision));
    }
    format!("the machine was not steady ({} dropped), so the interval is not to be trusted", count(m.rounds_invalidated, "round"))
}

/// The comparisons must be decided; a single model's latency must be known.
fn judge(measurements: &[Measurement], pairs: &[PairComparison]) -> Result<()> {
    let open: Vec<&str> = pairs.iter().filter(|p| p.verdict == Verdict::Unresolved).map(|p| p.b.as_str()).collect();
    let remedy = "stop other work, pin the runtime to a core (--affinity), or raise --time-limit";
    if !open.is_empty() {
        return Err(Failure::Noise(format!(
            "the noise is too high to say whether {} is faster or slower than the first; {remedy}",
            open.join(", ")
        )));
    }
    match measurements {
        [only] if !only.resolved => Err(Failure::Noise(format!("the noise is too high: {}; {remedy}", unresolved(only)))),
        _ => Ok(()),
    }
}
