//! Measuring in separate processes; this program is its own worker (no test harness).
#![allow(clippy::unwrap_used)]

use secateur_latency::{Error, Protocol, TargetSpec, WorkerCommand, compare_in_processes, sentinel_model, worker_main};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        worker_main(std::io::stdin(), std::io::stdout()).unwrap();
        return;
    }
    let program = std::env::current_exe().unwrap();
    let worker = |argument: &str| WorkerCommand { program: program.clone(), arguments: vec![argument.to_string()] };
    let models = [sentinel_model(), sentinel_model()];
    let target = TargetSpec::tract();
    let measure = |worker: &WorkerCommand, target: &TargetSpec| compare_in_processes(worker, 3, target, &models, &Protocol::table());

    let found = measure(&worker("worker"), &target).unwrap();
    assert_eq!(found.measurements.len(), 2);
    let pair = &found.pairs[0];
    assert!(pair.ci.0 <= pair.ratio && pair.ratio <= pair.ci.1, "{pair:?}");
    assert!(pair.rounds >= 3 * 20, "{} rounds of three processes", pair.rounds);
    for m in &found.measurements {
        assert_eq!(m.per_process.len(), 3);
        assert_eq!(m.per_process.iter().sum::<usize>(), m.samples.len());
        assert!(m.ci.0 <= m.median_s && m.median_s <= m.ci.1, "{:?} {}", m.ci, m.median_s);
    }
    println!("ok: three processes are merged into one comparison");

    let missing = WorkerCommand { program: "/no/such/program".into(), arguments: Vec::new() };
    let error = measure(&missing, &target).unwrap_err();
    assert!(matches!(error, Error::WorkerFailed { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/program"));

    let silent = WorkerCommand { program: "true".into(), arguments: Vec::new() };
    let error = measure(&silent, &target).unwrap_err().to_string();
    assert!(error.contains("answer cannot be read"), "{error}");

    let refused: TargetSpec = "tract,threads=2".parse().unwrap();
    let error = measure(&worker("worker"), &refused).unwrap_err().to_string();
    assert!(error.contains("threads=2"), "the worker's own error is passed on: {error}");
    println!("ok: failures of workers are told");
}
