//! Between this crate's tensors and ONNX Runtime's values.

use ort::value::{DynValue, Tensor as OrtTensor, TensorElementType};

use crate::tensor::{Tensor, TensorData};

pub(super) fn to_ort(tensor: Tensor) -> ort::Result<DynValue> {
    let shape = tensor.shape;
    Ok(match tensor.data {
        TensorData::F32(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::F16(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::F64(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::I64(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::I32(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::U8(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::I8(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
        TensorData::Bool(v) => OrtTensor::from_array((shape, v))?.into_dyn(),
    })
}

pub(super) fn from_ort(value: &DynValue) -> ort::Result<Tensor> {
    macro_rules! read {
        ($variant:ident, $type:ty) => {{
            let (shape, data) = value.try_extract_tensor::<$type>()?;
            Tensor { shape: shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect(), data: TensorData::$variant(data.to_vec()) }
        }};
    }
    Ok(match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => read!(F32, f32),
        Some(TensorElementType::Float16) => read!(F16, half::f16),
        Some(TensorElementType::Float64) => read!(F64, f64),
        Some(TensorElementType::Int64) => read!(I64, i64),
        Some(TensorElementType::Int32) => read!(I32, i32),
        Some(TensorElementType::Uint8) => read!(U8, u8),
        Some(TensorElementType::Int8) => read!(I8, i8),
        Some(TensorElementType::Bool) => read!(Bool, bool),
        other => return Err(ort::Error::new(format!("output of type {other:?} cannot be read"))),
    })
}
