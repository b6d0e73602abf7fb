//! Inference of convolutional networks on CPUs, batch 1, `f32`, that gains time from weights that are zero.
//!
//! The file stays plain ONNX: pruned weights are zeros in the usual initializers, and the engine finds them when it loads the
//! model. Units of 16 filters × 1 channel × 1 kernel position that are all zero are left out, and smaller ones where other kernels
//! gain by it, so time is proportional to what is kept. Dense networks are the case where everything is.
//!
//! [`Engine::compile`] reads a `graph::Model` once; [`Compiled::set_input`], [`Compiled::run`] and [`Compiled::output`] run it
//! without allocating. In between the model passes through `lower` (the graph as the engine's steps: constants folded, what
//! follows a convolution fused to it), `place` (layouts, halos, shared buffers) and `build` (tiles chosen, weights packed).
//!
//! Knows nothing of pruning methods, clocks or files. `unsafe` code is in the module `kernels` only.
#![deny(unsafe_code)]

mod build;
mod engine;
mod error;
mod kernels;
mod layout;
mod layouts;
mod lower;
mod network;
mod ops;
mod pairs;
mod place;
mod sorted;
mod strides;
mod survivors;
mod tiling;

/// Version of the engine and, after `+`, a hash of its source: another hash may mean other latencies.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("SECATEUR_ENGINE_REVISION"));

pub use engine::{Compiled, Engine, Layer};
pub use error::{Error, Result};
pub use kernels::{Isa, empty_job, peak_operations};
pub use network::Port;
