//! A model as this crate sees it: bytes and the shapes to run it with.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An ONNX file and concrete input shapes, batch included. It is self-contained, unless `file` says where the rest lies.
#[derive(Clone, PartialEq)]
pub struct ModelBytes {
    /// What to call it in messages and tables.
    pub name: String,
    /// The ONNX file.
    pub onnx: Arc<[u8]>,
    /// Where the file lies, if its external data lie beside it; runtimes then read it there.
    pub file: Option<Arc<Path>>,
    /// Every graph input that is not an initializer, with a concrete shape.
    pub inputs: Vec<InputSpec>,
}

impl ModelBytes {
    /// A model from its parts.
    pub fn new(name: impl Into<String>, onnx: impl Into<Arc<[u8]>>, inputs: Vec<InputSpec>) -> Self {
        Self { name: name.into(), onnx: onnx.into(), file: None, inputs }
    }

    /// A model in a file with external data beside it, to be run, not to be timed: nothing that makes it fast is done that takes
    /// memory.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn in_file(name: impl Into<String>, path: &Path, inputs: Vec<InputSpec>) -> Result<Self, Error> {
        let onnx = std::fs::read(path).map_err(|cause| Error::Io { path: path.to_owned(), cause })?;
        Ok(Self { file: Some(path.into()), ..Self::new(name, onnx, inputs) })
    }
}

impl fmt::Debug for ModelBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelBytes").field("name", &self.name).field("bytes", &self.onnx.len()).field("inputs", &self.inputs).finish()
    }
}

/// One graph input with the shape it is measured at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InputSpec {
    /// The graph input's name.
    pub name: String,
    /// Concrete dimensions, batch included.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: ElementType,
}

impl InputSpec {
    /// An `f32` input.
    pub fn f32(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into(), dtype: ElementType::F32 }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Element types of inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 64-bit float.
    F64,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// 8-bit signed integer.
    I8,
    /// Boolean.
    Bool,
}

impl ElementType {
    /// The type for a value of ONNX's `TensorProto.DataType`, where this crate has it.
    pub fn from_onnx(data_type: i32) -> Option<Self> {
        Some(match data_type {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            _ => return None,
        })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F64 => "f64",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::Bool => "bool",
        })
    }
}

impl FromStr for ElementType {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "f64" => Self::F64,
            "i64" => Self::I64,
            "i32" => Self::I32,
            "u8" => Self::U8,
            "i8" => Self::I8,
            "bool" => Self::Bool,
            other => return Err(format!("unknown element type `{other}`")),
        })
    }
}
