//! A disk that refuses to write: the error names the file, and nothing half-written is left.
#![cfg(unix)]

use std::process::Command;

/// A file size limit stands for a full disk: the write fails in the middle in the same way.
#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    secateur::residual_network(&[8, 16], 1, 10, 3).save(path("dense.onnx")).expect("model");
    let plan = r#"{"version":1,"model":"dense.onnx","model_hash":"","method":"halp","solver":"joint","seed":0,"target":"","dense_s":1.0,"budget_s":0.5,
        "latency":{"ratio":0.5,"ci":[0.5,0.5],"median_s":0.5,"dense_s":1.0,"rounds":20},"cut":{"steps":[]},"layers":[]}"#;
    std::fs::write(path("plan.json"), plan).expect("plan");
    let apply = |limit: &str| {
        let script = format!("trap '' XFSZ; {limit} exec \"$0\" apply \"$1\" \"$2\" --out \"$3\"");
        let files = [path("plan.json"), path("dense.onnx"), path("out.onnx")];
        Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_secateur")]).args(files).output().expect("runs")
    };
    let out = apply("ulimit -f 8;");
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("out.onnx") && text.contains("File too large"), "{text}");
    let mut left: Vec<String> =
        std::fs::read_dir(folder.path()).expect("folder").map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    left.sort();
    assert_eq!(left, ["dense.onnx", "plan.json"]);

    let out = apply("");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(folder.path().join("out.onnx").exists());
}
