//! Damaged networks are compiled, run and trained, or refused with a cause: never a panic, a hang, or memory out of proportion.
#![allow(clippy::unwrap_used)]

// The name under which the damage is shared with the tests of that crate.
extern crate graph as secateur_graph;
#[path = "../../graph/tests/support/mutate.rs"]
mod mutated;
mod support;

use burn_backend::DType;
use burn_flex::Flex;
use graph::ops::{Op, Window};
use graph::{Error, Model, Tensor};
use mutated::{LONGEST, Outcome, judge_by, tally};
use secateur_train::loss::Loss;
use secateur_train::{Mode, Network, backward_with};
use support::{Builder, int, ints, residual};

/// Elements of the largest value that is computed here, and of a square of the widest padding or reach: values take the memory
/// that they take.
const LARGEST: usize = 1 << 16;

/// What training does with a file.
fn compile(bytes: Vec<u8>) -> graph::Result<usize> {
    let model = Model::from_bytes(bytes, "mutated")?;
    let refused = |e: secateur_train::Error| Error::Graph(e.to_string());
    let network = Network::compile(&model).map_err(refused)?;
    let window = |w: &Window| w.pads.iter().chain(&w.dilations).chain(&w.strides).copied().max().unwrap_or(0);
    let windows = network.graph().nodes.iter().map(|n| match &n.op {
        Op::Conv(c) => window(&c.window),
        Op::ConvTranspose(c) => window(&c.window),
        Op::Pool(p) => window(&p.window),
        _ => 0,
    });
    let shape = network.input_shape(2).map_err(refused)?;
    let input = shape.iter().product();
    let stored = network.params().iter().map(|p| p.values.len());
    let computed = network.largest_value().map_err(refused)?;
    if windows.map(|w| w.saturating_mul(w)).chain(stored).chain([input, computed]).any(|n| n > LARGEST) {
        return Err(Error::Graph("it is larger than what is computed here".into()));
    }
    let values = vec![0.5; input];
    network.forward(&[Tensor::f32(shape.clone(), values.clone())], Mode::Eval).map_err(refused)?;
    backward_with::<Flex>(&network, vec![(shape, values)], Mode::Train, DType::F32, 0, |outputs| {
        Ok(outputs.iter().map(|o| Some(Loss { value: 0.0, gradient: vec![1.0; o.len()] })).collect())
    })
    .map_err(refused)?;
    Ok(network.params().len())
}

/// Most operators that are trained, on images and on tokens.
fn networks() -> [Model; 3] {
    let mut b = Builder::new(1);
    b.input("x", &[-1, 4, 8, 8]);
    b.tensor("w", &[6, 4, 3, 3], |_| 0.1);
    b.tensor("b", &[6], |_| 0.1);
    b.tensor("t", &[6, 2, 2, 2], |_| 0.1);
    b.tensor("slope", &[6, 1, 1], |_| 0.1);
    b.stored("pads", &Tensor::i64([8], vec![0, 0, 1, 1, 0, 0, 1, 1]));
    b.stored("sizes", &Tensor::i64([2], vec![2, 4]));
    b.stored("scales", &Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]));
    let y = b.node("Pad", &["x", "pads"], vec![]);
    let y = b.node("Conv", &[&y, "w", "b"], vec![ints("strides", &[2, 1]), ints("dilations", &[1, 2])]);
    let y = b.node("PRelu", &[&y, "slope"], vec![]);
    b.node_to("Split", &[&y, "sizes"], &["left", "right"], vec![int("axis", 1)]);
    let y = b.node("Concat", &["right", "left"], vec![int("axis", 1)]);
    let y = b.node("ConvTranspose", &[&y, "t"], vec![int("group", 3), ints("strides", &[2, 2])]);
    let y = b.node("MaxPool", &[&y], vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
    let y = b.node("Resize", &[&y, "", "scales"], vec![]);
    let y = b.node("AveragePool", &[&y], vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4])]);
    let y = b.node("ReduceMean", &[&y], vec![ints("axes", &[2, 3]), int("keepdims", 0)]);
    b.output(&y, &[-1, 6]);
    let images = b.finish("images");

    let mut b = Builder::new(2);
    b.input("x", &[-1, 4, 6]);
    b.tensor("w", &[8, 6], |_| 0.1);
    for name in ["scale", "shift"] {
        b.tensor(name, &[8], |_| 0.5);
    }
    b.stored("heads", &Tensor::i64([4], vec![0, 0, 2, 4]));
    b.stored("third", &Tensor::i64([2], vec![0, 2]));
    for (name, at) in [("start", 1), ("end", 4), ("axis", 1)] {
        b.stored(name, &Tensor::i64([1], vec![at]));
    }
    let w = b.node("Transpose", &["w"], vec![ints("perm", &[1, 0])]);
    let y = b.node("MatMul", &["x", &w], vec![]);
    let y = b.node("LayerNormalization", &[&y, "scale", "shift"], vec![]);
    let y = b.node("Reshape", &[&y, "heads"], vec![]);
    let q = b.node("Transpose", &[&y], vec![ints("perm", &[0, 2, 1, 3])]);
    let k = b.node("Transpose", &[&y], vec![ints("perm", &[0, 2, 3, 1])]);
    let y = b.node("MatMul", &[&q, &k], vec![]);
    let y = b.node("Softmax", &[&y], vec![int("axis", 3)]);
    let y = b.node("MatMul", &[&y, &q], vec![]);
    let y = b.node("Gather", &[&y, "third"], vec![int("axis", 2)]);
    let y = b.node("Slice", &[&y, "start", "end", "axis"], vec![]);
    let y = b.node("Flatten", &[&y], vec![]);
    b.output(&y, &[-1, 8]);
    [images, b.finish("tokens"), residual(&[4, 6], 8, 3, 1)]
}

#[test]
fn damaged_networks_are_trained_or_refused() {
    for model in networks() {
        let file = model.to_bytes().unwrap();
        assert_eq!(judge_by(file.clone(), LONGEST, compile), Outcome::Read);
        let name = model.graph_proto().name();
        let (trained, refused) = tally(name, &file, 0..400, compile);
        // Both happen, or the mutations are of no use.
        assert!(trained > 20 && refused > 20, "{name}: {trained} trained, {refused} refused");
    }
}
