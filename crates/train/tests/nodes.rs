//! What nodes say besides their operator: outputs left out, numbers given as inputs, forms that are refused.
#![allow(clippy::unwrap_used)]

mod support;

use graph::{Model, Tensor};
use secateur_train::{Mode, Network};
use support::{Builder, int, ints, text};

fn run(model: &Model, shape: &[usize], mode: Mode) -> Vec<Tensor> {
    let input = Tensor::f32(shape.to_vec(), (1..=shape.iter().product()).map(|v| v as f32).collect::<Vec<_>>());
    Network::compile(model).unwrap().forward(&[input], mode).unwrap()
}

fn refusal(model: &Model) -> String {
    Network::compile(model).unwrap_err().to_string()
}

#[test]
fn a_part_of_a_split_that_is_left_out_is_still_passed_over() {
    for (left_out, expected) in [(0, vec![vec![3.0, 4.0, 5.0], vec![6.0]]), (1, vec![vec![1.0, 2.0], vec![6.0]])] {
        let mut b = Builder::new(0);
        b.input("x", &[-1, 6]);
        b.stored("sizes", &Tensor::i64([3], vec![2, 3, 1]));
        let names = ["a", "b", "c"].map(|n| if n == ["a", "b", "c"][left_out] { "" } else { n });
        b.node_to("Split", &["x", "sizes"], &names, vec![int("axis", 1)]);
        for (name, size) in [("a", 2), ("b", 3), ("c", 1)].iter().filter(|(n, _)| names.contains(n)) {
            b.output(name, &[-1, *size]);
        }
        let outputs = run(&b.finish("split"), &[1, 6], Mode::Eval);
        assert_eq!(outputs.iter().map(|t| t.to_f32().unwrap()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_dropout_drops_the_share_that_its_input_or_attribute_tells() {
    let dropout = |inputs: &[&str], attributes: Vec<_>| {
        let mut b = Builder::new(0);
        b.input("x", &[-1, 50, 40]);
        b.stored("ratio", &Tensor::f32(Vec::<usize>::new(), vec![0.2]));
        b.stored("none", &Tensor::f32(Vec::<usize>::new(), vec![0.0]));
        let y = b.node("Dropout", inputs, attributes);
        b.output(&y, &[-1, 50, 40]);
        b.finish("dropout")
    };
    let float = |v: f32| graph::proto::AttributeProto { name: Some("ratio".into()), r#type: Some(1), f: Some(v), ..Default::default() };
    for (model, ratio) in [
        (dropout(&["x", "ratio"], vec![]), 0.2),
        (dropout(&["x", "none"], vec![]), 0.0),
        (dropout(&["x"], vec![float(0.7)]), 0.7),
        (dropout(&["x"], vec![]), 0.5),
    ] {
        let y = run(&model, &[1, 50, 40], Mode::Train)[0].to_f32().unwrap();
        let dropped = y.iter().filter(|v| **v == 0.0).count() as f32 / 2000.0;
        assert!((dropped - ratio).abs() < 0.05, "{dropped} instead of {ratio}");
        for (i, v) in y.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            let expected = (i + 1) as f32 / (1.0 - ratio);
            assert!((v - expected).abs() < 1e-5 * expected, "[{i}]: {v} instead of {expected}");
        }
        assert!(run(&model, &[1, 50, 40], Mode::Eval)[0].to_f32().unwrap().iter().enumerate().all(|(i, v)| *v == (i + 1) as f32));
    }
    let computed = Network::compile(&dropout(&["x", "x"], vec![])).unwrap();
    let error = computed.forward(&[Tensor::f32([1, 50, 40], vec![0.0; 2000])], Mode::Train).unwrap_err().to_string();
    assert!(error.contains("Dropout_1") && error.contains("ratio is not a constant"), "{error}");
}

#[test]
fn what_has_no_forward_and_backward_is_refused_when_compiled() {
    type Build = fn(&mut Builder) -> String;
    let resize = |b: &mut Builder, slot: usize, attribute| {
        b.stored("scales", &Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]));
        b.stored("sizes", &Tensor::i64([4], vec![1, 3, 4, 4]));
        let inputs = [["x", "", "scales"].as_slice(), &["x", "", "", "sizes"]][slot].to_vec();
        b.node("Resize", &inputs, vec![text("mode", "linear"), attribute])
    };
    let cases: [(Build, &str); 6] = [
        (|b| b.node("ReduceProd", &["x"], vec![ints("axes", &[2, 3])]), "no gradient"),
        (|b| b.node("ArgMax", &["x"], vec![int("axis", 1)]), "no gradient"),
        (
            |b| {
                b.tensor("w", &[4, 3, 1, 1, 1], |_| 1.0);
                b.stored("axes", &Tensor::i64([1], vec![4]));
                let y = b.node("Unsqueeze", &["x", "axes"], vec![]);
                b.node("Conv", &[&y, "w"], vec![])
            },
            "3 spatial axes",
        ),
        (|b| b.node("AveragePool", &["x"], vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[2, 2])]), "dilated"),
        (|b| b.node("Sign", &["x"], vec![]), "gradient is zero"),
        (|b| b.node("LRN", &["x"], vec![int("size", 3)]), "no forward and backward"),
    ];
    let built = |build: &dyn Fn(&mut Builder) -> String| {
        let mut b = Builder::new(0);
        b.input("x", &[-1, 3, 4, 4]);
        let y = build(&mut b);
        b.output(&y, &[-1]);
        b.finish("one node")
    };
    for (build, cause) in cases {
        let error = refusal(&built(&build));
        assert!(error.contains(cause) && error.contains("cannot be run or trained here"), "{error}");
    }
    for (slot, attribute, cause) in
        [(0, int("antialias", 1), "antialias"), (1, text("keep_aspect_ratio_policy", "not_larger"), "keep_aspect_ratio_policy")]
    {
        let error = refusal(&built(&|b| resize(b, slot, attribute.clone())));
        assert!(error.contains(cause), "{error}");
    }
    // What says the default is run.
    for (slot, attribute) in [(0, int("antialias", 0)), (1, text("keep_aspect_ratio_policy", "stretch"))] {
        assert!(Network::compile(&built(&|b| resize(b, slot, attribute.clone()))).is_ok());
    }
}
