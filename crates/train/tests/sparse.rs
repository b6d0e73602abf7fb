//! Training under schemes: masks hold bit by bit, masks grow on schedule, and the penalty is what it says.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use graph::scheme::{Balance, Mask, Scheme, WeightShape};
use secateur_train::data::{Augment, DataSpec, Dataset, Normalization, Options};
use secateur_train::optim::{Optimizer, State};
use secateur_train::sparse::{Constraint, Gradual, Masks, Reweighted, Target, cubic};
use secateur_train::{Hooks, Kind, Network, Param, Progress, Recipe, fit};

fn network() -> Network {
    Network::compile(&support::residual(&[8, 16], 32, 10, 1)).unwrap()
}

fn data(network: &Network) -> Dataset {
    let options = Options::for_network(network, Normalization::imagenet()).unwrap();
    Dataset::open(&DataSpec::Synthetic { train: 320, test: 100, seed: 3 }, options).unwrap()
}

fn recipe() -> Recipe {
    Recipe { epochs: 1.0, batch_size: 32, lr: 0.1, warmup_steps: 2, augment: Augment::cifar(), seed: 9, ..Recipe::default() }
}

/// All 3×3 convolutions but the first, as targets of a scheme.
fn targets(network: &Network, scheme: &str) -> Vec<Target> {
    let scheme: Scheme = scheme.parse().unwrap();
    let wide = network.params().iter().filter(|p| p.kind == Kind::Weight && p.shape.len() == 4 && p.shape[1] > 3 && p.shape[2] == 3);
    wide.map(|p| Target { tensor: p.name.clone(), shape: WeightShape::conv(&p.shape, 1).unwrap(), scheme }).collect()
}

fn projected(network: &Network, targets: &[Target]) -> BTreeMap<String, Mask> {
    let mask = |t: &Target| {
        let param = network.params().iter().find(|p| p.name == t.tensor).unwrap();
        (t.tensor.clone(), t.scheme.project(&param.values, &t.shape, Balance::Layer))
    };
    targets.iter().map(mask).collect()
}

fn values<'a>(network: &'a Network, name: &str) -> &'a [f32] {
    &network.params().iter().find(|p| p.name == name).unwrap().values
}

#[test]
fn masked_weights_are_exactly_zero_at_every_step_of_every_optimizer() {
    let adamw = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    for optimizer in [Optimizer::default(), adamw] {
        let mut n = network();
        let d = data(&n);
        let lr = if optimizer == adamw { 1e-3 } else { 0.1 };
        let by_name = projected(&n, &targets(&n, "block-punched:4x1@3"));
        let mut masks = Masks::new(&n, by_name.clone()).unwrap();
        let dense = n.clone();
        let mut bits = 0u64;
        let mut watch = |view: &secateur_train::GradView<'_>| {
            for (name, mask) in &by_name {
                let (param, _) = view.get(name).unwrap();
                let removed = param.values.iter().zip(&mask.keep).filter(|(_, k)| !**k);
                bits += removed.map(|(w, _)| u64::from(w.to_bits() != 0)).sum::<u64>();
            }
        };
        let mut hooks = Hooks { on_gradients: Some(&mut watch), constraint: Some(&mut masks), ..Hooks::default() };
        fit(&mut n, None, &d, &Recipe { optimizer, lr, ..recipe() }, &mut hooks).unwrap();
        assert_eq!(bits, 0);
        for (name, mask) in &by_name {
            assert!(values(&n, name).iter().zip(&mask.keep).all(|(w, k)| *k || w.to_bits() == 0), "{name}");
            let moved = values(&n, name).iter().zip(values(&dense, name)).zip(&mask.keep).filter(|((a, b), k)| **k && a != b).count();
            assert!(moved > mask.kept() / 2, "{name}: what stays was trained");
        }
    }
}

#[test]
fn masks_for_another_network_are_refused() {
    let n = network();
    let name = n.params()[0].name.clone();
    let e = Masks::new(&n, BTreeMap::from([(name.clone(), Mask::all(3))])).unwrap_err().to_string();
    assert!(e.contains(&name) && e.contains("3 flags"), "{e}");
    assert!(Masks::new(&n, BTreeMap::from([("nobody".into(), Mask::all(3))])).unwrap_err().to_string().contains("no such parameter"));
}

#[test]
fn a_gradual_training_removes_on_schedule_and_resumes_where_it_was() {
    let mut n = network();
    let d = data(&n);
    let all = targets(&n, "block-punched:4x1@4");
    let gradual = || Gradual::new(all.clone(), Balance::Layer, 0.5, 2);
    let recipe = Recipe { epochs: 2.0, ..recipe() };
    let steps = 2 * 9;
    let mut removed = Vec::new();
    let mut watch = |view: &secateur_train::GradView<'_>| {
        let zeros = |t: &Target| view.get(&t.tensor).unwrap().0.values.iter().filter(|w| **w == 0.0).count();
        let of: usize = all.iter().map(|t| t.shape.len()).sum();
        removed.push(all.iter().map(zeros).sum::<usize>() as f64 / of as f64);
    };
    let mut constraint = gradual();
    let mut hooks = Hooks { on_gradients: Some(&mut watch), constraint: Some(&mut constraint), ..Hooks::default() };
    let report = fit(&mut n, None, &d, &recipe, &mut hooks).unwrap();
    assert_eq!(report.steps, steps);
    assert!(removed[0] == 0.0 && removed.windows(2).all(|w| w[0] <= w[1]), "{removed:?}");
    for done in (2..9).step_by(2) {
        let wanted = 0.75 * cubic(done as f64 / 9.0);
        assert!((removed[done] - wanted).abs() < 0.02, "after {done} steps {} removed, {wanted} wanted", removed[done]);
    }
    assert!(removed[9..].iter().all(|r| (r - 0.75).abs() < 1e-3), "{removed:?}");
    for t in &all {
        let mask = &constraint.masks().by_name()[&t.tensor];
        assert_eq!(t.scheme.regularity.validate(&t.shape, mask), Ok(()));
        assert!(mask.holds(values(&n, &t.tensor)));
    }
    // Killed in the middle of the way, and gone on from its checkpoint.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gradual.ckpt");
    let mut parts = network();
    let mut stop = |p: &Progress| if p.step == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let (mut first, mut second) = (gradual(), gradual());
    let mut hooks =
        Hooks { progress: Some(&mut stop), checkpoint: Some((file.clone(), 3)), constraint: Some(&mut first), ..Hooks::default() };
    fit(&mut parts, None, &d, &recipe, &mut hooks).unwrap();
    let mut fresh = network();
    let mut hooks = Hooks { checkpoint: Some((file.clone(), 3)), constraint: Some(&mut second), ..Hooks::default() };
    fit(&mut fresh, None, &d, &recipe, &mut hooks).unwrap();
    assert_eq!(fresh.params(), n.params());
    assert_eq!(second.masks(), constraint.masks());
    // Another scheme's checkpoint is refused.
    let mut other = Gradual::new(all[..1].to_vec(), Balance::Layer, 0.5, 2);
    let mut hooks = Hooks { checkpoint: Some((file, 3)), constraint: Some(&mut other), ..Hooks::default() };
    assert!(fit(&mut fresh, None, &d, &recipe, &mut hooks).unwrap_err().to_string().contains("another scheme"));
}

/// A penalty on the units of `network` with α set, and its value as plain sums over the definition.
fn penalty(network: &Network, lambda: f64) -> Reweighted {
    let units = |t: Target| (t.tensor, t.scheme.regularity.units(&t.shape));
    let mut all: Vec<_> = targets(network, "block-punched:4x1@2").into_iter().map(units).collect();
    let rows = targets(network, "filter@2").into_iter().map(units).next().unwrap();
    all[0] = rows;
    let mut r = Reweighted::new(all, lambda, 1e-3, 4);
    r.renew(network.params());
    r
}

#[test]
fn the_gradient_of_the_penalty_is_its_slope() {
    let n = network();
    let mut reweighted = penalty(&n, 0.3);
    // α from other weights than those the slope is taken at.
    let mut params: Vec<Param> = n.params().to_vec();
    params.iter_mut().for_each(|p| p.values.iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + 0.3 * (i as f32).sin()));
    let mut gradients: Vec<Vec<f32>> = params.iter().map(|p| vec![0.0; p.values.len()]).collect();
    let value = reweighted.gradients(&params, &mut gradients);
    assert!((value - reweighted.value(&params)).abs() < 1e-9 * value);
    let mut compared = 0;
    for l in &reweighted.layers {
        let i = params.iter().position(|p| p.name == l.tensor).unwrap();
        for k in (0..params[i].values.len()).step_by(37) {
            let h = 1e-3f32;
            let at = |delta: f32| {
                let mut moved = params.clone();
                moved[i].values[k] += delta;
                (reweighted.value(&moved), f64::from(moved[i].values[k]))
            };
            let ((above, x1), (below, x0)) = (at(h), at(-h));
            let slope = (above - below) / (x1 - x0);
            let found = f64::from(gradients[i][k]);
            assert!((slope - found).abs() <= 2e-3 * slope.abs().max(1e-2), "{} [{k}]: slope {slope}, gradient {found}", l.tensor);
            compared += 1;
        }
    }
    assert!(compared > 30);
    // Nothing else gets a gradient, and a unit of zeros has none.
    let touched: Vec<&str> = reweighted.layers.iter().map(|l| l.tensor.as_str()).collect();
    assert!(params.iter().zip(&gradients).all(|(p, g)| touched.contains(&p.name.as_str()) || g.iter().all(|x| *x == 0.0)));
    params.iter_mut().for_each(|p| p.values.fill(0.0));
    gradients.iter_mut().for_each(|g| g.fill(0.0));
    assert_eq!(reweighted.gradients(&params, &mut gradients), 0.0);
    assert!(gradients.iter().flatten().all(|g| *g == 0.0));
}

#[test]
fn steps_against_the_penalty_lower_it_and_its_logarithm() {
    let n = network();
    let mut reweighted = penalty(&n, 1e-3);
    let mut params: Vec<Param> = n.params().to_vec();
    let mut state = State::new(&n);
    let objective = |r: &Reweighted, params: &[Param]| -> f64 {
        // λ Σ ln(s + ε): what reweighting goes down on.
        let of = |l: &secateur_train::sparse::Penalised| {
            let p = params.iter().find(|p| p.name == l.tensor).unwrap();
            l.units.scores(&p.values).iter().map(|s| (s + r.epsilon).ln()).sum::<f64>()
        };
        r.lambda * r.layers.iter().map(of).sum::<f64>()
    };
    let mut last = objective(&reweighted, &params);
    for round in 1..=10 {
        for _ in 0..4 {
            let mut gradients: Vec<Vec<f32>> = params.iter().map(|p| vec![0.0; p.values.len()]).collect();
            let before = reweighted.gradients(&params, &mut gradients);
            params.iter_mut().zip(&gradients).for_each(|(p, g)| p.values.iter_mut().zip(g).for_each(|(w, g)| *w -= 2e-3 * g));
            assert!(reweighted.value(&params) < before);
        }
        reweighted.after(&mut params, &mut state, 4 * round, 40);
        let now = objective(&reweighted, &params);
        assert!(now < last, "round {round}: {now} after {last}");
        last = now;
    }
}

#[test]
fn training_with_the_penalty_presses_units_down_and_resumes() {
    let d = data(&network());
    let recipe = Recipe { epochs: 3.0, lr: 0.05, ..recipe() };
    let units = |n: &Network| -> Vec<_> {
        targets(n, "block-punched:4x1@2").into_iter().map(|t| (t.tensor.clone(), t.scheme.regularity.units(&t.shape))).collect()
    };
    let trained = |lambda: f64| {
        let mut n = network();
        let mut r = Reweighted::new(units(&n), lambda, 1e-3, 9);
        fit(&mut n, None, &d, &recipe, &mut Hooks { constraint: Some(&mut r), ..Hooks::default() }).unwrap();
        let small = r.layers.iter().flat_map(|l| l.units.scores(values(&n, &l.tensor))).filter(|s| *s < 1e-2).count();
        (n, small)
    };
    let (with, pressed) = trained(2e-2);
    let (_, free) = trained(0.0);
    assert!(pressed > 2 * free + 50, "{pressed} small units with the penalty, {free} without");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("penalty.ckpt");
    let mut parts = network();
    let mut stop = |p: &Progress| if p.step == 13 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let (mut first, mut second) = (Reweighted::new(units(&parts), 2e-2, 1e-3, 9), Reweighted::new(units(&parts), 2e-2, 1e-3, 9));
    let mut hooks =
        Hooks { progress: Some(&mut stop), checkpoint: Some((file.clone(), 5)), constraint: Some(&mut first), ..Hooks::default() };
    fit(&mut parts, None, &d, &recipe, &mut hooks).unwrap();
    let mut fresh = network();
    fit(&mut fresh, None, &d, &recipe, &mut Hooks { checkpoint: Some((file, 5)), constraint: Some(&mut second), ..Hooks::default() })
        .unwrap();
    assert_eq!(fresh.params(), with.params());
}
