//! Every operator forward against ONNX Runtime and backward against PyTorch (values in
//! `reference/operators.json`, made by `reference/make.py`), and against finite differences.
#![allow(clippy::unwrap_used)]

use burn_backend::DType;
use burn_flex::Flex;
use secateur_train::loss::Loss;
use secateur_train::{Mode, Network, Step, backward_with};
use serde_json::Value;

struct Case {
    name: String,
    mode: Mode,
    network: Network,
    shape: Vec<usize>,
    input: Vec<f32>,
    outputs: Vec<f32>,
    seed: Vec<f32>,
    gradients: Vec<(String, Vec<f32>)>,
}

fn floats(v: &Value) -> Vec<f32> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn cases() -> Vec<Case> {
    let all: Vec<Value> = serde_json::from_str(include_str!("reference/operators.json")).unwrap();
    all.iter()
        .map(|c| {
            let name = c["name"].as_str().unwrap().to_owned();
            let hex = c["model"].as_str().unwrap();
            let bytes: Vec<u8> = (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
            let model = graph::Model::from_bytes(bytes, &name).unwrap();
            Case {
                mode: if c["mode"] == "train" { Mode::Train } else { Mode::Eval },
                network: Network::compile(&model).unwrap_or_else(|e| panic!("{name}: {e}")),
                shape: c["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect(),
                input: floats(&c["input"]),
                outputs: floats(&c["outputs"]),
                seed: floats(&c["seed"]),
                gradients: c["gradients"].as_object().unwrap().iter().map(|(n, g)| (n.clone(), floats(g))).collect(),
                name,
            }
        })
        .collect()
}

impl Case {
    /// Outputs and gradients of `Σ y·seed`.
    fn run(&self, network: &Network, dtype: DType) -> Step {
        backward_with::<Flex>(network, vec![(self.shape.clone(), self.input.clone())], self.mode, dtype, 0, |outputs| {
            let value = outputs[0].iter().zip(&self.seed).map(|(y, c)| f64::from(*y) * f64::from(*c)).sum();
            Ok(vec![Some(Loss { value, gradient: self.seed.clone() })])
        })
        .unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

fn assert_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f32, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "{what} [{i}]: {f} instead of {e}");
    }
}

#[test]
fn outputs_agree_with_onnx_runtime_and_gradients_with_pytorch() {
    for case in cases() {
        for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 2e-6)] {
            let step = case.run(&case.network, dtype);
            assert_close(&format!("{}, outputs", case.name), &step.outputs, &case.outputs, 1e-5);
            assert_eq!(case.gradients.len(), case.network.params().len(), "{}", case.name);
            for (name, expected) in &case.gradients {
                let i = case.network.params().iter().position(|p| p.name == *name).unwrap();
                assert_close(&format!("{}, gradient of {name} in {dtype:?}", case.name), &step.gradients[i], expected, tolerance);
            }
        }
        // Without a tape, fused as in evaluation.
        let input = graph::Tensor::f32(case.shape.clone(), case.input.clone());
        let plain = case.network.forward(&[input], case.mode).unwrap();
        assert_close(&case.name, &plain[0].to_f32().unwrap(), &case.outputs, 1e-5);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for case in cases() {
        // Kinks make differences meaningless within a step of them.
        if ["pool", "relu6", "hard", "reduce max"].iter().any(|k| case.name.contains(k)) {
            continue;
        }
        let exact = case.run(&case.network, DType::F64);
        for (i, param) in case.network.params().iter().enumerate() {
            let direction: Vec<f32> = (0..param.values.len()).map(|j| if (j * 7 + i) % 3 == 0 { 1.0 } else { -0.5 }).collect();
            let step = 1e-3f32;
            let at = |sign: f32| {
                let mut moved = case.network.clone();
                let values = &mut moved.params_mut()[i].values;
                values.iter_mut().zip(&direction).for_each(|(v, d)| *v += sign * step * d);
                case.run(&moved, DType::F64).loss
            };
            let difference = (at(1.0) - at(-1.0)) / f64::from(2.0 * step);
            let along: f64 = exact.gradients[i].iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let size: f64 = exact.gradients[i].iter().zip(&direction).map(|(g, d)| (f64::from(*g) * f64::from(*d)).abs()).sum();
            let kinked = case.name.contains("elu") || case.name.contains("Relu");
            let tolerance = if kinked { 5e-2 } else { 4e-3 };
            assert!(
                (difference - along).abs() <= tolerance * size.max(1.0),
                "{}, {}: {along} by the tape, {difference} by differences",
                case.name,
                param.name
            );
        }
    }
}
