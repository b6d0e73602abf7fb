//! The training loop as a whole: it learns, repeats itself, resumes, and keeps to its contracts.
#![allow(clippy::unwrap_used)]

mod support;

use std::ops::ControlFlow;

use secateur_train::data::{Augment, DataSpec, Dataset, Normalization, Options, Split};
use secateur_train::loss::Distill;
use secateur_train::optim::Optimizer;
use secateur_train::{Error, Hooks, Kind, Mode, Network, Progress, Recipe, agree, backward, bn, evaluate, fit, outputs};

fn network() -> Network {
    Network::compile(&support::residual(&[8, 16], 32, 10, 1)).unwrap()
}

fn data(network: &Network, train: usize) -> Dataset {
    let options = Options::for_network(network, Normalization::imagenet()).unwrap();
    Dataset::open(&DataSpec::Synthetic { train, test: 200, seed: 3 }, options).unwrap()
}

fn recipe() -> Recipe {
    Recipe { epochs: 1.0, batch_size: 32, lr: 0.1, warmup_steps: 5, augment: Augment::cifar(), seed: 9, ..Recipe::default() }
}

#[test]
fn training_lowers_the_loss_and_beats_chance() {
    let mut n = network();
    let d = data(&n, 1600);
    let before = evaluate(&n, &d, Split::Test, None).unwrap();
    let mut losses = Vec::new();
    let mut watch = |p: &Progress| {
        losses.push(p.loss);
        ControlFlow::Continue(())
    };
    let report =
        fit(&mut n, None, &d, &Recipe { epochs: 3.0, ..recipe() }, &mut Hooks { progress: Some(&mut watch), ..Hooks::default() }).unwrap();
    assert_eq!((report.steps, report.dropped), (3 * (1440 / 32), 0));
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    let after = evaluate(&n, &d, Split::Test, None).unwrap();
    assert!(after.top1 > 0.15 && after.loss < before.loss, "{before:?} → {after:?}");
}

#[test]
fn a_resumed_training_ends_with_the_parameters_of_an_undisturbed_one() {
    let d = data(&network(), 320);
    let mut whole = network();
    fit(&mut whole, None, &d, &Recipe { epochs: 2.0, ..recipe() }, &mut Hooks::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("training.ckpt");
    let recipe = Recipe { epochs: 2.0, ..recipe() };
    let mut parts = network();
    let mut stop = |p: &Progress| if p.step == 11 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let hooks = &mut Hooks { progress: Some(&mut stop), checkpoint: Some((file.clone(), 4)), ..Hooks::default() };
    assert!(fit(&mut parts, None, &d, &recipe, hooks).unwrap().stopped);
    let mut fresh = network();
    let report = fit(&mut fresh, None, &d, &recipe, &mut Hooks { checkpoint: Some((file.clone(), 4)), ..Hooks::default() }).unwrap();
    assert_eq!(report.steps, 18);
    assert_eq!(fresh.params(), whole.params());
    assert_eq!(fresh.running(), whole.running());
    // A damaged file is refused, not used.
    std::fs::write(&file, b"SECATRN1 and then nothing").unwrap();
    let error = fit(&mut fresh, None, &d, &recipe, &mut Hooks { checkpoint: Some((file.clone(), 4)), ..Hooks::default() }).unwrap_err();
    assert!(error.to_string().contains("training.ckpt") && error.to_string().contains("remove the file"), "{error}");
    let mut other = Network::compile(&support::residual(&[8, 12], 32, 10, 1)).unwrap();
    fit(
        &mut network(),
        None,
        &d,
        &Recipe { epochs: 0.2, ..recipe.clone() },
        &mut Hooks { checkpoint: Some((folder.path().join("b"), 1)), ..Hooks::default() },
    )
    .unwrap();
    let error =
        fit(&mut other, None, &d, &recipe, &mut Hooks { checkpoint: Some((folder.path().join("b"), 1)), ..Hooks::default() }).unwrap_err();
    assert!(error.to_string().contains("another network"), "{error}");
}

#[test]
fn batches_and_gradients_do_not_depend_on_threads() {
    let n = network();
    let d = data(&n, 320);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let batch = d.epoch(Split::Train, 32, &Augment::cifar(), 5, 2, 0).unwrap().next().unwrap().unwrap();
            let step = backward(&n, &batch, &recipe().objective(), None, Mode::Train, 0).unwrap();
            (batch, step)
        })
    };
    assert!(run(1) == run(3));
}

#[test]
fn a_network_distils_itself_without_loss_and_labels() {
    let mut student = network();
    let d = data(&student, 320);
    let teacher = student.clone();
    let recipe = Recipe { distill: Some(Distill { alpha: 1.0, temperature: 4.0 }), epochs: 0.5, ..recipe() };
    let batch = d.batch(Split::Train, 0..32).unwrap();
    let targets = outputs(&teacher, &batch).unwrap();
    let against = |n: &Network, labels: Vec<u32>| {
        let batch = secateur_train::data::Batch { labels, ..batch.clone() };
        backward(n, &batch, &recipe.objective(), Some(&targets), Mode::Eval, 0).unwrap()
    };
    let own = against(&student, batch.labels.clone());
    assert!(own.loss.abs() < 1e-9 && own.gradients.iter().flatten().all(|g| g.abs() < 1e-4), "{}", own.loss);
    // Another network has a loss, whatever the labels are.
    let other = Network::compile(&support::residual(&[8, 16], 32, 10, 2)).unwrap();
    let (right, wrong) = (against(&other, batch.labels.clone()), against(&other, vec![0; 32]));
    assert!(right.loss > 1e-3 && right == wrong, "{} {}", right.loss, wrong.loss);
    let report = fit(&mut student, Some(&teacher), &d, &recipe, &mut Hooks::default()).unwrap();
    assert!(report.loss.is_finite() && report.dropped == 0);
    let error = fit(&mut student, None, &d, &recipe, &mut Hooks::default()).unwrap_err();
    assert!(error.to_string().contains("needs a teacher"), "{error}");
}

#[test]
fn gradients_are_shown_with_their_parameters() {
    let mut n = network();
    let d = data(&n, 64);
    let mut seen = 0;
    let mut watch = |view: &secateur_train::GradView<'_>| {
        let (param, gradient) = view.get("fc.weight").unwrap();
        assert_eq!(param.values.len(), gradient.len());
        assert!(gradient.iter().any(|g| *g != 0.0));
        seen += view.images;
    };
    let recipe = Recipe { batch_size: 16, ..recipe() };
    fit(&mut n, None, &d, &recipe, &mut Hooks { on_gradients: Some(&mut watch), ..Hooks::default() }).unwrap();
    assert_eq!(seen, 48);
}

#[test]
fn reestimated_statistics_make_evaluation_agree_with_training_mode() {
    let mut n = network();
    let d = data(&n, 320);
    assert_eq!(bn::reestimate(&mut n, &d, 9, 32, &Augment::none(), 0).unwrap(), 9);
    let batch = d.batch(Split::Train, 0..200).unwrap();
    let input = graph::Tensor::f32(batch.shape.clone(), batch.inputs.clone());
    let eval = n.forward(std::slice::from_ref(&input), Mode::Eval).unwrap()[0].to_f32().unwrap();
    let train = n.forward(&[input], Mode::Train).unwrap()[0].to_f32().unwrap();
    let difference: f32 = eval.iter().zip(&train).map(|(a, b)| (a - b).abs()).sum::<f32>() / eval.len() as f32;
    let size: f32 = train.iter().map(|x| x.abs()).sum::<f32>() / train.len() as f32;
    assert!(difference < 0.1 * size, "{difference} of {size}");
}

#[test]
fn running_statistics_move_by_the_momentum_of_the_file() {
    let mut n = network();
    let d = data(&n, 320);
    let batch = d.batch(Split::Train, 0..32).unwrap();
    let step = backward(&n, &batch, &recipe().objective(), None, Mode::Train, 0).unwrap();
    n.update_running(&step.statistics);
    for (index, s) in &step.statistics {
        let r = &n.running()[*index];
        let unbiased = s.count as f32 / (s.count - 1) as f32;
        assert!((r.mean[0] - 0.1 * s.mean[0]).abs() < 1e-6);
        assert!((r.variance[0] - (0.9 + 0.1 * unbiased * s.variance[0])).abs() < 1e-5);
    }
    assert_eq!(step.statistics.len(), n.running().len());
}

#[test]
fn parameters_go_back_into_the_model_by_name() {
    let mut model = support::residual(&[8, 16], 32, 10, 1);
    let mut n = Network::compile(&model).unwrap();
    for p in n.params_mut() {
        p.values.iter_mut().for_each(|v| *v += 1.0);
    }
    n.running_mut()[0].mean[2] = 7.0;
    n.write_back(&mut model).unwrap();
    let again = Network::compile(&model).unwrap();
    assert_eq!(again.params(), n.params());
    assert_eq!(again.running(), n.running());
    let kinds: Vec<Kind> = [Kind::Weight, Kind::Scale, Kind::Shift].to_vec();
    assert_eq!(n.params().iter().take(3).map(|p| p.kind).collect::<Vec<_>>(), kinds);
}

#[test]
fn a_part_without_images_has_no_score() {
    let n = network();
    let options = Options { holdout: 0.0, ..Options::for_network(&n, Normalization::imagenet()).unwrap() };
    let d = Dataset::open(&DataSpec::Synthetic { train: 40, test: 20, seed: 3 }, options).unwrap();
    for (split, limit, told) in [(Split::Holdout, None, "Holdout"), (Split::Test, Some(0), "limit")] {
        let (scored, compared) = (evaluate(&n, &d, split, limit), agree(&n, &n, &d, split, limit));
        for error in [scored.unwrap_err(), compared.unwrap_err()] {
            assert!(matches!(&error, Error::Data { reason, .. } if reason.contains(told)), "{error}");
        }
    }
}

#[test]
fn both_optimizers_lower_the_loss_on_one_batch() {
    for optimizer in [Optimizer::default(), Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }] {
        let mut n = network();
        let d = data(&n, 64);
        let batch = d.batch(Split::Train, 0..32).unwrap();
        let mut state = secateur_train::optim::State::new(&n);
        let mut losses = Vec::new();
        for _ in 0..25 {
            let step = backward(&n, &batch, &recipe().objective(), None, Mode::Train, 0).unwrap();
            optimizer.step(n.params_mut(), &step.gradients, &mut state, 0.03, 1e-4);
            losses.push(step.loss);
        }
        assert!(losses[24] < 0.8 * losses[0], "{optimizer:?} {losses:?}");
    }
}

#[test]
fn wrong_inputs_and_recipes_are_refused_with_a_remedy() {
    let mut n = network();
    let wrong = graph::Tensor::f32([2, 3, 16, 16], vec![0.0; 2 * 3 * 256]);
    let error = n.forward(&[wrong], Mode::Eval).unwrap_err().to_string();
    assert!(error.contains("input") && error.contains("32"), "{error}");
    let d = data(&n, 64);
    let too_large = Recipe { batch_size: 4096, epochs: 1.0, ..recipe() };
    let report = fit(&mut n, None, &d, &too_large, &mut Hooks::default());
    assert!(matches!(&report, Err(Error::Data { .. })), "{report:?}");
    let few = Network::compile(&support::residual(&[8], 32, 4, 1)).unwrap();
    let error = fit(&mut few.clone(), None, &d, &recipe(), &mut Hooks::default()).unwrap_err().to_string();
    assert!(error.contains("highest label is 9") && error.contains("4 outputs"), "{error}");
    for bad in [Recipe { lr: 0.0, ..recipe() }, Recipe { epochs: f64::NAN, ..recipe() }, Recipe { label_smoothing: 1.0, ..recipe() }] {
        assert!(matches!(bad.check(), Err(Error::Recipe(_))));
    }
}

#[test]
fn exploding_training_is_reported_not_hidden() {
    let mut n = network();
    let d = data(&n, 320);
    for p in n.params_mut() {
        p.values.iter_mut().for_each(|v| *v = f32::INFINITY);
    }
    let error = fit(&mut n, None, &d, &Recipe { batch_size: 8, epochs: 3.0, ..recipe() }, &mut Hooks::default()).unwrap_err();
    assert!(error.to_string().contains("lower the learning rate"), "{error}");
}
