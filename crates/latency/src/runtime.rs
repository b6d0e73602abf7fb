//! What every runtime offers: prepare a model, run it, say who it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Placement;
use crate::error::Error;
use crate::model::ModelBytes;
use crate::tensor::Tensor;

/// Something that can run a model on a device.
pub trait Runtime: Send {
    /// Short name: `engine`, `tract`, `ort`, `command`.
    fn name(&self) -> &str;

    /// Everything about the runtime that may change a latency.
    fn identity(&self) -> RuntimeIdentity;

    /// Hash of everything of `model` that its latency depends on here: structure and shapes, and more where the time depends on
    /// more.
    ///
    /// # Errors
    /// [`Error::NotOnnx`].
    fn model_key(&self, model: &ModelBytes) -> Result<String, Error> {
        model.structure_key()
    }

    /// Which node of `model` runs where, for runtimes that pass some on to another; `None` for those that run all themselves or
    /// do not say.
    ///
    /// # Errors
    /// As [`Runtime::prepare`].
    fn placement(&self, model: &ModelBytes) -> Result<Option<Placement>, Error> {
        let _ = model;
        Ok(None)
    }

    /// Loads `model`, binds seeded inputs of the shapes it names and runs it once.
    ///
    /// # Errors
    /// [`Error::ModelRejected`] where the runtime refuses the model, [`Error::InputMismatch`] where
    /// the inputs named do not fit it, [`Error::ProviderFailed`] where the provider cannot take it.
    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error>;
}

/// A model ready to run on bound inputs.
pub trait Prepared {
    /// One inference on the bound seeded inputs. Only this is timed.
    ///
    /// # Errors
    /// [`Error::RunFailed`] or the command's errors.
    fn run(&mut self) -> Result<(), Error>;

    /// Latencies in seconds that the runtime reports itself, from one call of it; `None` for
    /// runtimes that are timed from outside.
    fn measure_external(&mut self) -> Option<Result<Vec<f64>, Error>> {
        None
    }

    /// Runs on given inputs (in the model's order of inputs) and returns all outputs.
    ///
    /// # Errors
    /// [`Error::InputMismatch`] where shapes or types differ from those prepared for,
    /// [`Error::OperationUnsupported`] where the runtime keeps its outputs.
    fn run_with(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error>;

    /// Seconds spent loading the model and on its first run; never part of a latency.
    fn setup_s(&self) -> f64;

    /// The cores the calling thread is to be pinned to while this is measured.
    fn affinity(&self) -> Option<&[usize]> {
        None
    }
}

/// Who ran the model: part of every measurement and of every table key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuntimeIdentity {
    /// `engine`, `tract`, `ort`, `command`.
    pub name: String,
    /// The runtime's version.
    pub version: String,
    /// Execution provider; `cpu` unless asked otherwise.
    pub provider: String,
    /// Threads, affinity, instruction set, optimisation level, provider options, sorted by name.
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Display for RuntimeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({}", self.name, self.version, self.provider)?;
        for (key, value) in &self.options {
            write!(f, ", {key}={value}")?;
        }
        f.write_str(")")
    }
}
