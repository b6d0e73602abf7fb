//! `map` on a target whose latency is the number of bytes that are not zero: no noise, and every weight removed is time gained.
#![cfg(unix)]

mod support;

use std::process::Command;

use support::{Place, read};

/// A target on which zeros take no time.
fn non_zeros(place: &Place) -> Option<String> {
    let script = place.path("zeros.sh");
    std::fs::write(&script, "n=$(tr -d '\\000' < \"$1\" | wc -c)\necho \"${n}us\"\n").expect("writes");
    let works = Command::new("sh").arg(&script).arg(&script).output().is_ok_and(|o| o.status.success() && o.stdout.ends_with(b"us\n"));
    if !works {
        println!("skipped: needs `sh`, `tr` and `wc`");
    }
    works.then(|| format!("command:sh {} {{model}}", script.display()))
}

const DATA: [&str; 12] = [
    "--data",
    "synthetic:300,50,1",
    "--preprocess",
    "unit",
    "--score-images",
    "60",
    "--score-batches",
    "2",
    "--batch-size",
    "30",
    "--holdout",
    "0.3",
];

fn map(place: &Place, target: &str, out: &str, more: &[&str]) -> support::Ran {
    let mut arguments =
        vec!["map", "net.onnx", "--target", target, "-o", out, "--calibration-networks", "3", "--tolerance", "0.1", "--json", "--quiet"];
    arguments.extend(more);
    place.run(&arguments)
}

/// The schemes of a mapping's file, by layer.
fn layers(place: &Place, file: &str) -> toml::Table {
    let text = String::from_utf8(read(&place.path(file))).expect("text");
    let file: toml::Table = text.parse().expect("TOML");
    file.get("layers").map_or_else(toml::Table::new, |l| l.as_table().expect("a table of layers").clone())
}

#[test]
fn every_way_of_mapping_lands_at_the_budget() {
    let place = Place::new();
    let Some(target) = non_zeros(&place) else { return };
    place.network("net.onnx");
    for by in ["rules", "knapsack", "search", "evolution", "random"] {
        let file = format!("{by}.toml");
        let mut arguments = vec!["--by", by, "--budget", "60%", "--evaluations", "8"];
        arguments.extend(DATA);
        if by == "evolution" {
            arguments.extend(["--tune-steps", "1"]);
        }
        let answer = map(&place, &target, &file, &arguments).done().json();
        assert_eq!((answer["command"].as_str(), answer["mapping"]["map"]["by"].as_str()), (Some("map"), Some(by)));
        let ratio = answer["mapping"]["latency"]["ratio"].as_f64().expect("ratio");
        assert!(ratio <= 0.6 && ratio > 0.5, "{by}: {ratio}");
        let mapped = answer["mapping"]["layers"].as_array().expect("layers");
        let pruned: Vec<&serde_json::Value> = mapped.iter().filter(|l| l["scheme"]["regularity"] != "dense").collect();
        let written = layers(&place, &file);
        assert!(!pruned.is_empty());
        for layer in mapped {
            let (name, scheme) = (layer["name"].as_str().expect("name"), &layer["scheme"]);
            assert!(layer["why"].as_str().is_some_and(|w| !w.is_empty()), "{layer}");
            match written.get(name) {
                Some(entry) => {
                    assert_eq!(entry["regularity"].as_str(), scheme["regularity"].as_str());
                    assert_eq!(entry["rate"].as_float(), scheme["rate"].as_f64());
                }
                None => assert_eq!(scheme["rate"].as_f64(), Some(1.0), "{layer}"),
            }
        }
        assert!(!place.path(&format!("{file}.work")).exists());
        if by == "rules" {
            // On this target all blocks take the same time, so the smallest is taken wherever its rate can be had.
            assert!(pruned.iter().all(|l| l["scheme"]["regularity"] == "block-punched:4x1"), "{pruned:?}");
        }
    }
    // What was written is what `prune` takes.
    let report = place.run(&["prune", "net.onnx", "--mapping", "rules.toml", "--epochs", "0", "--out", "run", "--json"]).done().json();
    let rules = layers(&place, "rules.toml");
    for layer in report["report"]["layers"].as_array().expect("layers") {
        let wanted = rules.get(layer["name"].as_str().expect("name")).map_or(Some("dense"), |l| l["regularity"].as_str());
        assert_eq!(layer["regularity"].as_str(), wanted, "{layer}");
    }
    // Nothing is overwritten.
    map(&place, &target, "rules.toml", &["--budget", "60%"]).refused(1, &["rules.toml", "exists"]);
}

/// A reweighted training without rates takes as much off as the budget asks for, as measured.
#[test]
fn a_penalty_and_rates_are_found_for_a_latency() {
    let place = Place::new();
    let Some(target) = non_zeros(&place) else { return };
    place.network("net.onnx");
    let mut arguments = vec!["prune", "net.onnx", "--target", &target, "--scheme", "block-punched:4x1", "--budget", "60%"];
    arguments.extend(["--scheme-training", "reweighted", "--penalty-trials", "2", "--epochs", "1", "--tolerance", "0.1"]);
    arguments.extend(DATA);
    let ran = place.run(&[&arguments[..], &["--out", "run", "--json"]].concat());
    let report = ran.done().json()["report"].clone();
    let ratio = report["latency"]["relative"]["ratio"].as_f64().expect("ratio");
    assert!((0.54..=0.6).contains(&ratio), "{ratio}");
    let rates: Vec<f64> = report["layers"].as_array().expect("layers").iter().filter_map(|l| l["rate"].as_f64()).collect();
    assert!(rates.iter().any(|r| (r - rates[0]).abs() > 0.05), "they fall out: {rates:?}");
    assert!(ran.err.contains("times what is wanted") && ran.err.contains("of the dense latency"), "{}", ran.err);
    // A budget that no rate reaches.
    let index = arguments.iter().position(|a| *a == "60%").expect("the budget");
    arguments[index] = "5%";
    place.run(&[&arguments[..], &["--out", "low"]].concat()).refused(3, &["budget"]);
    // Without the penalty there is nothing that finds rates.
    let plain =
        ["prune", "net.onnx", "--target", &target, "--scheme", "block-punched:4x1", "--budget", "60%", "--epochs", "0", "--out", "o"];
    place.run(&plain).refused(2, &["--rate", "reweighted"]);
}

#[test]
fn a_mapping_that_was_killed_goes_on_by_the_same_command_and_comes_to_the_same() {
    let place = Place::new();
    let Some(target) = non_zeros(&place) else { return };
    place.network("net.onnx");
    let arguments = [&["--by", "evolution", "--budget", "60%", "--evaluations", "20"][..], &DATA].concat();
    map(&place, &target, "whole.toml", &arguments).done();
    let begin =
        ["map", "net.onnx", "--target", &target, "-o", "killed.toml", "--calibration-networks", "3", "--tolerance", "0.1", "--quiet"];
    let mut child = place.command(&[&begin[..], &arguments].concat()).spawn().expect("starts");
    let work = place.path("killed.toml.work");
    let scored = || {
        let finished = secateur::Run::open(&work).and_then(|r| r.journal.finished()).unwrap_or_default();
        finished.iter().filter(|(name, _)| name.starts_with("score")).count()
    };
    while !work.join("config.json").exists() || scored() < 8 {
        assert!(child.try_wait().expect("asked").is_none(), "it ended before it came so far");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert!(!place.path("killed.toml").exists(), "it was killed too late to show anything");
    place.run(&["resume", "killed.toml.work"]).refused(1, &["the same command again"]);
    map(&place, &target, "killed.toml", &arguments).done();
    assert_eq!(layers(&place, "killed.toml"), layers(&place, "whole.toml"));
    assert!(!work.exists());
}

/// Candidates are trained against the dense network's outputs where there are no labels.
#[test]
fn candidates_are_trained_without_labels_too() {
    let place = Place::new();
    let Some(target) = non_zeros(&place) else { return };
    place.network("net.onnx");
    std::fs::create_dir(place.path("images")).expect("makes");
    for k in 0..80u8 {
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i as u8).wrapping_mul(k).wrapping_add(k)).collect();
        // A BMP of 24 bits per pixel: file header, picture header, rows.
        let numbers: [u32; 13] = [54 + 3072, 0, 54, 40, 32, 32, 1 | 24 << 16, 0, 3072, 0, 0, 0, 0];
        let header: Vec<u8> = b"BM".iter().copied().chain(numbers.iter().flat_map(|n| n.to_le_bytes())).collect();
        std::fs::write(place.path(&format!("images/{k}.bmp")), [header, pixels].concat()).expect("writes");
    }
    let mut arguments =
        vec!["--by", "random", "--budget", "60%", "--evaluations", "3", "--tune-steps", "1", "--data", "imagefolder:images"];
    arguments.extend(["--preprocess", "unit", "--score-images", "10", "--score-batches", "1", "--batch-size", "10", "--holdout", "0.2"]);
    let answer = map(&place, &target, "m.toml", &arguments).done().json();
    assert_eq!(answer["mapping"]["score"]["figure"], "agreement");
}

#[test]
fn weights_can_be_limited_in_place_of_latency() {
    let place = Place::new();
    let Some(target) = non_zeros(&place) else { return };
    place.network("net.onnx");
    let answer = map(&place, &target, "half.toml", &["--compression", "2"]).done().json();
    let compression = answer["mapping"]["compression"].as_f64().expect("compression");
    assert!((2.0..2.3).contains(&compression), "{compression}");
    assert!(answer["mapping"]["budget_s"].is_null() && answer["mapping"]["score"].is_null());
    map(&place, &target, "much.toml", &["--compression", "50"]).refused(1, &["--compression", "reach"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::new();
    let Some(target) = non_zeros(&place) else { return };
    place.network("net.onnx");
    let refused = |code: i32, arguments: &[&str], parts: &[&str]| {
        map(&place, &target, "m.toml", arguments).refused(code, parts);
        assert!(!place.path("m.toml").exists() && !place.path("m.toml.work").exists(), "{arguments:?}");
    };
    refused(2, &["--by", "search", "--budget", "50%"], &["--data"]);
    refused(2, &["--by", "guess", "--budget", "50%"], &["guess", "rules", "search"]);
    refused(2, &["--compression", "0.5"], &["--compression"]);
    refused(2, &["--budget", "50%", "--beta=-1"], &["--beta"]);
    refused(2, &[], &["--budget"]);
    // What lies where the work would be done is left alone.
    std::fs::create_dir(place.path("other.toml.work")).expect("makes");
    std::fs::write(place.path("other.toml.work/mine.txt"), "mine").expect("writes");
    map(&place, &target, "other.toml", &["--budget", "50%"]).refused(1, &["other.toml.work", "not empty"]);
    assert_eq!(read(&place.path("other.toml.work/mine.txt")), b"mine");
    // Only the size of the file counts here, and a zero is as large as any other weight.
    if support::has_stat() {
        let r = place.run(&["map", "net.onnx", "--target", support::SIZE, "--budget", "50%", "-o", "m.toml", "--quiet"]);
        r.refused(1, &["weights that are zero", "--target engine"]);
        assert!(!place.path("m.toml.work").exists());
    }
}
