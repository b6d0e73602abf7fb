//! Pruning to a size: a share of the parameters, chosen by magnitude, without data and without a target.
//!
//! The same boxes as for latency: groups make the space, every parameter tensor is a "layer" whose cost is its number of
//! elements at the widths of its two pruned axes, and the joint solver chooses. The value of a group falls with the square of
//! the share of its saliency that goes, so that no group pays for all.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use graph::{AssumedShape, Decision, Group, GroupId, Groups, InputShapes, Layer, Model, NamedDecision, NodeId};
use latency::{ElementType, InputSpec, Runtime};
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::choice::{Space, Values, Widths, joint_problem};
use crate::cost::LayerCosts;
use crate::error::{Error, Result};
use crate::learning::Learning;
use crate::plan::Cut;
use crate::recovery::Recovery;
use crate::saliency::{Criterion, Saliency, Sources};
use crate::scope::Scope;
use crate::settings::Settings;
use crate::verify::{TwinCheck, compare_at};

/// Parameters that may stay: `70%` of the network's, or a number of them (`250k`, `1.5M`, `80000`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SizeBudget {
    /// Share of the dense network's parameters.
    Share(f64),
    /// Number of parameters.
    Count(u64),
}

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{text}` is not a number of parameters; write a share of the dense network's (`70%`) or a number (`250k`, `1.5M`, `80000`)")]
pub struct ParseSizeError {
    text: String,
}

impl FromStr for SizeBudget {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSizeError { text: text.to_owned() };
        let number = |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0).ok_or_else(error);
        let t = text.trim();
        if let Some(share) = t.strip_suffix('%') {
            return Ok(Self::Share(number(share)? / 100.0));
        }
        let units = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
        for (suffix, unit) in units {
            if let Some(n) = t.strip_suffix(suffix) {
                return Ok(Self::Count((number(n)? * unit).round() as u64));
            }
        }
        Ok(Self::Count(number(t)?.round() as u64))
    }
}

impl fmt::Display for SizeBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

impl TryFrom<String> for SizeBudget {
    type Error = ParseSizeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SizeBudget> for String {
    fn from(b: SizeBudget) -> Self {
        b.to_string()
    }
}

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
    let checks = verify(&dense, &decision, &twin, &smaller, shapes, &assumed, runtimes)?;
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

/// Elements of the parameter tensors of a network, running statistics of normalisations not counted.
fn parameters(a: &Analysis) -> u64 {
    graph::parameters(&a.graph, &a.facts).iter().filter_map(|&v| a.facts.get(v)).map(|f| f.len() as u64).sum()
}

/// Elements of parameter tensors, each of which is a layer of the problem.
struct Elements {
    /// Elements per pair of coordinates of the two pruned axes.
    per_pair: Vec<f64>,
    rest: f64,
}

impl LayerCosts for Elements {
    fn cost(&self, layer: usize, i: usize, o: usize) -> f64 {
        self.per_pair[layer] * (i * o) as f64
    }

    fn constant(&self) -> f64 {
        self.rest
    }
}

/// Every parameter tensor as a layer: what its widths along the (at most two) pruned axes are made of.
fn tensors(a: &Analysis) -> (Vec<Layer>, Elements) {
    let mut places: BTreeMap<(graph::ValueId, usize), Vec<(GroupId, usize)>> = BTreeMap::new();
    for g in a.groups.prunable() {
        for m in &g.members {
            places.entry((m.value, m.axis)).or_default().push((g.id, m.coordinates.first().map_or(0, Vec::len)));
        }
    }
    let (mut layers, mut per_pair, mut rest) = (Vec::new(), Vec::new(), 0.0);
    for v in graph::parameters(&a.graph, &a.facts) {
        let shape = a.facts.shape(v).unwrap_or_default();
        let count: usize = shape.iter().product();
        let axes: Vec<usize> = (0..shape.len()).filter(|&axis| places.contains_key(&(v, axis))).collect();
        let (Some(&first), true) = (axes.first(), axes.len() <= 2) else {
            // Three pruned axes do not occur in the operators there are; counted as they are, on the safe side.
            rest += count as f64;
            continue;
        };
        let side = |axis: Option<&usize>| {
            let Some(&axis) = axis else { return (Vec::new(), 1, 1) };
            let parts = places[&(v, axis)].clone();
            let covered: usize = parts.iter().map(|&(g, n)| a.groups.group(g).size * n).sum();
            (parts, shape[axis].saturating_sub(covered), shape[axis].max(1))
        };
        let (outputs, fixed_out, o) = side(Some(&first));
        let (inputs, fixed_in, i) = side(axes.get(1));
        let node = a.graph.value(v).consumers.first().map_or(NodeId(0), |c| c.0);
        layers.push(Layer { node, inputs, outputs, fixed_in, fixed_out });
        per_pair.push(count as f64 / (i * o) as f64);
    }
    (layers, Elements { per_pair, rest })
}

/// The decision that keeps most of the groups' magnitude at `allowed` parameters.
fn choose(a: &Analysis, allowed: u64) -> Result<Decision> {
    let saliency = Sources::find(&a.graph, &a.groups, Criterion::Magnitude).from_weights(&a.model, &a.groups);
    let (layers, costs) = tensors(a);
    let space = Space::new(&a.groups, 0, false);
    let kept = kept_shares(&a.groups, &saliency);
    let loss = |g: GroupId, count: usize| (1.0 - kept[&g][count]).powi(2);
    let values = Values {
        groups: space.groups.iter().map(|g| g.counts.iter().map(|&c| 1.0 - loss(g.group, c)).collect()).collect(),
        branches: Vec::new(),
    };
    let widths = Widths::new(&a.groups, &layers, &space);
    let problem = joint_problem(&space, &widths, &layers, &values, &costs);
    let limits = search::Limits { max_states: 20_000, ..search::Limits::default() };
    let floor = |cost: f64| below_floor(a, allowed, (cost + costs.constant()).round() as u64);
    let total = |counts: &BTreeMap<GroupId, usize>| {
        let of = |l: usize| {
            let (i, o) = widths.of(l, &|g| counts.get(&g).copied());
            costs.cost(l, i, o)
        };
        costs.constant() + (0..layers.len()).map(of).sum::<f64>()
    };
    let mut inner = allowed as f64 - costs.constant();
    let (mut counts, mut spent) = loop {
        let choice = match search::joint::solve(&problem, inner, &limits) {
            Ok(s) => s.choice,
            Err(search::Error::Infeasible { floor: least }) => return Err(floor(least)),
            Err(search::Error::Undecided { found, .. }) => return Err(floor(found)),
            Err(e) => return Err(e.into()),
        };
        let counts = space.kept(&choice);
        let spent = total(&counts);
        if spent <= allowed as f64 {
            break (counts, spent);
        }
        // The cost of a tensor of very many groups is a sum in the problem: what is over comes off the budget.
        inner -= (spent - allowed as f64).max(1e-3 * allowed as f64);
    };
    // Chunks are coarse: what is left of the budget brings back the channels that save most loss per parameter.
    let touching: BTreeMap<GroupId, Vec<usize>> = space
        .groups
        .iter()
        .map(|g| {
            let reads = |l: &Layer| l.inputs.iter().chain(&l.outputs).any(|(x, _)| *x == g.group);
            (g.group, (0..layers.len()).filter(|&l| reads(&layers[l])).collect())
        })
        .collect();
    loop {
        let grown = |g: GroupId, counts: &BTreeMap<GroupId, usize>| {
            let of = |l: &usize, extra: usize| {
                let (i, o) = widths.of(*l, &|x| counts.get(&x).map(|&c| c + usize::from(x == g) * extra));
                costs.cost(*l, i, o)
            };
            touching[&g].iter().map(|l| of(l, 1) - of(l, 0)).sum::<f64>()
        };
        let best = space
            .groups
            .iter()
            .filter(|g| counts[&g.group] < a.groups.group(g.group).size)
            .map(|g| {
                let (more, gain) = (grown(g.group, &counts), loss(g.group, counts[&g.group]) - loss(g.group, counts[&g.group] + 1));
                (gain / more.max(1.0), more, g.group)
            })
            .filter(|(_, more, _)| spent + more <= allowed as f64)
            .max_by(|x, y| x.0.total_cmp(&y.0).then(y.2.cmp(&x.2)));
        let Some((_, more, group)) = best else { break };
        spent += more;
        counts.entry(group).and_modify(|c| *c += 1);
    }
    let keep = counts.iter().filter(|(g, c)| **c < a.groups.group(**g).size).map(|(&g, &c)| (g, saliency.best(g, c))).collect();
    Ok(Decision { keep, ..Decision::default() })
}

/// By group, the share of its saliency that the `k` most salient channels hold; of its channels where all are 0.
fn kept_shares(groups: &Groups, saliency: &Saliency) -> BTreeMap<GroupId, Vec<f64>> {
    let free = groups.groups.iter().filter(|g| g.frozen.is_none());
    free.map(|g| {
        let sums = saliency.prefix_sums(g.id);
        let all = sums.last().copied().unwrap_or(0.0);
        let share = |k: usize| if all > 0.0 { sums[k] / all } else { k as f64 / g.size as f64 };
        (g.id, (0..=g.size).map(share).collect())
    })
    .collect()
}

fn below_floor(a: &Analysis, allowed: u64, floor: u64) -> Error {
    let line = |g: &Group| g.frozen.as_ref().map(|f| format!("  {} ({} channels): {}", g.name, g.size, f.reason));
    let reasons: Vec<String> = a.groups.groups.iter().filter_map(line).collect();
    Error::SizeBelowFloor { allowed, floor, reasons: reasons.join("\n") }
}

/// Multiply-accumulates from which on ONNX Runtime checks a network where there is one: it is much the faster.
const LONG_RUN: u64 = 2_000_000_000;

/// The masked-twin check at the shapes of the analysis, and once more at other sizes of what the file leaves open.
fn verify(
    dense: &Analysis,
    decision: &Decision,
    twin: &Model,
    smaller: &Model,
    shapes: &InputShapes,
    assumed: &[AssumedShape],
    runtimes: &[Box<dyn Runtime>],
) -> Result<Vec<TwinCheck>> {
    let mut causes = Vec::new();
    let mut order: Vec<&Box<dyn Runtime>> = runtimes.iter().collect();
    if dense.costs().macs > LONG_RUN {
        order.sort_by_key(|r| r.name() != "ort");
    }
    for runtime in order {
        match compare_at(twin, smaller, &**runtime, &specs(dense)?) {
            Ok(check) => {
                let mut checks = vec![check];
                // A twin is made for the sizes of its facts.
                let other = other_sizes(dense, shapes, assumed);
                let named = decision.to_named(&dense.groups, &dense.graph);
                let again = other.and_then(|o| Decision::from_named(&named, &o.groups, &o.graph).ok().map(|d| (o, d)));
                if let Some((other, decision)) = again {
                    let inputs = specs(&other)?;
                    match compare_at(&other.masked_twin(&decision)?, smaller, &**runtime, &inputs) {
                        Ok(check) => checks.push(check),
                        Err(e @ Error::TwinMismatch { .. }) => return Err(e),
                        // The network itself may not run at these sizes.
                        Err(e) if runs(&dense.model, &**runtime, &inputs) => return Err(e),
                        Err(_) => {}
                    }
                }
                return Ok(checks);
            }
            Err(Error::Latency(e)) => causes.push(format!("  {}: {e}", runtime.name())),
            Err(e) => return Err(e),
        }
    }
    Err(Error::Unverifiable { model: dense.model.origin(), causes: causes.join("\n") })
}

fn runs(model: &Model, runtime: &dyn Runtime, inputs: &[InputSpec]) -> bool {
    model.to_bytes().is_ok_and(|b| runtime.prepare(&latency::ModelBytes::new("dense", b, inputs.to_vec())).is_ok())
}

/// The inputs at the shapes of `a`.
fn specs(a: &Analysis) -> Result<Vec<InputSpec>> {
    let spec = |&v: &graph::ValueId| {
        let name = &a.graph.value(v).name;
        let fact = a.facts.get(v).ok_or_else(|| Error::Setting(format!("the input `{name}` is no tensor of a known shape")))?;
        let dtype = ElementType::from_onnx(fact.dtype as i32)
            .ok_or_else(|| Error::Setting(format!("the input `{name}` has elements of type {}", fact.dtype.as_str_name())))?;
        Ok(InputSpec { name: name.clone(), shape: fact.shape.clone(), dtype })
    };
    a.graph.inputs.iter().map(spec).collect()
}

/// The network at another batch and larger sizes of what was assumed, where its shapes follow.
fn other_sizes(dense: &Analysis, shapes: &InputShapes, assumed: &[AssumedShape]) -> Option<Analysis> {
    let free_batch = dense.graph.inputs.iter().all(|&v| open_axis(&dense.model, &dense.graph.value(v).name, 0));
    if !free_batch && assumed.is_empty() {
        return None;
    }
    let mut other = shapes.clone();
    if free_batch && shapes.batch.is_none() {
        other.batch = Some(2);
    }
    let larger = |a: &AssumedShape| {
        let grow = |(axis, &d): (usize, &usize)| {
            let open = open_axis(&dense.model, &a.input, axis);
            // Whole multiples keep what divides the size dividing it.
            if open && axis >= 2 && a.shape.len() >= 4 { d * 2 } else { d }
        };
        (a.input.clone(), a.shape.iter().enumerate().map(grow).collect())
    };
    other.shapes.extend(assumed.iter().map(larger));
    if free_batch {
        for (_, shape) in &mut other.shapes {
            if let Some(first) = shape.first_mut() {
                *first = 2;
            }
        }
    }
    Analysis::within(dense.model.clone(), &other, dense.scope.clone()).ok()
}

fn open_axis(model: &Model, input: &str, axis: usize) -> bool {
    use graph::proto::{tensor_shape_proto::dimension::Value, type_proto};
    let declared = model.graph_proto().input.iter().find(|i| i.name() == input);
    let Some(type_proto::Value::TensorType(t)) = declared.and_then(|i| i.r#type.as_ref()).and_then(|t| t.value.as_ref()) else {
        return false;
    };
    let dim = t.shape.as_ref().and_then(|s| s.dim.get(axis));
    dim.is_some_and(|d| !matches!(&d.value, Some(Value::DimValue(n)) if *n > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_wrong_ones_explained() {
        for (text, size) in [
            ("70%", SizeBudget::Share(0.7)),
            ("250k", SizeBudget::Count(250_000)),
            ("1.5M", SizeBudget::Count(1_500_000)),
            (" 80000", SizeBudget::Count(80_000)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
            assert_eq!(size.to_string().parse(), Ok(size), "{text}");
        }
        for text in ["", "%", "-3", "0%", "many", "infk"] {
            assert!(text.parse::<SizeBudget>().expect_err(text).to_string().contains("70%"));
        }
    }
}
