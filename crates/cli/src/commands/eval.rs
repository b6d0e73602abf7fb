//! `eval`: accuracy on the test split, or agreement with another network.

use std::path::Path;
use std::time::Instant;

use secateur::Engine;
use serde::Serialize;

use crate::arguments::{EvalArgs, Shared};
use crate::failure::{Failure, Result};
use crate::files::load_model;
use crate::numbers::{duration, thousands};
use crate::output;

#[derive(Serialize)]
struct Agreement<'a> {
    model: &'a Path,
    against: &'a Path,
    data: String,
    preprocess: &'a str,
    images: usize,
    /// Percent.
    agreement: f64,
    loss: f64,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a Path,
    data: String,
    preprocess: &'a str,
    engine: String,
    images: usize,
    /// Top-1, percent.
    accuracy: f64,
    seconds: f64,
}

/// Evaluates.
///
/// # Errors
/// Data that do not fit the network; what the runtime refuses.
pub fn run(a: &EvalArgs, shared: &Shared) -> Result<()> {
    let Some(data) = &a.data.data else {
        return Err(Failure::Usage("eval needs data: give --data, for example --data cifar10:DIR".into()));
    };
    let model = load_model(&a.model)?;
    let limit = a.images.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(against) = &a.against {
        let (preprocess, data) = (&a.data.preprocess, data.to_string());
        let (score, images) = secateur::agreement(&model, &load_model(against)?, &data, preprocess, limit)?;
        if shared.json {
            let (agreement, loss) = (score.percent, score.loss);
            return output::json("eval", Agreement { model: &a.model, against, data, preprocess, images, agreement, loss });
        }
        let n = thousands(images as u64);
        output::say(&format!("{:.2} % agreement with {} on {n} test images, loss {:.5}", score.percent, against.display(), score.loss))?;
        return output::say(&format!("{} on {data}, {preprocess} inputs, interpreter", a.model.display()));
    }
    let engine = match &a.runtime {
        Some(spec) => Engine::Runtime(a.options.apply(spec)),
        None => Engine::Interpreter,
    };
    let name = match &engine {
        Engine::Runtime(spec) => latency::runtime(spec)?.identity().to_string(),
        Engine::Interpreter => "interpreter".into(),
    };
    let data = data.to_string();
    let since = Instant::now();
    let (accuracy, images) = secateur::evaluate(&model, &data, &a.data.preprocess, &engine, limit)?;
    let seconds = since.elapsed().as_secs_f64();
    if shared.json {
        return output::json(
            "eval",
            Body { model: &a.model, data, preprocess: &a.data.preprocess, engine: name, images, accuracy, seconds },
        );
    }
    output::say(&format!("{accuracy:.2} % of {} test images right", thousands(images as u64)))?;
    output::say(&format!("{} on {data}, {} inputs, {name}, {}", a.model.display(), a.data.preprocess, duration(seconds)))
}
