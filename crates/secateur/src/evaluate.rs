//! Accuracy of a network on labelled data, through the interpreter or through a runtime, and agreement with another network.

use graph::{InputShapes, Model};
use latency::{TargetSpec, Tensor};
use train::Network;
use train::data::{DataSpec, Dataset, Normalization, Options, Split};

use crate::error::{Error, Result};
use crate::evaluator::{Judge, Score};
use crate::verify::model_bytes;

/// What runs the network.
#[derive(Debug, Clone, PartialEq)]
pub enum Engine {
    /// The interpreter that also trains.
    Interpreter,
    /// A runtime, as it would be deployed.
    Runtime(TargetSpec),
}

/// Images that go through a runtime at once.
const BATCH: usize = 100;

/// Top-1 accuracy in percent on (the first `limit` images of) the test split of `data`, and how many images that were.
///
/// # Errors
/// Data that do not fit the network; what the runtime refuses.
pub fn evaluate(model: &Model, data: &str, preprocess: &str, engine: &Engine, limit: Option<usize>) -> Result<(f64, usize)> {
    let network = Network::compile(model)?;
    let normalization: Normalization = preprocess.parse()?;
    let data = Dataset::open(&data.parse::<DataSpec>()?, Options::for_network(&network, normalization)?)?;
    data.need_labels()?;
    if let Some(&classes) = network.output_shape(1)?.last() {
        data.check_classes(classes)?;
    }
    match engine {
        Engine::Interpreter => {
            let a = train::evaluate(&network, &data, Split::Test, limit)?;
            Ok((100.0 * a.top1, a.n))
        }
        Engine::Runtime(spec) => through_runtime(model, &data, spec, limit),
    }
}

/// Agreement of `model` with `dense`, whose inputs and outputs it has, on (the first `limit` images of) the test split of `data`,
/// and how many images that were; through the interpreter. Labels are not looked at.
///
/// # Errors
/// Data that do not fit the network; networks of different outputs.
pub fn agreement(model: &Model, dense: &Model, data: &str, preprocess: &str, limit: Option<usize>) -> Result<(Score, usize)> {
    let reference = Network::compile(dense)?;
    let options = Options::for_network(&reference, preprocess.parse()?)?;
    let data = Dataset::open_without_labels(&data.parse()?, options)?;
    let judge = Judge::new(Some(reference));
    let n = limit.unwrap_or(usize::MAX).min(data.len(Split::Test));
    Ok((judge.score(&Network::compile(model)?, &data, Split::Test, limit)?, n))
}

fn through_runtime(model: &Model, data: &Dataset, spec: &TargetSpec, limit: Option<usize>) -> Result<(f64, usize)> {
    let runtime = latency::runtime(spec)?;
    // A fixed batch size in the file decides; otherwise images go in hundreds.
    let graph = graph::Graph::new(model)?;
    let facts = graph::Facts::infer(model, &graph, &InputShapes::batch(BATCH))?;
    let size = graph.inputs.first().and_then(|&v| facts.shape(v)).and_then(|s| s.first().copied()).unwrap_or(1);
    let total = limit.unwrap_or(usize::MAX).min(data.len(Split::Test));
    let (mut right, mut seen) = (0, 0);
    let mut prepared = runtime.prepare(&model_bytes("network", model, size)?)?;
    while seen < total {
        let batch = data.batch(Split::Test, seen..(seen + size).min(total))?;
        // The last batch is filled up with its own images again; what they give is not counted.
        let mut inputs = batch.inputs.clone();
        let per_image = inputs.len() / batch.len().max(1);
        while inputs.len() < size * per_image {
            inputs.extend_from_within(..per_image.min(size * per_image - inputs.len()));
        }
        let shape = data.batch_shape(size);
        let outputs = prepared.run_with(&[Tensor::f32(shape, inputs)])?;
        let logits = outputs
            .first()
            .and_then(Tensor::as_f32)
            .ok_or_else(|| Error::Setting("the network's first output is not a float tensor".into()))?;
        let classes = logits.len() / size;
        for (k, &label) in batch.labels.iter().enumerate() {
            let row = &logits[k * classes..(k + 1) * classes];
            right += usize::from(train::best(row) == Some(label as usize));
        }
        seen += batch.len();
    }
    Ok((100.0 * right as f64 / total.max(1) as f64, total))
}
