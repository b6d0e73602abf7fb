//! Bad input is refused with a message that names the thing and the remedy, and nothing is lost.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Place, SIZE, has_stat, read};

#[test]
fn a_file_that_is_not_there() {
    let p = Place::new();
    for command in
        [&["inspect", "no.onnx"][..], &["measure", "no.onnx"], &["profile", "no.onnx"], &["eval", "no.onnx", "--data", "synthetic"]]
    {
        p.run(command).refused(1, &["no.onnx", "no such file"]);
    }
    p.run(&["prune", "no.onnx", "--budget", "50%", "--data", "synthetic", "--out", "run"]).refused(1, &["no.onnx", "no such file"]);
    assert!(!p.path("run").exists(), "nothing is left behind");
}

#[test]
fn a_folder_instead_of_a_file() {
    let p = Place::new();
    p.run(&["inspect", "."]).refused(1, &["is a folder", ".onnx"]);
}

#[test]
fn a_file_that_is_no_model() {
    let p = Place::new();
    std::fs::write(p.path("readme.onnx"), "This is not a model, it is a text file.").unwrap();
    p.run(&["inspect", "readme.onnx"]).refused(1, &["readme.onnx", "not an ONNX model", "export"]);
    std::fs::write(p.path("empty.onnx"), "").unwrap();
    p.run(&["inspect", "empty.onnx"]).refused(1, &["empty.onnx", "not an ONNX model"]);
}

#[test]
fn a_truncated_model() {
    let p = Place::new();
    let whole = read(&p.network("whole.onnx"));
    std::fs::write(p.path("half.onnx"), &whole[..whole.len() / 2]).unwrap();
    p.run(&["inspect", "half.onnx"]).refused(1, &["half.onnx", "download is complete"]);
}

#[test]
fn a_newer_ir() {
    let p = Place::new();
    let mut proto = secateur::residual_network(&[8], 1, 10, 1).proto().clone();
    proto.ir_version = Some(999);
    std::fs::write(p.path("new.onnx"), graph::Model::from_proto(proto).to_bytes().unwrap()).unwrap();
    p.run(&["inspect", "new.onnx"]).refused(1, &["new.onnx", "999", "update secateur"]);
}

#[test]
fn weights_that_are_not_numbers() {
    let p = Place::new();
    let mut model = secateur::residual_network(&[8], 1, 10, 1);
    model.set_tensor("classifier.bias", &graph::Tensor::f32([10], vec![f32::NAN; 10])).unwrap();
    std::fs::write(p.path("nan.onnx"), model.to_bytes().unwrap()).unwrap();
    p.run(&["prune", "nan.onnx", "--budget", "50%", "--data", "synthetic", "--out", "run"]).refused(1, &["classifier.bias", "NaN"]);
    assert!(!p.path("run").exists());
}

#[test]
fn a_budget_that_cannot_be_read() {
    let p = Place::new();
    p.network("m.onnx");
    for budget in ["fast", "5", "0%", "-3ms"] {
        p.run(&["prune", "m.onnx", &format!("--budget={budget}"), "--out", "run"]).refused(2, &[budget, "5ms", "50%", "2x"]);
    }
}

#[test]
fn an_unknown_method_or_flag() {
    let p = Place::new();
    p.network("m.onnx");
    p.run(&["prune", "m.onnx", "--budget", "50%", "--method", "hulp", "--out", "run"]).refused(2, &["hulp", "halp", "uniform", "flops"]);
    p.run(&["prune", "m.onnx", "--budgett", "50%"]).refused(2, &["--budgett", "--budget"]);
    p.run(&["prun"]).refused(2, &["prun", "prune"]);
}

#[test]
fn settings_out_of_range() {
    let p = Place::new();
    p.network("m.onnx");
    let prune = |more: &[&str]| p.run(&[&["prune", "m.onnx", "--budget", "50%", "--out", "run"], more].concat());
    prune(&["--data", "synthetic", "--tolerance", "7"]).refused(2, &["--tolerance", "7"]);
    prune(&["--data", "synthetic", "--lr", "0"]).refused(2, &["lr"]);
    prune(&[]).refused(2, &["--data", "--epochs 0"]);
    assert!(!p.path("run").exists());
}

#[test]
fn flags_that_would_do_nothing() {
    let p = Place::new();
    p.network("m.onnx");
    let idle: [&[&str]; 5] =
        [&["--reorder-filters"], &["--balanced"], &["--penalty", "0.1"], &["--penalty-trials", "3"], &["--scheme-training", "gradual"]];
    for flag in idle {
        let without = [&["prune", "m.onnx", "--budget", "50%", "--out", "run"][..], flag].concat();
        p.run(&without).refused(2, &["--scheme", "--mapping"]);
    }
    p.run(&["profile", "m.onnx", "--sms", "4"]).refused(2, &["--staircases", "--plot"]);
    // A file may hold them for the calls that they serve.
    std::fs::write(p.path("all.toml"), "sms = 4\nbalanced = true\npenalty = 0.1\nthreads = 1\nscheme = 'filter'\nrate = 2").unwrap();
    let asked = ["prune", "m.onnx", "--config", "all.toml", "--budget-params", "60%", "--epochs", "0", "--out", "run"];
    p.run(&asked).done();
}

#[test]
fn data_that_are_not_there_or_not_understood() {
    let p = Place::new();
    p.network("m.onnx");
    p.run(&["eval", "m.onnx"]).refused(2, &["--data", "cifar10:DIR"]);
    p.run(&["eval", "m.onnx", "--data", "mnist:/x"]).refused(2, &["mnist", "cifar10:DIR", "imagefolder:DIR", "npz:FILE"]);
    p.run(&["eval", "m.onnx", "--data", "cifar10:/nowhere"]).refused(1, &["/nowhere"]);
    p.run(&["eval", "m.onnx", "--data", "npz:none.npz"]).refused(1, &["none.npz"]);
    p.run(&["eval", "m.onnx", "--data", "synthetic", "--preprocess", "cafe"]).refused(2, &["cafe", "imagenet", "bgr-caffe"]);
}

#[test]
fn a_run_that_never_began_leaves_no_directory() {
    let p = Place::new();
    p.network("m.onnx");
    p.run(&["prune", "m.onnx", "--budget", "50%", "--data", "cifar10:/nowhere", "--out", "run"]).refused(1, &["/nowhere"]);
    assert!(!p.path("run").exists(), "the corrected command can use the same directory");
}

#[test]
fn targets_that_are_not_there() {
    let p = Place::new();
    p.network("m.onnx");
    let measure = |more: &[&str]| p.run(&[&["measure", "m.onnx"], more].concat());
    measure(&["--target", "ort", "--library", "/nowhere/libonnxruntime.so"])
        .refused(1, &["/nowhere/libonnxruntime.so", "pip install onnxruntime", "tract"]);
    measure(&["--target", "tensorflow"]).refused(2, &["tensorflow", "engine", "ort", "tract", "command:"]);
    measure(&["--target", "command:no-such-program-at-all {model}"]).refused(1, &["no-such-program-at-all", "install"]);
    measure(&["--target", "command:stat"]).refused(2, &["{model}"]);
    measure(&["--provider", "cuda"]).refused(1, &["engine", "provider"]);
}

#[test]
fn what_exists_is_not_overwritten() {
    let p = Place::new();
    p.network("m.onnx");
    std::fs::write(p.path("mine.onnx"), "precious").unwrap();
    std::fs::write(p.path("plan.json"), "{}").unwrap();
    p.run(&["apply", "plan.json", "m.onnx", "--out", "mine.onnx"]).refused(1, &["mine.onnx", "not overwritten"]);
    std::fs::create_dir(p.path("run")).unwrap();
    std::fs::write(p.path("run/notes.txt"), "precious").unwrap();
    p.run(&["prune", "m.onnx", "--budget", "50%", "--data", "synthetic", "--out", "run"]).refused(1, &["run", "not empty", "--out"]);
    p.run(&["demo", "--out", "run"]).refused(1, &["run", "not empty", "--out"]);
    assert_eq!((read(&p.path("mine.onnx")), read(&p.path("run/notes.txt"))), (b"precious".to_vec(), b"precious".to_vec()));
}

#[test]
fn plans_and_runs_that_are_none() {
    let p = Place::new();
    p.network("m.onnx");
    p.run(&["apply", "plan.json", "m.onnx", "--out", "o.onnx"]).refused(1, &["plan.json", "no such file"]);
    std::fs::write(p.path("plan.json"), "{\"version\": 1}").unwrap();
    p.run(&["apply", "plan.json", "m.onnx", "--out", "o.onnx"]).refused(1, &["plan.json", "does not read"]);
    p.run(&["resume", "nowhere"]).refused(1, &["nowhere", "no run", "prune --out"]);
    assert!(!p.path("o.onnx").exists());
}

#[test]
fn budgets_outside_what_there_is() {
    if !has_stat() {
        return;
    }
    let p = Place::new();
    p.network("m.onnx");
    let prune = |budget: &str, out: &str| {
        p.run(&[
            "prune",
            "m.onnx",
            "--budget",
            budget,
            "--out",
            out,
            "--target",
            SIZE,
            "--criterion",
            "magnitude",
            "--epochs",
            "0",
            "--table",
            "t.sqlite",
        ])
    };
    prune("200%", "above").refused(1, &["dense latency", "nothing to prune"]);
    prune("1%", "below").refused(3, &["floor", "%"]);
    // The corrected command finds nothing of these in its way, nor in a directory that was there, empty, before.
    assert!(!p.path("above").exists() && !p.path("below").exists());
    std::fs::create_dir(p.path("mine")).unwrap();
    prune("1%", "mine").refused(3, &["floor", "%"]);
    assert_eq!(std::fs::read_dir(p.path("mine")).unwrap().count(), 0);
    prune("70%", "mine").done();
}

#[test]
fn what_could_not_be_done_as_asked_is_refused_before_anything_is_measured() {
    let p = Place::new();
    p.network("net.onnx");
    let prune = |more: &[&str]| {
        let asked = ["prune", "net.onnx", "--budget", "50%", "--out", "run", "--table", "t.sqlite"];
        let ran = p.run(&[&asked[..], more].concat());
        assert!(!p.path("run/journal.sqlite").exists(), "{ran:#?}");
        ran
    };
    // Fewer images than a batch: nothing would be trained.
    prune(&["--data", "synthetic:40,20", "--epochs", "2", "--batch-size", "64"]).refused(1, &["--epochs 2", "--batch-size 64", "one step"]);
    prune(&["--method", "lacp", "--epochs", "0", "--criterion", "magnitude"]).refused(2, &["--method lacp", "--data"]);
    prune(&["--method", "archtree", "--data", "synthetic:200,20", "--score-images", "0"]).refused(2, &["--score-images"]);
    prune(&["--data", "synthetic:200,20", "--patience", "inf"]).refused(2, &["--patience"]);
    prune(&["--data", "synthetic:200,20", "--step-batches", "0"]).refused(2, &["--step-batches"]);
}

#[test]
fn the_floor_is_that_of_the_method() {
    if !has_stat() {
        return;
    }
    let p = Place::new();
    // Groups of 16 and 32, pruned in chunks of 8 where a method cuts once; `uniform` keeps single channels.
    secateur::residual_network(&[16, 32], 1, 10, 1).save(p.path("net.onnx")).unwrap();
    let prune = |method: &[&str], out: &str| {
        let asked = ["prune", "net.onnx", "--budget", "12%", "--out", out, "--target", SIZE, "--criterion", "magnitude", "--epochs", "0"];
        let more = ["--table", "t.sqlite", "--tolerance", "0.2", "--no-depth", "--calibration-networks", "3", "--no-round-up"];
        p.run(&[&asked[..], &more, method].concat())
    };
    prune(&["--method", "uniform"], "uniform").done();
    prune(&["--method", "halp", "--steps", "1"], "once").refused(3, &["floor"]);
}

#[test]
fn sizes_that_are_left_open_are_asked_for() {
    let p = Place::new();
    let mut proto = secateur::residual_network(&[8], 1, 10, 1).proto().clone();
    set_shape(&mut proto.graph.get_or_insert_default().input[0], &[0, 3, 0, 32]);
    std::fs::write(p.path("open.onnx"), graph::Model::from_proto(proto).to_bytes().unwrap()).unwrap();
    for command in ["measure", "doctor"] {
        p.run(&[command, "open.onnx"]).refused(2, &["open.onnx", "dimension 2", "--shape", "=1,3,?,32"]);
        p.run(&[command, "open.onnx", "--shape", "nobody=1,3,32,32"]).refused(2, &["--shape"]);
    }
}

#[test]
fn nothing_to_prune() {
    let p = Place::new();
    // Only the classifier is left: its outputs are the graph's.
    let mut proto = secateur::residual_network(&[8], 1, 10, 1).proto().clone();
    let g = proto.graph.get_or_insert_default();
    g.node.retain(|n| n.op_type() == "Gemm");
    g.input[0] = graph::proto::ValueInfoProto { name: Some(g.node[0].input[0].clone()), ..g.input[0].clone() };
    set_shape(&mut g.input[0], &[1, 8]);
    std::fs::write(p.path("one.onnx"), graph::Model::from_proto(proto).to_bytes().unwrap()).unwrap();
    p.run(&["prune", "one.onnx", "--budget", "50%", "--epochs", "0", "--criterion", "magnitude", "--out", "run"])
        .refused(1, &["one.onnx", "frozen", "output"]);
}

fn set_shape(info: &mut graph::proto::ValueInfoProto, shape: &[i64]) {
    use graph::proto::{
        TensorShapeProto,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    };
    if let Some(type_proto::Value::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        let dim = |d: &i64| Dimension { value: Some(dimension::Value::DimValue(*d)), ..Default::default() };
        t.shape = Some(TensorShapeProto { dim: shape.iter().map(dim).collect() });
    }
}

#[test]
fn configuration_files() {
    let p = Place::new();
    p.network("m.onnx");
    p.run(&["prune", "--config", "none.toml"]).refused(2, &["none.toml"]);
    std::fs::write(p.path("bad.toml"), "budget = ").unwrap();
    p.run(&["prune", "--config", "bad.toml"]).refused(2, &["bad.toml", "TOML"]);
    std::fs::write(p.path("typo.toml"), "[prune]\nbuget = '50%'").unwrap();
    p.run(&["prune", "--config", "typo.toml"]).refused(2, &["typo.toml", "`buget`", "budget"]);
    // A value of the file is checked as a flag is.
    std::fs::write(p.path("value.toml"), "model = 'm.onnx'\nbudget = 'fast'\nout = 'run'").unwrap();
    p.run(&["prune", "--config", "value.toml"]).refused(2, &["fast", "50%"]);
}

#[test]
fn noise_that_leaves_no_answer() {
    let p = Place::new();
    p.network("m.onnx");
    std::fs::write(p.path("noisy.sh"), "n=$(date +%N | sed 's/^0*//'); echo $((n % 1000 + 1)) ms # $1\n").unwrap();
    let r = p.run(&["--json", "measure", "m.onnx", "--target", "command:sh noisy.sh {model}", "--time-limit", "0.3"]);
    r.refused(4, &["noise", "--time-limit"]);
    assert_eq!(r.json()["models"][0]["resolved"], false, "the numbers are printed all the same");
}

#[test]
fn files_of_a_profile_that_are_there_already() {
    let p = Place::new();
    p.network("net.onnx");
    std::fs::write(p.path("page.html"), "mine").unwrap();
    for flag in ["--plot", "--export"] {
        p.run(&["profile", "net.onnx", flag, "page.html"]).refused(1, &["page.html", "exists", &format!("another `{flag}`")]);
    }
    assert_eq!(std::fs::read(p.path("page.html")).unwrap(), b"mine");
}
