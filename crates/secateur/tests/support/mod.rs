//! Networks written as text, and a device that is made up.
#![allow(dead_code)]

#[path = "../../../graph/tests/support/text.rs"]
#[allow(clippy::unwrap_used)]
pub mod text;

use graph::{Facts, Graph, InputShapes, Model, cost};
use latency::{Measurement, ModelBytes, Probes, Protocol, TargetSpec, ToSentinel};
use secateur::{Analysis, Criterion, LatencyTable, Saliency, Sources, Space, WidthRange, Widths};

/// Weights of test networks (SplitMix64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }
}

pub fn magnitude(a: &Analysis) -> Saliency {
    Sources::find(&a.graph, &a.groups, Criterion::Magnitude).from_weights(&a.model, &a.groups)
}

/// Multiply-accumulates of everything in a network, counted node by node.
pub fn macs(model: &Model) -> f64 {
    let graph = Graph::new(model).expect("graph");
    let facts = Facts::infer(model, &graph, &InputShapes::batch(1)).expect("facts");
    let (costs, products) = (cost(&graph, &facts), ["Conv", "ConvTranspose", "MatMul", "Gemm"]);
    graph.nodes.iter().filter(|n| products.contains(&n.op.name())).map(|n| costs.per_node[n.id.index()].macs as f64).sum()
}

/// Choices that differ: everything, and options drawn from `seed`.
pub fn choices(space: &Space) -> Vec<Vec<usize>> {
    let pick = |seed: usize| space.groups.iter().enumerate().map(|(k, g)| (seed * 7 + k * 3) % g.counts.len()).collect();
    std::iter::once(space.keep_all()).chain((1..8).map(pick)).collect()
}

/// What a device might say that takes `usual_s` at its usual pace and is `slower` by a factor just now.
pub fn measurement(usual_s: f64, slower: f64) -> Measurement {
    let (median_s, sentinel_s) = (usual_s * slower, 1e-3 * slower);
    let ratio = median_s / sentinel_s;
    Measurement {
        model: String::new(),
        model_key: String::new(),
        median_s,
        ci: (median_s, median_s),
        p10: median_s,
        p90: median_s,
        min: median_s,
        p99: None,
        n: 1,
        rounds_invalidated: 0,
        disturbed: 0,
        outliers: 0,
        two_states: false,
        resolved: true,
        to_sentinel: Some(ToSentinel { ratio, ci: (ratio, ratio), sentinel_s }),
        samples: vec![median_s],
        per_process: vec![1],
        setup_s: 0.0,
        machine: latency::Machine::detect(),
        runtime: latency::runtime(&TargetSpec::tract()).expect("tract").identity(),
        protocol: Protocol::default(),
        mode: latency::Mode::Sustained,
        taken_at: 0,
    }
}

/// A device on which everything takes a nanosecond per multiply-accumulate, but for one third of the time, in which it takes 1.75
/// as long. The layers and attentions are timed alone.
pub fn timed(a: &Analysis, others: &[&Analysis]) -> LatencyTable {
    let reach = |b: &Analysis| {
        let space = Space::new(&b.groups, 1, false);
        let widths = Widths::new(&b.groups, &b.priced, &space);
        let mut ranges = vec![WidthRange::default(); b.priced.len()];
        let least = vec![0; space.groups.len()];
        for choice in choices(&space).into_iter().chain([least]) {
            for (range, (i, o)) in ranges.iter_mut().zip(widths.all(&space, &choice)) {
                range.inputs.push(i);
                range.outputs.push(o);
            }
        }
        ranges
    };
    let combine = |all: Vec<WidthRange>, b: &&Analysis| all.iter().zip(reach(b)).map(|(x, y)| x.combined(&y)).collect();
    let ranges: Vec<WidthRange> = others.iter().fold(reach(a), combine);
    let mut measure = |models: &[ModelBytes]| {
        let usual_s = |m: &ModelBytes| 1e-9 * macs(&Model::from_bytes(m.onnx.to_vec(), &m.name).expect("model"));
        let slower = |k: usize| if k % 3 == 2 { 1.75 } else { 1.0 };
        Ok((models.iter().enumerate().map(|(k, m)| measurement(usual_s(m), slower(k))).collect::<Vec<_>>(), Probes::default()))
    };
    LatencyTable::profile(&a.model, &a.graph, &a.facts, &a.priced, &ranges, &mut measure).expect("table")
}
