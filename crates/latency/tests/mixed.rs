//! Networks that run partly on our engine and partly on tract.
#![allow(clippy::unwrap_used)]

#[path = "../../engine/tests/support/mod.rs"]
mod generated;
mod support;

use std::collections::BTreeSet;

use generated::build::{Builder, int};
use generated::networks::network;
use generated::{Random, difference};
use graph::Model;
use proptest::prelude::*;
use secateur_latency::{
    ElementType, EngineRuntime, Error, InputSpec, ModelBytes, Place, Runtime, TargetOptions, TargetSpec, Tensor, TensorData, read_inputs,
    runtime,
};
use support::{ort_or_skip, real_or_skip};

fn engine(elsewhere: &[&str]) -> EngineRuntime {
    EngineRuntime::new(&TargetOptions::default()).unwrap().with_elsewhere(elsewhere.iter().map(ToString::to_string))
}

fn tract() -> Box<dyn Runtime> {
    runtime(&TargetSpec::tract()).unwrap()
}

/// `model` with every input's first axis `batch`.
fn bytes(model: &Model, batch: usize) -> ModelBytes {
    let onnx = model.to_bytes().unwrap();
    let mut inputs = read_inputs("network", &onnx, 1).unwrap();
    inputs.iter_mut().for_each(|i| i.shape[0] = batch);
    ModelBytes::new("network", onnx, inputs)
}

fn outputs(runtime: &dyn Runtime, model: &ModelBytes) -> Result<Vec<Tensor>, Error> {
    let inputs: Vec<Tensor> = (0u64..).zip(&model.inputs).map(|(k, i)| Tensor::seeded(i, 9 + k)).collect();
    let mut prepared = runtime.prepare(model)?;
    let first = prepared.run_with(&inputs)?;
    // Nothing of one run reaches the next.
    prepared.run()?;
    assert_eq!(prepared.run_with(&inputs)?, first);
    Ok(first)
}

/// Largest difference over the outputs' largest value, over all outputs.
fn apart(expected: &[Tensor], found: &[Tensor]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let pair = |(e, f): (&Tensor, &Tensor)| {
        assert_eq!(e.shape, f.shape);
        difference(e.as_f32().unwrap(), f.as_f32().unwrap())
    };
    expected.iter().zip(found).map(pair).fold(0.0, f32::max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|c| c.parse().ok()).unwrap_or(40), ..ProptestConfig::default() })]

    #[test]
    fn any_division_computes_what_tract_alone_computes(seed in any::<u64>(), batch in prop::sample::select(vec![1usize, 1, 3])) {
        let b = network(seed);
        // What tract alone gets wrong is no question of the division. (It does, where a convolution pads what was padded by edges before,
        // and some one-dimensional pooling; ONNX Runtime and the plain reference agree with the engine there.)
        let alone = |r: &dyn Runtime| outputs(r, &bytes(&b.model, 1));
        if let (Ok(one), Ok(other)) = (alone(&*tract()), alone(&engine(&[]))) {
            prop_assume!(apart(&one, &other) < 1e-4);
        }
        let model = bytes(&b.model, batch);
        let Ok(expected) = outputs(&*tract(), &model) else {
            // tract lacks something of this network.
            return Ok(());
        };
        let operators: BTreeSet<&str> = b.model.graph_proto().node.iter().map(|n| n.op_type()).collect();
        let mut random = Random::new(seed);
        let elsewhere: Vec<&str> = operators.into_iter().filter(|_| random.one_in(3)).collect();
        let mixed = engine(&elsewhere);
        let placement = mixed.placement(&model).unwrap().unwrap();
        for n in &placement.nodes {
            let forced = elsewhere.contains(&n.operator.as_str());
            prop_assert!(n.place != Place::Engine || !forced, "{n:?}");
            prop_assert_eq!(n.reason.is_some(), n.place == Place::Tract);
            prop_assert!(forced || batch > 1 || n.place != Place::Tract, "{:?}", n);
        }
        let found = outputs(&mixed, &model);
        prop_assert!(found.is_ok(), "{elsewhere:?} {batch} {:?}", found.err());
        let d = apart(&expected, &found.unwrap());
        prop_assert!(d < 1e-4, "differs by {} with {:?} on tract and batch {}: {:#?}", d, elsewhere, batch, placement);
    }
}

/// Two branches on the engine around an operator it lacks, an output of each runtime, and one that is an input.
#[test]
fn an_operator_without_a_kernel_runs_on_tract_and_is_named() {
    let mut b = Builder::new(1);
    let x = b.input("x", &[1, 16, 8, 8]);
    let before = b.conv(&x, 16, 3, 1, 1, 1, 0, 16);
    let lrn = b.node("LRN", &[&before], vec![int("size", 3)]);
    let after = b.conv(&lrn, 8, 1, 1, 0, 1, 0, 16);
    for v in [&before, &lrn, &after, &x] {
        b.output(v);
    }
    let model = bytes(&b.model, 1);
    let placement = engine(&[]).placement(&model).unwrap().unwrap();
    let at = |place| placement.at(place).map(|n| n.operator.as_str()).collect::<Vec<_>>();
    assert_eq!((at(Place::Engine), at(Place::Tract), placement.parts), (vec!["Conv", "Conv"], vec!["LRN"], 3));
    let reason = placement.at(Place::Tract).next().unwrap().reason.clone().unwrap();
    assert!(reason.contains("no kernel"), "{reason}");
    let (expected, found) = (outputs(&*tract(), &model).unwrap(), outputs(&engine(&[]), &model).unwrap());
    let d = apart(&expected, &found);
    assert!(d < 1e-5, "{d}");
}

/// Integers cannot be held by the engine: what reads them goes to tract, the rest does not.
#[test]
fn inputs_that_are_no_floats_reach_tract() {
    let mut b = Builder::new(2);
    let x = b.input("x", &[1, 16, 4, 4]);
    let which = b.input("which", &[5]);
    let declared = b.model.graph_proto_mut().input[1].r#type.as_mut().unwrap().value.as_mut().unwrap();
    let graph::proto::type_proto::Value::TensorType(t) = declared else { unreachable!() };
    t.elem_type = Some(7);
    let y = b.conv(&x, 16, 3, 1, 1, 1, 0, 16);
    let y = b.node("Gather", &[&y, &which], vec![int("axis", 1)]);
    let y = b.conv(&y, 8, 1, 1, 0, 1, 0, 16);
    b.output(&y);
    let mut model = bytes(&b.model, 1);
    model.inputs[1] = InputSpec { name: "which".into(), shape: vec![5], dtype: ElementType::I64 };
    let inputs = [Tensor::seeded(&model.inputs[0], 3), Tensor { shape: vec![5], data: TensorData::I64(vec![3, 0, 15, 3, 7]) }];
    let run = |r: &dyn Runtime| r.prepare(&model).unwrap().run_with(&inputs).unwrap();
    let d = apart(&run(&*tract()), &run(&engine(&[])));
    assert!(d < 1e-5, "{d}");
    let placement = engine(&[]).placement(&model).unwrap().unwrap();
    assert_eq!(placement.at(Place::Engine).count(), 2, "{placement:#?}");
}

#[test]
fn what_neither_runs_is_named_with_what_to_do() {
    let mut b = Builder::new(3);
    let x = b.input("x", &[1, 4, 8, 8]);
    let y = b.node("NoSuchOperator", &[&x], vec![]);
    b.output(&y);
    let error = engine(&[]).prepare(&bytes(&b.model, 1)).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::ModelRejected { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("nosuchoperator1") && text.contains("--target ort"), "{text}");
}

/// Every shared network, the ones included that the engine alone does not run, against ONNX Runtime.
#[test]
fn shared_networks_compute_what_onnx_runtime_computes() {
    let test = "shared_networks_compute_what_onnx_runtime_computes";
    let Some(ort) = ort_or_skip(test) else { return };
    let Some(data) = std::env::var_os("SECATEUR_DATA").map(std::path::PathBuf::from) else {
        eprintln!("skipped: {test}: SECATEUR_DATA is not set");
        return;
    };
    let mut files: Vec<String> =
        std::fs::read_dir(data.join("models")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|f| f.ends_with(".onnx"));
    files.sort();
    for file in &files {
        let model = real_or_skip(test, file).unwrap();
        let runtime = engine(&[]);
        let placement = runtime.placement(&model).unwrap().unwrap();
        let elsewhere: Vec<&str> = placement.at(Place::Tract).map(|n| n.operator.as_str()).collect();
        println!("{file}: {} on the engine, on tract: {elsewhere:?}", placement.at(Place::Engine).count());
        let d = apart(&outputs(&*ort, &model).unwrap(), &outputs(&runtime, &model).unwrap());
        assert!(d < 1e-4, "{file} differs by {d}");
    }
    assert!(files.len() >= 13, "{files:?}");
}
