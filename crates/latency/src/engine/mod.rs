//! Our own engine: dense and block-sparse kernels, nothing to install.

use std::collections::BTreeMap;
use std::time::Instant;

use engine::{Compiled, Engine};
use graph::{InputShapes, Model};

use crate::affinity::Pinned;
use crate::error::Error;
use crate::model::ModelBytes;
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::target::{Optimization, TargetOptions};
use crate::tensor::{Tensor, check_inputs, seeded_inputs};

/// The `engine` runtime.
#[derive(Debug, Clone)]
pub struct EngineRuntime {
    engine: Engine,
    options: TargetOptions,
}

impl EngineRuntime {
    /// Checks that `options` ask for nothing that the engine does not have.
    ///
    /// # Errors
    /// [`Error::OptionUnsupported`] for a provider, a library, or an optimisation level.
    pub fn new(options: &TargetOptions) -> Result<Self, Error> {
        let refuse =
            |option: String, remedy: &str| Err(Error::OptionUnsupported { runtime: "engine".into(), option, remedy: remedy.into() });
        if options.threads != 1 {
            return refuse(format!("threads={}", options.threads), "use threads=1, or the runtime `ort`");
        }
        if let Some(provider) = options.provider.as_deref().filter(|p| *p != "cpu") {
            return refuse(format!("provider={provider}"), "use the runtime `ort`");
        }
        if !options.provider_options.is_empty() {
            return refuse("provider options".into(), "use the runtime `ort`");
        }
        if let Some(library) = &options.library {
            return refuse(format!("library={}", library.display()), "it is embedded; leave it out");
        }
        if options.optimization != Optimization::All {
            return refuse(format!("optimization={}", options.optimization), "it always fuses what it can; leave it out");
        }
        Ok(Self { engine: Engine::new(), options: options.clone() })
    }
}

impl Runtime for EngineRuntime {
    fn name(&self) -> &str {
        "engine"
    }

    fn identity(&self) -> RuntimeIdentity {
        let mut options = BTreeMap::from([
            ("threads".to_string(), self.options.threads.to_string()),
            ("kernels".to_string(), self.engine.isa().name().to_string()),
        ]);
        if let Some(cores) = &self.options.affinity {
            options.insert("affinity".into(), format!("{cores:?}"));
        }
        RuntimeIdentity { name: "engine".into(), version: engine::VERSION.into(), provider: "cpu".into(), options }
    }

    /// Weights that are zero take no time here, so where they are is part of the key.
    fn model_key(&self, model: &ModelBytes) -> Result<String, Error> {
        model.sparsity_key()
    }

    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error> {
        let start = Instant::now();
        let _pinned = self.options.affinity.as_deref().map(Pinned::to).transpose()?;
        let rejected = |cause: String| Error::ModelRejected { runtime: "engine".into(), model: model.name.clone(), cause };
        let file = Model::from_bytes(model.onnx.to_vec(), &model.name).map_err(|e| rejected(e.to_string()))?;
        check_names(model, &file)?;
        let shapes = InputShapes { batch: None, shapes: model.inputs.iter().map(|i| (i.name.clone(), i.shape.clone())).collect() };
        let compiled = self.engine.compile(&file, &shapes).map_err(|e| rejected(e.to_string()))?;
        let mut prepared = EnginePrepared {
            model: model.clone(),
            compiled,
            bound: seeded_inputs(model),
            affinity: self.options.affinity.clone(),
            setup_s: 0.0,
        };
        prepared.bind().map_err(|e| rejected(e.to_string()))?;
        prepared.run()?;
        prepared.setup_s = start.elapsed().as_secs_f64();
        Ok(Box::new(prepared))
    }
}

/// Checks that shapes are given for exactly the inputs of the file.
fn check_names(model: &ModelBytes, file: &Model) -> Result<(), Error> {
    let mismatch = |cause: String| Error::InputMismatch { model: model.name.clone(), cause };
    let stored: Vec<&str> = file.initializers().map(|t| t.name()).collect();
    let names: Vec<&str> = file.graph_proto().input.iter().map(|i| i.name()).filter(|n| !stored.contains(n)).collect();
    if let Some(extra) = model.inputs.iter().find(|spec| !names.contains(&spec.name.as_str())) {
        return Err(mismatch(format!("the model has no input `{}`; it has {}", extra.name, names.join(", "))));
    }
    match names.iter().find(|name| !model.inputs.iter().any(|spec| spec.name == **name)) {
        Some(name) => Err(mismatch(format!("no shape given for the model's input `{name}`"))),
        None => Ok(()),
    }
}

struct EnginePrepared {
    model: ModelBytes,
    compiled: Compiled,
    bound: Vec<Tensor>,
    affinity: Option<Vec<usize>>,
    setup_s: f64,
}

impl EnginePrepared {
    fn failed(&self, cause: impl std::fmt::Display) -> Error {
        Error::RunFailed { runtime: "engine".into(), model: self.model.name.clone(), cause: cause.to_string() }
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), Error> {
        for (spec, tensor) in self.model.inputs.iter().zip(inputs) {
            let values = tensor.as_f32().ok_or_else(|| self.failed(format!("input `{}` is {}, not f32", spec.name, spec.dtype)))?;
            let set = self.compiled.set_input(&spec.name, values);
            set.map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn bind(&mut self) -> Result<(), Error> {
        let bound = std::mem::take(&mut self.bound);
        let done = self.set(&bound);
        self.bound = bound;
        done
    }
}

impl Prepared for EnginePrepared {
    fn run(&mut self) -> Result<(), Error> {
        self.compiled.run();
        Ok(())
    }

    fn run_with(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        check_inputs(&self.model, inputs)?;
        self.set(inputs)?;
        self.compiled.run();
        let outputs = self.compiled.outputs().iter().enumerate();
        let outputs = outputs.map(|(i, port)| Tensor::f32(port.shape.clone(), self.compiled.output(i).to_vec())).collect();
        self.bind()?;
        Ok(outputs)
    }

    fn setup_s(&self) -> f64 {
        self.setup_s
    }

    fn affinity(&self) -> Option<&[usize]> {
        self.affinity.as_deref()
    }
}
