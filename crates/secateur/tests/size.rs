//! Pruning to a size: what is promised of the result, and what is refused.

use graph::{InputShapes, Model};
use latency::{Runtime, TargetSpec};
use secateur::{Error, Scope, SizeBudget, SizeReport, prune_to_size, residual_network};

fn tract() -> Vec<Box<dyn Runtime>> {
    vec![latency::runtime(&TargetSpec::tract()).expect("tract")]
}

fn cut(model: Model, budget: &str) -> secateur::Result<(Model, SizeReport)> {
    let cut = prune_to_size(model, budget.parse().expect("budget"), &InputShapes::default(), Scope::default(), &tract())?;
    Ok((cut.model, cut.report))
}

fn network() -> Model {
    residual_network(&[8, 16, 32], 1, 5, 1)
}

#[test]
fn the_result_is_inside_the_budget_by_less_than_one_channel_and_verified() {
    for budget in ["90%", "70%", "40%"] {
        let (smaller, r) = cut(network(), budget).expect("cuts");
        let SizeBudget::Share(share) = r.budget else { panic!("a share") };
        let allowed = (share * r.params_before as f64) as u64;
        assert!(r.params_after <= allowed, "{} of {allowed}", r.params_after);
        // No group could take one channel more: the widest reads 32 and writes 32 channels of 3×3.
        assert!(r.params_after + 2 * 32 * 9 * 2 > allowed, "{} of {allowed}", r.params_after);
        assert!(r.checks[0].relative_difference < 1e-3);
        assert!(r.groups.iter().all(|g| g.kept >= 1 && (g.frozen.is_none() || g.kept == g.channels)), "{:?}", r.groups);
        let bytes = smaller.to_bytes().expect("encodes").len();
        assert!(bytes < network().to_bytes().expect("encodes").len());
    }
}

#[test]
fn the_same_network_gives_the_same_cut() {
    let (a, b) = (cut(network(), "60%").expect("cuts"), cut(network(), "60%").expect("cuts"));
    assert_eq!(a.1.cut, b.1.cut);
    assert_eq!(a.0.proto(), b.0.proto());
}

#[test]
fn a_budget_below_the_floor_names_the_floor_and_what_is_frozen() {
    let e = cut(network(), "10").expect_err("too small");
    assert!(matches!(e, Error::SizeBelowFloor { .. }), "{e}");
    assert!(e.to_string().contains("graph input"), "{e}");
    let e = cut(network(), "100%").expect_err("nothing to do").to_string();
    assert!(e.contains("nothing to prune"), "{e}");
}

#[test]
fn an_operator_of_a_custom_set_is_refused_by_name() {
    let mut model = network();
    let g = model.graph_proto_mut();
    let node = graph::proto::NodeProto {
        op_type: Some("Quant".into()),
        domain: Some("onnx.brevitas".into()),
        input: vec![g.node[0].output[0].clone()],
        output: vec!["quantised".into()],
        ..Default::default()
    };
    g.node.insert(1, node);
    let e = cut(model, "70%").expect_err("custom").to_string();
    assert!(e.contains("onnx.brevitas:Quant") && e.contains("standard operators"), "{e}");
}

#[test]
fn a_network_that_no_runtime_runs_is_not_written() {
    let e = prune_to_size(network(), SizeBudget::Share(0.7), &InputShapes::default(), Scope::default(), &[]).expect_err("unverified");
    assert!(matches!(e, Error::Unverifiable { .. }), "{e}");
}
