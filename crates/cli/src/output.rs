//! Standard output: one JSON document with `--json`, text and tables without.

use std::io::Write;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// Version of the JSON that `--json` prints. Fields may be added within a version; none changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema_version: u32,
    command: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct ErrorBody {
    error: ErrorText,
}

#[derive(Serialize)]
struct ErrorText {
    message: String,
    exit_code: u8,
}

/// Prints the answer of `command` as JSON. `body` is a struct or map; its fields stand beside `schema_version`.
///
/// # Errors
/// Standard output is closed.
pub fn json(command: &str, body: impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(&Envelope { schema_version: SCHEMA_VERSION, command, body })
        .map_err(|e| Failure::Other(format!("the answer does not fit JSON: {e}")))?;
    say(&text)
}

/// Prints why `command` failed as JSON.
///
/// # Errors
/// Standard output is closed.
pub fn json_error(command: &str, failure: &Failure) -> Result<()> {
    json(command, ErrorBody { error: ErrorText { message: failure.message(), exit_code: failure.code() } })
}

/// Prints a line of text.
///
/// # Errors
/// Standard output is closed.
pub fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| match e.kind() {
        // `secateur inspect … | head`: the reader has seen enough.
        std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        _ => Failure::Other(format!("standard output: {e}")),
    })
}

/// A plain table: headings, rows, numbers to the right. The first column is text; `text` names further text columns.
pub fn table(headings: &[&str], rows: &[Vec<String>], text: &[usize]) -> String {
    let mut t = Table::new();
    t.load_style(presets::NOTHING);
    t.set_header(headings.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    for row in rows {
        t.add_row(row.clone());
    }
    for (i, column) in t.column_iter_mut().enumerate() {
        column.set_padding((if i == 0 { 2 } else { 1 }, 1));
        column.set_cell_alignment(if i == 0 || text.contains(&i) { CellAlignment::Left } else { CellAlignment::Right });
    }
    t.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
