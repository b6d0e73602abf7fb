//! What a run came to: numbers before and after, as JSON and as one self-contained HTML page.

use serde::{Deserialize, Serialize};

use crate::bench::{Probes, Relative};
use crate::budget::format_seconds;
use crate::error::{Error, Result};
use crate::evaluator::Figure;
use crate::plan::LayerWidth;
use crate::recovery::Recovery;
use crate::rounding::Rounding;
use crate::settings::Settings;
use crate::verify::TwinCheck;

/// Version of the report's form.
pub const REPORT_VERSION: u32 = 3;

/// One network's numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which network.
    pub name: String,
    /// Latency on the target, seconds.
    pub latency_s: f64,
    /// Trainable parameters and constants of layers.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Size of the file, bytes.
    pub bytes: u64,
    /// Accuracy on the test split, in percent; `None` without labelled data.
    pub test_accuracy: Option<f64>,
    /// Agreement with the dense network on the test split, in percent; `None` with labelled data.
    pub test_agreement: Option<f64>,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Form of this file.
    pub version: u32,
    /// What was asked.
    pub settings: Settings,
    /// Where it was measured.
    pub machine: String,
    /// Runtime with version and options.
    pub runtime: String,
    /// The dense network.
    pub dense: Row,
    /// The pruned network.
    pub pruned: Row,
    /// Budget, seconds.
    pub budget_s: f64,
    /// The pruned network measured against the dense one, after fine-tuning.
    pub latency: Relative,
    /// The latency lies in `[budget·(1 − tolerance), budget]`.
    pub within_tolerance: bool,
    /// What the calibrated table predicted for it, seconds.
    pub predicted_s: f64,
    /// What right-edge rounding did.
    pub rounding: Rounding,
    /// What networks were judged by.
    pub figure: Figure,
    /// What the inputs were, where they were drawn for want of data.
    pub drawn: Option<String>,
    /// What was tried before fine-tuning, with the held-out figures.
    pub recovery: Vec<Recovery>,
    /// The figure on the held-out split after that, percent.
    pub holdout_before: Option<f64>,
    /// The figure on the held-out split after fine-tuning, percent.
    pub holdout_after: Option<f64>,
    /// Agreement of every network that was cut with its masked twin.
    pub twin_checks: Vec<TwinCheck>,
    /// Layers that are gone, with the residual branches they were in.
    pub removed_layers: Vec<String>,
    /// Output channels per layer.
    pub layers: Vec<LayerWidth>,
    /// Measurements made and found.
    pub probes: Probes,
    /// Seconds per finished step of the journal, of those that are timed.
    pub seconds: Vec<(String, f64)>,
    /// Seconds from the latency table to the decision, training on the way included; of a resumed run, those after it resumed.
    pub search_s: f64,
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// A defect of the template.
    pub fn html(&self) -> Result<String> {
        let mut env = minijinja::Environment::new();
        env.add_filter("ms", |s: f64| format_seconds((s * 1e9).round() / 1e9));
        env.add_filter("thousands", |n: u64| thousands(n));
        let broken = |e: minijinja::Error| Error::Setting(format!("the report's template is broken: {e:#}"));
        env.add_template("report.html", include_str!("report.html")).map_err(broken)?;
        let page = env.get_template("report.html").map_err(broken)?;
        page.render(minijinja::context! { figure => self.figure.name(), r => minijinja::value::Serde(self) }).map_err(broken)
    }
}

/// 1234567 as 1 234 567.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(c);
    }
    out
}
