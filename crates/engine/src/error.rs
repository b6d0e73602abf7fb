//! What can go wrong between a model and its results.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model cannot be compiled or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The graph itself is not sound.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The engine has no kernel for a node.
    #[error("node `{node}` ({op}) is not run by the engine: {reason}; {remedy}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: String,
        /// What of it is missing.
        reason: String,
        /// What to do instead.
        remedy: String,
    },
    /// An input or output of the network has a form the engine does not take.
    #[error("`{value}`: {reason}; {remedy}")]
    Value {
        /// Name of the value.
        value: String,
        /// What is wrong with it.
        reason: String,
        /// What to do instead.
        remedy: String,
    },
    /// The instruction set that was asked for is not there.
    #[error("this CPU does not run {isa} kernels; take one of: {available}")]
    Isa {
        /// The one asked for.
        isa: &'static str,
        /// Those that can run.
        available: String,
    },
    /// The threads that were asked for cannot be had.
    #[error("{threads} threads cannot be started: {cause}; ask for fewer")]
    Threads {
        /// How many.
        threads: usize,
        /// What the system said.
        cause: String,
    },
    /// Data fed to a network do not fit its input.
    #[error("input `{name}`: {reason}; the inputs are: {inputs}")]
    Input {
        /// Name given.
        name: String,
        /// What does not fit.
        reason: String,
        /// Names and shapes that the network has.
        inputs: String,
    },
}
