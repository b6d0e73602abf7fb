//! Our own engine: dense and block-sparse kernels, nothing to install. What it has no kernel for is run by tract in the same
//! network, and said so ([`crate::Placement`]).

mod part;
mod placement;
mod prepared;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use engine::{Compiled, Engine};
use graph::Model;

use crate::affinity::Pinned;
use crate::error::Error;
use crate::model::ModelBytes;
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::target::{Optimization, TargetOptions};
use crate::tract;

use placement::{Division, Run, reason, shapes};
pub use placement::{Place, PlacedNode, Placement};
use prepared::{EnginePrepared, Network};

/// The `engine` runtime.
#[derive(Debug, Clone)]
pub struct EngineRuntime {
    engine: Engine,
    options: TargetOptions,
    /// Operators that go to tract although the engine may have them.
    elsewhere: BTreeSet<String>,
}

impl EngineRuntime {
    /// Checks that `options` ask for nothing that the engine does not have.
    ///
    /// # Errors
    /// [`Error::OptionUnsupported`] for a provider, a library, an optimisation level, and more threads or other cores than there
    /// are to be had.
    pub fn new(options: &TargetOptions) -> Result<Self, Error> {
        let refuse =
            |option: String, remedy: &str| Err(Error::OptionUnsupported { runtime: "engine".into(), option, remedy: remedy.into() });
        options.check_embedded("engine")?;
        if options.optimization != Optimization::All {
            return refuse(format!("optimization={}", options.optimization), "it always fuses what it can; leave it out");
        }
        // The threads inherit the cores of the thread that starts them.
        let _pinned = options.affinity.as_deref().map(Pinned::to).transpose()?;
        let engine = match Engine::new().with_threads(options.threads) {
            Ok(engine) => engine,
            Err(e) => return refuse(format!("threads={}", options.threads), &e.to_string()),
        };
        Ok(Self { engine, options: options.clone(), elsewhere: BTreeSet::new() })
    }

    /// The same with the given ONNX operators run by tract, to compare the two.
    #[must_use]
    pub fn with_elsewhere(mut self, operators: impl IntoIterator<Item = String>) -> Self {
        self.elsewhere = operators.into_iter().collect();
        self
    }

    fn rejected(model: &ModelBytes, cause: impl std::fmt::Display) -> Error {
        Error::ModelRejected { runtime: "engine".into(), model: model.name.clone(), cause: cause.to_string() }
    }

    fn read(model: &ModelBytes) -> Result<Model, Error> {
        let file = match &model.file {
            Some(path) => Model::load(path),
            None => Model::from_bytes(model.onnx.to_vec(), &model.name),
        };
        let file = file.map_err(|e| Self::rejected(model, e))?;
        check_names(model, &file)?;
        Ok(file)
    }

    /// The parts of `file`, all compiled.
    fn divide<'a>(&self, file: &'a Model, model: &ModelBytes) -> Result<(Division<'a>, Vec<Run>, Vec<CompiledPart>), Error> {
        let rejected = |e: graph::Error| Self::rejected(model, e);
        let mut division = Division::new(&self.engine, file, model, &self.elsewhere).map_err(rejected)?;
        // What the nodes looked like in the whole network may not hold for one of its parts; every round takes a node more from
        // the engine, so this ends.
        'again: loop {
            let runs = division.runs();
            let mut parts = Vec::with_capacity(runs.len());
            for run in &runs {
                match self.compile(&division, run, model)? {
                    Ok(part) => parts.push(part),
                    Err(more) => {
                        more.into_iter().for_each(|(node, reason)| division.refuse(node, &reason));
                        continue 'again;
                    }
                }
            }
            return Ok((division, runs, parts));
        }
    }

    /// One part; or the nodes that our engine does not run in it after all.
    fn compile(&self, d: &Division<'_>, run: &Run, model: &ModelBytes) -> Result<Result<CompiledPart, Refused>, Error> {
        let facts = if run.place == Place::Engine { d.engine_facts() } else { &d.facts };
        let part = part::extract(d.file, &d.graph, facts, &run.nodes);
        let (inputs, outputs) = (part.inputs.clone(), part.outputs.clone());
        if run.place == Place::Tract {
            let network = prepared::tract_part(d, part, model)?;
            return Ok(Ok(CompiledPart { network: Network::Tract(Box::new(network)), inputs, outputs }));
        }
        let given = graph::InputShapes::default();
        Ok(match self.engine.compile(&part.model, &given) {
            Ok(compiled) => Ok(CompiledPart { network: Network::Engine(Box::new(compiled)), inputs, outputs }),
            Err(e) => {
                let refused = self.engine.refused(&part.model, &given).unwrap_or_default();
                let order = graph::Graph::new(&part.model).map(|g| g.nodes.iter().map(|n| n.position).collect::<Vec<_>>());
                let outer = |n: graph::NodeId| order.as_ref().ok().map(|o| run.nodes[o[n.index()]]);
                let mut more: Refused = refused.iter().filter_map(|(n, e)| Some((outer(*n)?, reason(e)))).collect();
                if more.is_empty() {
                    // Refused when kernels were chosen: by name, or all of them.
                    let named = |n: &graph::NodeId| matches!(&e, engine::Error::Unsupported { node, .. } if *node == d.graph.node(*n).name);
                    let found: Vec<_> = run.nodes.iter().copied().filter(named).collect();
                    let nodes = if found.is_empty() { &run.nodes } else { &found };
                    more = nodes.iter().map(|&n| (n, reason(&e))).collect();
                }
                Err(more)
            }
        })
    }
}

/// Nodes with why our engine does not run them.
type Refused = Vec<(graph::NodeId, String)>;

/// A part ready to run, with what it takes and gives.
struct CompiledPart {
    network: Network,
    inputs: Vec<graph::ValueId>,
    outputs: Vec<graph::ValueId>,
}

impl Runtime for EngineRuntime {
    fn name(&self) -> &str {
        "engine"
    }

    fn identity(&self) -> RuntimeIdentity {
        let mut options = BTreeMap::from([
            ("threads".to_string(), self.options.threads.to_string()),
            ("kernels".to_string(), self.engine.isa().name().to_string()),
            ("tract".to_string(), tract::VERSION.to_string()),
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

    fn placement(&self, model: &ModelBytes) -> Result<Option<Placement>, Error> {
        let file = Self::read(model)?;
        let (division, runs, _) = self.divide(&file, model)?;
        Ok(Some(division.placement(&runs)))
    }

    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error> {
        let start = Instant::now();
        let _pinned = self.options.affinity.as_deref().map(Pinned::to).transpose()?;
        let file = Self::read(model)?;
        let affinity = self.options.affinity.clone();
        let mut prepared = match self.whole(&file, model) {
            Some(compiled) => EnginePrepared::whole(model, compiled, affinity)?,
            None => {
                let (division, _, parts) = self.divide(&file, model)?;
                EnginePrepared::new(model, &division, parts, affinity)?
            }
        };
        prepared.run().map_err(|e| match e {
            Error::RunFailed { cause, .. } => Self::rejected(model, format!("its first run failed: {cause}")),
            other => other,
        })?;
        prepared.finish(start.elapsed());
        Ok(Box::new(prepared))
    }
}

impl EngineRuntime {
    /// The network as one part of the engine alone, which most are.
    fn whole(&self, file: &Model, model: &ModelBytes) -> Option<Compiled> {
        let alone = self.elsewhere.is_empty();
        alone.then(|| self.engine.compile(file, &shapes(model, None)).ok()).flatten()
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
