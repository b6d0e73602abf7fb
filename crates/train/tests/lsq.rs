//! Layers fitted by least squares: what a layer reads and gives is told apart by forward passes of the interpreter alone.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;

use graph::{Model, Tensor};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_train::data::Batch;
use secateur_train::lsq::{Fitted, least_squares};
use secateur_train::{Mode, Network};
use support::{Builder, int, ints};

fn inputs(shape: &[usize], seed: u64) -> Batch {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let inputs = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    Batch { inputs, shape: shape.to_vec(), labels: Vec::new() }
}

fn outputs(network: &Network, batch: &Batch) -> Vec<f32> {
    let x = Tensor::f32(batch.shape.clone(), batch.inputs.clone());
    network.forward(&[x], Mode::Eval).unwrap()[0].to_f32().unwrap()
}

/// Largest difference over the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

/// Every weight with all its outputs.
fn all_kept(model: &Model, weights: &[(&str, usize)]) -> HashMap<String, Vec<usize>> {
    let size = |name: &str, axis: usize| model.tensor(name).unwrap().unwrap().shape[axis];
    weights.iter().map(|&(n, axis)| (n.to_owned(), (0..size(n, axis)).collect())).collect()
}

/// Fits a network of random weights to one of other random weights: with enough samples the outputs must become equal, on
/// inputs never seen too, whatever the layer reads.
fn finds(build: &dyn Fn(u64) -> Model, weights: &[(&str, usize)], shape: &[usize]) -> Vec<Fitted> {
    let (reference, mut network) = (Network::compile(&build(1)).unwrap(), Network::compile(&build(2)).unwrap());
    let batches = [inputs(shape, 3), inputs(shape, 4)];
    let fresh = inputs(shape, 5);
    assert!(difference(&outputs(&network, &fresh), &outputs(&reference, &fresh)) > 0.05);
    let fitted = least_squares(&mut network, &reference, &all_kept(&build(1), weights), &batches, 6).unwrap();
    let left = difference(&outputs(&network, &fresh), &outputs(&reference, &fresh));
    assert!(left < 2e-4, "{left}: {fitted:?}");
    fitted
}

#[derive(Debug, Clone)]
struct Case {
    groups: usize,
    per_group: [usize; 2],
    kernel: [usize; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
    pads: [i64; 4],
    size: [usize; 2],
    bias: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let two = |r: std::ops::Range<usize>| [r.clone(), r].prop_map(|a| a);
    let step = |r: std::ops::Range<i64>| [r.clone(), r].prop_map(|a| a);
    (1usize..4, two(1..4), two(1..4), step(1..4), step(1..3), [0i64..3, 0..3, 0..3, 0..3], two(7..11), any::<bool>()).prop_map(
        |(groups, per_group, kernel, stride, dilation, pads, size, bias)| Case {
            groups,
            per_group,
            kernel,
            stride,
            dilation,
            pads,
            size,
            bias,
        },
    )
}

fn conv(c: &Case, seed: u64) -> Model {
    let mut b = Builder::new(seed);
    let [i, o] = c.per_group.map(|n| n * c.groups);
    b.input("x", &[-1, i as i64, c.size[0] as i64, c.size[1] as i64]);
    b.tensor("w", &[o, c.per_group[0], c.kernel[0], c.kernel[1]], |r| r.random_range(-1.0..1.0));
    b.tensor("b", &[o], |r| r.random_range(-1.0..1.0));
    let attributes = vec![int("group", c.groups as i64), ints("strides", &c.stride), ints("dilations", &c.dilation), ints("pads", &c.pads)];
    let y = b.node("Conv", if c.bias { &["x", "w", "b"] } else { &["x", "w"] }, attributes);
    b.output(&y, &[-1, o as i64, -1, -1]);
    b.finish("conv")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn grouped_strided_dilated_and_padded_patches_are_those_of_the_forward_pass(c in case()) {
        finds(&|seed| conv(&c, seed), &[("w", 0)], &[100, c.per_group[0] * c.groups, c.size[0], c.size[1]]);
    }
}

#[test]
fn convolutions_over_one_axis_and_products_are_fitted_as_well() {
    let line = |seed| {
        let mut b = Builder::new(seed);
        b.input("x", &[-1, 3, 20]);
        b.tensor("w", &[4, 3, 5], |r| r.random_range(-1.0..1.0));
        let y = b.node("Conv", &["x", "w"], vec![ints("pads", &[2, 1])]);
        b.output(&y, &[-1, 4, 19]);
        b.finish("line")
    };
    finds(&line, &[("w", 0)], &[20, 3, 20]);
    for trans in [0, 1] {
        let gemm = move |seed| {
            let mut b = Builder::new(seed);
            b.input("x", &[-1, 7]);
            b.tensor("w", if trans == 1 { &[3, 7] } else { &[7, 3] }, |r| r.random_range(-1.0..1.0));
            b.tensor("b", &[3], |r| r.random_range(-1.0..1.0));
            let y = b.node("Gemm", &["x", "w", "b"], vec![int("transB", trans)]);
            b.output(&y, &[-1, 3]);
            b.finish("gemm")
        };
        finds(&gemm, &[("w", 1 - trans as usize)], &[60, 7]);
    }
    let matmul = |seed| {
        let mut b = Builder::new(seed);
        b.input("x", &[-1, 5, 7]);
        b.tensor("w", &[7, 3], |r| r.random_range(-1.0..1.0));
        let y = b.node("MatMul", &["x", "w"], vec![]);
        b.output(&y, &[-1, 5, 3]);
        b.finish("matmul")
    };
    finds(&matmul, &[("w", 1)], &[30, 5, 7]);
}

/// Two convolutions; of the first, the channels from `width` on are combinations of the first three.
fn redundant(width: usize) -> Model {
    let mut b = Builder::new(7);
    let mut base = Vec::new();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for _ in 0..3 * 2 * 9 {
        base.push(rng.random_range(-1.0..1.0f32));
    }
    let mixes: Vec<[f32; 3]> = (0..6).map(|_| [0; 3].map(|_| rng.random_range(-1.0..1.0))).collect();
    let row = |o: usize, k: usize| if o < 3 { base[o * 18 + k] } else { (0..3).map(|m| mixes[o][m] * base[m * 18 + k]).sum() };
    let second: Vec<f32> = (0..4 * 6 * 9).map(|_| rng.random_range(-1.0..1.0)).collect();
    b.input("x", &[-1, 2, 8, 8]);
    let mut k = 0;
    b.tensor("first", &[width, 2, 3, 3], |_| {
        k += 1;
        row((k - 1) / 18, (k - 1) % 18)
    });
    let mut k = 0;
    b.tensor("second", &[4, width, 3, 3], |_| {
        let (o, i) = (k / (width * 9), k % (width * 9));
        k += 1;
        second[o * 54 + i]
    });
    let pads = || vec![ints("pads", &[1; 4])];
    let y = b.node("Conv", &["x", "first"], pads());
    let y = b.node("Conv", &[&y, "second"], pads());
    b.output(&y, &[-1, 4, 8, 8]);
    b.finish("redundant")
}

#[test]
fn channels_that_others_can_stand_for_are_recovered_exactly() {
    let (dense, mut smaller) = (Network::compile(&redundant(6)).unwrap(), Network::compile(&redundant(3)).unwrap());
    let kept = HashMap::from([("first".to_owned(), vec![0, 1, 2]), ("second".to_owned(), vec![0, 1, 2, 3])]);
    let fresh = inputs(&[20, 2, 8, 8], 1);
    assert!(difference(&outputs(&smaller, &fresh), &outputs(&dense, &fresh)) > 0.1);
    let fitted = least_squares(&mut smaller, &dense, &kept, &[inputs(&[50, 2, 8, 8], 2)], 0).unwrap();
    let left = difference(&outputs(&smaller, &fresh), &outputs(&dense, &fresh));
    assert!(left < 1e-4, "{left}");
    // The first layer gave what it should and is as it was.
    assert_eq!(fitted.len(), 1, "{fitted:?}");
    assert!(fitted[0].before > 0.01 && fitted[0].after < 1e-7, "{fitted:?}");
}

#[test]
fn the_error_of_the_other_operand_of_a_sum_is_made_up_for() {
    // y = a·x + b·x with a disturbed and not to be touched: b alone has to give what is missing.
    let build = |disturbance: f32| {
        let mut b = Builder::new(1);
        b.input("x", &[-1, 3, 6, 6]);
        b.tensor("a", &[4, 3, 1, 1], |r| r.random_range(-1.0f32..1.0) + disturbance);
        b.tensor("b", &[4, 3, 1, 1], |r| r.random_range(-1.0..1.0));
        for (name, v) in [("scale", 0.7), ("shift", 0.2), ("mean", 0.1), ("var", 1.3)] {
            b.tensor(name, &[4], |_| v);
        }
        let first = b.node("Conv", &["x", "a"], vec![]);
        let second = b.node("Conv", &["x", "b"], vec![]);
        let second = b.node("BatchNormalization", &[&second, "scale", "shift", "mean", "var"], vec![]);
        let y = b.node("Add", &[&first, &second], vec![]);
        b.output(&y, &[-1, 4, 6, 6]);
        b.finish("sum")
    };
    let (dense, mut other) = (Network::compile(&build(0.0)).unwrap(), Network::compile(&build(0.3)).unwrap());
    let kept = HashMap::from([("b".to_owned(), vec![0, 1, 2, 3])]);
    let fresh = inputs(&[8, 3, 6, 6], 1);
    let fitted = least_squares(&mut other, &dense, &kept, &[inputs(&[40, 3, 6, 6], 2)], 0).unwrap();
    assert_eq!(fitted.len(), 1);
    let left = difference(&outputs(&other, &fresh), &outputs(&dense, &fresh));
    assert!(left < 2e-4, "{left}");
}
