//! `profile`: the table, the staircases as a page, and which runtime runs what.
#![cfg(unix)]

mod support;

use support::{Place, SIZE, has_stat, read};

#[test]
fn the_page_draws_every_curve_with_its_points_and_what_is_kept() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    secateur::residual_network(&[8], 1, 10, 1).save(place.path("net.onnx")).expect("writes");
    let profile = ["profile", "net.onnx", "--target", SIZE, "--plot", "curves.html", "--calibration-networks", "2", "--json"];
    let found = place.run(&profile).done().json()["staircases"].clone();
    let page = String::from_utf8(read(&place.path("curves.html"))).expect("text").replace("&#x2f;", "/");
    let curves = found["curves"].as_array().expect("curves");
    let groups = found["groups"].as_array().expect("groups");
    assert!(!curves.is_empty() && !groups.is_empty());
    assert_eq!(page.matches("<svg").count(), curves.len() + groups.len());
    let points: usize = curves.iter().map(|c| c["staircase"]["points"].as_array().expect("points").len()).sum();
    assert!(page.matches("<circle").count() >= points, "{points} points");
    for curve in curves {
        assert!(page.contains(curve["layer"].as_str().expect("name")), "{curve}");
        let edges = curve["staircase"]["edges"].as_array().expect("edges");
        // All channels are kept in any case.
        assert_eq!(edges.last().and_then(|e| e["width"].as_u64()), curve["staircase"]["channels"].as_u64());
    }
}

#[test]
fn layers_are_listed_with_the_runtime_that_runs_them() {
    let place = Place::new();
    let name = place.network_with_lrn("lrn.onnx");
    let told = place.run(&["profile", "lrn.onnx", "--layers", "--chunk", "16", "--calibration-networks", "2"]);
    let line = told.done().out.lines().find(|l| l.contains(&name)).unwrap_or_else(|| panic!("{name} is missing:\n{}", told.out));
    assert!(line.contains("LRN") && line.contains("tract"), "{line}");
    assert!(told.out.lines().filter(|l| l.contains("engine") && l.contains("Conv")).count() > 3, "{}", told.out);
}

/// A search among the widths that the staircases leave.
#[test]
fn widths_that_are_kept_are_what_a_search_chooses_among() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    place.network("net.onnx");
    let mut arguments = vec!["prune", "net.onnx", "--target", SIZE, "--budget", "60%", "--method", "lacp", "--grid", "kept"];
    arguments.extend(["--data", "synthetic:200,40,1", "--preprocess", "unit", "--batch-size", "20", "--epochs", "0"]);
    arguments.extend(["--population", "6", "--generations", "2", "--score-images", "20", "--score-batches", "1"]);
    arguments.extend(["--calibration-networks", "2", "--criterion", "magnitude", "--tolerance", "0.1", "--out", "run", "--json"]);
    let ran = place.run(&arguments);
    let report = ran.done().json()["report"].clone();
    assert!(ran.err.contains("staircases:") && ran.err.contains("probes"), "{}", ran.err);
    let ratio = report["latency"]["ratio"].as_f64().expect("ratio");
    assert!((0.4..=0.6).contains(&ratio), "{ratio}");
}
