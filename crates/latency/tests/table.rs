//! Keys, the store, JSON, and the profiler's cache.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use prost::Message;
use secateur_latency::{Error, Machine, Mode, ModelBytes, Profiler, Protocol, Runtime, TableStore, structure_key, table_key};
use support::{Scripted, gemm, noise};
use tract_onnx::pb::ModelProto;

fn key(model: &ModelBytes) -> String {
    model.structure_key().unwrap()
}

/// Sets some weights of a model.
fn with_weights(model: &ModelBytes, change: impl Fn(usize, &mut f32)) -> ModelBytes {
    let mut proto = ModelProto::decode(&model.onnx[..]).unwrap();
    let raw = &mut proto.graph.as_mut().unwrap().initializer[0].raw_data;
    for (i, bytes) in raw.chunks_exact_mut(4).enumerate() {
        let mut x = f32::from_le_bytes(bytes.try_into().unwrap());
        change(i, &mut x);
        bytes.copy_from_slice(&x.to_le_bytes());
    }
    ModelBytes::new("changed", proto.encode_to_vec(), model.inputs.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn equal_layers_share_a_key_whatever_their_weights_and_names(k in 1usize..12, n in 1usize..12, seed in 0u64..1000) {
        let a = gemm(k, n, ["x", "w", "b", "y"], seed);
        let b = gemm(k, n, ["in", "kernel", "bias", "out"], seed + 1);
        prop_assert_eq!(key(&a), key(&b));
    }

    #[test]
    fn other_widths_have_other_keys(k in 1usize..12, n in 1usize..12, dk in 0usize..3, dn in 0usize..3) {
        let names = ["x", "w", "b", "y"];
        let same = dk == 0 && dn == 0;
        prop_assert_eq!(key(&gemm(k, n, names, 0)) == key(&gemm(k + dk, n + dn, names, 0)), same);
    }
}

#[test]
fn where_zeros_are_counts_only_where_zeros_gain_time() {
    let dense = gemm(16, 8, ["x", "w", "b", "y"], 0);
    let without = |which: fn(usize) -> bool| {
        with_weights(&dense, |i, x| {
            if which(i) {
                *x = 0.0
            }
        })
    };
    let (few, others) = (without(|i| i < 16), without(|i| i >= 112));
    assert_eq!(key(&few), key(&dense));
    assert_eq!(dense.sparsity_key().unwrap(), key(&dense));
    let keys = [&dense, &few, &others].map(|m| m.sparsity_key().unwrap());
    assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2], "{keys:?}");
    // A negative zero is one, too.
    let negative = with_weights(&few, |i, x| {
        if i < 16 {
            *x = -0.0
        }
    });
    assert_eq!(negative.sparsity_key().unwrap(), keys[1]);
    let engine = secateur_latency::runtime(&secateur_latency::TargetSpec::engine()).unwrap();
    let tract = secateur_latency::runtime(&secateur_latency::TargetSpec::tract()).unwrap();
    assert_eq!((engine.model_key(&few).unwrap(), tract.model_key(&few).unwrap()), (keys[1].clone(), key(&dense)));
}

#[test]
fn attributes_connections_and_shapes_count() {
    let model = gemm(4, 4, ["x", "w", "b", "y"], 0);
    let edit = |f: &dyn Fn(&mut tract_onnx::pb::GraphProto)| {
        let mut proto = ModelProto::decode(&model.onnx[..]).unwrap();
        f(proto.graph.as_mut().unwrap());
        structure_key(&proto.encode_to_vec()).unwrap()
    };
    let own = structure_key(&model.onnx).unwrap();
    assert_eq!(edit(&|_| {}), own);
    assert_eq!(edit(&|g| g.name = "other".into()), own);
    assert_eq!(edit(&|g| g.initializer.reverse()), own, "the order of initializers is no structure");
    assert_ne!(edit(&|g| g.node[0].op_type = "MatMul".into()), own);
    assert_ne!(
        edit(&|g| {
            g.node[0].input.pop();
        }),
        own
    );
    assert_ne!(
        edit(&|g| g.node[0].attribute.push(tract_onnx::pb::AttributeProto {
            name: "transB".into(),
            r#type: 2,
            i: 1,
            ..Default::default()
        })),
        own
    );
    let mut wider = model.clone();
    wider.inputs[0].shape = vec![8, 4];
    assert_ne!(key(&wider), key(&model));
}

#[test]
fn denormal_and_mostly_zero_weights_carry_a_flag() {
    let model = gemm(16, 16, ["x", "w", "b", "y"], 0);
    let denormal = with_weights(&model, |i, x| {
        if i == 7 {
            *x = 1e-40
        }
    });
    let sparse = with_weights(&model, |i, x| {
        if i % 4 != 0 {
            *x = 0.0
        }
    });
    let dense = with_weights(&model, |_, x| *x *= 3.0);
    assert_ne!(key(&denormal), key(&model));
    assert_ne!(key(&sparse), key(&model));
    assert_ne!(key(&sparse), key(&denormal));
    assert_eq!(key(&dense), key(&model));
}

#[test]
fn machine_runtime_mode_and_version_are_part_of_the_table_key() {
    let machine = Machine::detect();
    let runtime = Scripted(|_: &str, _: usize| 1.0).identity();
    let protocol = Protocol::table();
    let own = table_key("s", &machine, &runtime, &protocol);
    let mut other_machine = machine.clone();
    other_machine.cpu.push('x');
    let mut other_runtime = runtime.clone();
    other_runtime.options.insert("threads".into(), "2".into());
    let sustained = Protocol { mode: Mode::Sustained, ..protocol.clone() };
    let precise = Protocol { precision: 0.001, seed: 9, ..protocol.clone() };
    assert_ne!(table_key("t", &machine, &runtime, &protocol), own);
    assert_ne!(table_key("s", &other_machine, &runtime, &protocol), own);
    assert_ne!(table_key("s", &machine, &other_runtime, &protocol), own);
    assert_ne!(table_key("s", &machine, &runtime, &sustained), own);
    assert_eq!(table_key("s", &machine, &runtime, &precise), own);
}

#[test]
fn what_is_no_onnx_file_is_named() {
    let model = ModelBytes::new("photo.jpg", *b"\xff\xd8\xff\xe0 not a model", Vec::new());
    let error = model.structure_key().unwrap_err();
    assert!(matches!(error, Error::NotOnnx { .. }));
    assert!(error.to_string().contains("photo.jpg"));
}

fn models() -> Vec<ModelBytes> {
    (1..=10)
        .map(|n| {
            let mut model = gemm(4, n, ["x", "w", "b", "y"], n as u64);
            model.name = n.to_string();
            model
        })
        .collect()
}

/// Model `n` takes n ms; the sentinel never changes.
fn times(name: &str, call: usize) -> f64 {
    match name.parse::<f64>() {
        Ok(n) => n * 1e-3 * (1.0 + 0.004 * noise(n as u64, call)),
        Err(_) => 1e-4,
    }
}

#[test]
fn the_profiler_measures_each_structure_once_and_remembers_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.db");
    let runtime = Scripted(times);
    let mut models = models();
    models.push(ModelBytes { name: "twin of 3".into(), ..models[2].clone() });
    let first = {
        let mut store = TableStore::open(&path).unwrap();
        let mut seen = Vec::new();
        let mut profiler = Profiler::new(&runtime, &mut store).with_progress(|done, of| seen.push((done, of)));
        let first = profiler.measure_many(&models, &Protocol::table()).unwrap();
        assert_eq!((profiler.probes().measured, profiler.probes().cached), (10, 1));
        drop(profiler);
        assert_eq!(seen.last(), Some(&(10, 10)));
        first
    };
    for (n, m) in first.iter().take(10).enumerate() {
        assert!((m.median_s / (1e-3 * (n + 1) as f64) - 1.0).abs() < 0.01, "{m:?}");
    }
    assert_eq!((first[10].model.as_str(), first[10].median_s), ("twin of 3", first[2].median_s));

    let mut store = TableStore::open(&path).unwrap();
    let mut profiler = Profiler::new(&runtime, &mut store);
    let again = profiler.measure_many(&models, &Protocol::table()).unwrap();
    assert_eq!((profiler.probes().measured, profiler.probes().cached), (0, 11));
    assert_eq!(again, first);
}

#[test]
fn more_precision_than_the_table_has_is_measured_again() {
    let runtime = Scripted(|name: &str, call: usize| if name == "1" { 1e-3 * (1.0 + 0.2 * noise(1, call)) } else { 1e-4 });
    let mut store = TableStore::in_memory().unwrap();
    let mut profiler = Profiler::new(&runtime, &mut store);
    let model = &models()[..1];
    let rough = Protocol { precision: 0.1, time_limit_s: 0.05, ..Protocol::table() };
    let fine = Protocol { precision: 0.02, time_limit_s: 0.5, ..Protocol::table() };
    profiler.measure_many(model, &rough).unwrap();
    profiler.measure_many(model, &fine).unwrap();
    assert_eq!(profiler.probes().measured, 2);
    profiler.measure_many(model, &rough).unwrap();
    assert_eq!((profiler.probes().measured, profiler.probes().cached), (2, 1));
}

#[test]
fn a_failing_model_loses_nothing_that_was_measured_before() {
    // The ninth model, in the second batch, is no ONNX file for its runtime.
    struct Picky;
    impl Runtime for Picky {
        fn name(&self) -> &str {
            "picky"
        }
        fn identity(&self) -> secateur_latency::RuntimeIdentity {
            Scripted(times).identity()
        }
        fn prepare(&self, m: &ModelBytes) -> Result<Box<dyn secateur_latency::Prepared>, Error> {
            if m.name == "9" {
                return Err(Error::ModelRejected { runtime: "picky".into(), model: m.name.clone(), cause: "no".into() });
            }
            Scripted(times).prepare(m)
        }
    }
    let mut store = TableStore::in_memory().unwrap();
    let mut profiler = Profiler::new(&Picky, &mut store);
    let error = profiler.measure_many(&models(), &Protocol::table()).unwrap_err();
    assert!(error.to_string().contains("`9`"), "{error}");
    assert_eq!(profiler.store().len().unwrap(), 8);
}

#[test]
fn tables_travel_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    let runtime = Scripted(times);
    let mut store = TableStore::in_memory().unwrap();
    Profiler::new(&runtime, &mut store).measure_many(&models(), &Protocol::table()).unwrap();
    assert_eq!(store.export_json(&file).unwrap(), 10);
    let mut other = TableStore::in_memory().unwrap();
    assert_eq!(other.import_json(&file).unwrap(), 10);
    assert_eq!(other.all().unwrap(), store.all().unwrap());
    assert_eq!(other.import_json(&file).unwrap(), 0, "importing twice adds nothing");

    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("\"version\":1", "\"version\":7", 1)).unwrap();
    let error = other.import_json(&file).unwrap_err().to_string();
    assert!(error.contains("version 7") && error.contains("table.json"), "{error}");
}

#[test]
fn a_file_that_is_no_table_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "some notes that are certainly not a database, long enough to have a header").unwrap();
    let error = TableStore::open(&path).unwrap_err().to_string();
    assert!(error.contains("notes.txt") && error.contains("no latency table"), "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("some notes"));
    let error = TableStore::open(folder.path().join("missing/table.db")).unwrap_err().to_string();
    assert!(error.contains("folder exists"), "{error}");
}
