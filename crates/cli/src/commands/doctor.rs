//! `doctor`: what this machine offers.

use std::path::Path;

use latency::{Machine, NoiseFloor, OrtRuntime, Placement, Protocol, TableStore, TargetOptions, TargetSpec};
use serde::Serialize;

use super::placement;
use crate::arguments::{DoctorArgs, Shared};
use crate::failure::{Failure, Result};
use crate::files;
use crate::numbers::{count, percent};
use crate::output;

#[derive(Serialize)]
struct Body {
    version: &'static str,
    machine: Machine,
    runtimes: Vec<Found>,
    latency_table: Table,
    noise: Noise,
    /// Which node of the network given runs where.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<Placement>,
}

#[derive(Serialize)]
struct Found {
    name: &'static str,
    available: bool,
    version: Option<String>,
    location: Option<String>,
    providers: Vec<String>,
    /// Why it is not available, and what to do.
    problem: Option<String>,
}

#[derive(Serialize)]
struct Table {
    path: std::path::PathBuf,
    measurements: Option<usize>,
}

#[derive(Serialize)]
struct Noise {
    target: String,
    tolerance: f64,
    passed: bool,
    #[serde(flatten)]
    floor: NoiseFloor,
}

/// Looks around and measures the noise floor.
///
/// # Errors
/// The machine cannot tell apart what the tolerance asks.
pub fn run(a: &DoctorArgs, shared: &Shared) -> Result<()> {
    let spec = a.target.spec();
    // One library per process: the one asked for is looked at first.
    let ort = find_ort(&spec.options);
    let runtimes = vec![embedded("engine", &TargetSpec::engine()), embedded("tract", &TargetSpec::tract()), ort];
    let runtime = latency::runtime(&spec)?;
    let model = files::model_bytes(a.model.as_slice(), &a.shapes)?.pop();
    let placement = model.as_ref().map(|m| runtime.placement(m)).transpose()?.flatten();
    if !shared.quiet {
        eprintln!("measuring a small model against itself on {spec}, {} …", count(a.trials as usize, "time"));
    }
    let protocol = Protocol { time_limit_s: 2.0, ..Protocol::default() };
    let floor = latency::self_test(&*runtime, &latency::sentinel_model(), a.trials as usize, &protocol)?;
    let allowed = floor.allows(a.tolerance);
    let path = secateur::default_table();
    let measurements = path.is_file().then(|| TableStore::open(&path).and_then(|t| t.len()).ok()).flatten();
    let body = Body {
        version: env!("CARGO_PKG_VERSION"),
        machine: Machine::detect(),
        runtimes,
        latency_table: Table { path, measurements },
        noise: Noise { target: spec.to_string(), tolerance: a.tolerance, passed: allowed.is_ok(), floor },
        placement,
    };
    if shared.json {
        output::json("doctor", &body)?
    } else {
        output::say(&text(&body, a.model.as_deref()))?
    }
    allowed.map_err(|e| Failure::Noise(e.to_string()))
}

fn embedded(name: &'static str, spec: &TargetSpec) -> Found {
    match latency::runtime(spec) {
        Ok(r) => Found {
            name,
            available: true,
            version: Some(r.identity().version),
            location: Some(match r.identity().options.get("kernels") {
                Some(kernels) => format!("built in, {kernels} kernels"),
                None => "built in".into(),
            }),
            providers: vec!["cpu".into()],
            problem: None,
        },
        Err(e) => Found { name, available: false, version: None, location: None, providers: vec![], problem: Some(e.to_string()) },
    }
}

fn find_ort(options: &TargetOptions) -> Found {
    let options = TargetOptions { library: options.library.clone(), ..TargetOptions::default() };
    match OrtRuntime::new(&options) {
        Ok(r) => Found {
            name: "ort",
            available: true,
            version: Some(latency::Runtime::identity(&r).version),
            location: Some(r.library_path().display().to_string()),
            providers: r.available_providers().iter().map(ToString::to_string).collect(),
            problem: None,
        },
        Err(e) => Found { name: "ort", available: false, version: None, location: None, providers: vec![], problem: Some(e.to_string()) },
    }
}

fn text(b: &Body, model: Option<&Path>) -> String {
    let f = &b.noise.floor;
    let mut lines = vec![
        format!(
            "differences from {} on can be told apart on {}; {} asked: {}",
            percent(f.ratio),
            b.noise.target,
            percent(b.noise.tolerance),
            if b.noise.passed { "good" } else { "too noisy" }
        ),
        format!(
            "  a small model against itself, {}: equivalent {}, called different {}",
            count(f.trials, "time"),
            percent(f.equivalent_share),
            percent(f.false_share)
        ),
        String::new(),
    ];
    let rows: Vec<Vec<String>> = b
        .runtimes
        .iter()
        .map(|r| {
            let or = |o: &Option<String>| o.clone().unwrap_or_else(|| "–".into());
            vec![r.name.into(), if r.available { or(&r.version) } else { "not found".into() }, r.providers.join(", "), or(&r.location)]
        })
        .collect();
    lines.push(output::table(&["runtime", "version", "providers", "where"], &rows, &[1, 2, 3]));
    lines.push("  command  any program that prints a latency: --target 'command:PROGRAM ARGS {model}'".into());
    for problem in b.runtimes.iter().filter_map(|r| r.problem.as_ref()) {
        lines.push(format!("\n{problem}"));
    }
    lines.push(String::new());
    lines.push(format!("machine        {}", b.machine));
    lines.push(format!("extensions     {}", b.machine.extensions.join(", ")));
    lines.push(format!("cores allowed  {} of {}", b.machine.affinity.len(), b.machine.cores));
    let held = b.latency_table.measurements.map_or_else(|| "not there yet".to_owned(), |n| count(n, "measurement"));
    lines.push(format!("latency table  {} ({held})", b.latency_table.path.display()));
    lines.push(format!("secateur       {}", b.version));
    match (model, &b.placement) {
        (Some(m), Some(p)) => lines.push(format!("\n{}: {}", m.display(), placement::text(p))),
        (Some(m), None) => lines.push(format!("\n{}: {} runs all of it, or does not say otherwise", m.display(), b.noise.target)),
        (None, _) => {}
    }
    lines.join("\n")
}
