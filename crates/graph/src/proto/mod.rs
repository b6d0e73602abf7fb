//! The ONNX wire format, generated from `proto/onnx-ml.proto` by `examples/generate_proto.rs`.

#[rustfmt::skip]
#[allow(missing_docs, clippy::all, rustdoc::all)]
mod onnx;

pub use onnx::*;

/// The newest IR version whose fields this schema knows. A newer file could carry fields that would be
/// dropped on writing, so it is refused.
pub const NEWEST_IR_VERSION: i64 = Version::IrVersion as i64;
