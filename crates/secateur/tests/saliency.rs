//! Where saliency is read from, whatever form a file keeps its weights in.

#[path = "../../train/tests/support/mod.rs"]
mod support;

use graph::{InputShapes, Model};
use secateur::{Analysis, Criterion, Saliency, Sources};
use support::Builder;

/// Two layers; `first` makes the weight of the first one, of shape 4 x 3 x 1 x 1.
fn network(first: impl FnOnce(&mut Builder) -> String) -> Model {
    let mut b = Builder::new(1);
    b.input("x", &[-1, 3, 4, 4]);
    let w = first(&mut b);
    b.tensor("last", &[5, 4, 1, 1], |_| 0.1);
    let y = b.node("Conv", &["x", &w], vec![]);
    let y = b.node("Relu", &[&y], vec![]);
    let y = b.node("Conv", &[&y, "last"], vec![]);
    b.output(&y, &[-1, 5, 4, 4]);
    b.finish("forms")
}

fn magnitude(model: Model) -> Vec<f64> {
    let a = Analysis::new(model, &InputShapes::batch(1)).expect("analysis");
    let s: Saliency = Sources::find(&a.graph, &a.groups, Criterion::Magnitude).from_weights(&a.model, &a.groups);
    // The channels between the two layers, in order: nothing couples those of two halves.
    let all: Vec<f64> = a.groups.prunable().flat_map(|g| s.channels[&g.id].clone()).collect();
    assert_eq!(all.len(), 4);
    all
}

/// Four filters of norms 1, 2, 3 and 4.
fn filters(k: usize) -> impl FnMut() -> f32 {
    let mut at = 3 * k;
    move || {
        at += 1;
        ((at - 1) / 3 + 1) as f32 / 3f32.sqrt()
    }
}

#[test]
fn weights_computed_from_stored_tensors_tell_of_their_channels() {
    let stored = magnitude(network(|b| {
        let mut next = filters(0);
        b.tensor("w", &[4, 3, 1, 1], |_| next());
        "w".into()
    }));
    assert!(stored.iter().zip([1.0, 2.0, 3.0, 4.0]).all(|(s, n)| (s - n).abs() < 1e-6), "{stored:?}");
    let halves = magnitude(network(|b| {
        for (name, from) in [("left", 0), ("right", 2)] {
            let mut next = filters(from);
            b.tensor(name, &[2, 3, 1, 1], |_| next());
        }
        b.node("Concat", &["left", "right"], vec![support::int("axis", 0)])
    }));
    assert_eq!(halves, stored);
    // A direction and a length, as weight normalisation keeps them: the longer, the more it is worth.
    let lengths = magnitude(network(|b| {
        b.tensor("direction", &[4, 3, 1, 1], |_| 1.0 / 3f32.sqrt());
        let mut next = 0.0;
        b.tensor("length", &[4, 1, 1, 1], |_| {
            next += 1.0;
            next
        });
        b.node("Mul", &["direction", "length"], vec![])
    }));
    assert!(lengths.windows(2).all(|w| 0.0 < w[0] && w[0] < w[1]), "{lengths:?}");
}
