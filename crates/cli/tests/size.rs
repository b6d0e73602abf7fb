//! `prune --budget-params`: a smaller file, checked, or the reason why not.

mod support;

use support::{Place, read};

#[test]
fn a_share_of_the_parameters_stays_and_every_group_is_accounted_for() {
    let p = Place::new();
    p.network("m.onnx");
    let v =
        p.run(&["prune", "m.onnx", "--budget-params", "60%", "--epochs", "0", "--out", "small", "--write-twin", "--json"]).done().json();
    let report = &v["report"];
    let (before, after) = (report["params_before"].as_u64().expect("before"), report["params_after"].as_u64().expect("after"));
    assert!(after * 10 <= before * 6 && after * 2 > before, "{after} of {before}");
    for g in report["groups"].as_array().expect("groups") {
        let (kept, channels) = (g["kept"].as_u64().expect("kept"), g["channels"].as_u64().expect("channels"));
        assert!(kept <= channels && (g["frozen"].is_null() || kept == channels), "{g}");
    }
    assert!(report["checks"][0]["relative_difference"].as_f64().expect("a check") < 1e-3);
    let small = read(&p.path("small/pruned.onnx"));
    assert!(small.len() < read(&p.path("m.onnx")).len() && p.path("small/twin.onnx").exists() && p.path("small/size.json").exists());
    // It is a network like any other, and is cut once more.
    let again = p.run(&["prune", "small/pruned.onnx", "--budget-params", "80%", "--epochs", "0", "--out", "smaller"]);
    let text = &again.done().out;
    assert!(text.contains("parameters") && text.contains("reaches the graph output"), "{text}");
    p.run(&["prune", "m.onnx", "--budget-params", "60%", "--epochs", "0", "--out", "small"]).refused(1, &["small", "--out"]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let p = Place::new();
    p.network("m.onnx");
    p.run(&["prune", "m.onnx", "--budget-params", "60%", "--out", "o"]).refused(2, &["--epochs 0"]);
    p.run(&["prune", "m.onnx", "--budget-params", "60%", "--budget", "50%", "--epochs", "0", "--out", "o"]).refused(2, &["--budget"]);
    p.run(&["prune", "m.onnx", "--epochs", "0", "--out", "o"]).refused(2, &["--budget"]);
    p.run(&["prune", "m.onnx", "--budget-params", "all", "--epochs", "0", "--out", "o"]).refused(2, &["70%"]);
    p.run(&["prune", "m.onnx", "--budget-params", "5", "--epochs", "0", "--out", "o"]).refused(3, &["floor", "graph input"]);
    for (flag, value) in [("--latency-batch", "0"), ("--holdout", "3")] {
        p.run(&["prune", "m.onnx", "--budget-params", "60%", "--epochs", "0", "--out", "o", flag, value]).refused(2, &[flag, value]);
    }
    assert!(!p.path("o").exists());
}

#[test]
fn without_data_the_weights_are_solved_for_on_drawn_inputs_and_that_is_said() {
    let p = Place::new();
    p.network("m.onnx");
    let args =
        ["prune", "m.onnx", "--budget-params", "70%", "--epochs", "0", "--recover", "lsq", "--preprocess", "unit", "--batch-size", "32"];
    let ran = p.run(&[&args[..], &["--out", "solved"]].concat());
    let text = &ran.done().out;
    assert!(text.contains("inputs are drawn at random") && text.contains("agreement with the dense network"), "{text}");
    assert!(text.contains("least squares") && !text.contains("accuracy"), "{text}");
    let told = p.run(&["eval", "solved/pruned.onnx", "--against", "m.onnx", "--data", "drawn:100,7", "--preprocess", "unit", "--json"]);
    let plain = p.run(&["prune", "m.onnx", "--budget-params", "70%", "--epochs", "0", "--out", "plain"]);
    assert!(plain.done().out.contains("weights are as they were"));
    let cut = p.run(&["eval", "plain/pruned.onnx", "--against", "m.onnx", "--data", "drawn:100,7", "--preprocess", "unit", "--json"]);
    let loss = |v: serde_json::Value| v["loss"].as_f64().expect("a loss");
    let (solved, cut) = (loss(told.done().json()), loss(cut.done().json()));
    assert!(solved < cut, "{cut} → {solved}");
    let refused = ["prune", "m.onnx", "--budget", "50%", "--data", "drawn", "--out", "o"];
    p.run(&refused).refused(2, &["drawn inputs", "--epochs 0"]);
}
