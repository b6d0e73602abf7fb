//! What is seen on a terminal: a bar while there is work, and nothing of it over the answer.
#![cfg(target_os = "linux")]

mod support;

use std::process::{Command, Stdio};

use support::{Place, SIZE, has_stat};

/// What the program shows on a terminal, both outputs in their order; `None` where no terminal can be had.
fn shown(place: &Place, arguments: &[&str]) -> Option<String> {
    let program = place.command(arguments);
    let words = std::iter::once(program.get_program()).chain(program.get_args()).map(|w| format!("'{}'", w.to_string_lossy()));
    let line = words.collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(place.path("")).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    match script.env("TERM", "xterm").output() {
        Ok(out) => {
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success(), "{text}");
            Some(text)
        }
        Err(_) => {
            println!("skipped: needs `script`");
            None
        }
    }
}

/// The bar moves by sequences that begin with an escape.
fn the_bar_ends_before(text: &str, answer: &str) {
    let (before, after) = text.split_once(answer).unwrap_or_else(|| panic!("no `{answer}` in\n{text}"));
    assert!(before.contains('\u{1b}'), "there was no bar:\n{text}");
    assert!(!after.contains('\u{1b}'), "it was drawn over the answer:\n{after:?}");
}

#[test]
fn the_bar_is_gone_when_the_answer_is_printed() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    place.network("net.onnx");
    let profile = ["profile", "net.onnx", "--target", SIZE, "--calibration-networks", "2"];
    let Some(text) = shown(&place, &profile) else { return };
    the_bar_ends_before(&text, "the table says");
    let mut pareto = vec!["pareto", "net.onnx", "--target", SIZE, "--data", "synthetic:200,100,1", "--preprocess", "unit"];
    pareto.extend(["--from", "50%", "--to", "80%", "--budgets", "2", "--method", "halp", "--criterion", "magnitude", "--out", "front"]);
    pareto.extend(["--score-images", "40", "--score-batches", "1", "--calibration-networks", "2", "--batch-size", "20"]);
    if let Some(text) = shown(&place, &pareto) {
        the_bar_ends_before(&text, "95 % interval");
    }
}
