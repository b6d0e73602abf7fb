//! What a job of schemes came to: the plan, the report, and a page for people.

use graph::scheme::{Regularity, Scheme};
use serde::{Deserialize, Serialize};

use super::job::SchemeJob;
use crate::bench::Relative;
use crate::budget::format_seconds;
use crate::error::{Error, Result};
use crate::evaluator::Figure;
use crate::settings::{SchemeTraining, Settings};
use crate::verify::TwinCheck;

/// Version of the form of the plan and the report.
pub const SCHEME_REPORT_VERSION: u32 = 1;

/// A layer and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeRow {
    /// Name of the layer.
    pub name: String,
    /// Its weight tensor.
    pub tensor: String,
    /// Which weights were removed together.
    pub regularity: Regularity,
    /// Rate asked for; with a reweighted training, the rate that fell out.
    pub rate: f64,
    /// Weights of the layer.
    pub weights: usize,
    /// Those that stay.
    pub kept: usize,
    /// Why it stays dense where the default is not.
    pub dense_because: Option<String>,
}

impl SchemeRow {
    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        Scheme { regularity: self.regularity, rate: self.rate }
    }
}

/// A group whose channels came into another order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReorderedRow {
    /// Name of the group.
    pub group: String,
    /// Channel `order[k]` of the dense network is channel `k` of the pruned one.
    pub order: Vec<usize>,
    /// Mean share of the squared norm of its layers that projection keeps, before and after.
    pub kept: (f64, f64),
}

/// What was decided, for people and programs: which layer got which scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemePlan {
    /// Form of this file.
    pub version: u32,
    /// Path of the dense network's file, as it was given.
    pub model: String,
    /// BLAKE3 of its bytes.
    pub model_hash: String,
    /// How the weights got there.
    pub training: SchemeTraining,
    /// Seed.
    pub seed: u64,
    /// All layers with a weight, in the network's order.
    pub schemes: Vec<SchemeRow>,
    /// Groups whose channels were reordered first.
    pub reordered: Vec<ReorderedRow>,
}

/// The pruned network on the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeLatency {
    /// Runtime with version and options.
    pub runtime: String,
    /// Where it was measured.
    pub machine: String,
    /// The dense network, seconds.
    pub dense_s: f64,
    /// Budget, seconds.
    pub budget_s: f64,
    /// Measured against the dense network.
    pub relative: Relative,
    /// The pruned network, seconds.
    pub pruned_s: f64,
}

impl SchemeLatency {
    /// The pruned network takes no longer than the budget.
    pub fn met(&self) -> bool {
        self.pruned_s <= self.budget_s
    }
}

/// The result of a job of schemes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeReport {
    /// Form of this file.
    pub version: u32,
    /// What was asked.
    pub settings: Settings,
    /// What was asked of schemes.
    pub job: SchemeJob,
    /// All layers with a weight.
    pub layers: Vec<SchemeRow>,
    /// Groups whose channels were reordered first.
    pub reordered: Vec<ReorderedRow>,
    /// λ of the penalty, where there was one.
    pub penalty: Option<f64>,
    /// Accuracy of the dense network on the test split, percent.
    pub dense_accuracy: Option<f64>,
    /// Accuracy of the pruned network on the test split, percent.
    pub pruned_accuracy: Option<f64>,
    /// Without labels: agreement of the pruned network with the dense one on the test split, percent.
    pub pruned_agreement: Option<f64>,
    /// What the held-out numbers are.
    pub figure: Figure,
    /// Held-out figure right after the removal, BatchNorm re-estimated, percent.
    pub holdout_before: Option<f64>,
    /// Held-out figure in the end, percent.
    pub holdout_after: Option<f64>,
    /// Agreement with the network of masked weights, and of the reordered network with the dense one.
    pub twin_checks: Vec<TwinCheck>,
    /// Where there was a budget.
    pub latency: Option<SchemeLatency>,
    /// Seconds per finished step of the journal, of those that are timed.
    pub seconds: Vec<(String, f64)>,
}

impl SchemeReport {
    /// Weights of all layers, and those of them that stay.
    pub fn totals(&self) -> (usize, usize) {
        self.layers.iter().fold((0, 0), |(all, kept), l| (all + l.weights, kept + l.kept))
    }

    /// The page.
    ///
    /// # Errors
    /// A defect of the template.
    pub fn html(&self) -> Result<String> {
        let mut env = minijinja::Environment::new();
        env.add_filter("ms", |s: f64| format_seconds((s * 1e9).round() / 1e9));
        let broken = |e: minijinja::Error| Error::Setting(format!("the report's template is broken: {e:#}"));
        env.add_template("schemes.html", include_str!("schemes.html")).map_err(broken)?;
        let page = env.get_template("schemes.html").map_err(broken)?;
        let (all, kept) = self.totals();
        page.render(minijinja::context! { figure => self.figure.name(), r => minijinja::value::Serde(self), all => all, kept => kept })
            .map_err(broken)
    }
}
