//! Parameters as the cost of the joint problem: every parameter tensor is a layer.

use std::collections::BTreeMap;

use graph::{Decision, Group, GroupId, Groups, Layer, NodeId};

use crate::analysis::Analysis;
use crate::choice::{Space, Values, Widths, joint_problem};
use crate::cost::LayerCosts;
use crate::error::{Error, Result};
use crate::saliency::{Criterion, Saliency, Sources};

/// Elements of the parameter tensors of a network, running statistics of normalisations not counted.
pub(super) fn parameters(a: &Analysis) -> u64 {
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
pub(super) fn choose(a: &Analysis, allowed: u64) -> Result<Decision> {
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
    let (mut counts, spent) = loop {
        let choice = match search::joint::solve(&problem, inner, &limits) {
            Ok(s) => s.choice,
            Err(search::Error::Infeasible { floor: least }) => return Err(floor(least)),
            Err(search::Error::Undecided { found, lower }) => {
                return Err(floor(if found.is_finite() { found } else { lower.max(inner) }));
            }
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
    fill(a, &widths, &layers, &costs, &mut counts, allowed as f64 - spent, &loss);
    let keep = counts.iter().filter(|(g, c)| **c < a.groups.group(**g).size).map(|(&g, &c)| (g, saliency.best(g, c))).collect();
    Ok(Decision { keep, ..Decision::default() })
}

/// Chunks are coarse: what is `left` of the budget brings back the channels that save most `loss` per parameter.
fn fill(
    a: &Analysis,
    widths: &Widths,
    layers: &[Layer],
    costs: &Elements,
    counts: &mut BTreeMap<GroupId, usize>,
    mut left: f64,
    loss: &dyn Fn(GroupId, usize) -> f64,
) {
    let touching = |g: GroupId| -> Vec<usize> {
        let touches = |l: &Layer| l.inputs.iter().chain(&l.outputs).any(|(x, _)| *x == g);
        (0..layers.len()).filter(|&l| touches(&layers[l])).collect()
    };
    let touching: BTreeMap<GroupId, Vec<usize>> = counts.keys().map(|&g| (g, touching(g))).collect();
    loop {
        let grown = |g: GroupId| {
            let of = |l: &usize, extra: usize| {
                let (i, o) = widths.of(*l, &|x| counts.get(&x).map(|&c| c + usize::from(x == g) * extra));
                costs.cost(*l, i, o)
            };
            touching[&g].iter().map(|l| of(l, 1) - of(l, 0)).sum::<f64>()
        };
        let open = counts.iter().filter(|(g, c)| **c < a.groups.group(**g).size);
        let best = open
            .map(|(&g, &c)| {
                let (more, gain) = (grown(g), loss(g, c) - loss(g, c + 1));
                (gain / more.max(1.0), more, g)
            })
            .filter(|(_, more, _)| *more <= left)
            .max_by(|x, y| x.0.total_cmp(&y.0).then(y.2.cmp(&x.2)));
        let Some((_, more, group)) = best else { break };
        left -= more;
        counts.entry(group).and_modify(|c| *c += 1);
    }
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
