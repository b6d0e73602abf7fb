//! What can go wrong, where, and what to do about it.

use std::path::PathBuf;

/// An error of running, training or feeding a network. Every message names the node or file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model itself.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// An operator, or a form of it, that is not implemented here.
    #[error("node `{node}` ({op}) cannot be run or trained here: {reason}")]
    Unsupported {
        /// Node.
        node: String,
        /// Operator.
        op: String,
        /// Cause and remedy.
        reason: String,
    },
    /// An input does not have the shape the network wants.
    #[error("input `{input}`: {reason}")]
    Input {
        /// Graph input.
        input: String,
        /// Cause and remedy.
        reason: String,
    },
    /// A data set cannot be used.
    #[error("data `{path}`: {reason}")]
    Data {
        /// File or folder.
        path: String,
        /// Cause and remedy.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A checkpoint does not belong to this network or is damaged.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Cause and remedy.
        reason: String,
    },
    /// A setting that makes no sense.
    #[error("recipe: {0}")]
    Recipe(String),
    /// Training went to NaN or infinity.
    #[error(
        "training diverged: {dropped} batches in a row had a loss that is not finite (epoch {epoch}, step {step}); lower the learning rate or clip gradients"
    )]
    Diverged {
        /// Batches dropped in a row.
        dropped: usize,
        /// Epoch.
        epoch: usize,
        /// Step.
        step: usize,
    },
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
