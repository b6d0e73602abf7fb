//! Grouped convolutions in the latency table and in the problem the solvers see: whole partitions, or the same channels of all of
//! them, cost what they take.

// The text form of graphs names the crate as its own tests do.
extern crate graph as secateur_graph;

mod support;

use graph::InputShapes;
use secateur::{Analysis, Forecast, LayerCosts, Macs, Space, Widths};
use support::text::parse;
use support::{choices, macs, magnitude, timed};

/// A depthwise convolution with two outputs per channel, one with the same channels of two partitions, and their transposes.
const NETWORKS: [&str; 3] = [
    "in x 1x3x8x8
     a = conv x out=6
     d = conv a group=6 out=12
     s = conv d out=8
     p = conv s group=2 out=12
     y = conv p out=5
     out y",
    "in x 1x3x8x8
     a = conv x out=8
     s = conv a group=2 out=12
     r = relu s
     d = conv r group=12
     t = conv d out=8
     y = conv t out=5
     out y",
    "in x 1x3x4x4
     a = conv x out=6
     t = convt a group=6 out=12 k=2 stride=2 pad=0
     c = conv t out=8
     u = convt c group=2 out=8 k=2 stride=2 pad=0
     y = conv u out=5
     out y",
];

#[test]
fn the_table_and_the_count_are_those_of_the_network_that_surgery_makes() {
    for text in NETWORKS {
        let a = Analysis::new(parse(text), &InputShapes::batch(1)).expect("analysis");
        let (table, counted) = (timed(&a, &[]), Macs::new(&a.graph, &a.facts, &a.priced));
        let space = Space::new(&a.groups, 1, false);
        let widths = Widths::new(&a.groups, &a.priced, &space);
        let forecast = Forecast::new(&table, &a, &a, &space);
        assert!(space.groups.len() >= 3, "{text}");
        for choice in choices(&space) {
            let small = a.apply(&space.decision(&a.groups, &magnitude(&a), &choice)).expect("cut");
            let expected = macs(&small);
            let sum: f64 = widths.all(&space, &choice).iter().enumerate().map(|(l, &(i, o))| counted.cost(l, i, o)).sum();
            assert!((sum - expected).abs() < 1e-6, "{text}\n{choice:?}: counted {sum}, {expected} made");
            let predicted = forecast.seconds(&choice);
            assert!((predicted / (1e-9 * expected) - 1.0).abs() < 1e-6, "{text}\n{choice:?}: {predicted} s for {expected}");
        }
    }
}
