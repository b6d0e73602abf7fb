//! The engine against operators written as their definitions, on random networks.
#![allow(clippy::unwrap_used)]

mod support;

use graph::InputShapes;
use graph::Tensor;
use proptest::prelude::*;
use secateur_engine::{Engine, Error, Isa};
use support::build::{Builder, float, int, ints, text};
use support::{difference, reference};

/// A random network: an image or a vector, some blocks of the kinds that convolutional networks are made of, a head.
fn network(seed: u64) -> Builder {
    let mut b = Builder::new(seed);
    let size = [1, 2, 5, 7, 9, 12, 18][b.random.below(7)];
    let wide = size + b.random.below(5);
    let channels = b.random.pick(&[1, 3, 3, 7, 16, 20, 33]);
    let mut x = b.input("image", &[1, channels, size, wide]);
    let mut values = vec![x.clone()];
    for _ in 0..2 + b.random.below(6) {
        x = block(&mut b, &x, &values);
        values.push(x.clone());
    }
    if b.random.one_in(4) {
        b.output(&x);
        x = b.node("Relu", &[&x], vec![]);
    }
    match b.random.below(3) {
        0 => b.output(&x),
        1 => {
            x = b.node("GlobalAveragePool", &[&x], vec![]);
            x = b.node("Flatten", &[&x], vec![]);
            head(&mut b, x);
        }
        _ => {
            x = b.node("Flatten", &[&x], vec![]);
            head(&mut b, x);
        }
    }
    b
}

fn head(b: &mut Builder, mut x: String) {
    let k = b.shape(&x)[1];
    let n = 1 + b.random.below(40);
    let bound = (3.0 / k as f32).sqrt();
    if b.random.one_in(2) {
        let w = b.tensor(&[n, k], 0.0, bound);
        let c = b.tensor(&[n], 0.0, 0.5);
        x = b.node("Gemm", &[&x, &w, &c], vec![int("transB", 1), float("alpha", 0.5), float("beta", 2.0)]);
    } else {
        let w = b.tensor(&[k, n], 0.0, bound);
        let c = b.tensor(&[n], 0.0, 0.5);
        x = b.node("MatMul", &[&x, &w], vec![]);
        x = b.node("Add", &[&c, &x], vec![]);
    }
    if b.random.one_in(2) {
        x = b.node("Softmax", &[&x], vec![int("axis", 1)]);
    }
    b.output(&x);
}

fn activation(b: &mut Builder, x: &str) -> String {
    match b.random.below(9) {
        0 => x.to_owned(),
        1 => {
            let (low, high) = (b.stored(&Tensor::f32([], vec![-0.25])), b.stored(&Tensor::f32([], vec![1.0])));
            b.node("Clip", &[x, &low, &high], vec![])
        }
        2 => b.node("LeakyRelu", &[x], vec![float("alpha", 0.1)]),
        3 => b.node("HardSwish", &[x], vec![]),
        4 => b.node("Tanh", &[x], vec![]),
        5 => {
            let gate = b.node("Sigmoid", &[x], vec![]);
            b.node("Mul", &[x, &gate], vec![])
        }
        _ => b.node("Relu", &[x], vec![]),
    }
}

fn layer(b: &mut Builder, x: &str, filters: usize, k: usize, stride: usize, group: usize) -> String {
    let (zeros, wide) = (b.random.pick(&[0, 0, 8, 12, 16]), b.random.pick(&[1, 16, 32]));
    let y = b.conv(x, filters, k, stride, k / 2, group, zeros, wide);
    if b.random.one_in(2) { b.normalization(&y) } else { y }
}

fn block(b: &mut Builder, x: &str, values: &[String]) -> String {
    let shape = b.shape(x);
    let (c, h, w) = (shape[1], shape[2], shape[3]);
    let filters = b.random.pick(&[4, 16, 16, 24, 32, 48]);
    let k = b.random.pick(&[1, 3, 3, 5]);
    let stride = if h > 2 && w > 2 { b.random.pick(&[1, 1, 2, 3]) } else { 1 };
    match b.random.below(14) {
        // Depthwise.
        0 => {
            let y = layer(b, x, c, 3, stride, c);
            activation(b, &y)
        }
        // Grouped, two filters for every channel.
        1 => layer(b, x, 2 * c, 3, 1, c),
        // Residual: an earlier value of the same shape, or a projection that is computed later than the branch.
        2 | 3 => {
            let y = layer(b, x, filters, 3, stride, 1);
            let same: Vec<String> = values.iter().filter(|v| b.shape(v) == b.shape(&y)).cloned().collect();
            let other = if same.is_empty() { layer(b, x, filters, 1, stride, 1) } else { same[b.random.below(same.len())].clone() };
            let operands = if b.random.one_in(2) { [&y, &other] } else { [&other, &y] };
            let sum = b.node("Add", &[operands[0], operands[1]], vec![]);
            activation(b, &sum)
        }
        // Squeeze and excitation.
        4 => {
            let y = b.node("GlobalAveragePool", &[x], vec![]);
            let y = layer(b, &y, 1 + c / 4, 1, 1, 1);
            let y = activation(b, &y);
            let y = layer(b, &y, c, 1, 1, 1);
            let y = b.node("HardSigmoid", &[&y], vec![float("alpha", 1.0 / 6.0)]);
            b.node("Mul", &[&y, x], vec![])
        }
        5 if h > 2 && w > 2 => {
            let kind = b.random.pick(&["MaxPool", "AveragePool"]);
            let (k, s, p) = (2 + b.random.below(2) as i64, 1 + b.random.below(2) as i64, b.random.below(2) as i64);
            let mut a = vec![ints("kernel_shape", &[k, k]), ints("strides", &[s, s]), ints("pads", &[p, 0, 0, p])];
            a.push(int("ceil_mode", b.random.below(2) as i64));
            if kind == "AveragePool" {
                a.push(int("count_include_pad", b.random.below(2) as i64));
            }
            b.node(kind, &[x], a)
        }
        // Branches joined; of 16 channels they are computed in place.
        6 | 7 => {
            let parts: Vec<String> = (0..2 + b.random.below(2)).map(|_| layer(b, x, filters, k, 1, 1)).collect();
            let mut parts: Vec<String> = parts.iter().map(|p| activation(b, p)).collect();
            if b.random.one_in(3) {
                parts.push(x.to_owned());
            }
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            b.node("Concat", &parts, vec![int("axis", 1)])
        }
        // The shortcut that halves the map and fills up channels.
        8 if h > 2 && w > 2 => {
            let y = [2, 3].into_iter().fold(x.to_owned(), |y, axis| {
                let parts = [vec![0], vec![i64::MAX], vec![axis], vec![2]].map(|v| b.stored(&Tensor::vec_i64(v)));
                b.node("Slice", &[&y, &parts[0], &parts[1], &parts[2], &parts[3]], vec![])
            });
            let pads = b.stored(&Tensor::vec_i64(vec![0, 3, 0, 0, 0, 5, 0, 0]));
            b.node("Pad", &[&y, &pads], vec![])
        }
        // Padding apart from its convolution.
        9 => {
            let pads = b.stored(&Tensor::vec_i64(vec![0, 0, 0, 1, 0, 0, 2, 1]));
            let y = b.node("Pad", &[x, &pads], vec![]);
            let y = b.conv(&y, filters, 1, stride, 0, 1, 0, 1);
            activation(b, &y)
        }
        // Numbers per channel, folded where a convolution stands before.
        10 => {
            let p = b.tensor(&[1, c, 1, 1], 1.0, 0.5);
            let kind = b.random.pick(&["Mul", "Add", "Sub", "Div"]);
            let y = b.node(kind, &[x, &p], vec![]);
            let y = b.normalization(&y);
            activation(b, &y)
        }
        11 if h * w < 100 => {
            let scales = b.stored(&Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]));
            let a = vec![text("mode", "nearest"), text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")];
            b.node("Resize", &[x, "", &scales], a)
        }
        12 => {
            let y = b.node("Transpose", &[x], vec![ints("perm", &[0, 1, 3, 2])]);
            activation(b, &y)
        }
        _ => {
            let y = layer(b, x, filters, k, stride, 1);
            activation(b, &y)
        }
    }
}

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
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(60), ..ProptestConfig::default() })]

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
    }
}
