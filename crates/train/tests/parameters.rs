//! What is trained, in whatever form the file keeps it, is what the layer reads: transposed, reshaped, in half precision, shared.
#![allow(clippy::unwrap_used)]

mod support;

use burn_backend::DType;
use burn_flex::Flex;
use graph::{Model, Tensor};
use secateur_train::data::{Augment, DataSpec, Dataset, Normalization, Options, Split};
use secateur_train::loss::Loss;
use secateur_train::{Kind, Mode, Network, Step, backward_with, bn};
use support::{Builder, int, ints};

fn compile(model: &Model) -> Network {
    Network::compile(model).unwrap()
}

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 11.0 - 1.0).collect()
}

/// Outputs and gradients of `Σ c·y` with fixed `c`.
fn pass(n: &Network) -> Step {
    let shape = n.input_shape(3).unwrap();
    let input = numbers(shape.iter().product(), 1);
    backward_with::<Flex>(n, vec![(shape, input)], Mode::Eval, DType::F64, 0, |outputs| {
        let c = numbers(outputs[0].len(), 2);
        let value = outputs[0].iter().zip(&c).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum();
        Ok(vec![Some(Loss { value, gradient: c })])
    })
    .unwrap()
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

/// Every gradient against central differences, element by element; none of them is nothing.
fn assert_gradients(n: &Network) {
    let gradients = pass(n).gradients;
    for (i, gradient) in gradients.iter().enumerate() {
        let name = &n.params()[i].name;
        assert!(gradient.iter().any(|g| g.abs() > 1e-3), "{name} has no gradient");
        for (k, g) in gradient.iter().enumerate() {
            let moved = |step: f32| {
                let mut n = n.clone();
                n.params_mut()[i].values[k] += step;
                pass(&n).loss
            };
            let slope = (moved(0.0625) - moved(-0.0625)) / 0.125;
            assert!((slope - f64::from(*g)).abs() < 2e-3 * slope.abs().max(1.0), "{name} [{k}]: {g} instead of {slope}");
        }
    }
}

/// What a file says after training is what the network said that was written into it.
fn assert_written_back(model: &Model) {
    let mut n = compile(model);
    for p in n.params_mut() {
        p.values.iter_mut().for_each(|v| *v = *v * 0.5 + 0.25);
    }
    let mut written = model.clone();
    n.write_back(&mut written).unwrap();
    let (before, after) = (pass(&compile(model)).outputs, pass(&compile(&written)).outputs);
    assert_eq!(pass(&n).outputs, after);
    assert_ne!(before, after);
}

/// `MatMul(x, w)` with `w` as `form` makes it.
fn product(form: impl FnOnce(&mut Builder) -> String) -> Model {
    let mut b = Builder::new(5);
    b.input("x", &[-1, 4]);
    let w = form(&mut b);
    let y = b.node("MatMul", &["x", &w], vec![]);
    b.output(&y, &[-1, 3]);
    b.finish("product")
}

#[test]
fn a_weight_in_another_form_is_trained_like_the_weight_itself() {
    let direct = product(|b| {
        b.stored("w", &Tensor::f32([4, 3], numbers(12, 3)));
        "w".into()
    });
    let transposed: Vec<f32> = (0..12).map(|i| numbers(12, 3)[i % 4 * 3 + i / 4]).collect();
    let forms = [
        product(|b| {
            b.stored("w", &Tensor::f32([3, 4], transposed.clone()));
            b.node("Transpose", &["w"], vec![ints("perm", &[1, 0])])
        }),
        product(|b| {
            b.stored("w", &Tensor::f32([2, 2, 3], numbers(12, 3)));
            b.stored("to", &Tensor::i64([2], vec![4, -1]));
            b.node("Reshape", &["w", "to"], vec![])
        }),
        product(|b| {
            b.stored("w", &Tensor::f32([1, 3, 4, 1], transposed.clone()));
            b.stored("ends", &Tensor::i64([2], vec![0, 3]));
            let w = b.node("Squeeze", &["w", "ends"], vec![]);
            let w = b.node("Identity", &[&w], vec![]);
            b.node("Transpose", &[&w], vec![ints("perm", &[1, 0])])
        }),
    ];
    let expected = pass(&compile(&direct));
    assert_gradients(&compile(&direct));
    for model in forms {
        let n = compile(&model);
        assert_eq!(n.params().iter().map(|p| (p.name.as_str(), p.kind)).collect::<Vec<_>>(), [("w", Kind::Weight)]);
        let step = pass(&n);
        assert!(close(&step.outputs, &expected.outputs));
        let stored_transposed = n.params()[0].values == transposed;
        let read: Vec<f32> = (0..12).map(|i| step.gradients[0][if stored_transposed { i % 3 * 4 + i / 3 } else { i }]).collect();
        assert!(close(&read, &expected.gradients[0]));
        assert_gradients(&n);
        assert_written_back(&model);
    }
}

#[test]
fn a_weight_in_half_precision_is_trained_through_its_cast() {
    let model = product(|b| {
        // ½, −¼, 1, −1½.
        b.half("w", &[4, 3], &[0x3800, 0xb400, 0x3c00, 0xbe00].repeat(3));
        b.node("Cast", &["w"], vec![int("to", 1)])
    });
    assert_eq!(compile(&model).params()[0].values[..4], [0.5, -0.25, 1.0, -1.5]);
    assert_gradients(&compile(&model));
    assert_written_back(&model);
}

#[test]
fn scales_and_shifts_behind_an_unsqueeze_are_trained() {
    let mut b = Builder::new(5);
    b.input("x", &[-1, 4, 2]);
    b.stored("scale", &Tensor::f32([4], numbers(4, 3)));
    b.stored("shift", &Tensor::f32([4], numbers(4, 4)));
    b.stored("axes", &Tensor::i64([1], vec![1]));
    let (scale, shift) = (b.node("Unsqueeze", &["scale", "axes"], vec![]), b.node("Unsqueeze", &["shift", "axes"], vec![]));
    let y = b.node("Mul", &["x", &scale], vec![]);
    let y = b.node("Add", &[&y, &shift], vec![]);
    b.output(&y, &[-1, 4, 2]);
    let model = b.finish("scales");
    assert_eq!(compile(&model).params().len(), 2);
    assert_gradients(&compile(&model));
    assert_written_back(&model);
}

#[test]
fn a_weight_that_is_read_twice_is_trained_by_both_readers() {
    // An encoder and a decoder with one weight, read as it is stored, transposed, and doubled by a product of constants.
    let mut b = Builder::new(5);
    b.input("x", &[-1, 4]);
    b.stored("w", &Tensor::f32([4, 3], numbers(12, 3)));
    b.stored("two", &Tensor::f32(Vec::<usize>::new(), vec![2.0]));
    let h = b.node("MatMul", &["x", "w"], vec![]);
    let w = b.node("Transpose", &["w"], vec![ints("perm", &[1, 0])]);
    let w = b.node("Mul", &[&w, "two"], vec![]);
    let y = b.node("MatMul", &[&h, &w], vec![]);
    b.output(&y, &[-1, 4]);
    let model = b.finish("tied");
    assert_eq!(compile(&model).params().len(), 1);
    assert_gradients(&compile(&model));
    assert_written_back(&model);
}

#[test]
fn numbers_that_only_shapes_follow_from_are_not_trained() {
    // Sizes of a Resize, computed from constants.
    let mut b = Builder::new(5);
    b.input("x", &[-1, 2, 4, 4]);
    b.stored("sides", &Tensor::f32([2], vec![4.0, 4.0]));
    b.stored("factors", &Tensor::f32([2], vec![2.0, 2.0]));
    b.stored("first", &Tensor::i64([2], vec![3, 2]));
    let sizes = b.node("Mul", &["sides", "factors"], vec![]);
    let sizes = b.node("Cast", &[&sizes], vec![int("to", 7)]);
    let sizes = b.node("Concat", &["first", &sizes], vec![int("axis", 0)]);
    let y = b.node("Resize", &["x", "", "", &sizes], vec![]);
    b.output(&y, &[-1, 2, 8, 8]);
    let n = compile(&b.finish("resize"));
    assert!(n.params().is_empty());
    let y = n.forward(&[Tensor::f32([3, 2, 4, 4], numbers(96, 1))], Mode::Eval).unwrap();
    assert_eq!(y[0].shape, [3, 2, 8, 8]);
}

/// Two layers whose normalisations have running statistics of the given names.
fn normalised(statistics: [[&str; 2]; 2]) -> Model {
    let mut b = Builder::new(7);
    b.input("x", &[-1, 3, 32, 32]);
    for name in ["mean", "other mean"] {
        b.tensor(name, &[4], |_| 0.1);
    }
    for name in ["variance", "other variance"] {
        b.tensor(name, &[4], |_| 1.5);
    }
    let mut y = "x".to_owned();
    for (k, [mean, variance]) in statistics.into_iter().enumerate() {
        let (w, scale, shift) = (format!("w{k}"), format!("scale{k}"), format!("shift{k}"));
        b.stored(&w, &Tensor::f32([4, [3, 4][k], 1, 1], numbers(4 * [3, 4][k], k)));
        b.tensor(&scale, &[4], |_| 1.0);
        b.tensor(&shift, &[4], |_| 0.5);
        y = b.node("Conv", &[&y, &w], vec![]);
        y = b.node("BatchNormalization", &[&y, &scale, &shift, mean, variance], vec![]);
    }
    let y = b.node("GlobalAveragePool", &[&y], vec![]);
    let y = b.node("Flatten", &[&y], vec![]);
    b.output(&y, &[-1, 4]);
    b.finish("normalised")
}

#[test]
fn statistics_that_two_nodes_share_are_kept_once() {
    let mut model = normalised([["mean", "variance"]; 2]);
    let mut n = compile(&model);
    assert_eq!(n.running().len(), 1);
    let options = Options { holdout: 0.0, ..Options::for_network(&n, Normalization::unit()).unwrap() };
    let data = Dataset::open(&DataSpec::Synthetic { train: 40, test: 10, seed: 1 }, options).unwrap();
    let batch = data.epoch(Split::Train, 20, &Augment::none(), 3, 0, 0).unwrap().next().unwrap().unwrap();
    let step = backward_with::<Flex>(&n, vec![(batch.shape.clone(), batch.inputs.clone())], Mode::Train, DType::F32, 0, |outputs| {
        Ok(vec![Some(Loss { value: 0.0, gradient: vec![1.0; outputs[0].len()] })])
    })
    .unwrap();
    let [(0, first), (0, second)] = step.statistics.as_slice() else { panic!("{:?}", step.statistics) };
    // As a module called twice in a pass: one update after the other.
    n.update_running(&step.statistics);
    for c in 0..4 {
        let expected = (0.1 * 0.9 + 0.1 * first.mean[c]) * 0.9 + 0.1 * second.mean[c];
        assert!((n.running()[0].mean[c] - expected).abs() < 1e-6, "{c}");
    }
    // A re-estimate averages over both.
    assert_eq!(bn::reestimate(&mut n, &data, 1, 20, &Augment::none(), 3).unwrap(), 1);
    let unbiased = first.count as f32 / (first.count - 1) as f32;
    for c in 0..4 {
        let [mean, variance] = [first.mean[c] + second.mean[c], unbiased * (first.variance[c] + second.variance[c])].map(|s| s / 2.0);
        let r = &n.running()[0];
        assert!((r.mean[c] - mean).abs() < 1e-6 && (r.variance[c] - variance).abs() < 1e-5 * variance.max(1.0), "{c}: {r:?}");
    }
    // The file says what the network says.
    n.write_back(&mut model).unwrap();
    assert_eq!(compile(&model).running(), n.running());
    assert_eq!(pass(&compile(&model)).outputs, pass(&n).outputs);
}

#[test]
fn statistics_that_are_shared_by_half_are_refused() {
    assert_eq!(compile(&normalised([["mean", "variance"], ["other mean", "other variance"]])).running().len(), 2);
    for second in [["mean", "other variance"], ["other mean", "variance"], ["variance", "mean"]] {
        let error = Network::compile(&normalised([["mean", "variance"], second])).unwrap_err().to_string();
        assert!(error.contains("BatchNormalization_4") && error.contains("`BatchNormalization_2`") && error.contains("shares"), "{error}");
    }
}
