//! Attention in the latency table and in the problem the solvers see: heads and their width cost what they take.

// The text form of graphs names the crate as its own tests do.
extern crate graph as secateur_graph;

mod support;

use graph::{Decision, InputShapes, Model, Slabs};
use latency::TargetSpec;
use secateur::{
    Analysis, Forecast, Keep, LayerCosts, Macs, Scope, SizeBudget, Space, StageCosts, Values, Widths, joint_problem, prune_to_size,
};
use support::text::{parse, vision};
use support::{choices, macs, magnitude, timed};

fn network() -> Model {
    parse(&vision(12, 3, 4))
}

fn within(slabs: Slabs) -> Analysis {
    Analysis::within(network(), &InputShapes::batch(1), Scope { slabs, keep: Vec::new() }).expect("analysis")
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
