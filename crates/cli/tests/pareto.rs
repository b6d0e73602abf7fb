//! The front over a range of budgets: nothing on it is beaten by another point, and every point can be had.
#![cfg(unix)]

mod support;

use support::{Place, SIZE, has_stat};

#[test]
fn a_front_is_ordered_and_its_plans_apply() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    place.network("net.onnx");
    let run = |method: &str, out: &str| {
        let mut arguments = vec!["pareto", "net.onnx", "--target", SIZE, "--data", "synthetic:200,100,1", "--preprocess", "unit"];
        arguments.extend([
            "--from",
            "40%",
            "--to",
            "80%",
            "--budgets",
            "3",
            "--seeds",
            "3",
            "--method",
            method,
            "--criterion",
            "magnitude",
        ]);
        arguments.extend(["--population", "6", "--generations", "2", "--score-images", "40", "--score-batches", "1"]);
        arguments.extend(["--calibration-networks", "2", "--batch-size", "20", "--out", out, "--json"]);
        place.run(&arguments)
    };
    let answer = run("lacp", "front").done().json();
    assert_eq!((answer["schema_version"].as_u64(), answer["command"].as_str()), (Some(1), Some("pareto")));
    let points = answer["front"]["points"].as_array().expect("points");
    assert!(!points.is_empty());
    let number = |v: &serde_json::Value| v.as_f64().expect("number");
    let all: Vec<(f64, f64)> = points.iter().map(|p| (number(&p["latency"]["ratio"]), number(&p["score"]["loss"]))).collect();
    assert!(all.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 > w[1].1), "{all:?}");
    assert!(all.iter().all(|(ratio, _)| *ratio < 0.9), "{all:?}");
    assert_eq!(std::fs::read_to_string(place.path("front/front.csv")).expect("table").lines().count(), points.len() + 1);
    assert!(std::fs::read_to_string(place.path("front/front.svg")).expect("plot").contains("</svg>"));
    // The size of the network that a plan makes is the latency it promises.
    let plan = points[0]["plan"].as_str().expect("plan");
    place.run(&["apply", plan, "net.onnx", "-o", "small.onnx"]).done();
    let size = |name: &str| std::fs::metadata(place.path(name)).expect("file").len() as f64;
    let ratio = size("small.onnx") / size("net.onnx");
    assert!((ratio / all[0].0 - 1.0).abs() < 0.02, "{ratio} against {}", all[0].0);

    run("lacp", "front").refused(1, &["front", "--out"]);

    // Stopped before it was written, it goes on as what it is, and comes to the same.
    std::fs::remove_file(place.path("front/front.json")).expect("removed");
    let again = place.run(&["resume", "front", "--json"]).done().json();
    assert_eq!(again["front"]["points"], answer["front"]["points"]);
    assert!(place.path("front/front.json").exists());
}
