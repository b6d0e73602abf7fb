//! Plain tensors that go into and come out of runtimes.

use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::model::{ElementType, InputSpec, ModelBytes};

/// A dense row-major tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements in row-major order; as many as the product of `shape`.
    pub data: TensorData,
}

/// The elements of a [`Tensor`].
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum TensorData {
    F32(Vec<f32>),
    F16(Vec<f16>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    Bool(Vec<bool>),
}

impl TensorData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type.
    pub fn dtype(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F16(_) => ElementType::F16,
            Self::F64(_) => ElementType::F64,
            Self::I64(_) => ElementType::I64,
            Self::I32(_) => ElementType::I32,
            Self::U8(_) => ElementType::U8,
            Self::I8(_) => ElementType::I8,
            Self::Bool(_) => ElementType::Bool,
        }
    }
}

impl Tensor {
    /// An `f32` tensor.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        Self { shape: shape.into(), data: TensorData::F32(data) }
    }

    /// The elements, where they are `f32`.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The seeded input that `spec` is measured with: standard normal numbers for floats (zeros and
    /// denormals would change the speed), small integers otherwise.
    pub fn seeded(spec: &InputSpec, seed: u64) -> Self {
        let n = spec.elements();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let data = match spec.dtype {
            ElementType::F32 => TensorData::F32((0..n).map(|_| normal(&mut rng) as f32).collect()),
            ElementType::F16 => TensorData::F16((0..n).map(|_| f16::from_f64(normal(&mut rng))).collect()),
            ElementType::F64 => TensorData::F64((0..n).map(|_| normal(&mut rng)).collect()),
            ElementType::I64 => TensorData::I64((0..n).map(|_| rng.random_range(0..2)).collect()),
            ElementType::I32 => TensorData::I32((0..n).map(|_| rng.random_range(0..2)).collect()),
            ElementType::U8 => TensorData::U8((0..n).map(|_| rng.random::<u8>()).collect()),
            ElementType::I8 => TensorData::I8((0..n).map(|_| rng.random::<i8>()).collect()),
            ElementType::Bool => TensorData::Bool((0..n).map(|_| rng.random::<bool>()).collect()),
        };
        Self { shape: spec.shape.clone(), data }
    }
}

/// A standard normal number by Box and Muller, in plain `f64`.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let v: f64 = rng.random();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Seed of the inputs that every measurement uses.
pub const INPUT_SEED: u64 = 0x5eca_7e42;

/// The seeded inputs of `model`, in its order of inputs.
pub(crate) fn seeded_inputs(model: &ModelBytes) -> Vec<Tensor> {
    model.inputs.iter().enumerate().map(|(i, spec)| Tensor::seeded(spec, INPUT_SEED.wrapping_add(i as u64))).collect()
}

/// Checks `inputs` against the shapes and types that `model` was prepared for.
pub(crate) fn check_inputs(model: &ModelBytes, inputs: &[Tensor]) -> Result<(), Error> {
    let mismatch = |cause: String| Error::InputMismatch { model: model.name.clone(), cause };
    if inputs.len() != model.inputs.len() {
        return Err(mismatch(format!("{} inputs given, the model takes {}", inputs.len(), model.inputs.len())));
    }
    for (tensor, spec) in inputs.iter().zip(&model.inputs) {
        if tensor.shape != spec.shape || tensor.data.dtype() != spec.dtype {
            return Err(mismatch(format!(
                "input `{}` is {}{:?}, prepared for {}{:?}",
                spec.name,
                tensor.data.dtype(),
                tensor.shape,
                spec.dtype,
                spec.shape
            )));
        }
        if tensor.data.len() != spec.elements() {
            return Err(mismatch(format!(
                "input `{}` has {} elements, its shape {:?} needs {}",
                spec.name,
                tensor.data.len(),
                spec.shape,
                spec.elements()
            )));
        }
    }
    Ok(())
}
