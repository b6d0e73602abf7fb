//! The problem that the solvers see is the network that surgery makes.

use graph::InputShapes;
use proptest::prelude::*;
use secateur::{
    Analysis, Criterion, LayerCosts, Macs, Saliency, Sources, Space, Values, Widths, dense_layer, from_prefixes, joint_problem, linearised,
    residual_network,
};

fn network() -> Analysis {
    Analysis::new(residual_network(&[8, 16], 2, 5, 3), &InputShapes::batch(1)).expect("analysis")
}

fn magnitude(a: &Analysis) -> Saliency {
    Sources::find(&a.graph, &a.groups, Criterion::Magnitude).from_weights(&a.model, &a.groups)
}

/// A cost that depends on both widths and is not monotone.
struct Steps;

impl LayerCosts for Steps {
    fn cost(&self, layer: usize, i: usize, o: usize) -> f64 {
        if i == 0 || o == 0 {
            0.0
        } else {
            1.0 + layer as f64 + (i.div_ceil(3) * o.div_ceil(5)) as f64 + if o % 4 == 1 { 2.5 } else { 0.0 }
        }
    }
}

/// A choice in which groups inside a branch are 0 exactly when it is gone.
fn consistent(space: &Space, raw: &[usize]) -> Vec<usize> {
    let n = space.groups.len();
    let present: Vec<usize> = (0..space.branches.len()).map(|b| raw[n + b] % 2).collect();
    let groups = space.groups.iter().enumerate().map(|(k, g)| match g.branch {
        Some(b) if present[b] == 0 => 0,
        Some(_) => 1 + raw[k] % (g.counts.len() - 1),
        None => raw[k] % g.counts.len(),
    });
    groups.chain(present.iter().copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_problem_costs_what_the_layers_cost(raw in prop::collection::vec(0usize..64, 32), chunk in 1usize..5) {
        let a = network();
        let space = Space::new(&a.groups, chunk, true);
        prop_assert!(!space.branches.is_empty());
        let widths = Widths::new(&a.groups, &a.layers, &space);
        let values = Values::kept_saliency(&space, &magnitude(&a));
        let problem = joint_problem(&space, &widths, &a.layers, &values, &Steps);
        problem.validate().expect("valid");
        let choice = consistent(&space, &raw);
        let expected: f64 = widths.all(&space, &choice).iter().enumerate().map(|(l, &(i, o))| Steps.cost(l, i, o)).sum();
        prop_assert!((problem.cost(&choice) - expected).abs() < 1e-9);
        prop_assert!((problem.value(&choice) - values.total(&choice)).abs() < 1e-9);
    }

    #[test]
    fn surgery_leaves_the_widths_that_were_chosen(raw in prop::collection::vec(0usize..64, 32), chunk in 1usize..5) {
        let a = network();
        let space = Space::new(&a.groups, chunk, true);
        let widths = Widths::new(&a.groups, &a.layers, &space);
        let choice = consistent(&space, &raw);
        let smaller = a.apply(&space.decision(&a.groups, &magnitude(&a), &choice)).expect("surgery");
        let smaller = Analysis::new(smaller, &InputShapes::batch(1)).expect("analysis");
        let expected = widths.all(&space, &choice);
        let left: Vec<_> = a.layers.iter().zip(&expected).filter(|(_, w)| w.0 > 0).map(|(l, w)| (a.graph.node(l.node).name.clone(), *w)).collect();
        let found: Vec<_> = smaller.layers.iter().map(|l| {
            let (i, o, _) = dense_layer(&smaller.graph, &smaller.facts, l.node);
            (smaller.graph.node(l.node).name.clone(), (i, o))
        }).collect();
        prop_assert_eq!(left, found);
    }

    #[test]
    fn kept_weights_grow_with_every_channel_and_mixing_is_a_sum_of_shares(raw in prop::collection::vec(0usize..64, 32), chunk in 1usize..5) {
        let a = network();
        let space = Space::new(&a.groups, chunk, true);
        let (weights, saliency) = (Values::kept_weights(&space, &a), Values::kept_saliency(&space, &magnitude(&a)));
        prop_assert!(weights.groups.iter().all(|v| v.windows(2).all(|w| w[0] < w[1])), "{weights:?}");
        let share = |v: &Values, choice: &[usize]| v.total(choice) / v.total(&space.keep_all());
        let (mixed, choice) = (saliency.mixed(&weights, &space), consistent(&space, &raw));
        prop_assert!((mixed.total(&choice) - share(&saliency, &choice) - share(&weights, &choice)).abs() < 1e-9);
    }

    #[test]
    fn joint_keeps_at_least_what_exact_keeps_and_exact_what_published_keeps(share in 0.3f64..0.98) {
        let a = network();
        let space = Space::new(&a.groups, 2, false);
        let widths = Widths::new(&a.groups, &a.layers, &space);
        let values = Values::kept_saliency(&space, &magnitude(&a));
        let costs = Macs::new(&a.graph, &a.facts, &a.layers);
        let budget = share * Macs::total(&a);
        let (groups, fixed) = linearised(&space, &widths, &a.layers, &values, &costs, &space.keep_all());
        if fixed > budget { return Ok(()); }
        let published = search::knapsack::published(&groups, budget - fixed, 20_000).expect("published");
        let exact = search::knapsack::exact(&groups, budget - fixed, 20_000).expect("exact");
        let joint = search::joint::solve(&joint_problem(&space, &widths, &a.layers, &values, &costs), budget, &search::Limits::default()).expect("joint");
        let kept = |p: &search::knapsack::Prefixes| values.total(&from_prefixes(&space, &p.kept));
        prop_assert!(kept(&exact) >= kept(&published) - 1e-9);
        prop_assert!(joint.value >= kept(&exact) - 1e-9, "{} {}", joint.value, kept(&exact));
    }
}
