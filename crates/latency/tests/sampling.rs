//! Sampling with made-up times: what is dropped, when it stops, what it concludes.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_latency::{Error, Protocol, Verdict, compare_candidates, interleave, self_test};
use support::{Scripted, gemm, noise, scripted};

fn quick() -> Protocol {
    Protocol { time_limit_s: 0.01, ..Protocol::default() }
}

#[test]
fn equal_models_are_resolved_and_the_median_is_theirs() {
    let mut candidates = [scripted("a", |_, call| 1e-3 * (1.0 + 0.01 * noise(1, call)))];
    let mut sentinel = scripted("s", |_, _| 1e-4);
    let m = &interleave(&mut candidates, Some(&mut sentinel), &quick()).unwrap()[0];
    assert!(m.resolved && m.rounds_invalidated == 0, "{m:?}");
    assert!((m.median_s / 1e-3 - 1.0).abs() < 0.005);
    assert!(m.ci.0 <= m.median_s && m.median_s <= m.ci.1);
    assert_eq!(m.samples.len(), m.n);
}

#[test]
fn rounds_in_which_the_sentinel_drifts_are_dropped() {
    // Every fifth round the machine is half as fast, for all.
    let slow = |call: usize| if call.is_multiple_of(5) { 2.0 } else { 1.0 };
    let mut candidates = [scripted("a", move |_, call| 1e-3 * slow(call))];
    let mut sentinel = scripted("s", move |_, call| 1e-4 * slow(call));
    let m = &interleave(&mut candidates, Some(&mut sentinel), &quick()).unwrap()[0];
    assert!(m.rounds_invalidated > 0, "{m:?}");
    assert_eq!(m.median_s, 1e-3);
    assert!(m.samples.iter().all(|s| *s == 1e-3), "a disturbed round was kept: {:?}", m.samples);
}

#[test]
fn noise_beyond_the_precision_ends_unresolved_at_the_time_limit() {
    let mut candidates = [scripted("a", |_, call| {
        std::thread::sleep(std::time::Duration::from_micros(300));
        1e-3 * (1.0 + noise(2, call))
    })];
    let m = &interleave(&mut candidates, None, &quick()).unwrap()[0];
    assert!(!m.resolved && m.relative_half_width() > 0.01, "{m:?}");
}

#[test]
fn a_sentinel_that_never_agrees_leaves_everything_unresolved() {
    let mut candidates = [scripted("a", |_, _| 1e-3)];
    let mut sentinel = scripted("s", |_, call| 1e-4 * 1.3f64.powi(call as i32 % 7));
    let protocol = Protocol { time_limit_s: 0.002, min_rounds: 1_000_000, ..quick() };
    let m = &interleave(&mut candidates, Some(&mut sentinel), &protocol).unwrap()[0];
    assert!(!m.resolved && m.n > 0, "{m:?}");
}

#[test]
fn verdicts_come_from_ratios_even_where_the_machine_drifts() {
    // Both drift together by 30 %; b takes 10 % longer.
    let drift = |call: usize| 1.0 + 0.3 * (call as f64 / 9.0).sin();
    let mut candidates = [
        scripted("a", move |_, call| 1e-3 * drift(call)),
        scripted("b", move |_, call| 1.1e-3 * drift(call) * (1.0 + 0.004 * noise(3, call))),
        scripted("c", move |_, call| 1.0e-3 * drift(call) * (1.0 + 0.004 * noise(4, call))),
    ];
    let comparison = compare_candidates(&mut candidates, None, &quick()).unwrap();
    let verdicts: Vec<Verdict> = comparison.pairs.iter().map(|p| p.verdict).collect();
    assert_eq!(verdicts, [Verdict::Slower, Verdict::Equivalent]);
    assert!((comparison.pairs[0].ratio - 1.1).abs() < 0.002);
}

#[test]
fn a_model_against_itself_is_equivalent_and_noise_is_seen() {
    let model = gemm(2, 2, ["x", "w", "b", "y"], 0);
    let calm = Scripted(|name: &str, call: usize| if name == "sentinel" { 1e-4 } else { 1e-3 * (1.0 + 0.005 * noise(5, call)) });
    let floor = self_test(&calm, &model, 10, &quick()).unwrap();
    assert!(floor.equivalent_share >= 0.95 && floor.ratio < 0.005 && floor.false_share == 0.0, "{floor:?}");
}

#[test]
fn impossible_protocols_are_refused_by_field() {
    for (protocol, field) in [
        (Protocol { precision: 0.0, ..quick() }, "precision"),
        (Protocol { min_rounds: 1, ..quick() }, "min_rounds"),
        (Protocol { version: 99, ..quick() }, "version 99"),
        (Protocol { time_limit_s: f64::NAN, ..quick() }, "time_limit_s"),
    ] {
        let error = interleave(&mut [scripted("a", |_, _| 1.0)], None, &protocol).unwrap_err();
        assert!(matches!(error, Error::ProtocolInvalid { .. }));
        assert!(error.to_string().contains(field), "{error}");
    }
}
