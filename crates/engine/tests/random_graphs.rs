//! The engine against operators written as their definitions, on random networks.
#![allow(clippy::unwrap_used)]

mod support;

use graph::{InputShapes, Tensor};
use proptest::prelude::*;
use secateur_engine::{Engine, Error, Isa};
use support::build::{Builder, int, text};
use support::networks::network;
use support::{difference, reference};

fn agrees(b: &mut Builder, isa: Isa) -> Result<(), String> {
    let inputs = b.inputs();
    let expected = reference::run(&b.model, &inputs);
    let mut compiled = Engine::with_isa(isa).unwrap().compile(&b.model, &InputShapes::batch(1)).map_err(|e| e.to_string())?;
    for (name, values) in &inputs {
        compiled.set_input(name, values).unwrap();
    }
    // Twice: what a run leaves behind must not reach the next.
    for _ in 0..2 {
        compiled.run();
        for (i, e) in expected.iter().enumerate() {
            let d = difference(&e.values, compiled.output(i));
            if compiled.outputs()[i].shape != e.shape || d.is_nan() || d > 1e-4 {
                return Err(format!("output {i} of shape {:?} differs by {d}: {:#?}", e.shape, compiled.layers()));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(200), ..ProptestConfig::default() })]

    #[test]
    fn random_networks_compute_what_their_operators_say(seed in any::<u64>()) {
        let mut b = network(seed);
        for isa in Isa::available() {
            if let Err(e) = agrees(&mut b, isa) {
                prop_assert!(false, "{isa:?}: {e}\n{:#?}", b.model.graph_proto().node.iter().map(|n| (n.op_type(), &n.input, &n.output)).collect::<Vec<_>>());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// However many threads there are, every bit of the result is the same.
    #[test]
    fn threads_change_nothing(seed in any::<u64>(), threads in 2usize..5) {
        let mut b = network(seed);
        same_with(threads, &mut b)?;
    }
}

/// The network computes the same with one thread and with `threads`, to the last bit.
fn same_with(threads: usize, b: &mut Builder) -> Result<(), TestCaseError> {
    let inputs = b.inputs();
    let mut alone = Engine::new().compile(&b.model, &InputShapes::batch(1)).unwrap();
    let mut together = Engine::new().with_threads(threads).unwrap().compile(&b.model, &InputShapes::batch(1)).unwrap();
    for c in [&mut alone, &mut together] {
        inputs.iter().for_each(|(name, values)| c.set_input(name, values).unwrap());
        c.run();
        c.run();
    }
    for i in 0..alone.outputs().len() {
        let same = alone.output(i).iter().zip(together.output(i)).all(|(a, b)| a.to_bits() == b.to_bits());
        prop_assert!(same, "output {i} with {threads} threads");
    }
    Ok(())
}

/// A convolution, its normalisation, the sum and the activation are one step, and zero units are not computed.
#[test]
fn a_residual_block_is_two_steps_and_pruned_units_are_gone() {
    let mut b = Builder::new(1);
    let x = b.input("x", &[1, 32, 8, 8]);
    let y = b.conv(&x, 32, 3, 1, 1, 1, 0, 16);
    let y = b.normalization(&y);
    let y = b.node("Relu", &[&y], vec![]);
    let z = b.conv(&y, 32, 3, 1, 1, 1, 8, 16);
    let z = b.normalization(&z);
    let z = b.node("Add", &[&z, &x], vec![]);
    let z = b.node("Relu", &[&z], vec![]);
    b.output(&z);
    let compiled = Engine::new().compile(&b.model, &InputShapes::default()).unwrap();
    let operators: Vec<String> = compiled.layers().iter().map(|l| l.operators.join("+")).collect();
    assert_eq!(operators, ["", "Conv+BatchNormalization+Relu", "Conv+BatchNormalization+Add+Relu"]);
    assert_eq!(compiled.layers()[1].kept, Some((2 * 288, 2 * 288)));
    let (kept, all) = compiled.layers()[2].kept.unwrap();
    assert_eq!(all, 2 * 288);
    assert!((all * 2 / 5..all * 3 / 5).contains(&kept), "{kept} of {all} kept where half should be");
}

/// Along every axis, whichever of the parts is left out; padding of the kind that operator sets before 19 lack before it.
#[test]
fn a_part_that_is_left_out_takes_its_place() {
    for (axis, missing) in (1..=3).flat_map(|a| (0..3).map(move |m| (a, m))) {
        let mut b = Builder::new(7);
        let x = b.input("x", &[1, 6, 7, 8]);
        let pads = b.stored(&Tensor::vec_i64(vec![0, 1, 2, 9, 0, 0, 1, 3]));
        let x = b.node("Pad", &[&x, &pads], vec![text("mode", "wrap")]);
        let rest = b.shape(&x)[axis] - 3;
        let sizes = b.stored(&Tensor::vec_i64(vec![1, 2, rest as i64]));
        let parts = b.nodes("Split", &[&x, &sizes], vec![int("axis", axis as i64)], 3);
        b.model.graph_proto_mut().node[1].output[missing].clear();
        (0..3).filter(|&k| k != missing).for_each(|k| b.output(&parts[k]));
        for isa in Isa::available() {
            agrees(&mut b, isa).unwrap();
        }
    }
}

#[test]
fn what_cannot_run_is_named_with_what_to_do() {
    let mut b = Builder::new(1);
    let x = b.input("x", &[1, 4, 8, 8]);
    let y = b.node("LRN", &[&x], vec![int("size", 3)]);
    b.output(&y);
    let e = Engine::new().compile(&b.model, &InputShapes::default()).unwrap_err().to_string();
    assert!(e.contains("lrn1") && e.contains("(LRN)") && e.contains("ONNX Runtime"), "{e}");

    let mut b = Builder::new(1);
    let x = b.input("x", &[2, 4, 8, 8]);
    let y = b.node("Relu", &[&x], vec![]);
    b.output(&y);
    let e = Engine::new().compile(&b.model, &InputShapes::default()).unwrap_err();
    assert!(matches!(e, Error::Value { .. }) && e.to_string().contains("set the batch to 1"), "{e}");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut b = Builder::new(1);
    let x = b.input("x", &[1, 4, 2, 2]);
    let y = b.node("Relu", &[&x], vec![]);
    b.output(&y);
    let mut compiled = Engine::new().compile(&b.model, &InputShapes::default()).unwrap();
    let e = compiled.set_input("y", &[0.0; 16]).unwrap_err().to_string();
    assert!(e.contains("`y`") && e.contains("x [1, 4, 2, 2]"), "{e}");
    let e = compiled.set_input("x", &[0.0; 15]).unwrap_err().to_string();
    assert!(e.contains("15 elements given, 16 wanted"), "{e}");
}

/// An expansion and the depthwise convolution that reads it, too large for the caches, are one step; small ones are two.
#[test]
fn an_expansion_and_its_depthwise_convolution_are_one_step() {
    for (size, stride, steps) in [(61, 1, 2), (61, 2, 2), (8, 1, 3)] {
        let mut b = Builder::new(5);
        let x = b.input("image", &[1, 20, size, size + 2]);
        let y = b.conv(&x, 40, 1, 1, 0, 1, 8, 16);
        let y = b.node("Relu", &[&y], vec![]);
        let y = b.conv(&y, 40, 3, stride, 1, 40, 0, 16);
        let y = b.node("Relu", &[&y], vec![]);
        b.output(&y);
        let compiled = Engine::new().compile(&b.model, &InputShapes::batch(1)).unwrap();
        assert_eq!(compiled.layers().len(), steps);
        for isa in Isa::available() {
            agrees(&mut b, isa).unwrap();
        }
        same_with(3, &mut b).unwrap();
    }
}

/// A constant operand is written once, and stays what it is however many activations of its layout come after it.
#[test]
fn constants_outlive_what_has_their_layout() {
    let mut b = Builder::new(7);
    let x = b.input("x", &[1, 1, 6, 6]);
    let mean = b.tensor(&[1, 6, 6], 1.0, 0.5);
    let mut y = b.node("Sub", &[&x, &mean], vec![]);
    for _ in 0..4 {
        y = b.conv(&y, 1, 3, 1, 1, 1, 0, 16);
    }
    b.output(&y);
    for isa in Isa::available() {
        agrees(&mut b, isa).unwrap();
    }
}
