//! Optimizers on the parameters of a [`Network`].

use serde::{Deserialize, Serialize};

use crate::network::{Kind, Network, Param};

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the old velocity kept.
        momentum: f32,
        /// Look ahead along the velocity (Nesterov).
        nesterov: bool,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    AdamW {
        /// Decay of the mean of gradients.
        beta1: f32,
        /// Decay of the mean of squares.
        beta2: f32,
        /// Added to the root.
        epsilon: f32,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Self::Sgd { momentum: 0.9, nesterov: true }
    }
}

/// What the optimizer remembers, per parameter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Steps taken.
    pub steps: u64,
    /// Velocity or mean of gradients.
    pub first: Vec<Vec<f32>>,
    /// Mean of squares (AdamW).
    pub second: Vec<Vec<f32>>,
}

impl State {
    /// Zeros for every parameter of `network`.
    pub fn new(network: &Network) -> Self {
        let zeros: Vec<Vec<f32>> = network.params().iter().map(|p| vec![0.0; p.values.len()]).collect();
        Self { steps: 0, second: zeros.clone(), first: zeros }
    }
}

/// Whether weight decay applies: to weights, not to biases and the parameters of normalisations.
pub fn decays(param: &Param) -> bool {
    matches!(param.kind, Kind::Weight)
}

/// Scales all gradients so that their common norm is at most `limit`; returns the norm before.
pub fn clip(gradients: &mut [Vec<f32>], limit: Option<f32>) -> f64 {
    let square: f64 = gradients.iter().flatten().map(|g| f64::from(*g) * f64::from(*g)).sum();
    let norm = square.sqrt();
    if let Some(limit) = limit.map(f64::from)
        && norm > limit
    {
        let factor = (limit / norm) as f32;
        gradients.iter_mut().flatten().for_each(|g| *g *= factor);
    }
    norm
}

impl Optimizer {
    /// One step: `params` move against `gradients` (in the order of [`Network::params`]).
    pub fn step(&self, params: &mut [Param], gradients: &[Vec<f32>], state: &mut State, rate: f32, weight_decay: f32) {
        state.steps += 1;
        for (i, (param, gradient)) in params.iter_mut().zip(gradients).enumerate() {
            let decay = if decays(param) { weight_decay } else { 0.0 };
            let first = &mut state.first[i];
            match *self {
                Self::Sgd { momentum, nesterov } => {
                    for ((p, g), v) in param.values.iter_mut().zip(gradient).zip(first) {
                        let g = g + decay * *p;
                        *v = momentum * *v + g;
                        *p -= rate * if nesterov { g + momentum * *v } else { *v };
                    }
                }
                Self::AdamW { beta1, beta2, epsilon } => {
                    let t = state.steps.min(i32::MAX as u64) as i32;
                    let (c1, c2) = (1.0 - beta1.powi(t), 1.0 - beta2.powi(t));
                    let second = &mut state.second[i];
                    for (((p, g), m), v) in param.values.iter_mut().zip(gradient).zip(first).zip(second) {
                        *p -= rate * decay * *p;
                        *m = beta1 * *m + (1.0 - beta1) * g;
                        *v = beta2 * *v + (1.0 - beta2) * g * g;
                        *p -= rate * (*m / c1) / ((*v / c2).sqrt() + epsilon);
                    }
                }
            }
        }
    }
}
