//! Learning from another network's outputs and nothing else.
#![allow(clippy::unwrap_used)]

mod support;

use graph::Model;
use rand::RngExt;
use secateur_train::data::{Augment, DataSpec, Dataset, Normalization, Options, Split, Texture};
use secateur_train::optim::Optimizer;
use secateur_train::{Hooks, Imitation, Mode, Network, Recipe, agree, all_outputs, evaluate, fit};
use support::{Builder, ints};

fn data(n: &Network) -> Dataset {
    let options = Options::for_network(n, Normalization::unit()).unwrap();
    Dataset::open_without_labels(&DataSpec::Synthetic { train: 400, test: 60, seed: 2 }, options).unwrap()
}

/// Two outputs of different sizes and scales, as a detector has.
fn detector(seed: u64, scale: f32) -> Model {
    let mut b = Builder::new(seed);
    b.input("x", &[-1, 3, 32, 32]);
    let y = b.conv_bn("x", [3, 8], 3, 4);
    let y = b.node("Relu", &[&y], vec![]);
    for (name, o, factor) in [("boxes", 4, 1.0), ("scores", 2, scale)] {
        b.tensor(name, &[o, 8, 3, 3], |r| factor * r.random_range(-0.3..0.3));
        let z = b.node("Conv", &[&y, name], vec![ints("pads", &[1; 4])]);
        b.output(&z, &[-1, o as i64, 8, 8]);
    }
    b.finish("detector")
}

fn compile(m: &Model) -> Network {
    Network::compile(m).unwrap()
}

#[test]
fn a_network_agrees_with_itself_and_the_scale_of_an_output_does_not_matter() {
    let classifier = compile(&support::residual(&[8], 32, 4, 1));
    let (one, other) = (compile(&detector(1, 1.0)), compile(&detector(2, 1.0)));
    assert!(classifier.classifies().unwrap() && !one.classifies().unwrap());
    let d = data(&one);
    for n in [&classifier, &one] {
        let same = agree(n, n, &d, Split::Test, None).unwrap();
        assert!((same.share - 1.0).abs() < 1e-9 && same.loss < 1e-9 && same.n == 60, "{same:?}");
    }
    let apart = agree(&other, &one, &d, Split::Test, None).unwrap();
    assert!(apart.share < 0.5 && (apart.share + apart.loss - 1.0).abs() < 1e-12, "{apart:?}");
    let (big, big_other) = (compile(&detector(1, 100.0)), compile(&detector(2, 100.0)));
    let scaled = agree(&big_other, &big, &d, Split::Test, None).unwrap();
    assert!((scaled.loss - apart.loss).abs() < 1e-3 * apart.loss, "{scaled:?} {apart:?}");
    let error = agree(&classifier, &one, &d, Split::Test, None).unwrap_err().to_string();
    assert!(error.contains("same outputs"), "{error}");
    assert!(evaluate(&classifier, &d, Split::Test, None).unwrap_err().to_string().contains("no labels"));
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    let (reference, n) = (compile(&detector(1, 3.0)), compile(&detector(2, 3.0)));
    let d = data(&n);
    let batch = d.batch(Split::Train, 0..6).unwrap();
    let how = Imitation::of(&reference, &d, 4.0, 0).unwrap();
    let targets = all_outputs(&reference, &batch).unwrap();
    let loss = |n: &Network| how.backward(n, &batch, &targets, Mode::Eval, 0).unwrap();
    let at = loss(&n);
    let own = how.backward(&reference, &batch, &targets, Mode::Eval, 0).unwrap();
    assert!(own.loss < 1e-9 && own.gradients.iter().flatten().all(|g| g.abs() < 1e-4));
    for (p, gradient) in n.params().iter().zip(&at.gradients) {
        let (k, g) = gradient.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        let moved = |step: f32| {
            let mut m = n.clone();
            let i = m.params().iter().position(|q| q.name == p.name).unwrap();
            m.params_mut()[i].values[k] += step;
            loss(&m).loss
        };
        let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((slope - f64::from(*g)).abs() < 0.05 * slope.abs().max(1e-2), "{}: {slope} and {g}", p.name);
    }
}

#[test]
fn imitation_learns_without_labels() {
    let reference = compile(&detector(1, 5.0));
    let d = data(&reference);
    let optimizer = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let recipe = Recipe {
        epochs: 6.0,
        batch_size: 20,
        lr: 0.01,
        warmup_steps: 5,
        imitate: true,
        optimizer,
        augment: Augment::none(),
        ..Recipe::default()
    };
    let mut n = compile(&detector(2, 5.0));
    let before = agree(&n, &reference, &d, Split::Test, None).unwrap();
    fit(&mut n, Some(&reference), &d, &recipe, &mut Hooks::default()).unwrap();
    let after = agree(&n, &reference, &d, Split::Test, None).unwrap();
    assert!(after.loss < 0.5 * before.loss, "{before:?} → {after:?}");
    let error = fit(&mut n, None, &d, &recipe, &mut Hooks::default()).unwrap_err().to_string();
    assert!(error.contains("teacher"), "{error}");
    let error = fit(&mut n, Some(&reference), &d, &Recipe { imitate: false, ..recipe }, &mut Hooks::default()).unwrap_err().to_string();
    assert!(error.contains("no labels"), "{error}");
}

#[test]
fn projections_tell_what_the_outputs_depend_on() {
    // A channel that nothing reads has no saliency; one that is read has.
    let mut n = compile(&detector(1, 1.0));
    for name in ["boxes", "scores"] {
        let i = n.params().iter().position(|p| p.name == name).unwrap();
        let outputs = n.params()[i].shape[0];
        for o in 0..outputs {
            n.params_mut()[i].values[o * 72..o * 72 + 9].fill(0.0);
        }
    }
    let d = data(&n);
    let how = Imitation::of(&n, &d, 4.0, 0).unwrap();
    let step = how.project(&n, &d.batch(Split::Train, 0..16).unwrap(), Mode::Eval, 3).unwrap();
    let scale = n.params().iter().position(|p| p.name == "scale0").unwrap();
    let g = &step.gradients[scale];
    // Some of the others may be silent by their own Relu.
    assert!(g[0] == 0.0 && g[1..].iter().filter(|g| g.abs() > 1e-6).count() >= 4, "{g:?}");
}

#[test]
fn the_texture_that_a_network_was_fitted_to_is_found_again() {
    let mut n = compile(&support::residual(&[8, 8], 32, 4, 1));
    let options = Options { holdout: 0.0, ..Options::for_network(&n, Normalization::unit()).unwrap() };
    let texture = Texture { roughness: 1.0, contrast: 25.0 };
    let own = Dataset::drawn(options.clone(), texture, 200, 9).unwrap();
    secateur_train::bn::reestimate(&mut n, &own, 4, 40, &Augment::none(), 0).unwrap();
    let (found, distance) = Texture::matched(&n, &options, 1).unwrap().unwrap();
    assert_eq!(found, texture);
    assert!(distance < 0.1, "{distance}");
}
