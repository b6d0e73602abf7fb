//! What a large network takes in memory: its weights are on the disk, and are read one tensor after the other.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use graph::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, ValueInfoProto};
use graph::{Model, Tensor};

/// Blocks of two layers with a residual addition, `wide` hidden units each, their weights in one external file; its bytes.
fn network(path: &Path, blocks: usize, wide: usize) -> u64 {
    const FEATURES: usize = 256;
    let location = format!("{}.bin", path.file_stem().unwrap_or_default().to_string_lossy());
    let mut seed = 1u64;
    let mut data: Vec<u8> = Vec::new();
    let mut g = GraphProto { name: Some("large".into()), ..Default::default() };
    let node = |op: &str, inputs: &[&str], output: &str| NodeProto {
        name: Some(output.into()),
        op_type: Some(op.into()),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.into()],
        ..Default::default()
    };
    let mut weight = |g: &mut GraphProto, name: &str, rows: usize, columns: usize| {
        let entry = |k: &str, v: String| StringStringEntryProto { key: Some(k.into()), value: Some(v) };
        let (offset, length) = (data.len(), rows * columns * 4);
        for _ in 0..rows * columns {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            data.extend((((seed >> 40) as f32 / (1 << 23) as f32 - 1.0) / (rows as f32).sqrt()).to_le_bytes());
        }
        g.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: vec![rows as i64, columns as i64],
            data_type: Some(1),
            data_location: Some(1),
            external_data: vec![
                entry("location", location.clone()),
                entry("offset", offset.to_string()),
                entry("length", length.to_string()),
            ],
            ..Default::default()
        });
    };
    weight(&mut g, "stem", 8, FEATURES);
    g.node.push(node("MatMul", &["x", "stem"], "h0"));
    for k in 0..blocks {
        let [up, down, a, b, c] = ["up", "down", "a", "b", "c"].map(|n| format!("{n}{k}"));
        weight(&mut g, &up, FEATURES, wide);
        weight(&mut g, &down, wide, FEATURES);
        g.node.push(node("MatMul", &[&format!("h{k}"), &up], &a));
        g.node.push(node("Relu", &[&a], &b));
        g.node.push(node("MatMul", &[&b, &down], &c));
        g.node.push(node("Add", &[&format!("h{k}"), &c], &format!("h{}", k + 1)));
    }
    weight(&mut g, "head", FEATURES, 8);
    g.node.push(node("MatMul", &[&format!("h{blocks}"), "head"], "y"));
    let declared = |name: &str, dims: [usize; 2]| {
        let mut with = Model::from_proto(ModelProto { ir_version: Some(3), graph: Some(GraphProto::default()), ..Default::default() });
        // Before IR version 4 an initializer is declared as an input: that is the declaration wanted here.
        with.add_initializer(name, &Tensor::f32(dims, vec![0.0; dims[0] * dims[1]]));
        with.graph_proto().input[0].clone()
    };
    g.input = vec![declared("x", [4, 8])];
    g.output = vec![ValueInfoProto { name: Some("y".into()), ..declared("y", [4, 8]) }];
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    let proto = ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(g), ..Default::default() };
    std::fs::write(path.with_file_name(&location), &data).expect("weights");
    Model::from_proto(proto).save(path).expect("model");
    data.len() as u64
}

/// Runs the program and returns the most memory that it was seen to have, in bytes.
fn peak(arguments: &[&str], folder: &Path) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(arguments)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("VmHWM:"));
        most = line.and_then(|l| l.split_whitespace().nth(1)).and_then(|k| k.parse::<u64>().ok()).map_or(most, |k| most.max(k * 1024));
        if child.try_wait().expect("waits").is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let out = child.wait_with_output().expect("output");
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    most
}

#[test]
fn a_large_network_is_inspected_and_pruned_within_two_and_a_half_times_its_size() {
    let folder = tempfile::tempdir().expect("folder");
    let prune =
        |model: &'static str, out: &'static str| vec!["prune", model, "--budget-params", "70%", "--epochs", "0", "--out", out, "--quiet"];
    // What the program takes for a small network of the same form.
    let small = network(&folder.path().join("small.onnx"), 12, 16);
    let base = peak(&prune("small.onnx", "small"), folder.path());
    let size = network(&folder.path().join("large.onnx"), 12, 2048);
    assert!(size > 50_000_000 && small < 1_000_000);
    let inspect = peak(&["inspect", "large.onnx"], folder.path());
    let pruned = peak(&prune("large.onnx", "large"), folder.path());
    println!("{size} bytes: base {base}, inspect {inspect}, prune {pruned}");
    assert!(inspect < base + size / 2, "inspect took {inspect} bytes for {size}, {base} of them whatever the size");
    assert!(pruned < base + size * 5 / 2, "prune took {pruned} bytes for {size}, {base} of them whatever the size");
    let written = Model::load(folder.path().join("large/pruned.onnx")).expect("the result");
    assert!(written.has_external_data());
}
