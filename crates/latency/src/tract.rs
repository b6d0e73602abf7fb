//! The embedded runtime: pure Rust, one thread, nothing to install.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Instant;

use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor as TractTensor, TractResult,
    TypedSimpleState, tvec,
};

use crate::error::Error;
use crate::model::{ElementType, ModelBytes};
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::target::{Optimization, TargetOptions};
use crate::tensor::{Tensor, TensorData, check_inputs, seeded_inputs};

/// Version of the embedded runtime this crate is built with.
pub(crate) const VERSION: &str = "0.23.9";

/// The `tract` runtime.
#[derive(Debug, Clone)]
pub struct TractRuntime {
    options: TargetOptions,
}

impl TractRuntime {
    /// Checks that `options` ask for nothing that tract does not have.
    ///
    /// # Errors
    /// [`Error::OptionUnsupported`] for more than one thread, a provider, or a library.
    pub fn new(options: &TargetOptions) -> Result<Self, Error> {
        let refuse =
            |option: String, remedy: &str| Err(Error::OptionUnsupported { runtime: "tract".into(), option, remedy: remedy.into() });
        if options.threads != 1 {
            return refuse(format!("threads={}", options.threads), "use threads=1, or the runtime `ort`");
        }
        options.check_embedded("tract")?;
        if options.optimization == Optimization::Extended {
            return refuse("optimization=extended".into(), "use all, basic or disabled");
        }
        Ok(Self { options: options.clone() })
    }
}

impl Runtime for TractRuntime {
    fn name(&self) -> &str {
        "tract"
    }

    fn identity(&self) -> RuntimeIdentity {
        let mut options =
            BTreeMap::from([("threads".to_string(), "1".to_string()), ("optimization".to_string(), self.options.optimization.to_string())]);
        if let Some(cores) = &self.options.affinity {
            options.insert("affinity".into(), format!("{cores:?}"));
        }
        RuntimeIdentity { name: "tract".into(), version: VERSION.into(), provider: "cpu".into(), options }
    }

    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error> {
        let start = Instant::now();
        let rejected = |cause: String| Error::ModelRejected { runtime: "tract".into(), model: model.name.clone(), cause };
        let network = TractModel::load(model, self.options.optimization)?;
        let bound = to_tract(&seeded_inputs(model)).map_err(|e| rejected(format!("{e:#}")))?;
        let bound = network.ordered(&bound);
        let affinity = self.options.affinity.clone();
        let mut prepared = TractPrepared { model: model.clone(), network, bound, affinity, setup_s: 0.0 };
        prepared.run().map_err(|e| match e {
            Error::RunFailed { cause, .. } => rejected(format!("its first run failed: {cause}")),
            other => other,
        })?;
        prepared.setup_s = start.elapsed().as_secs_f64();
        Ok(Box::new(prepared))
    }
}

/// A network that tract runs.
pub(crate) struct TractModel {
    state: TypedSimpleState,
    /// Of every input of the graph, its slot in `ModelBytes::inputs`.
    order: Vec<usize>,
}

impl TractModel {
    /// Reads and optimises `model` at the shapes it names.
    ///
    /// # Errors
    /// [`Error::ModelRejected`], [`Error::InputMismatch`].
    pub(crate) fn load(model: &ModelBytes, level: Optimization) -> Result<Self, Error> {
        let rejected = |cause: String| Error::ModelRejected { runtime: "tract".into(), model: model.name.clone(), cause };
        let read = match &model.file {
            Some(path) => tract_onnx::onnx().model_for_path(path),
            None => tract_onnx::onnx().model_for_read(&mut Cursor::new(&model.onnx[..])),
        };
        let mut network = read.map_err(|e| rejected(format!("{e:#}")))?;
        let names: Vec<String> = network
            .input_outlets()
            .map_err(|e| rejected(format!("{e:#}")))?
            .iter()
            .map(|outlet| network.node(outlet.node).name.clone())
            .collect();
        let order = input_order(model, &names)?;
        for (position, &slot) in order.iter().enumerate() {
            let spec = &model.inputs[slot];
            let fact = InferenceFact::dt_shape(datum_type(spec.dtype), spec.shape.clone());
            network.set_input_fact(position, fact).map_err(|e| rejected(format!("{e:#}")))?;
        }
        // What is run from a file is not made fast: that takes a second copy of the weights.
        let level = if model.file.is_some() { Optimization::Disabled } else { level };
        let state = optimised(network, level).map_err(|e| rejected(format!("{e:#}")))?;
        Ok(Self { state, order })
    }

    /// `values`, given in the order of `ModelBytes::inputs`, in that of the graph.
    pub(crate) fn ordered(&self, values: &[TValue]) -> TVec<TValue> {
        self.order.iter().map(|&slot| values[slot].clone()).collect()
    }

    /// Runs on values in the order of the graph ([`TractModel::ordered`]).
    pub(crate) fn run(&mut self, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.state.run(inputs)
    }
}

/// For every input of the graph, the slot of `model.inputs` with its name.
fn input_order(model: &ModelBytes, names: &[String]) -> Result<Vec<usize>, Error> {
    let mismatch = |cause: String| Error::InputMismatch { model: model.name.clone(), cause };
    if let Some(extra) = model.inputs.iter().find(|spec| !names.contains(&spec.name)) {
        return Err(mismatch(format!("the model has no input `{}`; it has {}", extra.name, names.join(", "))));
    }
    names
        .iter()
        .map(|name| {
            model
                .inputs
                .iter()
                .position(|spec| spec.name == *name)
                .ok_or_else(|| mismatch(format!("no shape given for the model's input `{name}`")))
        })
        .collect()
}

fn optimised(network: tract_onnx::prelude::InferenceModel, level: Optimization) -> TractResult<TypedSimpleState> {
    let typed = match level {
        Optimization::All | Optimization::Extended => network.into_optimized()?,
        Optimization::Basic => network.into_typed()?.into_decluttered()?,
        Optimization::Disabled => network.into_typed()?,
    };
    typed.into_runnable()?.spawn()
}

fn datum_type(dtype: ElementType) -> DatumType {
    match dtype {
        ElementType::F32 => DatumType::F32,
        ElementType::F16 => DatumType::F16,
        ElementType::F64 => DatumType::F64,
        ElementType::I64 => DatumType::I64,
        ElementType::I32 => DatumType::I32,
        ElementType::U8 => DatumType::U8,
        ElementType::I8 => DatumType::I8,
        ElementType::Bool => DatumType::Bool,
    }
}

struct TractPrepared {
    model: ModelBytes,
    network: TractModel,
    bound: TVec<TValue>,
    affinity: Option<Vec<usize>>,
    setup_s: f64,
}

impl TractPrepared {
    fn failed(&self, e: impl std::fmt::Display) -> Error {
        Error::RunFailed { runtime: "tract".into(), model: self.model.name.clone(), cause: format!("{e:#}") }
    }
}

impl Prepared for TractPrepared {
    fn run(&mut self) -> Result<(), Error> {
        match self.network.run(self.bound.clone()) {
            Ok(outputs) => {
                std::hint::black_box(&outputs);
                Ok(())
            }
            Err(e) => Err(self.failed(e)),
        }
    }

    fn run_with(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        check_inputs(&self.model, inputs)?;
        let values = to_tract(inputs).map_err(|e| self.failed(e))?;
        let ordered = self.network.ordered(&values);
        let outputs = self.network.run(ordered).map_err(|e| self.failed(e))?;
        outputs.iter().map(|value| from_tract(value).map_err(|e| self.failed(e))).collect()
    }

    fn setup_s(&self) -> f64 {
        self.setup_s
    }

    fn affinity(&self) -> Option<&[usize]> {
        self.affinity.as_deref()
    }
}

/// `inputs` as tract takes them.
pub(crate) fn to_tract(inputs: &[Tensor]) -> TractResult<TVec<TValue>> {
    let mut values: TVec<TValue> = tvec![];
    for tensor in inputs {
        let shape = &tensor.shape;
        let value = match &tensor.data {
            TensorData::F32(v) => TractTensor::from_shape(shape, v)?,
            TensorData::F16(v) => TractTensor::from_shape(shape, v)?,
            TensorData::F64(v) => TractTensor::from_shape(shape, v)?,
            TensorData::I64(v) => TractTensor::from_shape(shape, v)?,
            TensorData::I32(v) => TractTensor::from_shape(shape, v)?,
            TensorData::U8(v) => TractTensor::from_shape(shape, v)?,
            TensorData::I8(v) => TractTensor::from_shape(shape, v)?,
            TensorData::Bool(v) => TractTensor::from_shape(shape, v)?,
        };
        // Shared, so that no operator may overwrite a bound input.
        values.push(TValue::from_const(std::sync::Arc::new(value)));
    }
    Ok(values)
}

/// A result of tract as a plain tensor.
pub(crate) fn from_tract(value: &TractTensor) -> TractResult<Tensor> {
    fn elements<T: Datum + Copy>(value: &TractTensor) -> TractResult<Vec<T>> {
        Ok(value.try_as_plain_ram()?.as_slice::<T>()?.to_vec())
    }
    let data = match value.datum_type().unquantized() {
        DatumType::F32 => TensorData::F32(elements(value)?),
        DatumType::F16 => TensorData::F16(elements(value)?),
        DatumType::F64 => TensorData::F64(elements(value)?),
        DatumType::I64 => TensorData::I64(elements(value)?),
        DatumType::I32 => TensorData::I32(elements(value)?),
        DatumType::U8 => TensorData::U8(elements(value)?),
        DatumType::I8 => TensorData::I8(elements(value)?),
        DatumType::Bool => TensorData::Bool(elements(value)?),
        DatumType::TDim => {
            let cast = value.cast_to::<i64>()?;
            TensorData::I64(elements(&cast)?)
        }
        other => return Err(tract_onnx::tract_core::internal::format_err!("output of type {other:?} cannot be read")),
    };
    Ok(Tensor { shape: value.shape().to_vec(), data })
}
