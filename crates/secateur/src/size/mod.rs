//! Pruning to a size: a share of the parameters, chosen by magnitude, without data and without a target.
//!
//! The same boxes as for latency: groups make the space, every parameter tensor is a "layer" whose cost is its number of
//! elements at the widths of its two pruned axes, and the joint solver chooses. The value of a group falls with the square of
//! the share of its saliency that goes, so that no group pays for all.

mod budget;
mod problem;

use std::collections::BTreeMap;

use graph::{AssumedShape, Group, InputShapes, Model, NamedDecision};
use latency::Runtime;
use serde::{Deserialize, Serialize};

pub use budget::{ParseSizeError, SizeBudget};

use crate::analysis::Analysis;
use crate::error::{Error, Result};
use crate::learning::Learning;
use crate::plan::Cut;
use crate::recovery::Recovery;
use crate::scope::Scope;
use crate::settings::Settings;
use crate::verify::{TwinCheck, check_anywhere};
use problem::{choose, parameters};

/// What became of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOutcome {
    /// Name of the group.
    pub name: String,
    /// Its channels before.
    pub channels: usize,
    /// Those that stay.
    pub kept: usize,
    /// Why none went, where none could.
    pub frozen: Option<String>,
    /// Statistics over its channels that are now taken over those that stay.
    pub approximations: Vec<String>,
}

/// A network cut to a size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SizeReport {
    /// What was asked.
    pub budget: SizeBudget,
    /// Parameters before.
    pub params_before: u64,
    /// Parameters after.
    pub params_after: u64,
    /// Multiply-accumulates before, at the shapes of the first check.
    pub macs_before: u64,
    /// Multiply-accumulates after.
    pub macs_after: u64,
    /// Shapes taken for inputs whose size the file leaves open.
    pub assumed: Vec<AssumedShape>,
    /// Agreement with the masked twin, one entry per set of input shapes.
    pub checks: Vec<TwinCheck>,
    /// All groups.
    pub groups: Vec<GroupOutcome>,
    /// What was cut.
    pub cut: NamedDecision,
    /// What was tried to recover the network, where that was asked for.
    #[serde(default)]
    pub recovery: Vec<Recovery>,
    /// What the inputs for that were, where they were drawn for want of data.
    #[serde(default)]
    pub drawn: Option<String>,
}

/// What [`prune_to_size`] makes.
#[derive(Debug, Clone, PartialEq)]
pub struct SizeCut {
    /// The smaller network.
    pub model: Model,
    /// Its masked twin: the dense network with what was removed silenced where it is read.
    pub twin: Model,
    /// What was done.
    pub report: SizeReport,
}

impl SizeCut {
    /// Recovers the smaller network on the data of `settings`, without gradients; `dense` is what it was cut from.
    ///
    /// # Errors
    /// Data that do not fit; a network that cannot be run on them.
    pub fn recover(&mut self, dense: &Model, shapes: &InputShapes, settings: &Settings) -> Result<()> {
        let Some(data) = settings.data() else { return Ok(()) };
        let learning = Learning::open(data, settings, dense)?;
        let (cut, shapes) = (Cut { steps: vec![self.report.cut.clone()] }, at(shapes, &self.report.assumed));
        let found = learning.recover(&self.model, |dense| cut.apply(dense, &shapes), settings)?;
        self.model = found.model;
        self.report.recovery = found.steps;
        self.report.drawn = learning.drawn().map(str::to_owned);
        Ok(())
    }
}

/// Cuts `model` to `budget` within `scope`. `runtimes` are asked in order to run the masked-twin check; the first that can run
/// the network does.
///
/// # Errors
/// Operators that no runtime here knows (by name), nothing that can be removed (with the reason of every group), a budget
/// below what the groups allow or not below what the network has, a result that is not its masked twin, and no runtime that
/// runs the network.
pub fn prune_to_size(
    model: Model,
    budget: SizeBudget,
    shapes: &InputShapes,
    scope: Scope,
    runtimes: &[Box<dyn Runtime>],
) -> Result<SizeCut> {
    refuse_custom_operators(&model)?;
    let (dense, assumed) = Analysis::completed(model, shapes, scope)?;
    dense.scope.check(&dense.graph, &dense.groups)?;
    dense.need_prunable()?;
    let before = parameters(&dense);
    let allowed = match budget {
        SizeBudget::Share(s) => (s * before as f64).floor() as u64,
        SizeBudget::Count(n) => n,
    };
    if allowed >= before {
        return Err(Error::Setting(format!("the network has {before} parameters, the budget allows {allowed}: there is nothing to prune")));
    }
    let decision = choose(&dense, allowed)?;
    let smaller = dense.apply(&decision)?;
    let small = Analysis::new(smaller.clone(), &at(shapes, &assumed))?;
    let twin = dense.masked_twin(&decision)?;
    let checks = check_anywhere(&dense, &decision, &twin, &smaller, shapes, &assumed, runtimes)?;
    let outcome = |g: &Group| GroupOutcome {
        name: g.name.clone(),
        channels: g.size,
        kept: decision.width(g),
        frozen: g.frozen.as_ref().map(|f| f.reason.clone()),
        approximations: if decision.width(g) < g.size { g.approximations.iter().map(|a| a.reason.clone()).collect() } else { Vec::new() },
    };
    let report = SizeReport {
        budget,
        params_before: before,
        params_after: parameters(&small),
        macs_before: dense.costs().macs,
        macs_after: small.costs().macs,
        assumed,
        checks,
        groups: dense.groups.groups.iter().map(outcome).collect(),
        cut: decision.to_named(&dense.groups, &dense.graph),
        recovery: Vec::new(),
        drawn: None,
    };
    Ok(SizeCut { model: smaller, twin, report })
}

/// Operator sets that the runtimes of this program know; the groups that such an operator touches are frozen where this
/// program has no rule for it.
const KNOWN_DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

fn refuse_custom_operators(model: &Model) -> Result<()> {
    let proto = model.proto();
    let own = |n: &graph::proto::NodeProto| proto.functions.iter().any(|f| f.domain() == n.domain() && f.name() == n.op_type());
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut graphs: Vec<&graph::proto::GraphProto> = proto.graph.iter().collect();
    while let Some(g) = graphs.pop() {
        for n in &g.node {
            graphs.extend(n.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)));
            if !KNOWN_DOMAINS.contains(&n.domain()) && !own(n) {
                *found.entry(format!("{}:{}", n.domain(), n.op_type())).or_default() += 1;
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let operators = found.into_iter().map(|(name, n)| if n == 1 { name } else { format!("{name} ({n} times)") }).collect::<Vec<_>>();
    Err(Error::CustomOperators { model: model.origin(), operators: operators.join(", ") })
}

fn at(shapes: &InputShapes, assumed: &[AssumedShape]) -> InputShapes {
    let mut all = shapes.clone();
    all.shapes.extend(assumed.iter().map(|a| (a.input.clone(), a.shape.clone())));
    all
}
