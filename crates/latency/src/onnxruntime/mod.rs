//! ONNX Runtime, loaded from a library found at run time.

mod library;
mod provider;
mod telemetry;
mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, Session};

use crate::affinity::Pinned;
use crate::error::Error;
use crate::model::ModelBytes;
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::target::{Optimization, TargetOptions};
use crate::tensor::{Tensor, check_inputs, seeded_inputs};

pub use library::{MINIMUM_VERSION, OrtLibrary};
pub use provider::Provider;

/// The `ort` runtime.
///
/// Sessions run operators in sequence with the given number of intra-op threads (spinning as ONNX
/// Runtime does by default), log warnings to `tracing`, and never fall back to another provider.
#[derive(Debug, Clone)]
pub struct OrtRuntime {
    library: &'static OrtLibrary,
    provider: Provider,
    options: TargetOptions,
    cpu_nodes_allowed: bool,
}

/// Option of any provider but the CPU: `allow` lets nodes it does not support run on the CPU.
const CPU_NODES: &str = "cpu_nodes";

impl OrtRuntime {
    /// Finds and loads the library and checks that it has the provider.
    ///
    /// # Errors
    /// See [`crate::runtime()`].
    pub fn new(options: &TargetOptions) -> Result<Self, Error> {
        let provider: Provider = options.provider.as_deref().unwrap_or("cpu").parse()?;
        let library = OrtLibrary::load(options.library.as_deref())?;
        let available = provider::available();
        if !available.contains(&provider) {
            return Err(Error::ProviderUnavailable {
                provider: provider.to_string(),
                available: available.iter().map(ToString::to_string).collect(),
                library: library.path.clone(),
            });
        }
        let mut options = options.clone();
        let cpu_nodes_allowed = match options.provider_options.remove(CPU_NODES).as_deref() {
            None | Some("refuse") => provider == Provider::Cpu,
            Some("allow") => true,
            Some(other) => {
                return Err(Error::OptionUnsupported {
                    runtime: "ort".into(),
                    option: format!("provider option {CPU_NODES}={other}"),
                    remedy: "give allow or refuse".into(),
                });
            }
        };
        if provider == Provider::Cpu
            && let Some(name) = options.provider_options.keys().next()
        {
            return Err(Error::OptionUnsupported {
                runtime: "ort".into(),
                option: format!("provider option {name} on the CPU"),
                remedy: "leave it out or name a provider".into(),
            });
        }
        Ok(Self { library, provider, options, cpu_nodes_allowed })
    }

    /// The library file in use.
    pub fn library_path(&self) -> &Path {
        &self.library.path
    }

    /// The providers the loaded library was built with.
    pub fn available_providers(&self) -> Vec<Provider> {
        provider::available()
    }

    fn session(&self, model: &ModelBytes) -> Result<Session, Error> {
        let rejected = |e: ort::Error| Error::ModelRejected { runtime: "ort".into(), model: model.name.clone(), cause: e.to_string() };
        let failed =
            |e: ort::Error| Error::ProviderFailed { provider: self.provider.to_string(), model: model.name.clone(), cause: e.to_string() };
        let level = match self.options.optimization {
            Optimization::All => GraphOptimizationLevel::All,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::Disabled => GraphOptimizationLevel::Disable,
        };
        let builder = || -> ort::Result<_> {
            let builder = Session::builder(&self.library.environment)?
                .with_intra_threads(self.options.threads)?
                .with_inter_threads(1)?
                .with_parallel_execution(false)?
                .with_optimization_level(level)?
                .with_log_level(ort::logging::LogLevel::Error)?;
            if self.cpu_nodes_allowed { Ok(builder) } else { Ok(builder.with_disable_cpu_fallback()?) }
        };
        let mut builder = builder().map_err(rejected)?;
        if self.provider != Provider::Cpu {
            let ep = self.provider.dispatch(&self.options.provider_options).error_on_failure();
            builder = builder.with_execution_providers([ep]).map_err(|e| failed(e.into()))?;
        }
        let session = match &model.file {
            // The weights are mapped from their file; a second copy in another layout is not worth its memory for a single run.
            Some(path) => builder.with_prepacking(false).map_err(|e| rejected(e.into()))?.commit_from_file(path),
            None => builder.commit_from_memory(&model.onnx),
        };
        session.map_err(|e| if self.provider == Provider::Cpu { rejected(e) } else { failed(e) })
    }
}

impl Runtime for OrtRuntime {
    fn name(&self) -> &str {
        "ort"
    }

    fn identity(&self) -> RuntimeIdentity {
        let mut options = BTreeMap::from([
            ("threads".to_string(), self.options.threads.to_string()),
            ("optimization".to_string(), self.options.optimization.to_string()),
        ]);
        if let Some(cores) = &self.options.affinity {
            options.insert("affinity".into(), format!("{cores:?}"));
        }
        if self.provider != Provider::Cpu {
            let nodes = if self.cpu_nodes_allowed { "allow" } else { "refuse" };
            options.insert(CPU_NODES.into(), nodes.into());
        }
        for (key, value) in &self.options.provider_options {
            options.insert(format!("provider.{key}"), value.clone());
        }
        RuntimeIdentity { name: "ort".into(), version: self.library.version.clone(), provider: self.provider.to_string(), options }
    }

    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error> {
        let start = Instant::now();
        // The session's threads inherit the cores of the thread that makes them.
        let _pinned = self.options.affinity.as_deref().map(Pinned::to).transpose()?;
        let session = self.session(model)?;
        check_names(model, &session)?;
        let rejected = |e: ort::Error| Error::ModelRejected { runtime: "ort".into(), model: model.name.clone(), cause: e.to_string() };
        let binding = bind(&session, model).map_err(rejected)?;
        let mut prepared = OrtPrepared { model: model.clone(), session, binding, affinity: self.options.affinity.clone(), setup_s: 0.0 };
        prepared.run().map_err(|e| match e {
            Error::RunFailed { cause, .. } => {
                Error::ModelRejected { runtime: "ort".into(), model: model.name.clone(), cause: format!("its first run failed: {cause}") }
            }
            other => other,
        })?;
        prepared.setup_s = start.elapsed().as_secs_f64();
        Ok(Box::new(prepared))
    }
}

/// Inputs are bound once, before any timing; outputs are written to host memory by every run.
fn bind(session: &Session, model: &ModelBytes) -> ort::Result<IoBinding> {
    let mut binding = session.create_binding()?;
    for (spec, tensor) in model.inputs.iter().zip(seeded_inputs(model)) {
        binding.bind_input(&spec.name, &value::to_ort(tensor)?)?;
    }
    let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
    for output in session.outputs() {
        binding.bind_output_to_device(output.name(), &host)?;
    }
    Ok(binding)
}

fn check_names(model: &ModelBytes, session: &Session) -> Result<(), Error> {
    let names: Vec<&str> = session.inputs().iter().map(|i| i.name()).collect();
    let mismatch = |cause: String| Error::InputMismatch { model: model.name.clone(), cause };
    if let Some(extra) = model.inputs.iter().find(|spec| !names.contains(&spec.name.as_str())) {
        return Err(mismatch(format!("the model has no input `{}`; it has {}", extra.name, names.join(", "))));
    }
    match names.iter().find(|name| !model.inputs.iter().any(|spec| spec.name == **name)) {
        Some(name) => Err(mismatch(format!("no shape given for the model's input `{name}`"))),
        None => Ok(()),
    }
}

struct OrtPrepared {
    model: ModelBytes,
    session: Session,
    binding: IoBinding,
    affinity: Option<Vec<usize>>,
    setup_s: f64,
}

impl OrtPrepared {
    fn failed(&self, e: &ort::Error) -> Error {
        Error::RunFailed { runtime: "ort".into(), model: self.model.name.clone(), cause: e.to_string() }
    }
}

impl Prepared for OrtPrepared {
    fn run(&mut self) -> Result<(), Error> {
        match self.session.run_binding(&self.binding) {
            Ok(outputs) => {
                std::hint::black_box(&outputs);
                Ok(())
            }
            Err(e) => Err(Error::RunFailed { runtime: "ort".into(), model: self.model.name.clone(), cause: e.to_string() }),
        }
    }

    fn run_with(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        check_inputs(&self.model, inputs)?;
        let named = inputs.iter().zip(&self.model.inputs);
        let values = named
            .map(|(t, spec)| Ok((spec.name.clone(), value::to_ort(t.clone())?)))
            .collect::<ort::Result<Vec<_>>>()
            .map_err(|e| self.failed(&e))?;
        let names: Vec<String> = self.session.outputs().iter().map(|o| o.name().to_string()).collect();
        let model = &self.model;
        let failed = |e: ort::Error| Error::RunFailed { runtime: "ort".into(), model: model.name.clone(), cause: e.to_string() };
        let outputs = self.session.run(values).map_err(failed)?;
        names.iter().filter_map(|name| outputs.get(name)).map(|v| value::from_ort(v).map_err(failed)).collect()
    }

    fn setup_s(&self) -> f64 {
        self.setup_s
    }

    fn affinity(&self) -> Option<&[usize]> {
        self.affinity.as_deref()
    }
}
