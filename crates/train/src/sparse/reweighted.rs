//! The reweighted group penalty.

use graph::scheme::Units;

use super::Constraint;
use crate::network::Param;
use crate::optim::State;

/// A parameter under the penalty.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalised {
    /// Name of the parameter.
    pub tensor: String,
    /// What of it goes at once.
    pub units: Units,
    /// Weight of every unit's term; set by [`Reweighted`].
    pub alpha: Vec<f32>,
}

/// Adds `λ Σ_u α_u s_u` to the objective, with the score `s_u = ‖W_u‖₂/√|u|` of every unit and `α_u = 1/(s_u + ε)` from the last
/// time the weights were renewed: steps of majorisation–minimisation on `λ Σ_u ln(s_u + ε)` (Candès, Wakin and Boyd 2008, for
/// groups). What is small is pressed harder, so that units part into those that are nearly zero and those that are not.
#[derive(Debug, Clone, PartialEq)]
pub struct Reweighted {
    /// The parameters under the penalty.
    pub layers: Vec<Penalised>,
    /// λ.
    pub lambda: f64,
    /// ε.
    pub epsilon: f64,
    /// Steps between two renewals of α.
    pub every: usize,
}

impl Reweighted {
    /// The penalty on the units of the parameters named.
    pub fn new(layers: Vec<(String, Units)>, lambda: f64, epsilon: f64, every: usize) -> Self {
        let layers = layers.into_iter().map(|(tensor, units)| Penalised { tensor, units, alpha: Vec::new() }).collect();
        Self { layers, lambda, epsilon, every: every.max(1) }
    }

    /// The penalty at these parameters; 0 before α is set.
    pub fn value(&self, params: &[Param]) -> f64 {
        let of = |l: &Penalised| {
            let scores = params.iter().find(|p| p.name == l.tensor).map(|p| l.units.scores(&p.values)).unwrap_or_default();
            scores.iter().zip(&l.alpha).map(|(s, a)| s * f64::from(*a)).sum::<f64>()
        };
        self.lambda * self.layers.iter().map(of).sum::<f64>()
    }

    /// Renews α from the parameters.
    pub fn renew(&mut self, params: &[Param]) {
        for l in &mut self.layers {
            if let Some(p) = params.iter().find(|p| p.name == l.tensor) {
                l.alpha = l.units.scores(&p.values).iter().map(|s| (1.0 / (s + self.epsilon)) as f32).collect();
            }
        }
    }

    /// Adds the gradient `λ α_u w/(|u| s_u)` (0 where a unit is 0, a subgradient); returns the penalty.
    pub fn add_gradient(&self, params: &[Param], gradients: &mut [Vec<f32>]) -> f64 {
        let mut value = 0.0;
        for l in &self.layers {
            let Some(i) = params.iter().position(|p| p.name == l.tensor) else { continue };
            let scores = l.units.scores(&params[i].values);
            let factor = |u: usize| {
                let (s, n) = (scores[u], f64::from(l.units.sizes[u]));
                let alpha = l.alpha.get(u).copied().map_or(0.0, f64::from);
                if s > 0.0 { self.lambda * alpha / (n * s) } else { 0.0 }
            };
            let factors: Vec<f32> = (0..scores.len()).map(|u| factor(u) as f32).collect();
            for ((g, w), &u) in gradients[i].iter_mut().zip(&params[i].values).zip(&l.units.of) {
                *g += factors[u as usize] * w;
            }
            value += self.lambda * scores.iter().zip(&l.alpha).map(|(s, a)| s * f64::from(*a)).sum::<f64>();
        }
        value
    }
}

impl Constraint for Reweighted {
    fn start(&mut self, params: &mut [Param], _: &mut State) {
        if self.layers.iter().any(|l| l.alpha.len() != l.units.len()) {
            self.renew(params);
        }
    }

    fn gradients(&mut self, params: &[Param], gradients: &mut [Vec<f32>]) -> f64 {
        self.add_gradient(params, gradients)
    }

    fn after(&mut self, params: &mut [Param], _: &mut State, done: usize, _: usize) {
        if done.is_multiple_of(self.every) {
            self.renew(params);
        }
    }

    fn state(&self) -> Vec<f32> {
        self.layers.iter().flat_map(|l| l.alpha.iter().copied()).collect()
    }

    fn restore(&mut self, saved: &[f32]) -> bool {
        if saved.len() != self.layers.iter().map(|l| l.units.len()).sum::<usize>() {
            return false;
        }
        let mut rest = saved;
        for l in &mut self.layers {
            let (part, after) = rest.split_at(l.units.len());
            l.alpha = part.to_vec();
            rest = after;
        }
        true
    }
}
