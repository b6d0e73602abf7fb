//! Tensors in and out of a backend.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, DType, Shape, TensorData, TensorMetadata, read_sync};

/// A float tensor on the default device, of element type `f32` or `f64`.
pub fn from_f32<B: Backend>(shape: &[usize], values: Vec<f32>, dtype: DType) -> FloatTensor<B> {
    let shape = Shape::from(shape.to_vec());
    let data = match dtype {
        DType::F64 => TensorData::new(values.into_iter().map(f64::from).collect::<Vec<_>>(), shape),
        _ => TensorData::new(values, shape),
    };
    B::float_from_data(data, &B::Device::default())
}

/// The elements of a tensor, row-major; empty where the device failed.
pub fn to_f32<B: Backend>(tensor: FloatTensor<B>) -> Vec<f32> {
    let dtype = tensor.dtype();
    let Ok(data) = read_sync(B::float_into_data(tensor)) else { return Vec::new() };
    let data = if dtype == DType::F32 { data } else { data.convert_dtype(DType::F32) };
    match data.as_slice::<f32>() {
        Ok(slice) => slice.to_vec(),
        Err(_) => data.iter::<f32>().collect(),
    }
}

/// The elements of a tensor as `f64`.
pub fn to_f64<B: Backend>(tensor: FloatTensor<B>) -> Vec<f64> {
    match read_sync(B::float_into_data(tensor)) {
        Ok(data) => data.iter::<f64>().collect(),
        Err(_) => Vec::new(),
    }
}
