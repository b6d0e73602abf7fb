//! A model against itself: `noise_floor TARGET TRIALS MODEL.onnx…`.

use secateur_latency::{ModelBytes, Protocol, TargetSpec, read_inputs, runtime, self_test};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let target: TargetSpec = arguments.next().ok_or("usage: noise_floor TARGET TRIALS FILE…")?.parse()?;
    let trials: usize = arguments.next().ok_or("how many trials?")?.parse()?;
    let runtime = runtime(&target)?;
    for file in arguments {
        let onnx = std::fs::read(&file)?;
        let inputs = read_inputs(&file, &onnx, 1)?;
        let model = ModelBytes::new(file, onnx, inputs);
        let floor = self_test(runtime.as_ref(), &model, trials, &Protocol::default())?;
        println!(
            "noise floor ±{:.2} %, equivalent {:.0} %, false alarms {:.0} % of {} trials: {}",
            100.0 * floor.ratio,
            100.0 * floor.equivalent_share,
            100.0 * floor.false_share,
            floor.trials,
            model.name
        );
    }
    Ok(())
}
