//! Everything `inspect` tells, as one value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use graph::ops::Op;
use graph::{Attention, Group, NodeId, Role};
use secateur::{Analysis, dense_layer};
use serde::Serialize;

use super::kind;

/// A network as `inspect` sees it.
#[derive(Debug, Serialize)]
pub struct Survey {
    pub model: PathBuf,
    pub opset: i64,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Shapes taken for inputs of which the file leaves the size open.
    pub assumed: Vec<graph::AssumedShape>,
    /// Share of the layers' weights that can be removed.
    pub prunable_params: f64,
    /// Share of the weights of Conv, Gemm and MatMul alone that can be removed.
    pub prunable_conv_gemm_matmul: f64,
    /// Share of the layers' multiply-accumulates that can be removed.
    pub prunable_macs: f64,
    pub nodes: usize,
    pub params: u64,
    pub macs: u64,
    pub bytes: u64,
    pub layers: Vec<LayerRow>,
    pub groups: Vec<GroupRow>,
    pub branches: Vec<BranchRow>,
    pub attentions: Vec<AttentionRow>,
    /// Operators without a rule, by name, with how many nodes they are.
    pub opaque: BTreeMap<String, usize>,
    /// Schemes that the file says its layers have.
    pub schemes: Vec<SchemeRow>,
}

/// A layer with removed weights.
#[derive(Debug, Serialize)]
pub struct SchemeRow {
    pub layer: String,
    pub scheme: graph::scheme::Scheme,
    pub weights: usize,
    /// Those that are not zero.
    pub kept: usize,
    /// Where the weight does not have the scheme.
    pub broken: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Port {
    pub name: String,
    pub shape: Option<Vec<usize>>,
}

/// A layer with a weight.
#[derive(Debug, Serialize)]
pub struct LayerRow {
    pub name: String,
    pub kind: String,
    pub input_width: usize,
    pub output_width: usize,
    pub params: u64,
    pub macs: u64,
}

/// Channels that can only be removed together, layer by layer.
#[derive(Debug, Serialize)]
pub struct GroupRow {
    pub name: String,
    pub channels: usize,
    /// Fewest channels that may stay.
    pub min_keep: usize,
    /// Names of the layers whose outputs these channels are.
    pub written_by: Vec<String>,
    /// Names of the layers that read them.
    pub read_by: Vec<String>,
    /// What holds the channels together, or goes with them.
    pub constraints: Vec<String>,
    pub frozen: Option<FrozenRow>,
}

#[derive(Debug, Serialize, Clone, PartialEq, Eq)]
pub struct FrozenRow {
    pub reason: String,
    pub at: String,
}

/// A residual branch that can be left out.
#[derive(Debug, Serialize)]
pub struct BranchRow {
    pub name: String,
    pub layers: Vec<String>,
    pub params: u64,
    pub macs: u64,
    /// Groups that go with it.
    pub groups: Vec<String>,
}

/// An attention in matrix products.
#[derive(Debug, Serialize)]
pub struct AttentionRow {
    /// The product of its queries and keys.
    pub name: String,
    pub heads: usize,
    /// Width of a head's queries and keys.
    pub query_width: usize,
    /// Width of a head's values.
    pub value_width: usize,
    pub macs: u64,
}

impl Survey {
    /// Surveys `a`, read from `path`.
    pub fn of(a: &Analysis, path: &Path, opset: i64) -> Self {
        let costs = a.costs();
        let coverage = graph::coverage(&a.graph, &a.facts, &a.groups);
        let port = |v: &graph::ValueId| Port { name: a.graph.value(*v).name.clone(), shape: a.facts.shape(*v).map(<[usize]>::to_vec) };
        let layers: Vec<(NodeId, LayerRow)> = a.layers.iter().map(|l| (l.node, layer(a, &costs, l.node))).collect();
        let by_node: BTreeMap<NodeId, &LayerRow> = layers.iter().map(|(n, r)| (*n, r)).collect();
        let branches = a.groups.branches.iter().map(|b| {
            let inside: Vec<&LayerRow> = b.nodes.iter().filter_map(|n| by_node.get(n).copied()).collect();
            BranchRow {
                name: b.name.clone(),
                layers: inside.iter().map(|l| l.name.clone()).collect(),
                params: inside.iter().map(|l| l.params).sum(),
                macs: inside.iter().map(|l| l.macs).sum(),
                groups: b.inner.iter().map(|g| a.groups.group(*g).name.clone()).collect(),
            }
        });
        let branches = branches.collect();
        let mut opaque = BTreeMap::new();
        for node in &a.graph.nodes {
            if let Op::Opaque(name) = &node.op {
                *opaque.entry(name.clone()).or_default() += 1;
            }
        }
        Self {
            model: path.to_owned(),
            opset,
            inputs: a.graph.inputs.iter().map(port).collect(),
            outputs: a.graph.outputs.iter().map(port).collect(),
            assumed: Vec::new(),
            prunable_params: coverage.params_share(),
            prunable_conv_gemm_matmul: coverage.plain_share(),
            prunable_macs: coverage.macs_share(),
            nodes: a.graph.nodes.len(),
            params: costs.params,
            macs: costs.macs,
            bytes: std::fs::metadata(path).map_or(0, |m| m.len()),
            groups: a.groups.groups.iter().map(|g| group(a, g)).collect(),
            branches,
            attentions: Attention::find(&a.graph, &a.facts).iter().map(|f| attention(a, f)).collect(),
            opaque,
            schemes: Vec::new(),
            layers: layers.into_iter().map(|(_, r)| r).collect(),
        }
    }
}

fn attention(a: &Analysis, f: &Attention) -> AttentionRow {
    let name = a.graph.node(f.scores).name.clone();
    AttentionRow { name, heads: f.heads, query_width: f.query_width, value_width: f.value_width, macs: f.macs() }
}

fn layer(a: &Analysis, costs: &graph::Costs, id: NodeId) -> LayerRow {
    let node = a.graph.node(id);
    let (input_width, output_width, _) = dense_layer(&a.graph, &a.facts, id);
    let own = costs.per_node.get(id.index()).copied().unwrap_or_default();
    LayerRow { name: node.name.clone(), kind: kind(a, node), input_width, output_width, params: own.params, macs: own.macs }
}

fn group(a: &Analysis, g: &Group) -> GroupRow {
    let names = |nodes: &[NodeId]| nodes.iter().map(|n| a.graph.node(*n).name.clone()).collect::<Vec<_>>();
    let mut constraints = Vec::new();
    let depthwise = g.writers.iter().filter(|n| g.readers.contains(n)).count();
    let writers = g.writers.len() - depthwise;
    if writers > 1 {
        constraints.push(format!("{writers} layers are added or joined"));
    }
    if depthwise > 0 {
        constraints.push(format!("{depthwise} depthwise"));
    }
    // More than one coordinate per channel: flattened maps, repeated or shuffled channels.
    let several: BTreeSet<usize> = g
        .members
        .iter()
        .filter(|m| m.role != Role::Carried)
        .filter_map(|m| m.coordinates.first().map(Vec::len))
        .filter(|&n| n > 1)
        .collect();
    for n in several {
        constraints.push(format!("{n} weights' places per channel"));
    }
    constraints.extend(g.approximations.iter().map(|a| format!("approximation: {}", a.reason)));
    GroupRow {
        name: g.name.clone(),
        channels: g.size,
        min_keep: g.min_keep,
        written_by: names(&g.writers),
        read_by: names(&g.readers),
        constraints,
        frozen: g.frozen.as_ref().map(|f| FrozenRow { reason: f.reason.clone(), at: f.at.clone() }),
    }
}
