//! Which node of a network runs where.

use latency::{Place, Placement};

use crate::numbers::count;
use crate::output;

/// The answer in a line, and a table of all nodes that something runs.
pub fn text(placement: &Placement) -> String {
    let runs: Vec<_> = placement.nodes.iter().filter(|n| n.place != Place::Folded).collect();
    let summary = match placement.note() {
        Some(note) => note,
        None => format!("all {} run on our engine", count(runs.len(), "node")),
    };
    let rows: Vec<Vec<String>> =
        runs.iter().map(|n| vec![n.name.clone(), n.operator.clone(), n.place.to_string(), n.reason.clone().unwrap_or_default()]).collect();
    let folded = placement.nodes.len() - runs.len();
    let rest =
        if folded > 0 { format!("\n  and {} known before any input is, or read by nobody", count(folded, "node")) } else { String::new() };
    format!("{summary}\n\n{}{rest}", output::table(&["node", "operator", "runs on", "because"], &rows, &[1, 2, 3]))
}
