//! Widths inside a latency step end at its right edge, at no cost that can be measured.
//!
//! The target is a staircase without noise: a millisecond per 8×8 block of every layer's widths, begun or full.
#![cfg(unix)]

mod support;

use support::Place;

/// Prunes by one width fraction and gives the report.
fn report(place: &Place, out: &str, more: &[&str]) -> serde_json::Value {
    let script = place.path("steps.sh");
    let blocks = r#"/"input_width"/ { gsub(/[^0-9]/, ""); i = $0 }
        /"output_width"/ { gsub(/[^0-9]/, ""); n += int((i + 7) / 8) * int(($0 + 7) / 8) }
        END { print n "ms" }"#;
    let text = format!("{} inspect \"$1\" --json | awk '{blocks}'\n", env!("CARGO_BIN_EXE_secateur"));
    std::fs::write(&script, text).expect("script");
    let model = place.text("net.onnx");
    let target = format!("command:sh {} {{model}}", script.display());
    let out = place.text(out);
    let mut arguments = vec!["prune", &model, "--target", &target, "--budget", "60%", "--tolerance", "0.25", "--method", "uniform"];
    arguments.extend(["--data", "synthetic:200,100,1", "--preprocess", "unit", "--criterion", "magnitude", "--epochs", "0"]);
    arguments.extend(["--calibration-networks", "2", "--out", &out, "--json"]);
    arguments.extend(more);
    place.run(&arguments).done().json()["report"].clone()
}

#[test]
fn more_channels_in_the_same_time() {
    if !std::process::Command::new("awk").arg("BEGIN {}").status().is_ok_and(|s| s.success()) {
        println!("skipped: needs awk");
        return;
    }
    let place = Place::new();
    place.network("net.onnx");
    let (plain, rounded) = (report(&place, "plain", &["--no-round-up"]), report(&place, "rounded", &[]));
    assert!(plain["rounding"]["widened"].as_array().expect("list").is_empty());
    let widened = rounded["rounding"]["widened"].as_array().expect("list");
    assert!(!widened.is_empty(), "no width lay inside a step: {rounded:#}");
    assert!(widened.iter().all(|w| w["to"].as_u64() > w["from"].as_u64()), "{widened:?}");
    let number = |v: &serde_json::Value| v.as_f64().expect("number");
    let latency = &rounded["rounding"];
    assert!(number(&latency["after"]["ratio"]) <= number(&latency["before"]["ratio"]) * 1.03, "{latency:#}");
    assert!(number(&rounded["pruned"]["latency_s"]) <= number(&rounded["budget_s"]));
    assert!(number(&rounded["pruned"]["params"]) > number(&plain["pruned"]["params"]), "it has no more than before");
}
