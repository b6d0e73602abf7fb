//! The masked-twin check: what is written computes what the original computes with the removed channels silenced.

mod anywhere;

pub(crate) use anywhere::check_anywhere;
use graph::{Decision, Model};
use latency::{InputSpec, ModelBytes, Runtime, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::analysis::Analysis;
use crate::error::{Error, Result};

/// Largest difference allowed, relative to the largest absolute value of the output.
pub const TOLERANCE: f64 = 1e-3;

/// The same for networks with weights in half precision, whose sums are rounded to about 1e-3 in another order.
pub const HALF_TOLERANCE: f64 = 2e-2;

/// Outputs smaller than this are compared as if they were this large: runtimes approximate exponentials to about 1e-7, which
/// is much of a probability near 0.
const SMALLEST_SCALE: f64 = 1e-3;

/// Seeds of the random inputs of the check.
const SEEDS: [u64; 2] = [11, 12];

/// How well a smaller model agrees with its masked twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TwinCheck {
    /// Runtime the two were compared on.
    pub runtime: String,
    /// Random inputs compared.
    pub inputs: usize,
    /// Largest absolute difference over the largest absolute value, over all outputs.
    pub relative_difference: f64,
}

/// Compares `smaller` with the masked twin of `analysis` under `decision` on seeded random inputs.
///
/// # Errors
/// They differ; or a runtime refuses one of them.
pub fn check(analysis: &Analysis, decision: &Decision, smaller: &Model, runtime: &dyn Runtime) -> Result<TwinCheck> {
    let twin = analysis.masked_twin(decision)?;
    compare(&twin, smaller, runtime)
}

/// Compares two models of the same inputs and outputs on seeded random inputs.
///
/// # Errors
/// They differ; or a runtime refuses one of them.
pub fn compare(twin: &Model, smaller: &Model, runtime: &dyn Runtime) -> Result<TwinCheck> {
    let inputs = latency::read_inputs("masked twin", &twin.to_bytes()?, 1)?;
    compare_at(twin, smaller, runtime, &inputs)
}

/// Compares two models of the same inputs and outputs on seeded random inputs of the given shapes.
///
/// # Errors
/// They differ; or a runtime refuses one of them.
pub fn compare_at(twin: &Model, smaller: &Model, runtime: &dyn Runtime, inputs: &[InputSpec]) -> Result<TwinCheck> {
    // A runtime that keeps its outputs (a command) is replaced by the embedded one.
    let embedded;
    let runtime = if runtime.name() == "command" {
        embedded = latency::runtime(&latency::TargetSpec::tract())?;
        &*embedded
    } else {
        runtime
    };
    // One after the other: large networks are in memory once.
    let expected = outputs("masked twin", twin, runtime, inputs)?;
    let found = outputs("pruned", smaller, runtime, inputs)?;
    // FLOAT16 and BFLOAT16.
    let half = smaller.initializers().any(|t| matches!(t.data_type(), 10 | 16));
    let tolerance = if half { HALF_TOLERANCE } else { TOLERANCE };
    let names: Vec<String> = smaller.graph_proto().output.iter().map(|o| o.name().to_owned()).collect();
    let mut worst = 0.0f64;
    for (expected, found) in expected.iter().zip(&found) {
        for (k, (e, f)) in expected.iter().zip(found).enumerate() {
            let output = names.get(k).cloned().unwrap_or_default();
            let Some((difference, scale)) = difference(e, f) else {
                return Err(Error::TwinMismatch { output, difference: f64::INFINITY, scale: 1.0 });
            };
            let relative = difference / scale.max(SMALLEST_SCALE);
            // A NaN is a difference, too.
            if relative.is_nan() || relative > tolerance {
                return Err(Error::TwinMismatch { output, difference, scale });
            }
            worst = worst.max(relative);
        }
    }
    Ok(TwinCheck { runtime: runtime.identity().to_string(), inputs: SEEDS.len(), relative_difference: worst })
}

/// Outputs of `model` on the seeded inputs, per seed. A model with external data is read by the runtime from a temporary file.
fn outputs(name: &str, model: &Model, runtime: &dyn Runtime, inputs: &[InputSpec]) -> Result<Vec<Vec<Tensor>>> {
    let folder;
    let bytes = if model.has_external_data() {
        let temporary = |e: std::io::Error| Error::File { path: std::env::temp_dir(), cause: e.to_string() };
        folder = tempfile::tempdir().map_err(temporary)?;
        let path = folder.path().join("model.onnx");
        model.replace(&path)?;
        ModelBytes::in_file(name, &path, inputs.to_vec())?
    } else {
        ModelBytes::new(name, model.to_bytes()?, inputs.to_vec())
    };
    let mut prepared = runtime.prepare(&bytes)?;
    SEEDS.iter().map(|&seed| Ok(prepared.run_with(&inputs.iter().map(|i| Tensor::seeded(i, seed)).collect::<Vec<_>>())?)).collect()
}

/// Largest absolute difference and largest absolute value; `None` where shapes or types differ.
fn difference(a: &Tensor, b: &Tensor) -> Option<(f64, f64)> {
    if a.shape != b.shape {
        return None;
    }
    let (Some(x), Some(y)) = (floats(&a.data), floats(&b.data)) else { return (a.data == b.data).then_some((0.0, 1.0)) };
    // What is infinite or NaN in both is the same.
    let apart = |(p, q): (&f64, &f64)| if p == q || (p.is_nan() && q.is_nan()) { 0.0 } else { (p - q).abs() };
    let worst = x.iter().zip(&y).map(apart).fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { d.max(m) });
    Some((worst, x.iter().map(|p| p.abs()).filter(|p| p.is_finite()).fold(0.0, f64::max)))
}

/// The elements of a floating type; `None` for others.
fn floats(data: &TensorData) -> Option<Vec<f64>> {
    match data {
        TensorData::F32(v) => Some(v.iter().map(|&x| x.into()).collect()),
        TensorData::F64(v) => Some(v.clone()),
        TensorData::F16(v) => Some(v.iter().map(|x| x.to_f64()).collect()),
        _ => None,
    }
}

/// Dimensions of an input whose size the file does not tell.
pub fn open_axes(model: &Model, input: &str) -> Vec<usize> {
    use graph::proto::{tensor_shape_proto::dimension::Value, type_proto};
    let declared = model.graph_proto().input.iter().find(|i| i.name() == input);
    let Some(type_proto::Value::TensorType(tensor)) = declared.and_then(|i| i.r#type.as_ref()).and_then(|t| t.value.as_ref()) else {
        return Vec::new();
    };
    let dims = tensor.shape.iter().flat_map(|s| &s.dim).enumerate();
    dims.filter(|(_, d)| !matches!(d.value, Some(Value::DimValue(n)) if n > 0)).map(|(axis, _)| axis).collect()
}

/// `model` for a runtime, dynamic dimensions bound to `batch`.
///
/// # Errors
/// A dimension that cannot be bound.
pub fn model_bytes(name: &str, model: &Model, batch: usize) -> Result<ModelBytes> {
    let bytes = model.to_bytes()?;
    let inputs = latency::read_inputs(name, &bytes, batch)?;
    Ok(ModelBytes::new(name, bytes, inputs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_in_every_floating_type_and_equality_in_the_others() {
        let of = |data| Tensor { shape: vec![2], data };
        let single = |v: [f32; 2]| of(TensorData::F32(v.to_vec()));
        assert_eq!(difference(&single([1.0, -4.0]), &single([1.5, -4.0])), Some((0.5, 4.0)));
        let double = |v: [f64; 2]| of(TensorData::F64(v.to_vec()));
        assert_eq!(difference(&double([1.0, f64::NAN]), &double([1.0, f64::NAN])), Some((0.0, 1.0)));
        assert_eq!(difference(&double([1.0, 2.0]), &double([1.0, f64::NAN])).map(|d| d.0), Some(f64::INFINITY));
        assert_eq!(difference(&double([1.0, f64::INFINITY]), &double([1.0, f64::INFINITY])), Some((0.0, 1.0)));
        let whole = |v: [i64; 2]| of(TensorData::I64(v.to_vec()));
        assert_eq!(difference(&whole([1, 2]), &whole([1, 2])), Some((0.0, 1.0)));
        assert_eq!(difference(&whole([1, 2]), &whole([1, 3])), None);
    }
}
