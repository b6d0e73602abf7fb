//! The main job on a small made-up problem: a procedural image set, a small residual network trained on it, pruned to half
//! its measured latency on this machine.

mod network;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use train::data::{Augment, DataSpec, Dataset, Normalization, Options};
use train::{Hooks, Network, Recipe};

pub use network::residual_network;

use crate::error::Result;
use crate::events::{Event, Observer};
use crate::prune::prune;
use crate::report::Report;
use crate::settings::{Method, Settings, Solver};

/// What the demonstration came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DemoReport {
    /// The trained dense network.
    pub model: PathBuf,
    /// The run.
    pub out: PathBuf,
    /// Its report.
    pub report: Report,
}

/// Epochs that the dense network is trained for.
const DENSE_EPOCHS: f64 = 6.0;
/// Epochs of fine-tuning, the pruning steps among them.
const TUNE_EPOCHS: f64 = 3.0;

/// Runs the demonstration in `out`, which must not hold anything yet; `worker` as in [`Settings`].
///
/// # Errors
/// `out` is not empty; as [`crate::prune`].
pub fn demo(out: &Path, seed: u64, worker: Option<latency::WorkerCommand>, observer: &mut dyn Observer) -> Result<DemoReport> {
    let file = |cause: String| crate::Error::File { path: out.to_owned(), cause };
    if std::fs::read_dir(out).is_ok_and(|mut d| d.next().is_some()) {
        return Err(file("the directory is not empty; choose another `--out`".into()));
    }
    std::fs::create_dir_all(out).map_err(|e| file(e.to_string()))?;
    let model_path = out.join("dense.onnx");
    let spec = DataSpec::Synthetic { train: 6000, test: 2000, seed };
    let recipe = Recipe {
        epochs: DENSE_EPOCHS,
        batch_size: 64,
        lr: 0.1,
        distill: None,
        augment: Augment { flip: false, ..Augment::cifar() },
        seed,
        ..Recipe::default()
    };

    observer.event(Event::Stage { what: format!("training a small residual network on {spec}") });
    let mut model = residual_network(&[16, 32, 64], 2, 10, seed);
    let mut net = Network::compile(&model)?;
    let options = Options { holdout: 0.0, seed, ..Options::for_network(&net, Normalization::unit())? };
    let data = Dataset::open(&spec, options)?;
    let mut progress = |p: &train::Progress| crate::tuning::told(observer, p);
    train::fit(&mut net, None, &data, &recipe, &mut Hooks { progress: Some(&mut progress), ..Default::default() })?;
    if observer.stop() {
        return Err(crate::Error::Stopped("the demonstration's network was still training; run `secateur demo` again".into()));
    }
    net.write_back(&mut model)?;
    model.save(&model_path)?;

    let settings = Settings {
        model: model_path.clone(),
        data: Some(spec.to_string()),
        preprocess: "unit".into(),
        target: "engine".into(),
        budget: crate::Budget::Share(0.5),
        // So small a network has few widths: its latency moves in steps of a few percent.
        tolerance: 0.04,
        method: Method::Halp,
        solver: Solver::Joint,
        steps: 3,
        step_batches: 20,
        calibration_networks: 8,
        recipe: Recipe { epochs: TUNE_EPOCHS, lr: 0.02, ..recipe },
        seed,
        table: Some(out.join("latency.sqlite")),
        worker,
        ..Settings::default()
    };
    let run = out.join("run");
    let report = prune(settings, &run, observer)?;
    Ok(DemoReport { model: model_path, out: run, report })
}
