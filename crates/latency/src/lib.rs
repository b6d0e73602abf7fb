//! Latency as measured on the target: runtimes, sampling, statistics, machine identity, tables.
//!
//! A number never travels without how it was obtained: a [`Measurement`] carries its samples and
//! interval, the [`Machine`], the [`RuntimeIdentity`] and the [`Protocol`]. Clocks of the whole
//! program live here.
//!
//! ```no_run
//! use secateur_latency::{InputSpec, ModelBytes, TargetSpec, runtime};
//!
//! let target: TargetSpec = "ort,threads=1".parse()?;
//! let runtime = runtime(&target)?;
//! let bytes = std::fs::read("model.onnx").expect("a file");
//! let model = ModelBytes::new("model", bytes, vec![InputSpec::f32("input", [1, 3, 32, 32])]);
//! let mut prepared = runtime.prepare(&model)?;
//! prepared.run()?;
//! # Ok::<(), secateur_latency::Error>(())
//! ```
//!
//! This crate knows nothing about pruning, groups or accuracy: models reach it as bytes, and only the adapter of our own engine
//! decodes them as a graph.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod affinity;
mod command;
mod comparison;
mod engine;
mod error;
mod lock;
mod machine;
mod measurement;
mod model;
mod onnxruntime;
mod pace;
mod profiler;
mod protocol;
mod runtime;
mod sampling;
mod sentinel;
pub mod staircase;
pub mod statistics;
mod table;
mod target;
mod tensor;
mod timing;
mod tract;
mod worker;

pub use self::engine::{EngineRuntime, Place, PlacedNode, Placement};
pub use affinity::{Pinned, allowed_cores};
pub use command::{CommandRuntime, LatencyReading, Unit};
pub use comparison::{Comparison, NoiseFloor, ProcessRounds, compare, compare_candidates, rounds_in_this_process, self_test};
pub use error::Error;
pub use lock::{DeviceLock, LOCK_WAIT};
pub use machine::{Gpu, Machine};
pub use measurement::{Measurement, ToSentinel};
pub use model::{ElementType, InputSpec, ModelBytes};
pub use onnxruntime::{MINIMUM_VERSION as ORT_MINIMUM_VERSION, OrtLibrary, OrtRuntime, Provider};
pub use pace::Pace;
pub use profiler::{Probes, Profiler};
pub use protocol::{Cache, EVICT_BYTES, Mode, PROTOCOL_VERSION, Protocol, SUSTAINED_S, WarmUp};
pub use runtime::{Prepared, Runtime, RuntimeIdentity};
pub use sampling::{Candidate, interleave};
pub use sentinel::sentinel_model;
pub use staircase::{Probing, Staircase, TileModel, Tiling, fit_tiles};
pub use statistics::{PairComparison, Verdict};
pub use table::{EXCHANGE_VERSION, TableStore, read_inputs, structure_key, table_key};
pub use target::{Optimization, TargetKind, TargetOptions, TargetSpec, runtime};
pub use tensor::{INPUT_SEED, Tensor, TensorData};
pub use tract::TractRuntime;
pub use worker::{PROCESSES, WorkerCommand, compare_in_processes, rounds_in_processes, worker_main};
