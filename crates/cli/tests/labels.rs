//! The main job without labels, and without data: what is chosen by and told is agreement, never accuracy.
#![cfg(unix)]

mod support;

use support::{Place, SIZE, has_stat, read};

/// Prunes to 70 % of the file's size and gives the report, and what was printed and written for people.
fn prune(more: &[&str]) -> (serde_json::Value, String) {
    let place = Place::new();
    place.network("net.onnx");
    let mut arguments = vec!["prune", "net.onnx", "--target", SIZE, "--budget", "70%", "--tolerance", "0.3", "--preprocess", "unit"];
    arguments.extend(["--steps", "2", "--step-batches", "3", "--batch-size", "20", "--recover", "lsq", "--calibration-images", "60"]);
    arguments.extend(["--score-images", "20", "--calibration-networks", "2", "--out", "run"]);
    arguments.extend(more);
    let told = place.run(&arguments).done().out.clone();
    let parse = |bytes: &[u8]| serde_json::from_slice(bytes).expect("JSON");
    let page = String::from_utf8(read(&place.path("run/report.html"))).expect("text");
    (parse(&read(&place.path("run/report.json"))), format!("{told}\n{page}"))
}

#[test]
fn without_labels_everything_goes_by_agreement() {
    if !has_stat() {
        return;
    }
    let (report, text) = prune(&["--data", "synthetic:200,60,1", "--loss", "distill", "--epochs", "1"]);
    assert_eq!(report["figure"], "agreement");
    assert!(report["pruned"]["test_accuracy"].is_null() && report["dense"]["test_agreement"].as_f64() == Some(100.0), "{report:#}");
    let agreement = report["pruned"]["test_agreement"].as_f64().expect("an agreement");
    assert!((0.0..=100.0).contains(&agreement));
    let recovery = report["recovery"].as_array().expect("what was tried");
    assert_eq!(recovery.len(), 4, "{recovery:?}");
    let loss = |r: &serde_json::Value| r["score"]["loss"].as_f64().expect("loss");
    let taken = recovery.iter().find(|r| r["taken"] == true).expect("one is taken");
    assert!(recovery.iter().all(|r| loss(r) >= loss(taken)));
    assert!(text.contains("agreement with the dense network") && !text.contains("accuracy"), "{text}");
}

#[test]
fn without_data_inputs_are_drawn_and_statistics_stay() {
    if !has_stat() {
        return;
    }
    let (report, text) = prune(&["--epochs", "0"]);
    assert!(report["drawn"].as_str().is_some_and(|d| d.contains("drawn at random") && d.contains("stay as recorded")), "{report:#}");
    let tried: Vec<&str> = report["recovery"].as_array().expect("what was tried").iter().filter_map(|r| r["what"].as_str()).collect();
    assert_eq!(tried, ["as cut", "least squares"]);
    assert!(text.contains("drawn at random") && text.contains("on drawn inputs") && !text.contains("accuracy"), "{text}");
}

#[test]
fn fine_tuning_that_leaves_the_network_worse_is_undone() {
    if !has_stat() {
        return;
    }
    let (report, _) = prune(&["--data", "synthetic:200,60,1", "--loss", "distill", "--epochs", "1", "--lr", "3", "--warmup-steps", "0"]);
    let held_out = |when: &str| report[when].as_f64().expect("a figure");
    assert_eq!(held_out("holdout_after"), held_out("holdout_before"));
    let taken = report["recovery"].as_array().expect("what was tried").iter().find(|r| r["taken"] == true).expect("one is taken");
    assert_eq!(taken["score"]["percent"].as_f64(), Some(held_out("holdout_before")));
}
