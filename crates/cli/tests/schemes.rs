//! `prune --scheme` and `--mapping`: zeros where the regularity says, in a file that any runtime runs.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use graph::Model;
use serde_json::Value;
use support::{Place, SIZE, has_stat, read};

/// The weights of a tensor, `[F, C, kh, kw]`, with its dimensions.
fn weights(file: &Path, tensor: &str) -> (Vec<usize>, Vec<f32>) {
    let t = Model::load(file).unwrap().tensor(tensor).unwrap().unwrap();
    (t.shape.clone(), t.to_f32().unwrap())
}

fn layer<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["layers"].as_array().unwrap().iter().find(|l| l["name"] == name).unwrap_or_else(|| panic!("no layer {name}: {report}"))
}

/// Every place of every block of `block` filters is zero in all of them or in none; with the share of zeros.
fn punched(file: &Path, tensor: &str, block: usize) -> f64 {
    let (shape, w) = weights(file, tensor);
    let columns = w.len() / shape[0];
    for rows in (0..shape[0]).collect::<Vec<_>>().chunks(block) {
        for c in 0..columns {
            let zeros = rows.iter().filter(|f| w[**f * columns + c] == 0.0).count();
            assert!(zeros == 0 || zeros == rows.len(), "{tensor}: {zeros} of {} zero at filters {rows:?}, column {c}", rows.len());
        }
    }
    w.iter().filter(|x| **x == 0.0).count() as f64 / w.len() as f64
}

#[test]
fn every_layer_that_can_have_it_is_punched_proven_and_runs() {
    let p = Place::new();
    p.network("m.onnx");
    let command = ["prune", "m.onnx", "--scheme", "block-punched:16x1", "--rate", "4", "--epochs", "0", "--out", "run", "--json"];
    let report = p.run(&command).done().json()["report"].clone();
    let pruned = p.path("run/pruned.onnx");
    let mut sparse = 0;
    for l in report["layers"].as_array().unwrap() {
        let (weights, kept) = (l["weights"].as_u64().unwrap(), l["kept"].as_u64().unwrap());
        let zeros = weights_of_zero(&pruned, l["tensor"].as_str().unwrap());
        assert_eq!(zeros, weights - kept, "{l}");
        if l["regularity"] == "dense" {
            assert!(kept == weights && !l["dense_because"].is_null(), "{l}");
        } else {
            let share = punched(&pruned, l["tensor"].as_str().unwrap(), 16);
            assert!((share - 0.75).abs() < 0.02, "{l}: {share}");
            sparse += 1;
        }
    }
    assert!(sparse >= 4 && layer(&report, "stem")["dense_because"].as_str().unwrap().contains("first convolution"));
    assert!(layer(&report, "classifier")["dense_because"].as_str().unwrap().contains("name it"));
    assert!(report["twin_checks"][0]["relative_difference"].as_f64().unwrap() < 1e-3);

    // The file says what it is, and whether it is so.
    let text = p.run(&["inspect", "run/pruned.onnx"]).done().out.clone();
    assert!(text.contains("block-punched:16x1@4") && text.contains("proven") && !text.contains("NOT SO"), "{text}");
    let mut spoilt = Model::load(&pruned).unwrap();
    let name = "stage2.1/conv1.weight";
    let dense = Model::load(p.path("m.onnx")).unwrap().tensor(name).unwrap().unwrap();
    spoilt.set_tensor(name, &dense).unwrap();
    spoilt.save(p.path("spoilt.onnx")).unwrap();
    let text = p.run(&["inspect", "spoilt.onnx"]).done().out.clone();
    assert!(text.contains("NOT SO") && text.contains("whole units"), "{text}");

    // It runs where the dense one runs, and the plan says what was done.
    p.run(&["eval", "run/pruned.onnx", "--data", "synthetic:40,20", "--runtime", "tract"]).done();
    let plan: Value = serde_json::from_slice(&read(&p.path("run/plan.json"))).unwrap();
    assert_eq!(plan["schemes"], report["layers"]);
    p.run(&["apply", "run/plan.json", "m.onnx", "--out", "again.onnx"]).refused(1, &["--mapping"]);
    assert!(String::from_utf8(read(&p.path("run/report.html"))).unwrap().contains("block-punched"));
}

fn weights_of_zero(file: &Path, tensor: &str) -> u64 {
    weights(file, tensor).1.iter().filter(|w| **w == 0.0).count() as u64
}

const MAPPING: &str = r#"
[default]
regularity = "block-punched:4x1"
rate = 3

[layers."stage1.0/conv1"]
regularity = "pattern"
rate = 4

[layers."stage2.0/conv2"]
regularity = "unstructured"
rate = 8

[layers.classifier]
regularity = "block-based:5x4:row"
rate = 2
"#;

fn training<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["prune", "m.onnx", "--data", "synthetic:200,60,1", "--preprocess", "unit", "--batch-size", "20", "--json", "--out", out];
    [&common, more].concat()
}

#[test]
fn a_mapping_gives_each_layer_its_own_and_training_keeps_it() {
    let p = Place::new();
    p.network("m.onnx");
    std::fs::write(p.path("map.toml"), MAPPING).unwrap();
    for (out, how) in [("o", "one-shot"), ("g", "gradual")] {
        let more = ["--mapping", "map.toml", "--epochs", "1", "--scheme-training", how, "--reorder-filters", "--warmup-steps", "2"];
        let report = p.run(&training(out, &more)).done().json()["report"].clone();
        let file = p.path(&format!("{out}/pruned.onnx"));
        let rate = |name: &str| {
            let l = layer(&report, name);
            l["weights"].as_f64().unwrap() / l["kept"].as_f64().unwrap()
        };
        for (name, wanted) in [("stage1.0/conv1", 4.0), ("stage2.0/conv2", 8.0), ("classifier", 2.0), ("stage2.1/conv1", 3.0)] {
            assert!((rate(name) / wanted - 1.0).abs() < 0.05, "{how}, {name}: {} for {wanted}", rate(name));
        }
        punched(&file, "stage2.1/conv1.weight", 4);
        let (_, kernels) = weights(&file, "stage1.0/conv1.weight");
        assert!(kernels.chunks(9).all(|k| {
            let kept = k.iter().filter(|w| **w != 0.0).count();
            kept == 0 || (kept == 4 && k[4] != 0.0)
        }));
        // Rows of 4 inputs of the classifier, stored [10, 16].
        let (_, rows) = weights(&file, "classifier.weight");
        assert!(rows.chunks(4).all(|r| r.iter().all(|w| *w == 0.0) || r.iter().all(|w| *w != 0.0)));
        assert!(report["pruned_accuracy"].is_number() && report["holdout_after"].is_number());
        assert_eq!(report["job"]["mapping"]["layers"]["classifier"]["regularity"], "block-based:5x4:row");
    }
}

#[test]
fn a_reweighted_training_spreads_the_rates_and_makes_the_sum() {
    let p = Place::new();
    p.network("m.onnx");
    let scheme = ["--scheme", "block-punched:4x1", "--rate", "4", "--scheme-training", "reweighted", "--epochs", "2"];
    let report = p.run(&training("r", &[&scheme[..], &["--penalty-trials", "2"]].concat())).done().json()["report"].clone();
    let layers: Vec<&Value> = report["layers"].as_array().unwrap().iter().filter(|l| l["regularity"] != "dense").collect();
    let sum = |what: &str| layers.iter().map(|l| l[what].as_u64().unwrap()).sum::<u64>() as f64;
    assert!((sum("weights") / sum("kept") - 4.0).abs() < 0.1, "{} of {}", sum("kept"), sum("weights"));
    let rates: Vec<f64> = layers.iter().map(|l| l["rate"].as_f64().unwrap()).collect();
    assert!(rates.iter().any(|r| (r - rates[0]).abs() > 0.05), "{rates:?}");
    for l in &layers {
        punched(&p.path("r/pruned.onnx"), l["tensor"].as_str().unwrap(), 4);
    }
    assert!(report["penalty"].as_f64().unwrap() > 0.0);
    let log = secateur::Run::open(p.path("r")).unwrap().journal.finished().unwrap();
    assert!(log.iter().any(|(step, _)| step == "penalty trial 1"));
}

#[test]
fn what_cannot_be_is_refused_and_explained() {
    let p = Place::new();
    p.network("m.onnx");
    let refused = |more: &[&str], code: i32, parts: &[&str]| {
        let all = [&["prune", "m.onnx", "--epochs", "0", "--out", "o"], more].concat();
        p.run(&all).refused(code, parts);
        assert!(!p.path("o").exists());
    };
    refused(&["--scheme", "block-punched:16x1"], 2, &["--rate"]);
    refused(&["--scheme", "block-punched:16x1", "--rate", "0.5"], 2, &["0.5", "removes three quarters"]);
    refused(&["--scheme", "blocks", "--rate", "4"], 2, &["block-punched:16x1"]);
    refused(&["--scheme", "pattern", "--rate", "2"], 2, &["2.25"]);
    refused(&["--scheme", "block-based:4x4", "--rate", "2"], 1, &["every layer dense", "block-punched for convolutions"]);
    refused(&["--scheme", "filter", "--rate", "2", "--scheme-training", "gradual"], 2, &["--data", "--epochs"]);
    refused(&["--scheme", "filter", "--rate", "2", "--budget-params", "50%"], 2, &["--budget-params"]);
    refused(&["--mapping", "none.toml"], 1, &["none.toml"]);
    let mapping = |text: &str, parts: &[&str]| {
        std::fs::write(p.path("map.toml"), text).unwrap();
        refused(&["--mapping", "map.toml"], 1, parts);
    };
    mapping("[layers.\"stage9/conv\"]\nregularity = \"filter\"\nrate = 2", &["stage9/conv", "there are", "stage2.1/conv1"]);
    mapping("[layers.\"stage2.1/conv1\"]\nregularity = \"filter\"\nrate = 0.5", &["map.toml", "removes three quarters"]);
    mapping("[layers.\"stem\"]\nregularity = \"filter\"\nrate = 2", &["stem", "first convolution"]);
    mapping("[layers.classifier]\nregularity = \"pattern\"\nrate = 4", &["classifier", "3x3"]);
    mapping("[layers.classifier]\nregularity = \"filter\"\nrate = 40", &["classifier", "10 unit(s)", "at most"]);
    mapping("default = \"filter\"", &["map.toml", "no mapping"]);
}

#[test]
fn a_budget_is_measured_and_said_to_be_missed() {
    let p = Place::new();
    if !has_stat() {
        return;
    }
    p.network("m.onnx");
    // By this target zeros cost as much as anything.
    let scheme = ["prune", "m.onnx", "--scheme", "unstructured", "--rate", "4", "--epochs", "0", "--target", SIZE];
    p.run(&[&scheme[..], &["--budget", "50%", "--out", "a"]].concat()).refused(3, &["budget", "does not skip zeros"]);
    assert!(p.path("a/pruned.onnx").exists());
    let v = p.run(&[&scheme[..], &["--budget", "150%", "--out", "b", "--json"]].concat()).done().json();
    assert!((v["report"]["latency"]["relative"]["ratio"].as_f64().unwrap() - 1.0).abs() < 0.1);
}

#[cfg(unix)]
#[test]
fn a_killed_run_comes_to_the_same_file() {
    let p = Place::new();
    p.network("m.onnx");
    for how in ["one-shot", "gradual", "reweighted"] {
        let more =
            ["--scheme", "block-punched:4x1", "--rate", "4", "--epochs", "24", "--holdout", "0.2", "--scheme-training", how, "--quiet"];
        let (whole, killed) = (format!("{how}-whole"), format!("{how}-killed"));
        p.run(&training(&whole, &more)).done();
        let mut child = p.command(&training(&killed, &more)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let start = Instant::now();
        while !p.path(&killed).join("tuned.onnx.checkpoint").exists() {
            assert!(start.elapsed() < Duration::from_secs(200), "no checkpoint appeared");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!p.path(&killed).join("pruned.onnx").exists(), "it was killed too late to show anything");
        p.run(&["resume", &killed, "--json"]).done();
        let file = |run: &str| read(&p.path(run).join("pruned.onnx"));
        assert!(file(&whole) == file(&killed), "{how}: the networks differ");
    }
}
