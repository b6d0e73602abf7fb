//! `T_l(i, o)`: every layer timed alone on the target, over a grid of widths; attentions over heads and their width.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use graph::{Facts, Graph, Grouping, Layer, Model, NodeId};
use latency::{Measurement, ModelBytes, Pace, Probes};
use serde::{Deserialize, Serialize};

use super::{Calibration, Features, LayerCosts, dense_layer};
use crate::error::Result;

/// At most this many widths are timed along each side of a layer; between them the time is interpolated.
const WIDTHS_PER_SIDE: usize = 9;

/// Times models, in order; with the numbers measured anew and found.
pub type Measure<'a> = &'a mut dyn FnMut(&[ModelBytes]) -> Result<(Vec<Measurement>, Probes)>;

/// Layers that are equal but for their weights: one set of timings serves them all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// Name of its first layer.
    pub name: String,
    /// Input widths timed, ascending.
    pub inputs: Vec<usize>,
    /// Output widths timed, ascending.
    pub outputs: Vec<usize>,
    /// Seconds at one pace of the machine, `[input][output]`.
    pub seconds: Vec<Vec<f64>>,
    /// Input and output go together by whole partitions (depthwise): only the diagonal was timed.
    pub diagonal: bool,
}

/// Latencies of all layers of a network, with the calibration to whole networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyTable {
    /// Timings.
    pub families: Vec<Family>,
    /// Family of each layer, in the order of `Groups::layers`.
    pub layer_family: Vec<usize>,
    /// Correction to whole networks.
    pub calibration: Calibration,
    /// Timings made, and found in the cache.
    pub probes: Probes,
}

/// Widths that the options of a network's groups can give a layer, per side.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WidthRange {
    /// Input widths, ascending.
    pub inputs: Vec<usize>,
    /// Output widths, ascending.
    pub outputs: Vec<usize>,
}

impl WidthRange {
    /// The widths that two kinds of cuts reach, each on its own and, down to the product of both shares, one after the other.
    pub fn combined(&self, other: &Self) -> Self {
        let side = |a: &[usize], b: &[usize]| {
            let mut all: BTreeSet<usize> = a.iter().chain(b).copied().collect();
            if let (Some(&low), Some(&other), Some(&full)) = (a.iter().min(), b.iter().min(), all.last()) {
                all.insert((low * other / full.max(1)).max(1));
            }
            all.into_iter().collect()
        };
        Self { inputs: side(&self.inputs, &other.inputs), outputs: side(&self.outputs, &other.outputs) }
    }
}

impl LatencyTable {
    /// Times every layer over the widths it can take. `measure` gets single-layer models and gives their latencies in order.
    ///
    /// # Errors
    /// A single-layer model cannot be made, or the runtime refuses it.
    pub fn profile(
        model: &Model,
        graph: &Graph,
        facts: &Facts,
        layers: &[Layer],
        ranges: &[WidthRange],
        measure: Measure<'_>,
    ) -> Result<Self> {
        let nodes: Vec<NodeId> = layers.iter().map(|l| l.node).collect();
        let grouped = |layer: usize| graph::grouping(graph, facts, layers[layer].node);
        let mut families: Vec<(usize, Family)> = Vec::new();
        let mut by_first: HashMap<usize, usize> = HashMap::new();
        let mut layer_family = Vec::with_capacity(layers.len());
        let mut widths: Vec<(BTreeSet<usize>, BTreeSet<usize>)> = Vec::new();
        for (first, range) in first_of_family(model, graph, facts, &nodes)?.into_iter().zip(ranges) {
            let family = *by_first.entry(first).or_insert_with(|| {
                let node = graph.node(layers[first].node);
                let diagonal = matches!(grouped(first), Some(Grouping::Partitions { .. }));
                families.push((first, Family { name: node.name.clone(), inputs: vec![], outputs: vec![], seconds: vec![], diagonal }));
                widths.push(Default::default());
                families.len() - 1
            });
            layer_family.push(family);
            widths[family].0.extend(&range.inputs);
            widths[family].1.extend(&range.outputs);
        }
        let mut wanted: Vec<ModelBytes> = Vec::new();
        let mut position: BTreeMap<(usize, usize, usize), usize> = BTreeMap::new();
        for (f, (layer, family)) in families.iter_mut().enumerate() {
            let (inputs, outputs) = &widths[f];
            let whole = |all: &BTreeSet<usize>, n: usize| thin(&all.iter().copied().filter(|w| w.is_multiple_of(n)).collect());
            (family.inputs, family.outputs) = match grouped(*layer) {
                None => (thin(inputs), thin(outputs)),
                Some(Grouping::Slabs { partitions }) => (whole(inputs, partitions), whole(outputs, partitions)),
                Some(Grouping::Partitions { inputs: i, outputs: o }) => {
                    let outputs = whole(outputs, o);
                    (outputs.iter().map(|w| w / o * i).collect(), outputs)
                }
            };
            for (a, &i) in family.inputs.iter().enumerate() {
                for (b, &o) in family.outputs.iter().enumerate() {
                    if family.diagonal && a != b {
                        continue;
                    }
                    let single = graph::layer_model(model, graph, facts, layers[*layer].node, i, o, true)?;
                    let bytes = single.to_bytes()?;
                    let name = format!("{} {i}→{o}", family.name);
                    let inputs = latency::read_inputs(&name, &bytes, 1)?;
                    position.insert((f, a, b), wanted.len());
                    wanted.push(ModelBytes::new(name, bytes, inputs));
                }
            }
        }
        let (measured, probes) = measure(&wanted)?;
        let pace = Pace::of(&measured);
        let mut table = Vec::new();
        for (f, (_, mut family)) in families.into_iter().enumerate() {
            let at = |a: usize, b: usize| position.get(&(f, a, b)).map_or(0.0, |&p| pace.seconds(&measured[p]));
            let grid = |a: usize| (0..family.outputs.len()).map(|b| if family.diagonal { at(b, b) } else { at(a, b) }).collect();
            family.seconds = (0..family.inputs.len()).map(grid).collect();
            table.push(family);
        }
        let calibration = Calibration::identity(table.len());
        Ok(Self { families: table, layer_family, calibration, probes })
    }

    /// Table time of layer `layer` at the given widths, in seconds; bilinear between timed widths, 0 for a width of 0.
    pub fn table_s(&self, layer: usize, i: usize, o: usize) -> f64 {
        if i == 0 || o == 0 {
            return 0.0;
        }
        let f = &self.families[self.layer_family[layer]];
        let ((a, b, u), (c, d, v)) = (bracket(&f.inputs, i), bracket(&f.outputs, o));
        let mix = |x: f64, y: f64, t: f64| x + (y - x) * t;
        mix(mix(f.seconds[a][c], f.seconds[a][d], v), mix(f.seconds[b][c], f.seconds[b][d], v), u)
    }

    /// What the calibration sees of a network whose layers have `widths` (input, output); 0 for layers that are gone.
    pub fn features(&self, widths: &[(usize, usize)]) -> Features {
        let mut x = Features { table_s: vec![0.0; self.families.len()], layers: vec![0; self.families.len()] };
        for (layer, &(i, o)) in widths.iter().enumerate().filter(|(_, (i, o))| *i > 0 && *o > 0) {
            x.table_s[self.layer_family[layer]] += self.table_s(layer, i, o);
            x.layers[self.layer_family[layer]] += 1;
        }
        x
    }
}

impl LayerCosts for LatencyTable {
    /// Calibrated seconds that the layer adds to a whole network.
    fn cost(&self, layer: usize, i: usize, o: usize) -> f64 {
        if i == 0 || o == 0 {
            return 0.0;
        }
        let f = self.layer_family[layer];
        self.calibration.scale[f] * self.table_s(layer, i, o) + self.calibration.per_layer_s[f]
    }

    fn constant(&self) -> f64 {
        self.calibration.constant_s
    }
}

/// For each of the layers at `nodes` the position of the first that is equal to it but for its weights: both give the same
/// single-layer model at their dense widths.
///
/// # Errors
/// A single-layer model cannot be made.
pub(crate) fn first_of_family(model: &Model, graph: &Graph, facts: &Facts, nodes: &[NodeId]) -> Result<Vec<usize>> {
    let mut by_model: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut first = Vec::with_capacity(nodes.len());
    for (l, &node) in nodes.iter().enumerate() {
        let (i, o, _) = dense_layer(graph, facts, node);
        let single = graph::layer_model(model, graph, facts, node, i, o, true)?.to_bytes()?;
        first.push(*by_model.entry(single).or_insert(l));
    }
    Ok(first)
}

/// At most [`WIDTHS_PER_SIDE`] of `widths`, evenly spread, both ends among them.
fn thin(widths: &BTreeSet<usize>) -> Vec<usize> {
    let all: Vec<usize> = widths.iter().copied().filter(|&w| w > 0).collect();
    if all.len() <= WIDTHS_PER_SIDE {
        return all;
    }
    let pick: BTreeSet<usize> = (0..WIDTHS_PER_SIDE).map(|k| all[k * (all.len() - 1) / (WIDTHS_PER_SIDE - 1)]).collect();
    pick.into_iter().collect()
}

/// Positions below and above `x` in ascending `points`, and how far `x` is between them.
fn bracket(points: &[usize], x: usize) -> (usize, usize, f64) {
    match points.binary_search(&x) {
        Ok(k) => (k, k, 0.0),
        Err(0) => (0, 0, 0.0),
        Err(k) if k == points.len() => (k - 1, k - 1, 0.0),
        Err(k) => (k - 1, k, (x - points[k - 1]) as f64 / (points[k] - points[k - 1]) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> LatencyTable {
        let seconds = vec![vec![1.0, 2.0], vec![3.0, 5.0]];
        let family = Family { name: "conv".into(), inputs: vec![8, 16], outputs: vec![8, 16], seconds, diagonal: false };
        LatencyTable { families: vec![family], layer_family: vec![0, 0], calibration: Calibration::identity(1), probes: Probes::default() }
    }

    #[test]
    fn timed_widths_are_exact_and_others_lie_between() {
        let t = table();
        assert_eq!(t.table_s(0, 8, 16), 2.0);
        assert_eq!(t.table_s(1, 12, 8), 2.0);
        assert_eq!(t.table_s(0, 12, 12), 2.75);
        assert_eq!(t.table_s(0, 4, 8), 1.0);
    }

    #[test]
    fn a_layer_without_channels_costs_nothing() {
        assert_eq!(table().cost(0, 0, 16), 0.0);
        assert_eq!(table().features(&[(8, 8), (16, 0)]).layers, [1]);
    }

    #[test]
    fn thinning_keeps_both_ends() {
        let t = thin(&(1..=64).collect());
        assert_eq!((t.first(), t.last(), t.len()), (Some(&1), Some(&64), WIDTHS_PER_SIDE));
    }
}
