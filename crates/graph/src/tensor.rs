//! Dense tensors as values, and their form in the file.

use bytes::Bytes;
use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::proto::{TensorProto, tensor_proto::DataType};

/// Elements of a [`Tensor`], row-major.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I64(Vec<i64>),
    I32(Vec<i32>),
    I16(Vec<i16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
}

/// Evaluates an expression over the vector inside a [`Data`], whatever its element type.
#[macro_export]
macro_rules! each_type {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::Data::F32($v) => $body,
            $crate::Data::F64($v) => $body,
            $crate::Data::F16($v) => $body,
            $crate::Data::BF16($v) => $body,
            $crate::Data::I64($v) => $body,
            $crate::Data::I32($v) => $body,
            $crate::Data::I16($v) => $body,
            $crate::Data::I8($v) => $body,
            $crate::Data::U8($v) => $body,
            $crate::Data::U16($v) => $body,
            $crate::Data::U32($v) => $body,
            $crate::Data::U64($v) => $body,
            $crate::Data::Bool($v) => $body,
        }
    };
}

/// Like [`each_type!`], giving a [`Data`] of the same element type back.
#[macro_export]
macro_rules! map_type {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::Data::F32($v) => $crate::Data::F32($body),
            $crate::Data::F64($v) => $crate::Data::F64($body),
            $crate::Data::F16($v) => $crate::Data::F16($body),
            $crate::Data::BF16($v) => $crate::Data::BF16($body),
            $crate::Data::I64($v) => $crate::Data::I64($body),
            $crate::Data::I32($v) => $crate::Data::I32($body),
            $crate::Data::I16($v) => $crate::Data::I16($body),
            $crate::Data::I8($v) => $crate::Data::I8($body),
            $crate::Data::U8($v) => $crate::Data::U8($body),
            $crate::Data::U16($v) => $crate::Data::U16($body),
            $crate::Data::U32($v) => $crate::Data::U32($body),
            $crate::Data::U64($v) => $crate::Data::U64($body),
            $crate::Data::Bool($v) => $crate::Data::Bool($body),
        }
    };
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        each_type!(self, v => v.len())
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ONNX element type.
    pub fn dtype(&self) -> DataType {
        match self {
            Data::F32(_) => DataType::Float,
            Data::F64(_) => DataType::Double,
            Data::F16(_) => DataType::Float16,
            Data::BF16(_) => DataType::Bfloat16,
            Data::I64(_) => DataType::Int64,
            Data::I32(_) => DataType::Int32,
            Data::I16(_) => DataType::Int16,
            Data::I8(_) => DataType::Int8,
            Data::U8(_) => DataType::Uint8,
            Data::U16(_) => DataType::Uint16,
            Data::U32(_) => DataType::Uint32,
            Data::U64(_) => DataType::Uint64,
            Data::Bool(_) => DataType::Bool,
        }
    }
}

/// A dense tensor: `data.len()` equals the product of `shape` (1 for a scalar).
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub data: Data,
}

impl Tensor {
    /// A tensor of `f32`.
    pub fn f32(shape: impl Into<Vec<usize>>, data: Vec<f32>) -> Self {
        Self::new(shape.into(), Data::F32(data))
    }

    /// A tensor of `i64`.
    pub fn i64(shape: impl Into<Vec<usize>>, data: Vec<i64>) -> Self {
        Self::new(shape.into(), Data::I64(data))
    }

    /// A one-dimensional tensor of `i64`, the form of shapes, axes and indices.
    pub fn vec_i64(data: Vec<i64>) -> Self {
        Self::i64([data.len()], data)
    }

    /// A tensor from its parts.
    ///
    /// # Panics
    /// If the number of elements is not the product of the shape: a programming error, never the user's.
    pub fn new(shape: Vec<usize>, data: Data) -> Self {
        assert_eq!(shape.iter().product::<usize>(), data.len(), "tensor of shape {shape:?} with {} elements", data.len());
        Self { shape, data }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Elements as integers; `None` for floating types.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        Some(match &self.data {
            Data::I64(v) => v.clone(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::I8(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U8(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U16(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U64(v) => v.iter().map(|&x| i64::try_from(x).ok()).collect::<Option<_>>()?,
            Data::Bool(v) => v.iter().map(|&x| x.into()).collect(),
            _ => return None,
        })
    }

    /// Elements of a floating type as `f32`; `None` for integers and booleans.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        Some(match &self.data {
            Data::F32(v) => v.clone(),
            Data::F64(v) => v.iter().map(|&x| x as f32).collect(),
            Data::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Data::BF16(v) => v.iter().map(|x| x.to_f32()).collect(),
            _ => return None,
        })
    }

    /// `f32` elements back into this tensor's floating type and shape.
    pub fn with_f32(&self, values: Vec<f32>) -> Option<Self> {
        let data = match &self.data {
            Data::F32(_) => Data::F32(values),
            Data::F64(_) => Data::F64(values.into_iter().map(f64::from).collect()),
            Data::F16(_) => Data::F16(values.into_iter().map(f16::from_f32).collect()),
            Data::BF16(_) => Data::BF16(values.into_iter().map(bf16::from_f32).collect()),
            _ => return None,
        };
        (data.len() == self.len()).then(|| Self { shape: self.shape.clone(), data })
    }

    /// The coordinates `keep` along `axis`, in that order.
    pub fn select(&self, axis: usize, keep: &[usize]) -> Self {
        let outer: usize = self.shape[..axis].iter().product();
        let inner: usize = self.shape[axis + 1..].iter().product();
        let dim = self.shape[axis];
        let mut shape = self.shape.clone();
        shape[axis] = keep.len();
        let data = map_type!(&self.data, v => {
            let mut out = Vec::with_capacity(outer * keep.len() * inner);
            for o in 0..outer {
                for &k in keep {
                    let start = (o * dim + k) * inner;
                    out.extend_from_slice(&v[start..start + inner]);
                }
            }
            out
        });
        Self { shape, data }
    }

    /// Decodes a tensor whose data are in the message itself.
    ///
    /// # Errors
    /// Unknown element types, strings, and data of the wrong length.
    pub fn decode(proto: &TensorProto) -> Result<Self> {
        let name = proto.name.clone().unwrap_or_default();
        let fail = |reason: String| Error::Tensor { tensor: name.clone(), reason };
        let shape = proto
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| fail(format!("dimension {d} is negative"))))
            .collect::<Result<Vec<_>>>()?;
        let count = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).ok_or_else(|| fail(format!("shape {shape:?} overflows")))?;
        let dtype = DataType::try_from(proto.data_type.unwrap_or(0)).unwrap_or(DataType::Undefined);
        let data = match &proto.raw_data {
            Some(raw) if !raw.is_empty() => decode_raw(dtype, raw),
            _ => decode_typed(dtype, proto),
        }
        .ok_or_else(|| fail(format!("element type {} is not supported", dtype.as_str_name())))?;
        if data.len() != count {
            return Err(fail(format!("shape {shape:?} needs {count} elements, the data have {}", data.len())));
        }
        Ok(Self { shape, data })
    }

    /// The raw little-endian bytes of the elements.
    pub fn raw(&self) -> Bytes {
        fn le<const N: usize, T: Copy>(v: &[T], f: impl Fn(T) -> [u8; N]) -> Bytes {
            v.iter().flat_map(|&x| f(x)).collect::<Vec<u8>>().into()
        }
        match &self.data {
            Data::F32(v) => le(v, f32::to_le_bytes),
            Data::F64(v) => le(v, f64::to_le_bytes),
            Data::F16(v) => le(v, f16::to_le_bytes),
            Data::BF16(v) => le(v, bf16::to_le_bytes),
            Data::I64(v) => le(v, i64::to_le_bytes),
            Data::I32(v) => le(v, i32::to_le_bytes),
            Data::I16(v) => le(v, i16::to_le_bytes),
            Data::I8(v) => le(v, i8::to_le_bytes),
            Data::U8(v) => le(v, u8::to_le_bytes),
            Data::U16(v) => le(v, u16::to_le_bytes),
            Data::U32(v) => le(v, u32::to_le_bytes),
            Data::U64(v) => le(v, u64::to_le_bytes),
            Data::Bool(v) => le(v, |b| [u8::from(b)]),
        }
    }

    /// This tensor as a message named `name`, data in `raw_data`.
    pub fn encode(&self, name: &str) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            dims: self.shape.iter().map(|&d| d as i64).collect(),
            data_type: Some(self.data.dtype() as i32),
            raw_data: Some(self.raw()),
            ..Default::default()
        }
    }
}

fn decode_raw(dtype: DataType, raw: &[u8]) -> Option<Data> {
    fn le<const N: usize, T>(raw: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, rest) = raw.as_chunks::<N>();
        // A ragged tail shows as a count that does not fit the shape.
        if rest.is_empty() { chunks.iter().map(|&c| f(c)).collect() } else { Vec::new() }
    }
    Some(match dtype {
        DataType::Float => Data::F32(le(raw, f32::from_le_bytes)),
        DataType::Double => Data::F64(le(raw, f64::from_le_bytes)),
        DataType::Float16 => Data::F16(le(raw, f16::from_le_bytes)),
        DataType::Bfloat16 => Data::BF16(le(raw, bf16::from_le_bytes)),
        DataType::Int64 => Data::I64(le(raw, i64::from_le_bytes)),
        DataType::Int32 => Data::I32(le(raw, i32::from_le_bytes)),
        DataType::Int16 => Data::I16(le(raw, i16::from_le_bytes)),
        DataType::Int8 => Data::I8(le(raw, i8::from_le_bytes)),
        DataType::Uint8 => Data::U8(raw.to_vec()),
        DataType::Uint16 => Data::U16(le(raw, u16::from_le_bytes)),
        DataType::Uint32 => Data::U32(le(raw, u32::from_le_bytes)),
        DataType::Uint64 => Data::U64(le(raw, u64::from_le_bytes)),
        DataType::Bool => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
        _ => return None,
    })
}

/// Data in the typed fields; narrow types are widened there by the format.
fn decode_typed(dtype: DataType, p: &TensorProto) -> Option<Data> {
    let i32s = || p.int32_data.iter().copied();
    let data = match dtype {
        DataType::Float => Data::F32(p.float_data.clone()),
        DataType::Double => Data::F64(p.double_data.clone()),
        DataType::Float16 => Data::F16(i32s().map(|x| f16::from_bits(x as u16)).collect()),
        DataType::Bfloat16 => Data::BF16(i32s().map(|x| bf16::from_bits(x as u16)).collect()),
        DataType::Int64 => Data::I64(p.int64_data.clone()),
        DataType::Int32 => Data::I32(p.int32_data.clone()),
        DataType::Int16 => Data::I16(i32s().map(|x| x as i16).collect()),
        DataType::Int8 => Data::I8(i32s().map(|x| x as i8).collect()),
        DataType::Uint8 => Data::U8(i32s().map(|x| x as u8).collect()),
        DataType::Uint16 => Data::U16(i32s().map(|x| x as u16).collect()),
        DataType::Uint32 => Data::U32(p.uint64_data.iter().map(|&x| x as u32).collect()),
        DataType::Uint64 => Data::U64(p.uint64_data.clone()),
        DataType::Bool => Data::Bool(i32s().map(|x| x != 0).collect()),
        _ => return None,
    };
    Some(data)
}
