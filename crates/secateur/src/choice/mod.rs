//! From groups, saliency and costs to a problem for the solvers, and from a solution back to a decision.
//!
//! One variable per group that can be pruned (how many of its most salient channels stay, in chunks), one per residual
//! branch that can be removed. One cost per layer, over the groups that make up its input and output widths. A branch that
//! is removed and the groups living inside it agree: their width is 0 exactly when it is gone.

mod values;

use std::collections::{BTreeMap, BTreeSet};

use graph::{BranchId, Decision, Group, GroupId, Groups, Layer};
use search::{Factor, Problem, Variable};
use serde::{Deserialize, Serialize};

pub use values::Values;

use crate::cost::LayerCosts;
use crate::saliency::Saliency;

/// Combinations beyond which a layer's cost is taken as a sum over its groups instead of exactly.
const LARGEST_FACTOR: usize = 50_000;

/// The widths a group may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOptions {
    /// The group.
    pub group: GroupId,
    /// Numbers of channels that may stay, ascending; 0 only for a group inside a removable branch.
    pub counts: Vec<usize>,
    /// The innermost removable branch it lives in.
    pub branch: Option<usize>,
}

impl GroupOptions {
    /// The least width short of removal.
    pub fn least(&self) -> usize {
        self.counts.iter().copied().find(|&c| c > 0).unwrap_or(0)
    }
}

/// Everything that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Groups that can be pruned.
    pub groups: Vec<GroupOptions>,
    /// Branches that can be removed; empty where depth is not to be touched.
    pub branches: Vec<BranchId>,
}

/// Chunk of channels that are pruned together, where the user gives none: fine for narrow layers, coarse for wide ones, a
/// multiple of 8 (the narrowest vector of the runtimes this is used with) wherever the group has that many.
pub fn default_chunk(size: usize) -> usize {
    match size {
        0..=7 => 1,
        8..=15 => 4,
        16..=64 => 8,
        _ => (size / 8).next_multiple_of(8),
    }
}

impl Space {
    /// All options of `groups`; `chunk` 0 stands for [`default_chunk`], `depth` allows branches to be removed.
    pub fn new(groups: &Groups, chunk: usize, depth: bool) -> Self {
        Self::with_counts(groups, depth, &|g| {
            let step = if chunk > 0 { chunk } else { default_chunk(g.size) };
            (1..).map(|k| k * step).take_while(|&c| c < g.size).collect()
        })
    }

    /// The widths that `counts` names for each group (and its full width), as far as the group allows them.
    pub fn with_counts(groups: &Groups, depth: bool, counts: &dyn Fn(&Group) -> Vec<usize>) -> Self {
        let branches: Vec<BranchId> = if depth { groups.branches.iter().map(|b| b.id).collect() } else { Vec::new() };
        let innermost = |g: GroupId| {
            let holding = branches.iter().enumerate().filter(|(_, b)| groups.branches[b.0 as usize].inner.contains(&g));
            holding.min_by_key(|(_, b)| groups.branches[b.0 as usize].nodes.len()).map(|(k, _)| k)
        };
        let options = groups.groups.iter().filter(|g| g.frozen.is_none()).map(|g| {
            let branch = innermost(g.id);
            let mut counts: BTreeSet<usize> = counts(g).into_iter().filter(|&c| c < g.size && c >= g.min_keep.max(1)).collect();
            counts.insert(g.size);
            if branch.is_some() {
                counts.insert(0);
            }
            GroupOptions { group: g.id, counts: counts.into_iter().collect(), branch }
        });
        Self { groups: options.collect(), branches }
    }

    fn position(&self, group: GroupId) -> Option<usize> {
        self.groups.iter().position(|g| g.group == group)
    }

    /// The decision that a choice of options stands for, keeping the most salient channels.
    pub fn decision(&self, groups: &Groups, saliency: &Saliency, choice: &[usize]) -> Decision {
        let mut decision = Decision::keep_all();
        for (b, &branch) in self.branches.iter().enumerate() {
            if choice[self.groups.len() + b] == 0 {
                decision.removed_branches.insert(branch);
            }
        }
        for (options, &k) in self.groups.iter().zip(choice) {
            let count = options.counts[k];
            let size = groups.groups[options.group.0 as usize].size;
            if count > 0 && count < size {
                decision.keep.insert(options.group, saliency.best(options.group, count));
            }
        }
        decision
    }

    /// The choice that keeps everything.
    pub fn keep_all(&self) -> Vec<usize> {
        self.groups.iter().map(|g| g.counts.len() - 1).chain(self.branches.iter().map(|_| 1)).collect()
    }

    /// Brings `choice` to the one form that stands for what it means: groups inside a removed branch have no channels, all
    /// others have some.
    pub fn canonical(&self, choice: &mut [usize]) {
        let (groups, branches) = choice.split_at_mut(self.groups.len());
        for (k, g) in groups.iter_mut().zip(&self.groups) {
            match g.branch {
                Some(b) if branches[b] == 0 => *k = 0,
                _ if g.counts[*k] == 0 => *k = 1,
                _ => {}
            }
        }
    }

    /// Channels kept per group at `choice`; 0 inside removed branches.
    pub fn kept(&self, choice: &[usize]) -> BTreeMap<GroupId, usize> {
        self.groups.iter().zip(choice).map(|(g, &k)| (g.group, g.counts[k])).collect()
    }
}

/// Widths and presence of the layers under a decision in counts.
#[derive(Debug, Clone)]
pub struct Widths<'a> {
    groups: &'a Groups,
    layers: &'a [Layer],
    /// Per layer: the removable branches (positions in the space) it lies in.
    pub inside: Vec<Vec<usize>>,
}

impl<'a> Widths<'a> {
    /// Locates `layers` in the branches of `space`.
    pub fn new(groups: &'a Groups, layers: &'a [Layer], space: &Space) -> Self {
        let holds = |b: &BranchId, l: &Layer| groups.branches[b.0 as usize].nodes.contains(&l.node);
        let inside =
            layers.iter().map(|l| space.branches.iter().enumerate().filter(|(_, b)| holds(b, l)).map(|(k, _)| k).collect()).collect();
        Self { groups, layers, inside }
    }

    /// `(input, output)` widths of layer `l` where `kept` tells the channels of a group (`None`: all).
    pub fn of(&self, l: usize, kept: &dyn Fn(GroupId) -> Option<usize>) -> (usize, usize) {
        self.layers[l].widths(|g| kept(g).unwrap_or(self.groups.group(g).size))
    }

    /// Widths of all layers under `choice`; (0, 0) for layers in removed branches.
    pub fn all(&self, space: &Space, choice: &[usize]) -> Vec<(usize, usize)> {
        let kept = space.kept(choice);
        let gone = |l: usize| self.inside[l].iter().any(|&b| choice[space.groups.len() + b] == 0);
        (0..self.layers.len()).map(|l| if gone(l) { (0, 0) } else { self.of(l, &|g| kept.get(&g).copied()) }).collect()
    }
}

/// The joint problem: every group and branch chosen at once, layer costs exact in both widths.
pub fn joint_problem(space: &Space, widths: &Widths, layers: &[Layer], values: &Values, costs: &dyn LayerCosts) -> Problem {
    let n = space.groups.len();
    let mut variables: Vec<Variable> = space
        .groups
        .iter()
        .zip(&values.groups)
        .map(|(g, v)| Variable { name: format!("group {}", g.group.0), values: v.clone() })
        .collect();
    variables.extend(
        values.branches.iter().zip(&space.branches).map(|(&v, b)| Variable { name: format!("branch {}", b.0), values: vec![0.0, v] }),
    );
    let mut factors = Vec::new();
    for (k, g) in space.groups.iter().enumerate() {
        if let Some(b) = g.branch {
            let costs = (0..g.counts.len())
                .flat_map(|c| [0, 1].map(|present| if (g.counts[c] == 0) == (present == 0) { 0.0 } else { f64::INFINITY }));
            factors.push(Factor {
                name: format!("group {} lives in branch {}", g.group.0, space.branches[b].0),
                vars: vec![k, n + b],
                costs: costs.collect(),
            });
        }
    }
    for l in 0..layers.len() {
        factors.extend(layer_factors(space, widths, layers, costs, l));
    }
    Problem { variables, factors }
}

/// The cost of one layer over the variables it depends on; several factors where one would be too large.
fn layer_factors(space: &Space, widths: &Widths, layers: &[Layer], costs: &dyn LayerCosts, l: usize) -> Vec<Factor> {
    let layer = &layers[l];
    let n = space.groups.len();
    let mut vars: Vec<usize> = layer.inputs.iter().chain(&layer.outputs).filter_map(|(g, _)| space.position(*g)).collect();
    vars.sort_unstable();
    vars.dedup();
    // A group inside a branch tells by its width 0 that the branch is gone.
    let told: BTreeSet<usize> = vars.iter().filter_map(|&v| space.groups[v].branch).collect();
    let groups = vars.len();
    vars.extend(widths.inside[l].iter().filter(|b| !told.contains(b)).map(|b| n + b));
    let sizes: Vec<usize> = vars.iter().map(|&v| if v < n { space.groups[v].counts.len() } else { 2 }).collect();
    let cost_at = |options: &[usize]| {
        let gone = vars.iter().zip(options).any(|(&v, &o)| {
            if v < n {
                space.groups[v].counts[o] == 0 && space.groups[v].branch.is_some_and(|b| widths.inside[l].contains(&b))
            } else {
                o == 0
            }
        });
        if gone {
            return 0.0;
        }
        let kept =
            |g: GroupId| vars[..groups].iter().position(|&v| space.groups[v].group == g).map(|p| space.groups[vars[p]].counts[options[p]]);
        let (i, o) = widths.of(l, &kept);
        costs.cost(l, i, o)
    };
    let combinations = sizes.iter().fold(1usize, |a, &s| a.saturating_mul(s));
    if combinations <= LARGEST_FACTOR {
        let mut table = Vec::with_capacity(combinations);
        graph::for_each_index(&sizes, |o| table.push(cost_at(o)));
        return vec![Factor { name: format!("layer {l}"), vars, costs: table }];
    }
    // Wide fan-in (DenseNet): the change from the full widths, one variable at a time. Over-estimates savings less than it
    // under-estimates them; the measured loop corrects the rest.
    let full: Vec<usize> = sizes.iter().map(|s| s - 1).collect();
    let base = cost_at(&full);
    let mut factors = vec![Factor { name: format!("layer {l} at full width"), vars: vec![], costs: vec![base] }];
    for (p, &v) in vars.iter().enumerate() {
        let change = (0..sizes[p]).map(|o| {
            let mut at = full.clone();
            at[p] = o;
            cost_at(&at) - base
        });
        factors.push(Factor { name: format!("layer {l}, variable {v}"), vars: vec![v], costs: change.collect() });
    }
    factors
}

/// Options that a neighbour may be away.
const REACH: usize = 4;

/// Choices that differ from `choice` in the width of one or two groups by a few options; removed branches stay removed and no branch goes.
pub fn neighbours(space: &Space, choice: &[usize]) -> Vec<Vec<usize>> {
    let single = |k: usize| {
        let options = &space.groups[k].counts;
        let near = choice[k].saturating_sub(REACH)..options.len().min(choice[k] + REACH + 1);
        near.filter(move |&o| o != choice[k] && (options[o] > 0) == (options[choice[k]] > 0))
    };
    let mut all = Vec::new();
    for a in 0..space.groups.len() {
        for o in single(a) {
            let mut one = choice.to_vec();
            one[a] = o;
            for b in a + 1..space.groups.len() {
                for p in single(b) {
                    let mut two = one.clone();
                    two[b] = p;
                    all.push(two);
                }
            }
            all.push(one);
        }
    }
    all
}

/// HALP's linearised problem: input widths frozen at `present`, each chunk costs the difference it makes to the layers that
/// write its group. Returns the groups for the knapsack, and the cost of what is always kept.
pub fn linearised(
    space: &Space,
    widths: &Widths,
    layers: &[Layer],
    values: &Values,
    costs: &dyn LayerCosts,
    present: &[usize],
) -> (Vec<search::knapsack::Group>, f64) {
    let now = space.kept(present);
    let writes = |l: usize, g: GroupId| layers[l].outputs.iter().any(|(x, _)| *x == g);
    let reads = |l: usize, g: GroupId| layers[l].inputs.iter().any(|(x, _)| *x == g);
    // Cost of layer l with its output groups at `outputs` and its inputs as they are; a group on both sides (depthwise)
    // shrinks on both.
    let cost_at = |l: usize, outputs: &dyn Fn(GroupId) -> usize| {
        let here = |g: GroupId| if writes(l, g) { outputs(g) } else { now.get(&g).copied().unwrap_or_else(|| widths.groups.group(g).size) };
        let (_, o) = widths.of(l, &|g| Some(here(g)));
        let (i, _) = widths.of(l, &|g| if reads(l, g) && writes(l, g) { Some(outputs(g)) } else { now.get(&g).copied() });
        costs.cost(l, i, o)
    };
    let least = |g: GroupId| space.position(g).map_or_else(|| widths.groups.group(g).size, |p| space.groups[p].least());
    let fixed: f64 = (0..layers.len()).map(|l| cost_at(l, &least)).sum();
    let full = |g: GroupId| now.get(&g).copied().unwrap_or_else(|| widths.groups.group(g).size);
    let groups = space.groups.iter().enumerate().zip(&values.groups).map(|((k, g), v)| {
        let writers: Vec<usize> = (0..layers.len()).filter(|&l| writes(l, g.group)).collect();
        // A layer that several groups write is charged to them one after the other, those before as they are, those after at
        // their least: together the chunks cost what the layer costs.
        let rank = |x: GroupId| space.position(x).unwrap_or(usize::MAX);
        let others = |x: GroupId| if rank(x) < k { full(x) } else { least(x) };
        let at = |count: usize| writers.iter().map(|&l| cost_at(l, &|x| if x == g.group { count } else { others(x) })).sum::<f64>();
        let first = g.counts.iter().position(|&c| c > 0).unwrap_or(0);
        let chunk = |c: usize| search::knapsack::Chunk { value: v[c] - v[c - 1], cost: at(g.counts[c]) - at(g.counts[c - 1]) };
        let chunks = (first + 1..g.counts.len()).map(chunk).collect();
        search::knapsack::Group { name: format!("group {}", g.group.0), min_chunks: 0, chunks }
    });
    (groups.collect(), fixed)
}

/// The choice that a linearised solution stands for.
pub fn from_prefixes(space: &Space, kept: &[usize]) -> Vec<usize> {
    let first = |g: &GroupOptions| g.counts.iter().position(|&c| c > 0).unwrap_or(0);
    space.groups.iter().zip(kept).map(|(g, &k)| first(g) + k).chain(space.branches.iter().map(|_| 1)).collect()
}
