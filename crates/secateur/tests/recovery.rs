//! Recovery without gradients: laws on random cuts, and what is told of it.

use std::collections::HashMap;

use graph::{Decision, InputShapes, Model};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur::{Analysis, Learning, Recover, Settings, kept_outputs, residual_network};
use train::data::{DataSpec, Dataset, Normalization, Options, Split};
use train::lsq::least_squares;
use train::{Network, agree};

/// A residual network whose statistics are those of the images it is shown.
fn network(seed: u64) -> Model {
    let mut model = residual_network(&[8, 12], 1, 5, seed);
    let mut n = Network::compile(&model).expect("compiles");
    let data = data(&n, 120);
    train::bn::reestimate(&mut n, &data, 3, 30, &train::data::Augment::none(), 0).expect("statistics");
    n.write_back(&mut model).expect("writes");
    model
}

fn data(n: &Network, images: usize) -> Dataset {
    let options = Options { holdout: 0.0, ..Options::for_network(n, Normalization::unit()).expect("images") };
    Dataset::open_without_labels(&DataSpec::Synthetic { train: images, test: 60, seed: 5 }, options).expect("opens")
}

/// Every free group keeps a random half to nine tenths of its channels.
fn random_decision(a: &Analysis, seed: u64) -> Decision {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut keep = std::collections::BTreeMap::new();
    for g in a.groups.prunable() {
        let count = ((g.size as f64 * rng.random_range(0.5..0.9)) as usize).max(g.min_keep.max(1));
        let mut all = rand::seq::index::sample(&mut rng, g.size, count).into_vec();
        all.sort_unstable();
        keep.insert(g.id, all);
    }
    Decision { keep, ..Decision::keep_all() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn least_squares_do_not_make_the_outputs_worse_on_the_inputs_they_are_solved_on(seed in 0u64..1000) {
        let dense = Analysis::new(network(seed), &InputShapes::batch(1)).expect("analyses");
        let decision = random_decision(&dense, seed);
        let reference = Network::compile(&dense.model).expect("compiles");
        let mut smaller = Network::compile(&dense.apply(&decision).expect("cuts")).expect("compiles");
        let kept = kept_outputs(&dense.model, |m| Analysis::new(m, &InputShapes::batch(1))?.apply(&decision)).expect("kept");
        let data = data(&reference, 120);
        // All of a class's test images are in these batches, too.
        let batches: Vec<_> = (0..3).map(|b| data.batch(Split::Train, b * 40..(b + 1) * 40).expect("batch")).collect();
        let before = agree(&smaller, &reference, &data, Split::Train, None).expect("agreement");
        let fitted = least_squares(&mut smaller, &reference, &kept, &batches, seed).expect("fits");
        let after = agree(&smaller, &reference, &data, Split::Train, None).expect("agreement");
        prop_assert!(after.loss <= before.loss, "{} → {}: {:?}", before.loss, after.loss, fitted);
        prop_assert!(!fitted.is_empty() && fitted.iter().all(|f| f.after <= f.before), "{fitted:?}");
    }

    #[test]
    fn what_a_layer_kept_is_what_the_decision_says(seed in 0u64..1000) {
        let dense = Analysis::new(residual_network(&[8, 12], 1, 5, seed), &InputShapes::batch(1)).expect("analyses");
        let decision = random_decision(&dense, seed);
        let smaller = dense.apply(&decision).expect("cuts");
        let kept = kept_outputs(&dense.model, |m| Analysis::new(m, &InputShapes::batch(1))?.apply(&decision)).expect("kept");
        let mut expected: HashMap<String, Vec<usize>> = HashMap::new();
        for g in dense.groups.prunable() {
            for m in g.members.iter().filter(|m| m.axis == 0 && dense.graph.is_stored(m.value)) {
                let name = &dense.graph.value(m.value).name;
                let mut all: Vec<usize> = decision.kept(g).into_iter().flat_map(|c| m.coordinates[c].clone()).collect();
                all.sort_unstable();
                expected.insert(name.clone(), all);
            }
        }
        let shape = |name: &str| smaller.tensor(name).expect("stored").expect("decodes").shape;
        for (name, kept) in &kept {
            prop_assert_eq!(kept.len(), shape(name)[0], "{}", name);
            if let Some(expected) = expected.get(name) {
                prop_assert_eq!(kept, expected, "{}", name);
            }
        }
        prop_assert!(kept.len() >= 6);
    }
}

fn settings(recover: Recover) -> Settings {
    let recipe = train::Recipe { epochs: 0.0, batch_size: 30, ..train::Recipe::default() };
    Settings { preprocess: "unit".into(), recover, calibration_images: 96, recipe, ..Settings::default() }
}

#[test]
fn the_best_on_held_out_inputs_goes_on_and_drawn_inputs_leave_statistics_alone() {
    let dense = Analysis::new(network(3), &InputShapes::batch(1)).expect("analyses");
    let decision = random_decision(&dense, 3);
    let model = dense.apply(&decision).expect("cuts");
    let cut = |m| Analysis::new(m, &InputShapes::batch(1))?.apply(&decision);
    for (data, tried) in [("synthetic:150,50,5", 4), ("drawn:150,1", 2)] {
        let s = Settings { loss: secateur::LossKind::Distill, ..settings(Recover::Lsq) };
        let learning = Learning::open(data, &s, &dense.model).expect("opens");
        assert_eq!(learning.drawn().is_some(), data.starts_with("drawn"));
        let found = learning.recover(&model, cut, &s).expect("recovers");
        assert_eq!(found.steps.len(), tried, "{:?}", found.steps);
        assert!(found.steps.iter().all(|r| r.score.figure == secateur::Figure::Agreement));
        let taken = found.steps.iter().find(|r| r.taken).expect("one is taken");
        assert!(found.steps.iter().all(|r| r.score.loss >= taken.score.loss));
        assert!(taken.what.contains("least squares"), "{:?}", found.steps);
        // What is told is true of the network that is handed on.
        let again = learning.score(&found.model, Split::Holdout, None).expect("scores");
        assert!((again.loss - taken.score.loss).abs() < 1e-6 * (1.0 + taken.score.loss));
    }
}
