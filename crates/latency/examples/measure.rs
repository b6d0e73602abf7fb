//! `measure TARGET FILE…`: interleaved latencies of ONNX files with pairwise verdicts.

use secateur_latency::{Candidate, ModelBytes, Protocol, TargetSpec, interleave, read_inputs, runtime, sentinel_model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let target: TargetSpec = arguments.next().ok_or("usage: measure TARGET FILE…")?.parse()?;
    let runtime = runtime(&target)?;
    let mut candidates = Vec::new();
    for file in arguments {
        let onnx = std::fs::read(&file)?;
        let inputs = read_inputs(&file, &onnx, 1)?;
        let model = ModelBytes::new(file, onnx, inputs);
        candidates.push(Candidate::new(runtime.as_ref(), &model)?);
    }
    let mut sentinel = Candidate::new(runtime.as_ref(), &sentinel_model())?;
    println!("{}", runtime.identity());
    for m in interleave(&mut candidates, Some(&mut sentinel), &Protocol::default())? {
        println!(
            "{:>9.4} ms  [{:.4}, {:.4}]  min {:.4}  n {} invalid {} resolved {} setup {:.3} s  {}",
            1e3 * m.median_s,
            1e3 * m.ci.0,
            1e3 * m.ci.1,
            1e3 * m.min,
            m.n,
            m.rounds_invalidated,
            m.resolved,
            m.setup_s,
            m.model
        );
    }
    Ok(())
}
