//! The searches, on a target whose latency is the size of the file.
#![cfg(unix)]

mod support;

use support::{Place, SIZE, has_stat};

const COMMON: [&str; 22] = [
    "--target",
    SIZE,
    "--data",
    "synthetic:200,40,1",
    "--preprocess",
    "unit",
    "--batch-size",
    "20",
    "--epochs",
    "0",
    "--score-images",
    "20",
    "--score-batches",
    "1",
    "--calibration-networks",
    "2",
    "--criterion",
    "magnitude",
    "--tolerance",
    "0.1",
    "--out",
    "run",
];

/// A level changes one group or branch. Two of them do not come to a third of the size; the tree goes on until it is there.
#[test]
fn a_tree_grows_more_levels_where_those_planned_do_not_reach_the_budget() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    place.network("net.onnx");
    let mut arguments = vec!["prune", "net.onnx", "--budget", "35%", "--method", "archtree", "--beam", "1", "--levels", "2"];
    arguments.extend(COMMON);
    let ran = place.run(&arguments);
    assert!(ran.done().err.contains("level 3, 2 planned"), "{}", ran.err);
    let best: Vec<&str> = ran.err.lines().filter(|l| l.contains("measured,") && l.contains("scored")).collect();
    // Nothing is at the budget before the tree is.
    let (first, last) = (best.first().expect("a line that tells how far it is"), best.last().expect("another one"));
    assert!(first.contains("none at the budget yet") && last.contains("held out at"), "{best:#?}");
}

/// What cannot be is refused before anything is measured.
#[test]
fn methods_that_cannot_work_are_refused_at_once() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    place.network("net.onnx");
    let refused = |command: &[&str], said: &[&str]| {
        let all = [command, &["--target", SIZE, "--out", "run"]].concat();
        place.run(&all).refused(2, said);
        assert!(!place.path("run").exists(), "{command:?}");
    };
    let race = ["prune", "net.onnx", "--budget", "50%", "--method", "race", "--epochs", "0", "--criterion", "magnitude"];
    refused(&race, &["--method race", "--data"]);
    for method in ["uniform", "flops", "archtree", "race"] {
        let front = ["pareto", "net.onnx", "--data", "synthetic:200,40", "--method", method];
        let all = [&front[..], &["--target", SIZE, "--out", "run"]].concat();
        place.run(&all).refused(1, &["makes no front", "halp"]);
    }
    let few = ["prune", "net.onnx", "--budget", "50%", "--data", "synthetic:100,40,1", "--batch-size", "128", "--epochs", "0"];
    let all = [&few[..], &["--target", SIZE, "--out", "run"]].concat();
    place.run(&all).refused(1, &["--batch-size 128", "--criterion magnitude"]);
    assert!(!place.path("run").exists());
}
