//! The `ort` runtime against ONNX Runtime's own Python package, in interleaved rounds.
//!
//! `cargo run --release -p secateur-latency --example agreement -- MODEL.onnx…`

use secateur_latency::{
    Candidate, LatencyReading, ModelBytes, Protocol, TargetSpec, compare_candidates, read_inputs, runtime, sentinel_model,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ort_loop.py");
    let python = TargetSpec::command(format!("python3 '{script}' {{model}} {{threads}}"), LatencyReading::LastNumber);
    let (ort, python) = (runtime(&TargetSpec::ort())?, runtime(&python)?);
    println!("{}", ort.identity());
    for file in std::env::args().skip(1) {
        let onnx = std::fs::read(&file)?;
        let inputs = read_inputs(&file, &onnx, 1)?;
        let model = ModelBytes::new(file, onnx, inputs);
        let mut candidates = [Candidate::new(ort.as_ref(), &model)?, Candidate::new(python.as_ref(), &model)?];
        candidates[0].name = "ort".into();
        candidates[1].name = "python".into();
        let mut sentinel = Candidate::new(ort.as_ref(), &sentinel_model())?;
        let protocol = Protocol { time_limit_s: 40.0, round_s: 0.1, min_rounds: 15, ..Protocol::default() };
        let c = compare_candidates(&mut candidates, Some(&mut sentinel), &protocol)?;
        for m in &c.measurements {
            println!("{:>8.4} ms  [{:.4}, {:.4}]  {}  {}", 1e3 * m.median_s, 1e3 * m.ci.0, 1e3 * m.ci.1, m.runtime.name, model.name);
        }
        let p = &c.pairs[0];
        println!(
            "python/ort {:.4} [{:.4}, {:.4}] {} over {} rounds, {} dropped",
            p.ratio, p.ci.0, p.ci.1, p.verdict, p.rounds, c.measurements[0].rounds_invalidated
        );
    }
    Ok(())
}
