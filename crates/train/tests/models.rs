//! The real networks against ONNX Runtime (`reference/models.json`, made by `reference/models.py`),
//! and one backward pass through each. Needs `SECATEUR_DATA`.
#![allow(clippy::unwrap_used)]

use burn_backend::DType;
use burn_flex::Flex;
use graph::{Model, Tensor};
use secateur_train::loss::Loss;
use secateur_train::{Mode, Network, backward_with};
use serde_json::Value;

#[test]
fn real_networks_agree_with_onnx_runtime_and_have_finite_gradients() {
    let Some(folder) = std::env::var_os("SECATEUR_DATA") else {
        eprintln!("skipped: SECATEUR_DATA is not set");
        return;
    };
    let cases: Vec<Value> = serde_json::from_str(include_str!("reference/models.json")).unwrap();
    for case in &cases {
        let file = case["file"].as_str().unwrap();
        let network = Network::compile(&Model::load(std::path::Path::new(&folder).join("models").join(file)).unwrap())
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        let shape: Vec<usize> = case["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
        let input: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0).collect();
        let outputs = network.forward(&[Tensor::f32(shape.clone(), input.clone())], Mode::Eval).unwrap_or_else(|e| panic!("{file}: {e}"));
        for (found, expected) in outputs.iter().zip(case["outputs"].as_array().unwrap()) {
            let found = found.to_f32().unwrap();
            assert_eq!(found.len(), expected["len"].as_u64().unwrap() as usize, "{file}");
            let scale = expected["mean_abs"].as_f64().unwrap().max(1e-3);
            let every = (found.len() / 16).max(1);
            for (i, e) in expected["some"].as_array().unwrap().iter().enumerate() {
                let difference = (f64::from(found[i * every]) - e.as_f64().unwrap()).abs();
                assert!(
                    difference < 2e-3 * scale.max(e.as_f64().unwrap().abs()),
                    "{file} [{}]: {} instead of {e}",
                    i * every,
                    found[i * every]
                );
            }
        }
        let step = backward_with::<Flex>(&network, vec![(shape, input)], Mode::Train, DType::F32, 0, |outputs| {
            Ok(outputs.iter().map(|o| Some(Loss { value: 0.0, gradient: vec![1e-3; o.len()] })).collect())
        })
        .unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(step.gradients.iter().flatten().all(|g| g.is_finite()), "{file}");
    }
}
