//! What can be wrong with a file, and what to do about it.

use std::path::PathBuf;

/// An error of reading, analysing or changing a model. Every message names where it is and how to go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("{origin}: not an ONNX model ({reason}); export the network again, or check that the download is complete")]
    NotOnnx {
        /// File or origin of the bytes.
        origin: String,
        /// What was seen.
        reason: String,
    },
    /// The file is written in a newer IR than the schema in this program.
    #[error(
        "{origin}: IR version {found} is newer than {newest}, the newest this program knows; fields it does not know would be lost. \
         Export with an older `onnx` package, or update secateur"
    )]
    NewerIr {
        /// File.
        origin: String,
        /// Version in the file.
        found: i64,
        /// Newest version known.
        newest: i64,
    },
    /// External tensor data cannot be used.
    #[error("{origin}: external data of tensor `{tensor}`: {reason}")]
    ExternalData {
        /// Model file.
        origin: String,
        /// Tensor name.
        tensor: String,
        /// Cause and remedy.
        reason: String,
    },
    /// A tensor is malformed.
    #[error("tensor `{tensor}`: {reason}")]
    Tensor {
        /// Tensor name.
        tensor: String,
        /// Cause.
        reason: String,
    },
    /// A weight is NaN or infinite.
    #[error(
        "tensor `{tensor}` holds {count} NaN or infinite value(s), the first at element {index}; the training that wrote it diverged: export an earlier checkpoint"
    )]
    NotFinite {
        /// Tensor name.
        tensor: String,
        /// How many.
        count: usize,
        /// Position of the first.
        index: usize,
    },
    /// The graph itself is inconsistent.
    #[error("graph: {0}")]
    Graph(String),
    /// A node is malformed, or its inputs do not fit it.
    #[error("node `{node}` ({op}): {reason}")]
    Node {
        /// Node name, or the name of its first output where it has none.
        node: String,
        /// Operator type.
        op: String,
        /// Cause.
        reason: String,
    },
    /// A dynamic dimension has no value.
    #[error("input `{input}` has a dynamic dimension `{dim}` (axis {axis}); give its size, for example `--shape {input}=1,3,224,224`")]
    UnboundDimension {
        /// Graph input.
        input: String,
        /// Symbol.
        dim: String,
        /// Axis.
        axis: usize,
    },
    /// A decision does not fit the model.
    #[error("decision: {0}")]
    Decision(String),
    /// A scheme, or a layer that cannot have it.
    #[error("scheme: {0}")]
    Scheme(String),
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
