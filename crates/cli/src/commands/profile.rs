//! `profile`: where a network's latency goes, layer by layer.

use std::path::Path;

use latency::{Placement, TableStore};
use secateur::{Budget, Criterion, LatencyTable, LayerCosts, Profile, Settings, Staircases, default_table};
use serde::Serialize;

mod staircases;

use super::placement;
use crate::arguments::{ProfileArgs, Shared};
use crate::failure::{Failure, Result};
use crate::files::{load_model, must_be_new};
use crate::numbers::{count, milliseconds, percent, seconds};
use crate::progress::Progress;
use crate::{interrupt, output};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a Path,
    target: String,
    dense_s: f64,
    predicted_s: f64,
    /// Seconds of the network that belong to no layer.
    constant_s: f64,
    families: Vec<Row>,
    calibration: &'a secateur::Calibration,
    probes: secateur::Probes,
    #[serde(skip_serializing_if = "Option::is_none")]
    staircases: Option<&'a Staircases>,
    table: std::path::PathBuf,
    /// Which node runs where.
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<&'a Placement>,
}

/// Layers that are equal but for their weights.
#[derive(Serialize)]
struct Row {
    /// The first of them.
    layer: String,
    layers: usize,
    input_width: usize,
    output_width: usize,
    /// One layer alone.
    alone_s: f64,
    /// All of them in the network, calibrated.
    in_network_s: f64,
    widths_timed: usize,
}

/// Profiles.
///
/// # Errors
/// As [`secateur::profile`].
pub fn run(a: &ProfileArgs, shared: &Shared) -> Result<()> {
    let model = load_model(&a.model)?;
    for (flag, file) in [("--export", &a.export), ("--plot", &a.plot)] {
        file.iter().try_for_each(|f| must_be_new(f, flag))?;
    }
    let path = a.table.clone().unwrap_or_else(default_table);
    if let Some(import) = &a.import {
        make_folder(&path)?;
        let added = TableStore::open(&path)?.import_json(import)?;
        if !shared.quiet {
            eprintln!("{} new from {}", count(added, "measurement"), import.display());
        }
    }
    let spec = a.target.spec();
    let settings = Settings {
        model: a.model.clone(),
        data: None,
        target: spec.to_string(),
        // Nothing is pruned: any budget that no network meets as it is will do.
        budget: Budget::Share(0.999),
        latency_batch: a.latency_batch as usize,
        criterion: Criterion::Magnitude,
        chunk: a.chunk,
        calibration_networks: a.calibration_networks,
        recipe: train::Recipe { epochs: 0.0, ..Settings::default().recipe },
        seed: a.seed,
        table: Some(path.clone()),
        ..Settings::default()
    };
    interrupt::watch()?;
    let scratch = tempfile::tempdir().map_err(|e| Failure::Other(format!("a temporary folder is needed and cannot be made: {e}")))?;
    let wanted = a.staircases || a.plot.is_some();
    // Dropped before anything is printed: a bar that still moves would be drawn over it.
    let result = secateur::profile(settings, &scratch.path().join("run"), wanted, &mut Progress::new(shared.quiet).without_outlook());
    let Profile { table, dense_s, mut staircases } = match result {
        Err(secateur::Error::Interrupted { .. }) => {
            return Err(Failure::Stopped(format!(
                "stopped; what was measured is kept in {}: the same command goes on from there",
                path.display()
            )));
        }
        other => other?,
    };
    if let Some(export) = &a.export {
        let n = TableStore::open(&path)?.export_json(export)?;
        if !shared.quiet {
            eprintln!("{} written to {}", count(n, "measurement"), export.display());
        }
    }
    if let (Some(sms), Some(found)) = (a.sms, &mut staircases) {
        found.fit_waves(sms as usize);
    }
    if let (Some(plot), Some(found)) = (&a.plot, &staircases) {
        let name = a.model.file_name().unwrap_or_default().to_string_lossy();
        let page = found.html(&name, &spec.to_string(), &latency::Machine::detect().to_string())?;
        graph::write_atomically(plot, page.as_bytes()).map_err(secateur::Error::from)?;
    }
    let placement = if a.layers {
        latency::runtime(&spec)?.placement(&secateur::model_bytes("network", &model, a.latency_batch as usize)?)?
    } else {
        None
    };
    let rows = rows(&table);
    let predicted_s = table.constant() + rows.iter().map(|r| r.in_network_s).sum::<f64>();
    if shared.json {
        let target = spec.to_string();
        let constant_s = table.constant();
        let body = Body {
            model: &a.model,
            target,
            dense_s,
            predicted_s,
            constant_s,
            families: rows,
            calibration: &table.calibration,
            probes: table.probes,
            staircases: staircases.as_ref(),
            table: path,
            placement: placement.as_ref(),
        };
        return output::json("profile", body);
    }
    output::say(&format!("{}: {} on {spec}; the table says {}", a.model.display(), seconds(dense_s), seconds(predicted_s)))?;
    output::say(&format!("\n{}", text(&rows, table.constant(), predicted_s)))?;
    output::say(&format!(
        "\ncalibrated on {}: off by {} on them (root mean square); {} made, {} found",
        count(table.calibration.points, "whole network"),
        percent(table.calibration.relative_error),
        count(table.probes.measured, "measurement"),
        table.probes.cached
    ))?;
    output::say(&format!("latency table {}", path.display()))?;
    match &placement {
        Some(p) => output::say(&format!("\n{}", placement::text(p)))?,
        None if a.layers => output::say(&format!("\n{spec} runs all nodes, or does not say otherwise"))?,
        None => {}
    }
    match &staircases {
        Some(found) => output::say(&staircases::text(found))?,
        None => output::say("which widths are worth keeping: --staircases, or --plot FILE.html")?,
    }
    match &a.plot {
        Some(plot) => output::say(&format!("\ncurves drawn in {}", plot.display())),
        None => Ok(()),
    }
}

fn make_folder(path: &Path) -> Result<()> {
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => std::fs::create_dir_all(folder).map_err(|e| Failure::at(folder, e)),
        None => Ok(()),
    }
}

fn rows(table: &LatencyTable) -> Vec<Row> {
    let row = |f: usize| {
        let family = &table.families[f];
        let members: Vec<usize> = (0..table.layer_family.len()).filter(|&l| table.layer_family[l] == f).collect();
        let (i, o) = (family.inputs.last().copied().unwrap_or(0), family.outputs.last().copied().unwrap_or(0));
        let widths_timed = if family.diagonal { family.outputs.len() } else { family.inputs.len() * family.outputs.len() };
        Row {
            layer: family.name.clone(),
            layers: members.len(),
            input_width: i,
            output_width: o,
            alone_s: members.first().map_or(0.0, |&l| table.table_s(l, i, o)),
            in_network_s: members.iter().map(|&l| table.cost(l, i, o)).sum(),
            widths_timed,
        }
    };
    (0..table.families.len()).map(row).collect()
}

fn text(rows: &[Row], constant_s: f64, total_s: f64) -> String {
    let share = |s: f64| percent(s / total_s);
    let mut cells: Vec<Vec<String>> = rows
        .iter()
        .map(|r| {
            vec![
                r.layer.clone(),
                r.layers.to_string(),
                format!("{}→{}", r.input_width, r.output_width),
                milliseconds(r.alone_s),
                milliseconds(r.in_network_s),
                share(r.in_network_s),
                r.widths_timed.to_string(),
            ]
        })
        .collect();
    let blank = String::new;
    cells.push(vec!["everything else".into(), blank(), blank(), blank(), milliseconds(constant_s), share(constant_s), blank()]);
    let layers: usize = rows.iter().map(|r| r.layers).sum();
    let widths: usize = rows.iter().map(|r| r.widths_timed).sum();
    cells.push(vec!["total".into(), layers.to_string(), blank(), blank(), milliseconds(total_s), share(total_s), widths.to_string()]);
    output::table(&["layers like", "layers", "widths", "one alone, ms", "all in the network, ms", "share", "widths timed"], &cells, &[])
}
