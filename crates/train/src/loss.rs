//! Losses on a batch of outputs `[N, K]`: the mean over the batch and its gradient.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Mean loss of a batch and its gradient with respect to the outputs, `[N, K]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Mean over the batch.
    pub value: f64,
    /// `∂value/∂outputs`, row-major.
    pub gradient: Vec<f32>,
}

/// Softmax of one row, computed in `f64` after subtracting the maximum.
pub(crate) fn softmax(row: &[f32], temperature: f64) -> Vec<f64> {
    let top = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(f64::from(*x)));
    let powers: Vec<f64> = row.iter().map(|x| ((f64::from(*x) - top) / temperature).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Cross-entropy against labels, smoothed: the target is `1 − s + s/K` at the label and `s/K`
/// elsewhere (Szegedy et al. 2016, section 7).
///
/// Labels are below `classes`; for a data set [`check_classes`](crate::data::Dataset::check_classes) sees to it.
///
/// # Panics
/// There are no `classes`.
pub fn cross_entropy(logits: &[f32], labels: &[u32], classes: usize, smoothing: f32) -> Loss {
    let n = labels.len().max(1) as f64;
    let smoothing = f64::from(smoothing);
    let mut value = 0.0;
    let mut gradient = Vec::with_capacity(logits.len());
    for (row, label) in logits.chunks_exact(classes).zip(labels) {
        let p = softmax(row, 1.0);
        for (k, p) in p.iter().enumerate() {
            let hit = f64::from(u8::from(k == *label as usize));
            let target = hit * (1.0 - smoothing) + smoothing / classes as f64;
            if target > 0.0 {
                value -= target * p.max(1e-45).ln();
            }
            gradient.push(((p - target) / n) as f32);
        }
        // A NaN among the logits must not look like a loss.
        value += row.iter().map(|x| f64::from(*x) * 0.0).sum::<f64>();
    }
    Loss { value: value / n, gradient }
}

/// `T²·KL(teacher ‖ student)` of the softened outputs (Hinton et al. 2015): the factor keeps the
/// gradient's size independent of the temperature `T`.
pub fn distillation(logits: &[f32], teacher: &[f32], classes: usize, temperature: f32) -> Loss {
    let n = (logits.len() / classes.max(1)).max(1) as f64;
    let t = f64::from(temperature);
    let mut value = 0.0;
    let mut gradient = Vec::with_capacity(logits.len());
    for (student, teacher) in logits.chunks_exact(classes).zip(teacher.chunks_exact(classes)) {
        let (q, p) = (softmax(student, t), softmax(teacher, t));
        for (q, p) in q.iter().zip(&p) {
            if *p > 0.0 {
                value += t * t * p * (p.ln() - q.max(1e-300).ln());
            }
            gradient.push((t * (q - p) / n) as f32);
        }
        value += student.iter().map(|x| f64::from(*x) * 0.0).sum::<f64>();
    }
    Loss { value: value / n, gradient }
}

/// Mean of squared differences over all elements.
pub fn mean_squared(outputs: &[f32], targets: &[f32]) -> Loss {
    let n = outputs.len().max(1) as f64;
    let differences = outputs.iter().zip(targets).map(|(o, t)| f64::from(*o) - f64::from(*t));
    let value = differences.clone().map(|d| d * d).sum::<f64>() / n;
    Loss { value, gradient: differences.map(|d| (2.0 * d / n) as f32).collect() }
}

/// How much the teacher counts, and how soft its outputs are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distill {
    /// Share of the distillation loss; 1 uses no labels.
    pub alpha: f32,
    /// Softening of both outputs.
    pub temperature: f32,
}

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Objective {
    /// Cross-entropy with labels, mixed with distillation where a teacher is given.
    Classify {
        /// Label smoothing.
        smoothing: f32,
        /// Mixture with a teacher.
        distill: Option<Distill>,
    },
    /// Mean squared difference to the teacher's outputs, or to the network's own input where
    /// there is no teacher (auto-encoders).
    MeanSquared,
}

impl Objective {
    /// Loss of the outputs `[N, K]` of a batch.
    ///
    /// # Errors
    /// A distillation or regression without anything to compare with.
    pub fn loss(&self, outputs: &[f32], width: usize, labels: &[u32], teacher: Option<&[f32]>, inputs: &[f32]) -> Result<Loss> {
        match self {
            Self::MeanSquared => {
                let targets = teacher.unwrap_or(inputs);
                if targets.len() != outputs.len() {
                    return Err(Error::Recipe(format!(
                        "mean squared error needs targets of the outputs' size: {} outputs, {} targets; give a teacher",
                        outputs.len(),
                        targets.len()
                    )));
                }
                Ok(mean_squared(outputs, targets))
            }
            Self::Classify { smoothing, distill: None } => Ok(cross_entropy(outputs, labels, width, *smoothing)),
            Self::Classify { smoothing, distill: Some(Distill { alpha, temperature }) } => {
                let Some(teacher) = teacher.filter(|t| t.len() == outputs.len()) else {
                    return Err(Error::Recipe("distillation needs a teacher with the same outputs; give one or remove `distill`".into()));
                };
                let soft = distillation(outputs, teacher, width, *temperature);
                if *alpha >= 1.0 {
                    return Ok(soft);
                }
                let hard = cross_entropy(outputs, labels, width, *smoothing);
                let gradient = soft.gradient.iter().zip(&hard.gradient).map(|(s, h)| alpha * s + (1.0 - alpha) * h).collect();
                Ok(Loss { value: f64::from(*alpha) * soft.value + f64::from(1.0 - alpha) * hard.value, gradient })
            }
        }
    }
}
