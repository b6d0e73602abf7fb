//! What a layer costs at given widths: multiply-accumulates, or latency on the target.

mod calibration;
mod schemes;
mod table;

pub use calibration::{Calibration, Features};
pub use schemes::{LARGEST_RATE, SchemeCurve, SchemeFamily, SchemeTable};
pub(crate) use schemes::{prune_tensor, weight as scheme_weight};
pub(crate) use table::first_of_family;
pub use table::{Family, LatencyTable, Measure, WidthRange};

use std::collections::HashMap;

use graph::{Facts, Graph, Grouping, Layer, NodeId, ops::Op};

use crate::analysis::Analysis;
use crate::choice::{Space, Widths};

/// Cost of the layers of a network as a function of their widths.
pub trait LayerCosts {
    /// Cost of layer `layer` (index into `Groups::layers`) with `i` input and `o` output coordinates. 0 for a width of 0.
    fn cost(&self, layer: usize, i: usize, o: usize) -> f64;

    /// Cost of what is not in the layers.
    fn constant(&self) -> f64 {
        0.0
    }
}

/// Multiply-accumulates.
#[derive(Debug, Clone, PartialEq)]
pub struct Macs {
    /// Per layer: multiply-accumulates per pair of input and output coordinate, or per output coordinate where it has whole
    /// partitions.
    each: Vec<f64>,
    /// Per layer: input and output go together by whole partitions.
    by_partition: Vec<bool>,
}

impl Macs {
    /// Counts `layers` of `graph`.
    pub fn new(graph: &Graph, facts: &Facts, layers: &[Layer]) -> Self {
        let (mut each, mut by_partition) = (Vec::new(), Vec::new());
        for layer in layers {
            let (i, o, macs) = dense_layer(graph, facts, layer.node);
            let whole = matches!(graph::grouping(graph, facts, layer.node), Some(Grouping::Partitions { .. }));
            by_partition.push(whole);
            each.push(macs / if whole { o as f64 } else { (i * o) as f64 }.max(1.0));
        }
        Self { each, by_partition }
    }

    /// Multiply-accumulates of all layers of a network as it is.
    pub fn total(analysis: &Analysis) -> f64 {
        analysis.priced.iter().map(|l| dense_layer(&analysis.graph, &analysis.facts, l.node).2).sum()
    }
}

impl LayerCosts for Macs {
    fn cost(&self, layer: usize, i: usize, o: usize) -> f64 {
        let count = if self.by_partition[layer] && i > 0 { o } else { i * o };
        self.each[layer] * count as f64
    }
}

/// The dense network's latency table seen from a stage of it: layers are found again by their nodes' names.
#[derive(Debug, Clone)]
pub struct StageCosts<'a> {
    table: &'a LatencyTable,
    /// Layer of the stage → layer of the dense network.
    dense_layer: Vec<Option<usize>>,
}

impl<'a> StageCosts<'a> {
    /// Connects the layers of `stage` with those of `dense`, which `table` was made for.
    pub fn new(table: &'a LatencyTable, dense: &Analysis, stage: &Analysis) -> Self {
        let by_name: HashMap<&str, usize> =
            dense.priced.iter().enumerate().map(|(k, l)| (dense.graph.node(l.node).name.as_str(), k)).collect();
        let dense_layer = stage.priced.iter().map(|l| by_name.get(stage.graph.node(l.node).name.as_str()).copied()).collect();
        Self { table, dense_layer }
    }

    /// What the calibration sees of a network of this stage's layers at `widths`.
    pub fn features(&self, widths: &[(usize, usize)]) -> Features {
        let mut all = vec![(0, 0); self.table.layer_family.len()];
        for (d, &w) in self.dense_layer.iter().zip(widths) {
            if let Some(d) = d {
                all[*d] = w;
            }
        }
        self.table.features(&all)
    }
}

impl LayerCosts for StageCosts<'_> {
    fn cost(&self, layer: usize, i: usize, o: usize) -> f64 {
        self.dense_layer[layer].map_or(0.0, |d| self.table.cost(d, i, o))
    }

    fn constant(&self) -> f64 {
        self.table.constant()
    }
}

/// Calibrated latencies of choices about one stage.
#[derive(Debug, Clone)]
pub struct Forecast<'a> {
    costs: StageCosts<'a>,
    widths: Widths<'a>,
    space: &'a Space,
}

impl<'a> Forecast<'a> {
    /// For the options of `space` at `stage`; `table` was made for `dense`.
    pub fn new(table: &'a LatencyTable, dense: &Analysis, stage: &'a Analysis, space: &'a Space) -> Self {
        Self { costs: StageCosts::new(table, dense, stage), widths: Widths::new(&stage.groups, &stage.priced, space), space }
    }

    /// Predicted seconds of a choice.
    pub fn seconds(&self, choice: &[usize]) -> f64 {
        let features = self.costs.features(&self.widths.all(self.space, choice));
        self.costs.table.calibration.predict(&features)
    }
}

/// Input width, output width and multiply-accumulates of a layer as it is.
///
/// Of an attention: its heads, and the width of a head's queries and values together.
pub fn dense_layer(graph: &Graph, facts: &Facts, node: NodeId) -> (usize, usize, f64) {
    if let Some(a) = graph::Attention::at(graph, facts, node) {
        return (a.heads, a.query_width + a.value_width, a.macs() as f64);
    }
    let n = graph.node(node);
    let shape = |v: Option<graph::ValueId>| v.and_then(|v| facts.shape(v)).unwrap_or(&[]);
    let (x, w, y) = (shape(n.input(0)), shape(n.input(1)), shape(n.output(0)));
    let outputs: f64 = y.iter().product::<usize>() as f64;
    match &n.op {
        Op::Conv(_) if w.len() > 2 && x.len() > 1 => {
            let kernel: usize = w[1..].iter().product();
            (x[1], w[0], outputs * kernel as f64)
        }
        Op::ConvTranspose(c) if w.len() > 2 && x.len() > 1 => {
            let kernel: usize = w[1..].iter().product();
            (x[1], w[1] * c.group, x.iter().product::<usize>() as f64 * kernel as f64)
        }
        Op::Gemm(g) if w.len() == 2 => {
            let (i, o) = if g.trans_b { (w[1], w[0]) } else { (w[0], w[1]) };
            (i, o, outputs * i as f64)
        }
        _ if w.len() >= 2 => {
            let (i, o) = (w[w.len() - 2], w[w.len() - 1]);
            (i, o, outputs * i as f64)
        }
        _ => (0, 0, 0.0),
    }
}
