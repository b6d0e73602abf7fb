//! The laws that relate the solvers, on a problem of ResNet-101's size.

#![allow(clippy::unwrap_used)]

#[path = "../benches/network/mod.rs"]
mod network;

use network::Network;
use secateur_search::knapsack::{self, Group, Prefixes};
use secateur_search::{Error, Limits, Stop, joint};

type Solver = fn(&[Group], f64, usize) -> Result<Prefixes, Error>;

fn scheduled(network: &Network, budget: f64, steps: usize, solver: Solver) -> (f64, f64) {
    let mut widths = network.dense();
    let dense = network.latency(&widths);
    for step in 1..=steps {
        let budget = dense * (budget / dense).powf(step as f64 / steps as f64);
        widths = solver(&network.linearised(&widths), budget, 2000).unwrap().kept;
    }
    (network.kept(&widths), network.latency(&widths))
}

#[test]
fn joint_keeps_most_then_exact_then_published() {
    let network = Network::resnet101(7);
    let dense = network.latency(&network.dense());
    let (widths, removal) = (network.joint(false), network.joint(true));
    let groups = network.linearised(&network.dense());
    for target in [0.80, 0.55, 0.30] {
        let budget = target * dense;
        let joint = joint::solve(&widths, budget, &Limits::default()).unwrap();
        let with_removal = joint::solve(&removal, budget, &Limits::default()).unwrap();
        for solution in [&joint, &with_removal] {
            assert_eq!(solution.stop, Stop::Optimal);
            assert!(solution.cost <= budget * (1.0 + 1e-12));
        }
        assert!((network.latency(&joint.choice) - joint.cost).abs() < 1e-6);
        assert!(with_removal.value >= joint.value - 1e-9);
        for (steps, solver) in [(1, knapsack::exact as Solver), (10, knapsack::exact), (10, knapsack::published)] {
            let (kept, latency) = scheduled(&network, budget, steps, solver);
            assert!(latency > budget || kept <= joint.value + 1e-9, "{kept} at {latency} beats {joint:?}");
        }
        let published = knapsack::published(&groups, budget, 2000).unwrap();
        let exact = knapsack::exact(&groups, budget, 2000).unwrap();
        let continuous = knapsack::exact_continuous(&groups, budget).unwrap();
        assert!(published.value <= exact.value + 1e-9 && exact.value <= continuous.value + 1e-9);
    }
}
