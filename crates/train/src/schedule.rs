//! Learning rate over the steps of a training.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// Half a cosine from the full rate to zero (Loshchilov and Hutter 2017).
    Cosine,
    /// Multiplied by `factor` at each of these shares of the training.
    Step {
        /// Shares in [0, 1], ascending.
        at: Vec<f32>,
        /// Factor at each.
        factor: f32,
    },
}

impl Schedule {
    /// Learning rate at `step` of `total`, rising linearly over the first `warmup` steps.
    pub fn rate(&self, base: f32, step: usize, total: usize, warmup: usize) -> f32 {
        if step < warmup {
            return base * (step + 1) as f32 / (warmup + 1) as f32;
        }
        let share = (step - warmup) as f32 / total.saturating_sub(warmup).max(1) as f32;
        match self {
            Self::Constant => base,
            Self::Cosine => base * 0.5 * (1.0 + (std::f32::consts::PI * share.min(1.0)).cos()),
            Self::Step { at, factor } => base * factor.powi(at.iter().filter(|a| share >= **a).count() as i32),
        }
    }
}
