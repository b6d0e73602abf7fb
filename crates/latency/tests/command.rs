//! Programs as runtimes.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod support;

use secateur_latency::{Candidate, Error, Protocol, TargetSpec, interleave, runtime};
use support::gemm;

fn target(text: &str) -> TargetSpec {
    text.parse().unwrap()
}

/// The error of preparing a model on this target.
fn error(text: &str) -> Error {
    let model = gemm(2, 2, ["x", "w", "b", "y"], 0);
    match runtime(&target(text)) {
        Err(e) => e,
        Ok(runtime) => runtime.prepare(&model).map(|_| ()).unwrap_err(),
    }
}

#[test]
fn a_program_gets_the_model_and_its_calls_are_the_samples() {
    let model = gemm(2, 2, ["x", "w", "b", "y"], 0);
    let size = model.onnx.len();
    let text = format!("command,threads=3:sh -c 'test $(wc -c < {{model}}) = {size} && echo threads {{threads}} latency 1.25 ms'");
    let runtime = runtime(&target(&text)).unwrap();
    assert_eq!(runtime.identity().options["threads"], "3");
    let mut candidates = [Candidate::new(runtime.as_ref(), &model).unwrap()];
    let m = &interleave(&mut candidates, None, &Protocol::table()).unwrap()[0];
    assert_eq!(m.median_s, 1.25e-3);
    assert!(m.resolved && m.n >= Protocol::table().min_rounds);
}

#[test]
fn a_pattern_reads_the_number_where_it_is() {
    let text = "command,latency=median = ([0-9.]+),unit=us:sh -c 'echo {model}; echo median = 830.5 of 9 s'";
    let runtime = runtime(&target(text)).unwrap();
    let model = gemm(2, 2, ["x", "w", "b", "y"], 0);
    let times = runtime.prepare(&model).unwrap().measure_external().unwrap().unwrap();
    assert!((times[0] - 830.5e-6).abs() < 1e-12);
}

#[test]
fn failures_name_the_command_and_show_the_output() {
    let missing = error("command:no-such-program-here {model}");
    assert!(matches!(&missing, Error::CommandNotFound { program, .. } if program == "no-such-program-here"));

    let failed = error("command:sh -c 'echo cannot parse {model} >&2; exit 3'");
    assert!(matches!(failed, Error::CommandFailed { .. }));
    let text = failed.to_string();
    assert!(text.contains("exit status: 3") && text.contains("cannot parse"), "{text}");

    let silent = error("command:sh -c 'echo done with {model}'");
    assert!(matches!(silent, Error::CommandNoLatency { .. }));
    let text = silent.to_string();
    assert!(text.contains("done with") && text.contains("latency=REGEX"), "{text}");

    assert!(matches!(error("command,latency=([0-9:sh {model}"), Error::PatternInvalid { .. }));
    assert!(error("command:sh -c true").to_string().contains("{model}"));
    assert!(error("command,threads=2:sh {model}").to_string().contains("{threads}"));
    assert!(error("command,provider=cuda:sh {model}").to_string().contains("into the command"));
}

#[test]
fn a_command_keeps_its_outputs() {
    let runtime = runtime(&target("command:sh -c 'echo {model} 1 ms'")).unwrap();
    let model = gemm(2, 2, ["x", "w", "b", "y"], 0);
    let error = runtime.prepare(&model).unwrap().run_with(&[]).unwrap_err();
    assert!(matches!(error, Error::OperationUnsupported { .. }));
}
