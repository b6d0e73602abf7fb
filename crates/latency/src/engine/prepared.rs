//! A network ready to run in parts.

use std::time::Duration;

use engine::Compiled;
use graph::{Source, ValueId};
use tract_onnx::prelude::{TValue, TVec, Tensor as TractTensor, TractResult};
use tract_onnx::tract_core::internal::format_err;

use super::CompiledPart;
use super::part::Part;
use super::placement::Division;
use crate::error::Error;
use crate::model::{ElementType, InputSpec, ModelBytes};
use crate::runtime::Prepared;
use crate::target::Optimization;
use crate::tensor::{Tensor, TensorData, check_inputs, seeded_inputs};
use crate::tract::{TractModel, from_tract, to_tract};

/// What runs a part.
pub(super) enum Network {
    Engine(Box<Compiled>),
    Tract(Box<TractModel>),
}

/// Where a value is found.
#[derive(Debug, Clone)]
enum Place {
    /// Among the inputs of the network.
    Input(usize),
    /// Output `.1` of part `.0`.
    Part(usize, usize),
    /// It is always this.
    Known(Box<Tensor>),
}

/// A part in a network.
struct Step {
    network: Network,
    inputs: Vec<Place>,
    /// Of a part on tract, its latest results.
    results: TVec<TValue>,
    /// Of a part on the engine that runs image after image, all of theirs.
    images: Vec<Vec<f32>>,
}

pub(super) struct EnginePrepared {
    model: ModelBytes,
    steps: Vec<Step>,
    outputs: Vec<Place>,
    /// Images in a batch.
    batch: usize,
    /// What the network runs on now, for both.
    inputs: Vec<Tensor>,
    values: TVec<TValue>,
    affinity: Option<Vec<usize>>,
    setup_s: f64,
}

/// A part for tract, at the shapes of the facts.
pub(super) fn tract_part(d: &Division<'_>, part: Part, model: &ModelBytes) -> Result<TractModel, Error> {
    let rejected = |cause: String| Error::ModelRejected { runtime: "engine".into(), model: model.name.clone(), cause };
    let spec = |&v: &ValueId| {
        let name = d.graph.value(v).name.clone();
        let fact = d.facts.get(v).and_then(|f| Some((f.shape.clone(), ElementType::from_onnx(f.dtype as i32)?)));
        let (shape, dtype) = fact.ok_or_else(|| rejected(format!("type and shape of `{name}` are not known")))?;
        Ok(InputSpec { name, shape, dtype })
    };
    let inputs = part.inputs.iter().map(spec).collect::<Result<Vec<_>, Error>>()?;
    let bytes = part.model.to_bytes().map_err(|e| rejected(e.to_string()))?;
    TractModel::load(&ModelBytes::new(&model.name, bytes, inputs), Optimization::All).map_err(|e| match e {
        Error::ModelRejected { cause, .. } => {
            let nodes: Vec<String> = d.reasons.iter().take(3).map(|(n, r)| format!("`{}` ({r})", d.graph.node(*n).name)).collect();
            let more = if d.reasons.len() > 3 { ", …" } else { "" };
            rejected(format!(
                "what the engine has no kernel for would be run by tract, which refuses it: {cause}; the nodes are {}{more}; \
                 use ONNX Runtime (`--target ort`)",
                nodes.join(", ")
            ))
        }
        other => other,
    })
}

impl EnginePrepared {
    /// A network that the engine runs alone, inputs and outputs in the order of the file.
    pub fn whole(model: &ModelBytes, compiled: Compiled, affinity: Option<Vec<usize>>) -> Result<Self, Error> {
        let slot = |name: &str| model.inputs.iter().position(|i| i.name == name).unwrap_or(0);
        let inputs = compiled.inputs().iter().map(|p| Place::Input(slot(&p.name))).collect();
        let outputs = (0..compiled.outputs().len()).map(|i| Place::Part(0, i)).collect();
        let step = Step { network: Network::Engine(Box::new(compiled)), inputs, results: TVec::new(), images: Vec::new() };
        Self { model: model.clone(), steps: vec![step], outputs, batch: 1, inputs: Vec::new(), values: TVec::new(), affinity, setup_s: 0.0 }
            .bound()
    }

    /// A network in parts, in the order in which they run.
    pub fn new(model: &ModelBytes, d: &Division<'_>, parts: Vec<CompiledPart>, affinity: Option<Vec<usize>>) -> Result<Self, Error> {
        let find = |v: ValueId| {
            let value = d.graph.value(v);
            let made = parts.iter().enumerate().find_map(|(p, part)| Some(Place::Part(p, part.outputs.iter().position(|o| *o == v)?)));
            let input = || model.inputs.iter().position(|i| i.name == value.name && value.source == Source::Input).map(Place::Input);
            let known = || Some(Place::Known(Box::new(plain(d.facts.constant(v)?)?)));
            made.or_else(input).or_else(known).ok_or_else(|| {
                let cause = format!("`{}` is of a type that cannot pass between runtimes; use ONNX Runtime (`--target ort`)", value.name);
                Error::ModelRejected { runtime: "engine".into(), model: model.name.clone(), cause }
            })
        };
        let outputs = d.graph.outputs.iter().map(|&v| find(v)).collect::<Result<_, Error>>()?;
        let inputs = parts.iter().map(|p| p.inputs.iter().map(|&v| find(v)).collect()).collect::<Result<Vec<Vec<Place>>, Error>>()?;
        let step = |(part, inputs): (CompiledPart, Vec<Place>)| {
            let images = match &part.network {
                Network::Engine(c) if d.images > 1 => (0..c.outputs().len()).map(|i| vec![0.0; c.output(i).len() * d.images]).collect(),
                _ => Vec::new(),
            };
            Step { network: part.network, inputs, results: TVec::new(), images }
        };
        let steps = parts.into_iter().zip(inputs).map(step).collect();
        let model = model.clone();
        Self { model, steps, outputs, batch: d.images, inputs: Vec::new(), values: TVec::new(), affinity, setup_s: 0.0 }.bound()
    }

    fn bound(mut self) -> Result<Self, Error> {
        let inputs = seeded_inputs(&self.model);
        self.set(inputs)?;
        Ok(self)
    }

    /// Says how long it took to get here.
    pub fn finish(&mut self, setup: Duration) {
        self.setup_s = setup.as_secs_f64();
    }

    fn failed(&self, cause: impl std::fmt::Display) -> Error {
        Error::RunFailed { runtime: "engine".into(), model: self.model.name.clone(), cause: format!("{cause:#}") }
    }

    /// Runs on `inputs` from now on; returns those before.
    fn set(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        if self.steps.iter().any(|s| matches!(s.network, Network::Tract(_))) {
            self.values = to_tract(&inputs).map_err(|e| self.failed(e))?;
        }
        if self.batch == 1 {
            for step in &mut self.steps {
                let Network::Engine(compiled) = &mut step.network else { continue };
                for (i, place) in step.inputs.iter().enumerate() {
                    if let Place::Input(k) = place {
                        // Of another type where nothing reads it.
                        if let Some(values) = inputs[*k].as_f32() {
                            compiled.input_mut(i).copy_from_slice(values);
                        }
                    }
                }
            }
        }
        Ok(std::mem::replace(&mut self.inputs, inputs))
    }

    fn step(&mut self, at: usize) -> TractResult<()> {
        let (before, rest) = self.steps.split_at_mut(at);
        let Some(step) = rest.first_mut() else { return Ok(()) };
        match &mut step.network {
            Network::Engine(compiled) => {
                for image in 0..self.batch {
                    for (i, place) in step.inputs.iter().enumerate() {
                        let from = match place {
                            // Set once, for all runs.
                            Place::Input(_) if self.batch == 1 => continue,
                            Place::Input(k) => floats(&self.inputs[*k]),
                            Place::Part(p, o) => before[*p].floats(*o)?,
                            Place::Known(t) => floats(t),
                        };
                        let to = compiled.input_mut(i);
                        let n = to.len();
                        let wrong = || format_err!("a value of {} elements came where {} were expected", from.len(), n * self.batch);
                        to.copy_from_slice(from.get(image * n..(image + 1) * n).ok_or_else(wrong)?);
                    }
                    compiled.run();
                    for (o, all) in step.images.iter_mut().enumerate() {
                        let one = compiled.output(o);
                        all[image * one.len()..(image + 1) * one.len()].copy_from_slice(one);
                    }
                }
            }
            Network::Tract(network) => {
                let value = |place: &Place| match place {
                    Place::Input(k) => Ok(self.values[*k].clone()),
                    Place::Part(p, o) => before[*p].value(*o, self.batch),
                    Place::Known(t) => Ok(to_tract(std::slice::from_ref(t))?.remove(0)),
                };
                let values = step.inputs.iter().map(value).collect::<TractResult<Vec<_>>>()?;
                let values = network.ordered(&values);
                step.results = network.run(values)?;
            }
        }
        Ok(())
    }

    fn output(&self, place: &Place) -> TractResult<Tensor> {
        match place {
            Place::Input(k) => Ok(self.inputs[*k].clone()),
            Place::Known(t) => Ok((**t).clone()),
            Place::Part(p, o) => self.steps[*p].tensor(*o, self.batch),
        }
    }
}

impl Step {
    /// Output `o` as `f32`.
    fn floats(&self, o: usize) -> TractResult<&[f32]> {
        match &self.network {
            Network::Engine(c) => Ok(self.images.get(o).map_or_else(|| c.output(o), Vec::as_slice)),
            Network::Tract(_) => self.results[o].try_as_plain_ram()?.as_slice::<f32>(),
        }
    }

    /// The shape of output `o` of a part on the engine.
    fn shape(c: &Compiled, o: usize, batch: usize) -> Vec<usize> {
        let mut shape = c.outputs()[o].shape.clone();
        shape[0] *= batch;
        shape
    }

    fn value(&self, o: usize, batch: usize) -> TractResult<TValue> {
        match &self.network {
            Network::Engine(c) => Ok(TractTensor::from_shape(&Self::shape(c, o, batch), self.floats(o)?)?.into()),
            Network::Tract(_) => Ok(self.results[o].clone()),
        }
    }

    fn tensor(&self, o: usize, batch: usize) -> TractResult<Tensor> {
        match &self.network {
            Network::Engine(c) => Ok(Tensor::f32(Self::shape(c, o, batch), self.floats(o)?.to_vec())),
            Network::Tract(_) => from_tract(&self.results[o]),
        }
    }
}

impl Prepared for EnginePrepared {
    fn run(&mut self) -> Result<(), Error> {
        for at in 0..self.steps.len() {
            self.step(at).map_err(|e| self.failed(e))?;
        }
        Ok(())
    }

    fn run_with(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        check_inputs(&self.model, inputs)?;
        let bound = self.set(inputs.to_vec())?;
        let done = self.run();
        let outputs: TractResult<Vec<Tensor>> = self.outputs.iter().map(|p| self.output(p)).collect();
        self.set(bound)?;
        done?;
        outputs.map_err(|e| self.failed(e))
    }

    fn setup_s(&self) -> f64 {
        self.setup_s
    }

    fn affinity(&self) -> Option<&[usize]> {
        self.affinity.as_deref()
    }
}

/// The elements of a tensor that a part of the engine reads; it reads no other type.
fn floats(t: &Tensor) -> &[f32] {
    t.as_f32().unwrap_or_default()
}

/// A constant of the file as a plain tensor; `None` for types that this crate has no place for.
fn plain(t: &graph::Tensor) -> Option<Tensor> {
    let data = match &t.data {
        graph::Data::F32(v) => TensorData::F32(v.clone()),
        graph::Data::F64(v) => TensorData::F64(v.clone()),
        graph::Data::F16(v) => TensorData::F16(v.clone()),
        graph::Data::I64(v) => TensorData::I64(v.clone()),
        graph::Data::I32(v) => TensorData::I32(v.clone()),
        graph::Data::U8(v) => TensorData::U8(v.clone()),
        graph::Data::I8(v) => TensorData::I8(v.clone()),
        graph::Data::Bool(v) => TensorData::Bool(v.clone()),
        _ => return None,
    };
    Some(Tensor { shape: t.shape.clone(), data })
}
