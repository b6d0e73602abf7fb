//! What the commands answer: JSON that is one document, tables that add up, and a whole run on a target without noise.

mod support;

use serde_json::Value;
use support::{Place, SIZE, has_stat, read};

fn sum(rows: &Value, field: &str) -> u64 {
    rows.as_array().expect("a list").iter().map(|r| r[field].as_u64().expect(field)).sum()
}

#[test]
fn every_answer_says_its_version_and_command() {
    let p = Place::new();
    p.network("m.onnx");
    let answers = [
        ("inspect", p.run(&["inspect", "m.onnx", "--json"])),
        ("eval", p.run(&["eval", "m.onnx", "--data", "synthetic:20,10", "--preprocess", "unit", "--json"])),
        ("measure", p.run(&["measure", "m.onnx", "m.onnx", "--target", SIZE, "--time-limit", "5", "--json"])),
    ];
    for (command, r) in answers {
        let v = r.done().json();
        assert_eq!((v["schema_version"].as_u64(), v["command"].as_str()), (Some(1), Some(command)));
    }
    // Errors are answers, too.
    let r = p.run(&["inspect", "none.onnx", "--json"]);
    let v = r.json();
    assert_eq!((r.code, v["error"]["exit_code"].as_u64()), (1, Some(1)));
    assert!(v["error"]["message"].as_str().expect("text").contains("none.onnx"));
    // So are those of the command line and of a configuration file.
    std::fs::write(p.path("typo.toml"), "budgett = '50%'").expect("writes");
    let mistaken: [(&[&str], &str, &str); 4] = [
        (&["prune", "m.onnx", "--budget", "fast", "--out", "run", "--json"], "prune", "fast"),
        (&["--json", "prune", "--config", "typo.toml"], "prune", "budgett"),
        (&["pareto", "--json", "m.onnx"], "pareto", "--out"),
        (&["prun", "--json"], "secateur", "prun"),
    ];
    for (arguments, command, part) in mistaken {
        let r = p.run(arguments);
        let v = r.refused(2, &[part]).json();
        assert_eq!((v["command"].as_str(), v["error"]["exit_code"].as_u64()), (Some(command), Some(2)), "{v}");
        let message = v["error"]["message"].as_str().expect("text");
        assert!(message.contains(part) && !message.starts_with("error"), "{message}");
    }
}

#[test]
fn inspect_adds_up_and_explains() {
    let p = Place::new();
    p.network("m.onnx");
    let v = p.run(&["inspect", "m.onnx", "--json"]).done().json();
    let (params, macs) = (v["params"].as_u64().expect("params"), v["macs"].as_u64().expect("macs"));
    assert_eq!(sum(&v["layers"], "macs"), macs, "all multiply-accumulates are in layers");
    // Two parameters per channel of each BatchNormalization are not.
    let normalised: u64 = v["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .filter(|l| l["kind"] != "Gemm")
        .map(|l| l["output_width"].as_u64().expect("width"))
        .sum();
    assert_eq!(sum(&v["layers"], "params") + 2 * normalised, params);
    let groups = v["groups"].as_array().expect("groups");
    let stem = groups.iter().find(|g| g["name"] == "stem").expect("the first residual stream");
    assert_eq!(stem["written_by"].as_array().map(Vec::len), Some(3), "stem and both blocks' second convolutions: {stem}");
    for g in groups.iter().filter(|g| !g["frozen"].is_null()) {
        assert!(g["frozen"]["reason"].as_str().is_some_and(|r| r.len() > 10), "{g}");
    }
    let text = p.run(&["inspect", "m.onnx"]).done().out.clone();
    assert!(text.lines().next().is_some_and(|l| l.starts_with("m.onnx: ") && l.contains("can be pruned")), "{text}");
    assert!(text.contains("total") && text.contains("output"), "{text}");
}

#[test]
fn measure_compares_with_the_first() {
    if !has_stat() {
        return;
    }
    let p = Place::new();
    p.network("small.onnx");
    secateur::residual_network(&[16, 32], 2, 10, 1).save(p.path("large.onnx")).expect("writes");
    let r = p.run(&["measure", "large.onnx", "small.onnx", "--target", SIZE, "--time-limit", "5", "--json"]);
    let v = r.done().json();
    assert_eq!(v["pairs"][0]["verdict"], "faster");
    let size = |n: &str| read(&p.path(n)).len() as f64;
    let ratio = v["pairs"][0]["ratio"].as_f64().expect("ratio");
    // The program is given a self-contained copy, of about the file's size.
    assert!((ratio - size("small.onnx") / size("large.onnx")).abs() < 0.02, "{ratio}");
}

#[test]
fn a_run_meets_its_budget_and_its_plan_applies_again() {
    if !has_stat() {
        return;
    }
    let p = Place::new();
    p.network("m.onnx");
    std::fs::write(p.path("run.toml"), format!("target = '{SIZE}'\n[prune]\nmodel = 'm.onnx'\nbudget = '90%'\nepochs = 0\ncriterion = 'magnitude'\nsteps = 2\nchunk = 1\ncalibration-networks = 6\n")).expect("writes");
    let r = p.run(&["prune", "--config", "run.toml", "--budget", "60%", "--out", "run", "--json"]);
    let v = r.done().json();
    let report = &v["report"];
    let share = report["latency"]["ratio"].as_f64().expect("ratio");
    assert!((0.588 - 1e-9..=0.6 + 1e-9).contains(&share), "the flag wins over the file, and the budget is met: {share}");
    assert_eq!(report["within_tolerance"], true);
    assert!(r.err.contains("dense") && r.err.contains("floor"), "what is about to be done is told: {}", r.err);
    // Without data nothing says what a branch is worth.
    assert!(r.err.contains("residual branches stay"), "{}", r.err);
    let plan: Value = serde_json::from_slice(&read(&p.path("run/plan.json"))).expect("JSON");
    let steps = plan["cut"]["steps"].as_array().expect("steps");
    assert!(steps.iter().all(|s| s["removed_branches"].as_array().is_none_or(Vec::is_empty)), "{steps:?}");

    let applied = p.run(&["apply", "run/plan.json", "m.onnx", "-o", "again.onnx", "--json"]).done().json();
    assert_eq!((applied["plan_model"].as_str(), applied["same_weights"].as_bool()), (Some("m.onnx"), Some(true)));
    assert!(applied["relative_difference"].as_f64().expect("a difference") < 1e-3, "{applied}");
    let smaller = |name: &str| p.run(&["inspect", name, "--json"]).done().json()["params"].clone();
    assert_eq!(smaller("again.onnx"), smaller("run/pruned.onnx"));
    assert_eq!(read(&p.path("again.onnx")), read(&p.path("run/pruned.onnx")), "nothing was trained, so the plan is all there is to it");

    // A run that is over is told again, with nothing measured again.
    let again = p.run(&["resume", "run", "--json"]).done().json();
    assert_eq!(again["report"]["pruned"], report["pruned"]);
    assert_eq!(again["report"]["probes"]["measured"], 0, "{}", again["report"]["probes"]);

    // The same directory is not used twice.
    p.run(&["prune", "--config", "run.toml", "--out", "run"]).refused(1, &["secateur resume", "--out"]);
}

#[test]
fn apply_refuses_another_network() {
    if !has_stat() {
        return;
    }
    let p = Place::new();
    p.network("m.onnx");
    secateur::residual_network(&[4], 1, 10, 1).save(p.path("other.onnx")).expect("writes");
    let prune = ["prune", "m.onnx", "--budget", "70%", "--target", SIZE, "--criterion", "magnitude", "--epochs", "0", "--out", "run"];
    p.run(&prune).done();
    let r = p.run(&["apply", "run/plan.json", "other.onnx", "--out", "o.onnx"]);
    r.refused(1, &["decision"]);
    assert!(!p.path("o.onnx").exists());
}

/// What another runtime runs is said, by node.
#[test]
fn doctor_says_which_node_runs_where() {
    let p = Place::new();
    let name = p.network_with_lrn("lrn.onnx");
    let r = p.run(&["doctor", "lrn.onnx", "--trials", "2", "--tolerance", "0.9", "--json"]);
    let v = r.done().json();
    let nodes = v["placement"]["nodes"].as_array().expect("nodes");
    let elsewhere: Vec<&Value> = nodes.iter().filter(|n| n["place"] == "tract").collect();
    assert_eq!(elsewhere.len(), 1, "{nodes:?}");
    assert_eq!((elsewhere[0]["name"].as_str(), elsewhere[0]["operator"].as_str()), (Some(name.as_str()), Some("LRN")));
    assert!(elsewhere[0]["reason"].as_str().expect("text").contains("kernel"));
    assert!(nodes.iter().filter(|n| n["place"] == "engine").count() > 10, "{nodes:?}");
    let engine = &v["runtimes"].as_array().expect("runtimes")[0];
    assert!(engine["name"] == "engine" && engine["available"] == true, "{engine}");
}

#[test]
fn help_tells_defaults_and_exit_codes() {
    let p = Place::new();
    let top = p.run(&["--help"]).done().out.clone();
    assert!(top.contains("3 budget not reached") && top.contains("4 noise too high"), "{top}");
    assert!(!top.contains("worker"), "the worker is not for people");
    // Lines are wrapped at the width of the terminal.
    let help = |command: &str| p.run(&[command, "--help"]).done().out.split_whitespace().collect::<Vec<_>>().join(" ");
    let (prune, resume) = (help("prune"), help("resume"));
    assert!(["`prune`", "`pareto`", "`map`"].iter().all(|command| resume.contains(command)), "{resume}");
    for part in ["[default: imagenet]", "[default: engine]", "[default: halp]", "[default: joint]", "cifar10:DIR", "5ms", "50%", "2x"] {
        assert!(prune.contains(part), "{part} in\n{prune}");
    }
}
