//! Damaged networks are compiled and run, or refused with a cause: never a panic, a hang, or memory out of proportion.
#![allow(clippy::unwrap_used)]

// The name under which the damage is shared with the tests of that crate.
extern crate graph as secateur_graph;
#[path = "../../graph/tests/support/mutate.rs"]
mod mutated;
mod support;

use graph::ops::Op;
use graph::{Error, Facts, Graph, InputShapes, Model, Tensor};
use mutated::tally;
use secateur_engine::Engine;
use support::build::{Builder, ints, text};
use support::networks::network;

/// Elements of the largest value that is computed here: activations take the memory that they take.
const LARGEST: usize = 1 << 16;

/// What the engine does with a file.
fn compile(bytes: Vec<u8>) -> graph::Result<usize> {
    let model = Model::from_bytes(bytes, "mutated")?;
    let graph = Graph::new(&model)?;
    let (shapes, _) = InputShapes::default().completed(&model, &graph)?;
    let facts = Facts::infer(&model, &graph, &shapes)?;
    let values = (0..graph.values.len()).filter_map(|v| facts.get(graph::ValueId(v as u32)));
    let padding = graph.nodes.iter().filter_map(|n| if let Op::Conv(c) = &n.op { c.window.pads.iter().max() } else { None });
    if values.map(graph::Fact::len).chain(padding.copied()).any(|n| n > LARGEST) {
        return Err(Error::Graph("it is larger than what is computed here".into()));
    }
    let refused = |e: secateur_engine::Error| Error::Graph(e.to_string());
    let engine = Engine::new();
    engine.refused(&model, &shapes).map_err(refused)?;
    let mut compiled = engine.compile(&model, &shapes).map_err(refused)?;
    compiled.run();
    Ok(compiled.layers().len())
}

#[test]
fn damaged_networks_are_compiled_or_refused() {
    let (mut ran, mut refused) = (0, 0);
    for k in 0..50 {
        let file = network(k).model.to_bytes().unwrap();
        let (r, n) = tally(&format!("network {k}"), &file, 1000 * k..1000 * k + 30, compile);
        (ran, refused) = (ran + r, refused + n);
    }
    // Both happen, or the mutations are of no use.
    assert!(ran > 50 && refused > 50, "{ran} ran, {refused} refused");
}

/// Nodes without anything to compute are refused by name, before their kernels are asked for.
#[test]
fn what_is_empty_is_refused() {
    let refused = |b: &Builder, shape: [usize; 4]| {
        let shapes = InputShapes { batch: None, shapes: vec![("x".into(), shape.to_vec())] };
        Engine::new().refused(&b.model, &shapes)
    };
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let mut b = Builder::new(1);
        let x = b.input("x", &[1, 4, 3, 5]);
        let pads = b.stored(&Tensor::vec_i64(vec![0, 0, 1, 1, 0, 0, 1, 1]));
        let y = b.node("Pad", &[&x, &pads], vec![text("mode", mode)]);
        b.output(&y);
        let found = refused(&b, [1, 4, 0, 5]).unwrap();
        assert!(found.len() == 1 && found[0].1.to_string().contains("no elements"), "{mode}: {found:?}");
    }
    let mut b = Builder::new(1);
    let x = b.input("x", &[1, 4, 3, 5]);
    let scales = b.stored(&Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]));
    let y = b.node("Resize", &[&x, "", &scales], vec![]);
    b.output(&y);
    assert_eq!(refused(&b, [1, 4, 0, 5]).unwrap().len(), 1);
    // Layers without filters are no layers.
    let mut b = Builder::new(1);
    let x = b.input("x", &[1, 4, 3, 5]);
    let w = b.tensor(&[0, 4, 1, 1], 0.0, 1.0);
    let y = b.node("Conv", &[&x, &w], vec![ints("kernel_shape", &[1, 1])]);
    b.output(&y);
    let e = refused(&b, [1, 4, 3, 5]).unwrap_err().to_string();
    assert!(e.contains("empty"), "{e}");
}
