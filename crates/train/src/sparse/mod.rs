//! Training under a scheme: masks that hold, masks that grow, and the penalty that drives units of weights to zero.
//!
//! A [`Constraint`] is what [`crate::fit()`] holds the parameters to besides the loss. [`Masks`] keeps removed weights exactly
//! zero, [`Gradual`] removes more and more of them, [`Reweighted`] makes the training choose which can go.

mod bisect;
mod gradual;
mod masks;
mod reweighted;

pub use bisect::bisect;
pub use gradual::{Gradual, Target, cubic};
pub use masks::Masks;
pub use reweighted::{Penalised, Reweighted};

use crate::network::Param;
use crate::optim::State;

/// What a training does to parameters besides following the loss. Everything it remembers is in [`Constraint::state`], so that
/// a training that was killed goes on as if it had not been.
pub trait Constraint {
    /// Before the first step of this process.
    fn start(&mut self, params: &mut [Param], state: &mut State);

    /// Changes the gradients of a step (in the order of the parameters); returns the term added to the objective, 0 where
    /// nothing is.
    fn gradients(&mut self, params: &[Param], gradients: &mut [Vec<f32>]) -> f64;

    /// After `done` of `steps` steps.
    fn after(&mut self, params: &mut [Param], state: &mut State, done: usize, steps: usize);

    /// What it remembers, for a checkpoint.
    fn state(&self) -> Vec<f32> {
        Vec::new()
    }

    /// Takes up what [`Constraint::state`] gave; `false` where it does not fit.
    fn restore(&mut self, saved: &[f32]) -> bool {
        saved.is_empty()
    }
}
