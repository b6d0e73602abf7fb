//! How to train: one value that can be saved, compared and repeated.

use serde::{Deserialize, Serialize};

use crate::data::Augment;
use crate::error::{Error, Result};
use crate::loss::{Distill, Objective};
use crate::optim::Optimizer;
use crate::schedule::Schedule;

/// How to train or fine-tune.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training data; a fraction ends within a pass.
    pub epochs: f64,
    /// Images per step.
    pub batch_size: usize,
    /// Highest learning rate.
    pub lr: f32,
    /// The rule of the step.
    pub optimizer: Optimizer,
    /// Decay of weights (not of biases and normalisations).
    pub weight_decay: f32,
    /// Learning rate over time.
    pub schedule: Schedule,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Label smoothing.
    pub label_smoothing: f32,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f32>,
    /// Learning from a teacher.
    pub distill: Option<Distill>,
    /// Mean squared error instead of classification.
    pub mean_squared: bool,
    /// Towards all outputs of the teacher and nothing else ([`crate::Imitation`]): no labels are used.
    pub imitate: bool,
    /// Changes of the images.
    pub augment: Augment,
    /// Of shuffling, augmentation and Dropout.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            epochs: 3.0,
            batch_size: 128,
            lr: 0.02,
            optimizer: Optimizer::default(),
            weight_decay: 5e-4,
            schedule: Schedule::Cosine,
            warmup_steps: 50,
            label_smoothing: 0.0,
            clip_norm: Some(5.0),
            distill: None,
            mean_squared: false,
            imitate: false,
            augment: Augment::none(),
            seed: 0,
        }
    }
}

impl Recipe {
    /// Fine-tuning a pruned CIFAR network: SGD with Nesterov momentum, cosine, pad-crop and flip.
    pub fn cifar(epochs: f64) -> Self {
        Self { epochs, augment: Augment::cifar(), ..Self::default() }
    }

    /// What is minimised.
    pub fn objective(&self) -> Objective {
        if self.mean_squared {
            Objective::MeanSquared
        } else {
            Objective::Classify { smoothing: self.label_smoothing, distill: self.distill }
        }
    }

    /// Softening of outputs in distillation.
    pub fn temperature(&self) -> f32 {
        self.distill.map_or(4.0, |d| d.temperature)
    }

    /// # Errors
    /// Values out of range, by name.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(Error::Recipe(what.to_owned()));
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !(self.epochs.is_finite() && self.epochs >= 0.0) {
            return bad("epochs must be 0 or more");
        }
        if self.batch_size == 0 {
            return bad("batch_size must be at least 1");
        }
        if !positive(self.lr) {
            return bad("lr must be positive");
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return bad("weight_decay must be 0 or more");
        }
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return bad("label_smoothing must be in [0, 1)");
        }
        if self.clip_norm.is_some_and(|c| !positive(c)) {
            return bad("clip_norm must be positive");
        }
        if let Some(d) = self.distill
            && !((0.0..=1.0).contains(&d.alpha) && positive(d.temperature))
        {
            return bad("distill.alpha must be in [0, 1] and distill.temperature positive");
        }
        Ok(())
    }
}
