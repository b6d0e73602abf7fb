//! Attention in the latency table and in the problem the solvers see: heads and their width cost what they take.

// The text form of graphs names the crate as its own tests do.
extern crate graph as secateur_graph;

#[path = "../../graph/tests/support/text.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod text;

use graph::{Decision, Facts, Graph, InputShapes, Model, Slabs, cost};
use latency::{Measurement, ModelBytes, Probes, Protocol, TargetSpec};
use secateur::{
    Analysis, Criterion, Forecast, Keep, LatencyTable, LayerCosts, Macs, Saliency, Scope, SizeBudget, Sources, Space, StageCosts, Values,
    WidthRange, Widths, joint_problem, prune_to_size,
};
use text::{parse, vision};

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

fn network() -> Model {
    parse(&vision(12, 3, 4))
}

fn within(slabs: Slabs) -> Analysis {
    Analysis::within(network(), &InputShapes::batch(1), Scope { slabs, keep: Vec::new() }).expect("analysis")
}

fn magnitude(a: &Analysis) -> Saliency {
    Sources::find(&a.graph, &a.groups, Criterion::Magnitude).from_weights(&a.model, &a.groups)
}

/// Multiply-accumulates of everything in a network, counted node by node.
fn macs(model: &Model) -> f64 {
    let graph = Graph::new(model).expect("graph");
    let facts = Facts::infer(model, &graph, &InputShapes::batch(1)).expect("facts");
    let (costs, products) = (cost(&graph, &facts), ["Conv", "MatMul", "Gemm"]);
    graph.nodes.iter().filter(|n| products.contains(&n.op.name())).map(|n| costs.per_node[n.id.index()].macs as f64).sum()
}

/// Choices that differ: everything, and options drawn from `seed`.
fn choices(space: &Space) -> Vec<Vec<usize>> {
    let pick = |seed: usize| space.groups.iter().enumerate().map(|(k, g)| (seed * 7 + k * 3) % g.counts.len()).collect();
    std::iter::once(space.keep_all()).chain((1..8).map(pick)).collect()
}

#[test]
fn a_transformer_costs_its_layers_and_its_attentions() {
    for slabs in [Slabs::Finest, Slabs::Parts] {
        let a = within(slabs);
        assert_eq!(a.priced.len(), a.layers.len() + 2);
        let costs = Macs::new(&a.graph, &a.facts, &a.priced);
        let space = Space::new(&a.groups, 1, false);
        let widths = Widths::new(&a.groups, &a.priced, &space);
        for choice in choices(&space) {
            let sum: f64 = widths.all(&space, &choice).iter().enumerate().map(|(l, &(i, o))| costs.cost(l, i, o)).sum();
            let small = a.apply(&space.decision(&a.groups, &magnitude(&a), &choice)).expect("cut");
            assert!((sum - macs(&small)).abs() < 1e-6, "{slabs:?} {choice:?}: {sum} against {}", macs(&small));
        }
    }
}

/// What a device might say.
fn measurement(median_s: f64) -> Measurement {
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
        to_sentinel: None,
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

/// A device on which everything takes a nanosecond per multiply-accumulate, of which the layers and attentions are timed alone.
fn timed(a: &Analysis, others: &[&Analysis]) -> LatencyTable {
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
        let of = |m: &ModelBytes| measurement(1e-9 * macs(&Model::from_bytes(m.onnx.to_vec(), &m.name).expect("model")));
        Ok((models.iter().map(of).collect::<Vec<_>>(), Probes::default()))
    };
    LatencyTable::profile(&a.model, &a.graph, &a.facts, &a.priced, &ranges, &mut measure).expect("table")
}

#[test]
fn the_table_of_the_dense_network_is_right_for_heads_and_widths_one_after_the_other() {
    let (dense, parts) = (within(Slabs::Finest), within(Slabs::Parts));
    let table = timed(&dense, &[&parts]);
    // Both attentions are one family, timed over heads and the width of queries and values together.
    let [.., first, second] = table.layer_family.as_slice() else { panic!("{:?}", table.layer_family) };
    assert_eq!(first, second);
    let attention = &table.families[*first];
    assert_eq!((attention.inputs.last(), attention.outputs.last()), (Some(&3), Some(&8)));
    assert!(attention.inputs.len() > 1 && attention.outputs.len() > 2, "{attention:?}");
    // Two of three heads go first; then the table predicts every width of what is left.
    let heads = parts.groups.attention().iter().flat_map(|l| &l.inputs).map(|p| (p.0, vec![1])).collect();
    let cut = parts.apply(&Decision { keep: heads, ..Decision::keep_all() }).expect("cut");
    for stage in [dense.clone(), dense.with_model(cut, 1).expect("analysis")] {
        let space = Space::new(&stage.groups, 1, false);
        let forecast = Forecast::new(&table, &dense, &stage, &space);
        for choice in choices(&space) {
            let small = stage.apply(&space.decision(&stage.groups, &magnitude(&stage), &choice)).expect("cut");
            let (predicted, expected) = (forecast.seconds(&choice), 1e-9 * macs(&small));
            assert!((predicted / expected - 1.0).abs() < 1e-6, "{choice:?}: {predicted} against {expected}");
        }
    }
}

#[test]
fn the_joint_solver_counts_attention_and_meets_its_budget() {
    let (dense, parts) = (within(Slabs::Finest), within(Slabs::Parts));
    let table = timed(&dense, &[&parts]);
    for stage in [dense.clone(), parts] {
        let space = Space::new(&stage.groups, 1, false);
        let widths = Widths::new(&stage.groups, &stage.priced, &space);
        let saliency = magnitude(&stage);
        let values = Values::kept_saliency(&space, &saliency);
        let costs = StageCosts::new(&table, &dense, &stage);
        let problem = joint_problem(&space, &widths, &stage.priced, &values, &costs);
        for share in [0.8, 0.6, 0.4] {
            let budget = share * 1e-9 * macs(&dense.model);
            let choice = search::joint::solve(&problem, budget, &search::Limits::default()).expect("a choice").choice;
            let small = stage.apply(&space.decision(&stage.groups, &saliency, &choice)).expect("cut");
            let found = 1e-9 * macs(&small);
            assert!(found <= budget * 1.000_001 && found > 0.7 * budget, "{share}: {found} of {budget}");
        }
    }
}

#[test]
fn what_is_kept_is_frozen_by_name() {
    let with = |keep: &[&str]| {
        let keep: Vec<Keep> = keep.iter().map(|k| (*k).to_owned().into()).collect();
        Analysis::within(network(), &InputShapes::batch(1), Scope::but(&keep)).expect("analysis")
    };
    let free = |a: &Analysis| a.groups.prunable().map(|g| g.size).collect::<Vec<_>>();
    assert_eq!(free(&with(&[])), [12, 4, 4, 10, 4, 4, 10]);
    assert_eq!(free(&with(&["heads"])), [12, 4, 4, 10, 4, 4, 10]);
    // Where the width is kept, whole heads may go.
    assert_eq!(free(&with(&["head-width"])), [12, 3, 10, 3, 10]);
    assert_eq!(free(&with(&["heads", "head-width"])), [12, 10, 10]);
    // A branch that holds what is kept stays; the others may go.
    let branches = |keep: &[&str]| with(keep).groups.branches.iter().map(|b| b.name.clone()).collect::<Vec<_>>();
    let all = branches(&[]);
    let (heads, first) = (branches(&["heads"]), branches(&["b1_f"]));
    assert!(!heads.is_empty() && heads.len() < all.len(), "{heads:?} of {all:?}");
    assert_eq!(first.len() + 1, all.len(), "{first:?} of {all:?}");
    assert_eq!(branches(&["heads", "b1_f"]).len() + 1, heads.len());
    let named = with(&["b1_f"]);
    assert!(named.groups.branches.iter().enumerate().all(|(k, b)| b.id.index() == k));
    assert_eq!(free(&named), [12, 4, 4, 4, 4, 10]);
    let why = named.groups.groups.iter().find_map(|g| g.frozen.as_ref().filter(|f| f.reason.contains("--keep"))).expect("a reason");
    assert_eq!(why.reason, "it is kept by --keep b1_f");
}

#[test]
fn a_transformer_is_cut_to_a_size_by_its_heads_alone_or_told_that_a_name_is_wrong() {
    let runtimes = [latency::runtime(&TargetSpec::tract()).expect("tract")];
    let cut = |keep: &[Keep]| prune_to_size(network(), SizeBudget::Share(0.7), &InputShapes::batch(1), Scope::but(keep), &runtimes);
    let done = cut(&[Keep::HeadWidth]).expect("cut");
    assert!(done.report.params_after * 10 <= done.report.params_before * 7);
    let after = Analysis::new(done.model, &InputShapes::batch(1)).expect("analysis");
    assert!(after.groups.attention().iter().all(|l| l.widths(|g| after.groups.group(g).size).1 == 8));
    let e = cut(&[Keep::Layer("b9".into())]).expect_err("no such layer").to_string();
    assert!(e.contains("--keep b9") && e.contains("head-width"), "{e}");
}
