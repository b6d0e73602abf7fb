//! Forward and backward of an ONNX graph on Burn; data sets, losses, optimizers, schedules.

pub mod backend;
pub mod bn;
pub mod error;
pub mod kernels;
pub mod network;
mod ops;
mod run;
pub mod tensors;

pub use error::{Error, Result};
pub use network::{Kind, Mode, Network, Param, Running};
