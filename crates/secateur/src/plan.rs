//! What was decided, in the dense network's own terms, with everything needed to do it again.

use std::path::Path;

use graph::{Decision, InputShapes, Model, NamedDecision};
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::bench::Relative;
use crate::error::{Error, Result};
use crate::settings::{Method, Solver};

/// Version of the plan's form.
pub const PLAN_VERSION: u32 = 1;

/// Decisions made one after another, each in terms of the network the one before left.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Cut {
    /// In order.
    pub steps: Vec<NamedDecision>,
}

impl Cut {
    /// Applies the decisions to `model`.
    ///
    /// # Errors
    /// A decision names what the model does not have.
    pub fn apply(&self, model: Model, shapes: &InputShapes) -> Result<Model> {
        self.apply_each(model, shapes, &mut |_, _, _| Ok(()))
    }

    /// As [`Cut::apply`]; `seen` is shown the network before each step, the decision, and the network after it.
    ///
    /// # Errors
    /// As [`Cut::apply`]; those of `seen`.
    pub(crate) fn apply_each(
        &self,
        model: Model,
        shapes: &InputShapes,
        seen: &mut dyn FnMut(&Analysis, &Decision, &Model) -> Result<()>,
    ) -> Result<Model> {
        let mut analysis = Analysis::new(model, shapes)?;
        for step in &self.steps {
            analysis = analysis.with_slabs(step.slabs)?;
            let decision = Decision::from_named(step, &analysis.groups, &analysis.graph)?;
            let smaller = analysis.apply(&decision)?;
            seen(&analysis, &decision, &smaller)?;
            analysis = Analysis::new(smaller, shapes)?;
        }
        Ok(analysis.model)
    }
}

/// A plan: the decision, where it comes from, and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Form of this file.
    pub version: u32,
    /// Name of the dense network's file.
    pub model: String,
    /// BLAKE3 of its bytes.
    pub model_hash: String,
    /// Method and solver.
    pub method: Method,
    /// Solver.
    pub solver: Solver,
    /// Seed.
    pub seed: u64,
    /// Target and runtime.
    pub target: String,
    /// Dense latency, seconds.
    pub dense_s: f64,
    /// Budget, seconds.
    pub budget_s: f64,
    /// Measured against the dense network.
    pub latency: Relative,
    /// What to cut.
    pub cut: Cut,
    /// Output channels of every layer, dense and kept (0: gone), for people to read.
    pub layers: Vec<LayerWidth>,
}

/// Output width of a layer before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerWidth {
    /// Node name.
    pub name: String,
    /// Output channels of the dense network.
    pub dense: usize,
    /// Output channels kept; 0 if the layer is gone.
    pub kept: usize,
}

impl LayerWidth {
    /// Compares the layers of two networks by name.
    pub fn compare(dense: &Analysis, pruned: &Analysis) -> Vec<Self> {
        let width = |a: &Analysis, l: &graph::Layer| crate::cost::dense_layer(&a.graph, &a.facts, l.node).1;
        let kept: std::collections::HashMap<&str, usize> =
            pruned.layers.iter().map(|l| (pruned.graph.node(l.node).name.as_str(), width(pruned, l))).collect();
        let row = |l: &graph::Layer| {
            let name = &dense.graph.node(l.node).name;
            Self { name: name.clone(), dense: width(dense, l), kept: kept.get(name.as_str()).copied().unwrap_or(0) }
        };
        dense.layers.iter().map(row).collect()
    }
}

/// BLAKE3 of a file, in hexadecimal.
///
/// # Errors
/// The file cannot be read.
pub fn file_hash(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| Error::File { path: path.to_owned(), cause: e.to_string() })?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}
