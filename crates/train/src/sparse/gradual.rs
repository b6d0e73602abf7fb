//! Removing more and more while training.

use graph::scheme::{Balance, Mask, Scheme, WeightShape};

use super::{Constraint, Masks};
use crate::network::Param;
use crate::optim::State;

/// A parameter on its way to a scheme.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Name of the parameter.
    pub tensor: String,
    /// Its shape as a layer's weight.
    pub shape: WeightShape,
    /// Where it is to arrive.
    pub scheme: Scheme,
}

/// Share of the removal that is done after `progress` (0 to 1) of the way: `1 − (1 − progress)³` (Zhu and Gupta 2017, equation 1,
/// from sparsity 0). Most goes early, while there is time to recover.
pub fn cubic(progress: f64) -> f64 {
    1.0 - (1.0 - progress.clamp(0.0, 1.0)).powi(3)
}

/// Projects to growing rates on the way, and holds the masks in between. What is gone stays gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradual {
    targets: Vec<Target>,
    balance: Balance,
    /// Share of all steps after which the schemes are reached.
    end: f64,
    /// Steps between two projections.
    every: usize,
    masks: Masks,
}

impl Gradual {
    /// Reaches the schemes of `targets` after the share `end` of all steps, projecting every `every` steps.
    pub fn new(targets: Vec<Target>, balance: Balance, end: f64, every: usize) -> Self {
        Self { targets, balance, end: end.clamp(0.0, 1.0), every: every.max(1), masks: Masks::default() }
    }

    /// The masks as they are.
    pub fn masks(&self) -> &Masks {
        &self.masks
    }

    fn project(&mut self, params: &[Param], share: f64) {
        for t in &self.targets {
            let Some(param) = params.iter().find(|p| p.name == t.tensor) else { continue };
            let removed = t.scheme.removed_share() * share;
            let rate = if share >= 1.0 { t.scheme.rate } else { (1.0 / (1.0 - removed)).max(t.scheme.regularity.least_rate()) };
            let scheme = Scheme { rate, ..t.scheme };
            self.masks.set(&t.tensor, scheme.project(&param.values, &t.shape, self.balance));
        }
    }
}

impl Constraint for Gradual {
    fn start(&mut self, params: &mut [Param], state: &mut State) {
        if self.masks.by_name().is_empty() {
            let share = if self.end == 0.0 { 1.0 } else { 0.0 };
            self.project(params, share);
        }
        self.masks.hold(params, state);
    }

    fn gradients(&mut self, params: &[Param], gradients: &mut [Vec<f32>]) -> f64 {
        self.masks.on_gradients(params, gradients);
        0.0
    }

    fn after(&mut self, params: &mut [Param], state: &mut State, done: usize, steps: usize) {
        self.masks.on_params(params);
        let last = (self.end * steps as f64).ceil() as usize;
        if done <= last && (done == last || done.is_multiple_of(self.every)) {
            let progress = if last == 0 { 1.0 } else { done as f64 / last as f64 };
            self.project(params, cubic(progress));
            self.masks.hold(params, state);
        }
    }

    fn state(&self) -> Vec<f32> {
        let masks = self.targets.iter().filter_map(|t| self.masks.by_name().get(&t.tensor));
        masks.flat_map(|m| m.keep.iter().map(|k| f32::from(u8::from(*k)))).collect()
    }

    fn restore(&mut self, saved: &[f32]) -> bool {
        if saved.len() != self.targets.iter().map(|t| t.shape.len()).sum::<usize>() {
            return false;
        }
        let mut rest = saved;
        for t in &self.targets {
            let (part, after) = rest.split_at(t.shape.len());
            self.masks.set(&t.tensor, Mask { keep: part.iter().map(|v| *v != 0.0).collect() });
            rest = after;
        }
        true
    }
}
