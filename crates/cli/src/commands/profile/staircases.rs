//! Staircases as tables: every edge with its interval.

use latency::staircase::{Kept, Kind};
use secateur::Staircases;

use crate::numbers::{milliseconds, percent};
use crate::output;

/// Two tables, of the layers and of the groups, and what was spent.
pub fn text(found: &Staircases) -> String {
    let mut layers = Vec::new();
    for c in &found.curves {
        let (s, [_, (i, o)]) = (&c.staircase, c.widths);
        let head = [c.layer.clone(), c.side.to_string(), format!("{i}→{o}"), format!("{} of {}", s.probes, s.channels), slopes(&s.edges)];
        let model = c.fit.map_or("–".into(), |m| format!("{} ±{}", m.tile, percent(m.residual)));
        layers.extend(rows(&head, &s.edges, Some(model)));
    }
    let mut groups = Vec::new();
    for g in &found.groups {
        let head = [g.name.clone(), g.curves.len().to_string(), g.size.to_string(), slopes(&g.edges)];
        groups.extend(rows(&head, &g.edges, None));
    }
    let edge = ["edge at", "ms", "95 % interval", "beyond it", ""];
    let heading = |own: &[&'static str]| own.iter().chain(&edge).copied().collect::<Vec<_>>();
    let mut layer_heading = heading(&["layers like", "side", "widths", "probes", "kept on slopes"]);
    layer_heading.push("tile");
    let group_heading = heading(&["group of", "layers", "channels", "kept on slopes"]);
    format!(
        "\nstaircases of the layers, other side full\n{}\n\nstaircases of the groups, sums over their layers\n{}\n\n\
         {} probes where an exhaustive sweep takes {} ({}), {} of them found; intervals ±{}, differences count from {}",
        output::table(&layer_heading, &layers, &[1, 9]),
        output::table(&group_heading, &groups, &[8]),
        found.probes,
        found.exhaustive,
        percent(found.probes as f64 / found.exhaustive.max(1) as f64),
        found.cached,
        percent(found.noise),
        percent(found.delta)
    )
}

/// One row per edge (the full width at least); what they have in common in the first.
fn rows(head: &[String], edges: &[Kept], model: Option<String>) -> Vec<Vec<String>> {
    let shown = edges.iter().filter(|e| e.kind != Kind::Slope);
    let row = |(k, e): (usize, &Kept)| {
        let mut cells: Vec<String> = head.iter().map(|h| if k == 0 { h.clone() } else { String::new() }).collect();
        let beyond = e.rise.map_or(String::new(), |(lo, hi)| format!("{:+.1} to {:+.1} %", 100.0 * (lo - 1.0), 100.0 * (hi - 1.0)));
        let interval = format!("[{}, {}]", milliseconds(e.ci.0), milliseconds(e.ci.1));
        let verdict = if e.certain { "" } else { "undecided" };
        cells.extend([e.width.to_string(), milliseconds(e.latency_s), interval, beyond, verdict.into()]);
        cells.extend(model.iter().map(|m| if k == 0 { m.clone() } else { String::new() }));
        cells
    };
    shown.enumerate().map(row).collect()
}

fn slopes(edges: &[Kept]) -> String {
    match edges.iter().filter(|e| e.kind == Kind::Slope).count() {
        0 => String::new(),
        n => n.to_string(),
    }
}
