//! What fails the masked-twin check is refused.

use graph::{Decision, InputShapes};
use latency::TargetSpec;
use secateur::{Analysis, Error, check_twin, compare_outputs, residual_network};

#[test]
fn a_cut_network_agrees_with_its_twin_and_a_damaged_one_is_refused() {
    let a = Analysis::new(residual_network(&[8, 16], 1, 5, 1), &InputShapes::batch(1)).expect("analysis");
    let group = a.groups.groups.iter().find(|g| g.frozen.is_none()).expect("a group").id;
    let decision = Decision { keep: [(group, vec![0, 2, 3])].into(), ..Decision::keep_all() };
    let mut smaller = a.apply(&decision).expect("surgery");
    let runtime = latency::runtime(&TargetSpec::tract()).expect("tract");
    let check = check_twin(&a, &decision, &smaller, &*runtime).expect("agrees");
    assert!(check.relative_difference < 1e-4, "{check:?}");

    let name = "classifier.bias";
    let bias = smaller.tensor(name).expect("there").expect("decodes");
    let moved = bias.with_f32(bias.to_f32().expect("float").iter().map(|b| b + 0.5).collect()).expect("same shape");
    smaller.set_tensor(name, &moved).expect("set");
    let e = compare_outputs(&a.masked_twin(&decision).expect("twin"), &smaller, &*runtime).expect_err("refused");
    assert!(matches!(&e, Error::TwinMismatch { output, .. } if output == "logits"), "{e}");
    assert!(e.to_string().contains("was not written"), "{e}");
}
