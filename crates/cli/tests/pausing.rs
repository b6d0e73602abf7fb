//! A device that turns noisy or slow in mid-run.
#![cfg(unix)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use support::{Place, has_stat};

/// A target whose latency is the size of the file; noisy while there is a file `noisy`, three times as slow while there is one
/// called `slow`.
fn moody(place: &Place) -> String {
    let script = "n=$(stat -c %s \"$1\")\n\
                  if [ -e noisy ]; then c=$(cat noisy); echo $((c + 1)) > noisy; n=$((n * (1 + c % 7))); fi\n\
                  if [ -e slow ]; then n=$((n * 3)); fi\n\
                  echo \"${n}us\"\n";
    std::fs::write(place.path("moody.sh"), script).expect("writes");
    format!("command:sh {} {{model}}", place.text("moody.sh"))
}

fn arguments<'a>(target: &'a str, patience: &'a str) -> Vec<&'a str> {
    let mut all = vec!["prune", "net.onnx", "--target", target, "--budget", "60%", "--epochs", "0", "--criterion", "magnitude"];
    all.extend(["--steps", "1", "--calibration-networks", "2", "--tolerance", "0.1", "--patience", patience, "--out", "run"]);
    all
}

/// Runs until the budget is to be met, spoils the device then, and tells what the program says; once it waits, `after` is done.
fn disturbed(place: &Place, mood: &str, patience: &str, after: impl Fn()) -> (i32, Vec<String>) {
    place.network("net.onnx");
    let target = moody(place);
    let mut child = place.command(&arguments(&target, patience)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut told = Vec::new();
    for line in BufReader::new(child.stderr.take().expect("a pipe")).lines() {
        let line = line.expect("text");
        if line.contains("meeting the budget") {
            std::fs::write(place.path(mood), "0\n").expect("writes");
        }
        if line.contains("paused") {
            after();
        }
        told.push(line);
    }
    (child.wait().expect("ends").code().unwrap_or(-1), told)
}

fn says(told: &[String], part: &str) -> bool {
    told.iter().any(|l| l.contains(part))
}

#[test]
fn a_noisy_device_pauses_the_run_until_it_is_quiet() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    let quiet = || std::fs::remove_file(place.path("noisy")).unwrap_or_default();
    let (code, told) = disturbed(&place, "noisy", "60", quiet);
    assert!(code == 0 && says(&told, "paused: the device is too noisy"), "{code}: {told:#?}");
}

#[test]
fn a_device_that_stays_noisy_ends_the_run_and_it_can_go_on_later() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    let (code, told) = disturbed(&place, "noisy", "0.5", || {});
    assert!(code == 4 && says(&told, "noise of this machine is too high"), "{code}: {told:#?}");
    std::fs::remove_file(place.path("noisy")).expect("removed");
    place.run(&["resume", "run"]).done();
}

#[test]
fn a_slow_device_pauses_the_run_and_one_that_stays_slow_is_taken_as_it_is() {
    if !has_stat() {
        return;
    }
    let place = Place::new();
    let (code, told) = disturbed(&place, "slow", "0.5", || {});
    assert!(code == 0 && says(&told, "paused: the device is 3.0 times slower"), "{code}: {told:#?}");
    assert!(says(&told, "the device stays 3.0 times slower"), "{told:#?}");
    let report: serde_json::Value = serde_json::from_slice(&support::read(&place.path("run/report.json"))).expect("JSON");
    // Three times as slow are both, and the budget is a share.
    let ratio = report["latency"]["ratio"].as_f64().expect("ratio");
    assert!((0.5..=0.6).contains(&ratio), "{ratio}");
}
