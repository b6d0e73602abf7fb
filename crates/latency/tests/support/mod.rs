//! Models and runtimes for tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_latency::{
    Candidate, Error, InputSpec, ModelBytes, Prepared, Runtime, RuntimeIdentity, TargetSpec, Tensor, read_inputs, runtime,
};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// y = x·w + b with x [1, k], w [k, n]; names and weights as given.
pub fn gemm(k: usize, n: usize, names: [&str; 4], seed: u64) -> ModelBytes {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let [x, w, b, y] = names;
    let mut weights = |name: &str, dims: &[usize]| TensorProto {
        name: name.into(),
        data_type: 1,
        dims: dims.iter().map(|d| *d as i64).collect(),
        raw_data: (0..dims.iter().product::<usize>()).flat_map(|_| (rng.random::<f32>() - 0.4).to_le_bytes()).collect(),
        ..TensorProto::default()
    };
    let graph = GraphProto {
        name: "g".into(),
        initializer: vec![weights(w, &[k, n]), weights(b, &[n])],
        node: vec![NodeProto {
            op_type: "Gemm".into(),
            name: format!("{y}_node"),
            input: vec![x.into(), w.into(), b.into()],
            output: vec![y.into()],
            ..NodeProto::default()
        }],
        input: vec![value(x, &[1, k])],
        output: vec![value(y, &[1, n])],
        ..GraphProto::default()
    };
    ModelBytes::new(y, encode(graph), vec![InputSpec::f32(x, [1, k])])
}

pub fn encode(graph: GraphProto) -> Vec<u8> {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..ModelProto::default()
    }
    .encode_to_vec()
}

pub fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = shape.iter().map(|d| Dimension { value: Some(dimension::Value::DimValue(*d as i64)), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// ONNX Runtime, or a visible note that the test is skipped.
pub fn ort_or_skip(test: &str) -> Option<Box<dyn Runtime>> {
    match runtime(&TargetSpec::ort()) {
        Ok(runtime) => Some(runtime),
        Err(e) => {
            eprintln!("skipped: {test}: {e}");
            None
        }
    }
}

/// A real model, or a visible note that the test is skipped.
pub fn real_or_skip(test: &str, file: &str) -> Option<ModelBytes> {
    let Some(data) = std::env::var_os("SECATEUR_DATA") else {
        eprintln!("skipped: {test}: SECATEUR_DATA is not set");
        return None;
    };
    let path = PathBuf::from(data).join("models").join(file);
    match std::fs::read(&path) {
        Ok(onnx) => {
            let inputs = read_inputs(file, &onnx, 1).unwrap();
            Some(ModelBytes::new(file, onnx, inputs))
        }
        Err(e) => {
            eprintln!("skipped: {test}: {}: {e}", path.display());
            None
        }
    }
}

/// A runtime whose models report made-up times: `seconds(call)`.
pub struct Scripted<F>(pub F);

impl<F: Fn(&str, usize) -> f64 + Clone + Send + 'static> Runtime for Scripted<F> {
    fn name(&self) -> &str {
        "scripted"
    }

    fn identity(&self) -> RuntimeIdentity {
        RuntimeIdentity { name: "scripted".into(), version: "1".into(), provider: "none".into(), options: BTreeMap::new() }
    }

    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error> {
        Ok(Box::new(ScriptedModel { name: model.name.clone(), call: 0, script: self.0.clone() }))
    }
}

struct ScriptedModel<F> {
    name: String,
    call: usize,
    script: F,
}

impl<F: Fn(&str, usize) -> f64> Prepared for ScriptedModel<F> {
    fn run(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn measure_external(&mut self) -> Option<Result<Vec<f64>, Error>> {
        self.call += 1;
        Some(Ok(vec![(self.script)(&self.name, self.call)]))
    }

    fn run_with(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        Ok(Vec::new())
    }

    fn setup_s(&self) -> f64 {
        0.0
    }
}

/// A candidate with made-up times.
pub fn scripted(name: &str, script: impl Fn(&str, usize) -> f64 + Clone + Send + 'static) -> Candidate {
    let mut model = gemm(2, 2, ["x", "w", "b", "y"], 0);
    model.name = name.into();
    Candidate::new(&Scripted(script), &model).unwrap()
}

/// Reproducible noise in −0.5 … 0.5 for a call of a model.
pub fn noise(seed: u64, call: usize) -> f64 {
    ChaCha8Rng::seed_from_u64(seed.wrapping_mul(1_000_003) + call as u64).random::<f64>() - 0.5
}
