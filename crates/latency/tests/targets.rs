//! Targets as text.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use secateur_latency::{Error, LatencyReading, Optimization, TargetKind, TargetOptions, TargetSpec, Unit, runtime};

fn kinds() -> impl Strategy<Value = TargetKind> {
    let units = prop_oneof![Just(Unit::Seconds), Just(Unit::Milliseconds), Just(Unit::Nanoseconds)];
    let readings = prop_oneof![
        Just(LatencyReading::LastNumber),
        ("[ -~]{1,20}", units).prop_map(|(regex, unit)| LatencyReading::Pattern { regex, unit }),
    ];
    prop_oneof![
        Just(TargetKind::Engine),
        Just(TargetKind::Ort),
        Just(TargetKind::Tract),
        ("[a-z][ -~]{0,30}", readings).prop_map(|(template, latency)| TargetKind::Command { template, latency }),
    ]
}

fn options() -> impl Strategy<Value = TargetOptions> {
    (
        1usize..64,
        prop::option::of(prop::collection::vec(0usize..64, 1..4)),
        prop_oneof![Just(Optimization::All), Just(Optimization::Extended), Just(Optimization::Basic), Just(Optimization::Disabled)],
        prop::option::of("[ -~]{1,12}"),
        prop::collection::btree_map("[a-z_.]{1,8}", "[ -~]{0,12}", 0..3),
        prop::option::of("[ -~]{1,20}"),
    )
        .prop_map(|(threads, affinity, optimization, provider, provider_options, library)| TargetOptions {
            threads,
            affinity,
            optimization,
            provider,
            provider_options,
            library: library.map(Into::into),
        })
}

proptest! {
    #[test]
    fn text_round_trips(kind in kinds(), options in options()) {
        let spec = TargetSpec { kind, options };
        let text = spec.to_string();
        prop_assert_eq!(text.parse::<TargetSpec>().unwrap(), spec, "{}", text);
    }
}

#[test]
fn examples() {
    assert_eq!("ort".parse::<TargetSpec>().unwrap(), TargetSpec::ort());
    assert_eq!("engine".parse::<TargetSpec>().unwrap(), TargetSpec::engine());
    assert_eq!("tract".parse::<TargetSpec>().unwrap(), TargetSpec::tract());
    let gpu: TargetSpec = "ort,threads=2,provider=cuda,provider.device_id=1".parse().unwrap();
    assert_eq!(gpu.options.provider.as_deref(), Some("cuda"));
    assert_eq!(gpu.options.provider_options, BTreeMap::from([("device_id".into(), "1".into())]));
    let command: TargetSpec = "command:trtexec --onnx={model} --minTiming=1:2".parse().unwrap();
    assert_eq!(
        command.kind,
        TargetKind::Command { template: "trtexec --onnx={model} --minTiming=1:2".into(), latency: LatencyReading::LastNumber }
    );
}

#[test]
fn mistakes_are_named() {
    for (text, part) in [
        ("onnxruntime", "unknown runtime `onnxruntime`"),
        ("ort,threads=0", "threads=`0`"),
        ("ort,thread=2", "unknown option `thread`"),
        ("ort,fast", "`fast` is not key=value"),
        ("ort,optimization=max", "`max`"),
        ("ort:model", "only `command`"),
        ("command:", "missing"),
        ("command", "missing"),
        ("tract,latency=x", "belong to `command`"),
        ("ort,affinity=1-2", "affinity=`1-2`"),
    ] {
        let error = text.parse::<TargetSpec>().unwrap_err();
        assert!(matches!(error, Error::TargetSyntax { .. }));
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
}

#[test]
fn the_embedded_runtime_refuses_what_it_cannot_do() {
    for text in ["tract,threads=2", "tract,provider=cuda", "tract,library=/x.so", "tract,optimization=extended"] {
        let error = runtime(&text.parse().unwrap()).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::OptionUnsupported { .. }), "{text}: {error}");
    }
}
