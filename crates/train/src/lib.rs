//! Forward and backward of an ONNX graph on Burn; data sets, losses, optimizers, schedules.
//!
//! A [`Network`] is compiled from a [`graph::Model`]: its parameters are plain vectors, named as in the file; a pass
//! lifts them onto a Burn backend ([`backend::Kernels`]) and walks the nodes. [`fit()`] trains it on a
//! [`data::Dataset`] by a [`Recipe`], [`evaluate()`] scores it, [`Network::write_back`] puts the result into a model.
//!
//! Weights that are removed while training come as values, see [`sparse`]. This crate knows nothing of saliency, latency or
//! budgets.

pub mod backend;
mod backward;
pub mod bn;
pub mod checkpoint;
pub mod data;
mod error;
mod evaluate;
mod fit;
mod imitation;
pub mod kernels;
pub mod loss;
pub mod lsq;
mod network;
mod ops;
pub mod optim;
mod recipe;
mod run;
pub mod schedule;
pub mod sparse;
pub mod tensors;

pub use backward::{GradView, Step, backward, backward_with};
pub use error::{Error, Result};
pub use evaluate::{Accuracy, all_outputs, best, evaluate, outputs};
pub use fit::{FitReport, Hooks, OnGradients, OnProgress, Progress, fit};
pub use imitation::{Agreement, Imitation, agree};
pub use network::{Kind, Mode, Network, Param, Running};
pub use recipe::Recipe;
