//! A run that was killed goes on where it stopped and comes to the same plan as an undisturbed one.
//!
//! The target is a command whose latency is the size of the model's file, so that two runs measure the same; it writes down
//! what it was asked to measure.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BIN: &str = env!("CARGO_BIN_EXE_secateur");

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        secateur::residual_network(&[8, 16], 2, 10, 3).save(folder.path().join("dense.onnx")).expect("model");
        let script = "sha256sum < \"$1\" >> \"$MEASURED\"\nexec stat -c %sus \"$1\"\n";
        std::fs::write(folder.path().join("measure.sh"), script).expect("script");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program, with a lock of the measuring device that no other test waits for.
    fn secateur(&self, command: &str, out: &str) -> Command {
        let mut c = Command::new(BIN);
        // A group of its own, as a terminal gives it.
        c.process_group(0);
        c.arg(command)
            .env("TMPDIR", self.folder.path())
            .env("MEASURED", self.path(&format!("{out}.log")))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        c
    }

    fn resume(&self, out: &str) -> Child {
        self.secateur("resume", out).arg(self.path(out)).spawn().expect("resume starts")
    }

    fn prune(&self, out: &str) -> Child {
        self.prune_by(&["--method", "halp"], out)
    }

    fn prune_by(&self, method: &[&str], out: &str) -> Child {
        let target = format!("command:sh {} {{model}}", self.path("measure.sh").display());
        let mut c = self.secateur("prune", out);
        c.arg(self.path("dense.onnx")).args(["--data", "synthetic:400,100,1", "--preprocess", "unit", "--budget", "60%", "--epochs", "2"]);
        c.args([
            "--batch-size",
            "20",
            "--steps",
            "2",
            "--step-batches",
            "6",
            "--calibration-networks",
            "3",
            "--score-images",
            "40",
            "--seed",
            "5",
            // The staircases take more measurements than this target has patience for.
            "--no-round-up",
        ]);
        if !method.contains(&"--chunk") {
            c.args(["--chunk", "4"]);
        }
        c.args(method);
        c.arg("--table").arg(self.path(&format!("{out}.sqlite"))).arg("--out").arg(self.path(out)).arg("--target").arg(target);
        c.spawn().expect("secateur starts")
    }

    fn measured(&self, out: &str) -> Vec<String> {
        std::fs::read_to_string(self.path(&format!("{out}.log"))).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn succeed(child: Child) {
    let out = child.wait_with_output().expect("runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(300), "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Finished steps of a run whose names start with `prefix`.
fn steps(run: &Path, prefix: &str) -> usize {
    let finished = || secateur::Run::open(run).and_then(|r| r.journal.finished()).unwrap_or_default();
    if run.join("config.json").exists() { finished().iter().filter(|(name, _)| name.starts_with(prefix)).count() } else { 0 }
}

/// Runs by `method` undisturbed, and killed as soon as `reached` says so and resumed: both must come to the same.
fn killed_and_resumed(method: &[&str], reached: &dyn Fn(&Path) -> bool) {
    let b = Bench::new();
    succeed(b.prune_by(method, "undisturbed"));

    let mut killed = b.prune_by(method, "killed");
    let start = Instant::now();
    while !reached(&b.path("killed")) {
        assert!(killed.try_wait().expect("asked").is_none(), "it ended before it came so far");
        assert!(start.elapsed() < Duration::from_secs(300), "it never came so far");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().expect("SIGKILL");
    killed.wait().expect("ends");
    assert!(!b.path("killed/plan.json").exists(), "it was killed too late to show anything");
    let before = b.measured("killed");

    succeed(b.resume("killed"));
    let read = |name: &str| std::fs::read(b.path(name)).expect(name);
    // The targets differ in the file they write down what they measured.
    let plan = |name: &str| {
        let mut plan: serde_json::Value = serde_json::from_slice(&read(name)).expect("plan");
        plan["target"] = serde_json::Value::Null;
        plan
    };
    assert_eq!(plan("undisturbed/plan.json"), plan("killed/plan.json"));
    assert!(read("undisturbed/pruned.onnx") == read("killed/pruned.onnx"), "the networks differ");

    let (first, all) = (before.iter().collect::<BTreeSet<_>>(), b.measured("killed"));
    let again: BTreeSet<_> = all[before.len()..].iter().filter(|l| first.contains(l)).collect();
    // The dense network and the sentinel take part in every session; of the networks that were in work together when it was
    // killed, none was recorded.
    let in_work = if method.contains(&"halp") || method.contains(&"race") { 0 } else { 8 };
    assert!(again.len() <= 2 + in_work, "{} networks were measured again", again.len());
    assert!(first.len() > 10);
}

#[test]
fn a_killed_run_resumes_to_the_same_plan_and_measures_nothing_again() {
    // The table and its calibration are done when the first pruning step has trained.
    killed_and_resumed(&["--method", "halp"], &|run| run.join("steps/00-trained.onnx").exists());
}

#[test]
fn a_killed_tree_search_resumes_to_the_same_plan() {
    let method = ["--method", "archtree", "--beam", "2", "--levels", "3", "--seeds", "2", "--score-batches", "2"];
    killed_and_resumed(&method, &|run| steps(run, "score") >= 9);
}

#[test]
fn a_killed_evolution_resumes_to_the_same_plan() {
    let method = ["--method", "lacp", "--population", "6", "--generations", "3", "--score-batches", "2"];
    killed_and_resumed(&method, &|run| steps(run, "score") >= 8);
}

/// Killed while it evolves a network that its first step has cut and trained, of which few candidates are left.
#[test]
fn a_killed_evolution_after_steps_resumes_to_the_same_plan() {
    let method = ["--method", "evolution", "--population", "6", "--generations", "3", "--seeds", "3", "--score-batches", "2"];
    killed_and_resumed(&method, &|run| run.join("steps/01-trained.onnx").exists() && steps(run, "score") >= 3);
}

/// Killed in the middle of the first rung, when some of the networks are trained and others are not.
#[test]
fn a_killed_race_resumes_to_the_same_plan() {
    let method = ["--method", "race", "--contenders", "4", "--chunk", "2", "--no-depth", "--score-batches", "2"];
    killed_and_resumed(&method, &|run| steps(run, "race rung 0") >= 2);
}

#[test]
fn a_finished_run_is_not_overwritten_and_resuming_it_changes_nothing() {
    let b = Bench::new();
    succeed(b.prune("run"));
    let plan = std::fs::read(b.path("run/plan.json")).expect("plan");
    let out = b.prune("run").wait_with_output().expect("runs");
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(text.contains("resume") && text.contains("--out"), "{text}");
    succeed(b.resume("run"));
    assert_eq!(plan, std::fs::read(b.path("run/plan.json")).expect("plan"));
}

/// What a run says to Ctrl-C in a terminal, which reaches it and what it measures with.
fn interrupted(child: Child) -> std::process::Output {
    let sent = Command::new("kill").args(["-INT", "--", &format!("-{}", child.id())]).status().expect("kill");
    assert!(sent.success());
    child.wait_with_output().expect("ends")
}

/// A run that heeds it: it ends as one that was stopped, and says how to go on.
fn stopped(child: Child) {
    let out = interrupted(child);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(130), "{text}");
    assert!(text.contains("secateur resume"), "{text}");
}

#[test]
fn ctrl_c_while_a_network_is_measured_stops_the_run() {
    let b = Bench::new();
    // A target that can be caught at work.
    let script = "sha256sum < \"$1\" >> \"$MEASURED\"\n[ $(wc -l < \"$MEASURED\") -lt 40 ] || { touch \"$MEASURED.slow\"; sleep 20; }\nexec stat -c %sus \"$1\"\n";
    std::fs::write(b.path("measure.sh"), script).expect("script");
    let child = b.prune("run");
    wait_for(&b.path("run.log.slow"));
    stopped(child);
}

#[test]
fn a_run_stopped_before_anything_is_recorded_is_kept_as_it_says() {
    let b = Bench::new();
    let script = std::fs::read_to_string(b.path("measure.sh")).expect("script");
    std::fs::write(b.path("measure.sh"), "touch \"$MEASURED.slow\"; sleep 20\n").expect("script");
    let child = b.prune("run");
    wait_for(&b.path("run.log.slow"));
    stopped(child);
    assert_eq!(steps(&b.path("run"), ""), 0, "something was recorded: this shows nothing");
    std::fs::write(b.path("measure.sh"), script).expect("script");
    succeed(b.resume("run"));
}

#[test]
fn a_run_is_not_continued_with_another_network() {
    let b = Bench::new();
    let child = b.prune("run");
    wait_for(&b.path("run/steps/00-trained.onnx"));
    interrupted(child);
    secateur::residual_network(&[8, 16], 2, 10, 4).save(b.path("other.onnx")).expect("model");
    std::fs::rename(b.path("other.onnx"), b.path("dense.onnx")).expect("replaced");
    let out = b.resume("run").wait_with_output().expect("ends");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && text.contains("dense.onnx is not the file that this run began with"), "{text}");
}

#[test]
fn ctrl_c_saves_the_state_and_says_how_to_go_on() {
    let b = Bench::new();
    let child = b.prune("run");
    wait_for(&b.path("run/steps/00-trained.onnx"));
    let out = interrupted(child);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(130), "{text}");
    assert!(text.contains("secateur resume") && text.contains("run"), "{text}");
    succeed(b.resume("run"));
    assert!(b.path("run/pruned.onnx").exists());
}
