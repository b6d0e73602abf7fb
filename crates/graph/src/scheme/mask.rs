//! Which weights stay.

/// One flag per weight, in the order they are stored: whether it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// The weight stays.
    pub keep: Vec<bool>,
}

impl Mask {
    /// Everything stays.
    pub fn all(len: usize) -> Self {
        Self { keep: vec![true; len] }
    }

    /// The weights that are not zero.
    pub fn of_non_zeros(weights: &[f32]) -> Self {
        Self { keep: weights.iter().map(|w| *w != 0.0).collect() }
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.keep.len()
    }

    /// No weights.
    pub fn is_empty(&self) -> bool {
        self.keep.is_empty()
    }

    /// Weights that stay.
    pub fn kept(&self) -> usize {
        self.keep.iter().filter(|k| **k).count()
    }

    /// Share of the weights that are removed.
    pub fn sparsity(&self) -> f64 {
        if self.is_empty() { 0.0 } else { 1.0 - self.kept() as f64 / self.len() as f64 }
    }

    /// Compression: all weights over those that stay.
    pub fn rate(&self) -> f64 {
        self.len() as f64 / self.kept().max(1) as f64
    }

    /// Sets what is removed to zero.
    ///
    /// # Panics
    /// If there are not as many weights as flags.
    pub fn apply(&self, weights: &mut [f32]) {
        assert_eq!(weights.len(), self.len(), "a mask for another tensor");
        for (w, keep) in weights.iter_mut().zip(&self.keep) {
            if !keep {
                *w = 0.0;
            }
        }
    }

    /// Every weight that is removed is exactly zero.
    pub fn holds(&self, weights: &[f32]) -> bool {
        weights.len() == self.len() && weights.iter().zip(&self.keep).all(|(w, keep)| *keep || *w == 0.0)
    }
}
