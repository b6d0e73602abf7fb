//! Kernel patterns: 4 of the 9 weights of a 3×3 kernel, the centre among them.

use std::collections::BTreeMap;

use super::mask::Mask;
use super::shape::WeightShape;

/// Weights of a kernel that has patterns.
pub(super) const KERNEL: usize = 9;
/// Weights that a pattern keeps.
pub const KEPT_OF_KERNEL: usize = 4;
/// Patterns that a layer may use.
pub const LIBRARY: usize = 8;
/// The centre's position.
const CENTRE: usize = 4;

/// Positions of a 3×3 kernel that stay, as bits by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(pub u16);

impl Pattern {
    /// The pattern of a kernel's strongest weights: the centre and the three largest others (the first of equal ones).
    pub fn natural(kernel: &[f32; KERNEL]) -> Self {
        let mut others: Vec<usize> = (0..KERNEL).filter(|&k| k != CENTRE).collect();
        others.sort_by(|&a, &b| kernel[b].abs().total_cmp(&kernel[a].abs()));
        Self(others[..KEPT_OF_KERNEL - 1].iter().fold(1 << CENTRE, |bits, k| bits | 1 << k))
    }

    /// The positions that are set.
    pub(super) fn of(keep: impl Iterator<Item = bool>) -> Self {
        Self(keep.enumerate().fold(0, |bits, (k, keep)| bits | u16::from(keep) << k))
    }

    /// The position stays.
    pub fn keeps(self, position: usize) -> bool {
        self.0 >> position & 1 == 1
    }

    /// Number of positions that stay.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The centre stays, and 3 others.
    pub fn is_legal(self) -> bool {
        self.keeps(CENTRE) && self.count() == KEPT_OF_KERNEL
    }

    /// All that `self` keeps, `other` keeps too.
    pub fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    fn energy(self, kernel: &[f32; KERNEL]) -> f64 {
        (0..KERNEL).filter(|&k| self.keeps(k)).map(|k| f64::from(kernel[k]).powi(2)).sum()
    }
}

/// The 3×3 kernels of a weight, filter by filter.
fn kernels(weights: &[f32]) -> &[[f32; KERNEL]] {
    weights.as_chunks::<KERNEL>().0
}

/// The library of a weight: the [`LIBRARY`] patterns that most kernels would choose, the most frequent first.
pub(super) fn library(weights: &[f32]) -> Vec<Pattern> {
    let mut counts: BTreeMap<Pattern, usize> = BTreeMap::new();
    // A kernel that is gone has no pattern of its own.
    for kernel in kernels(weights).iter().filter(|k| k.iter().any(|w| *w != 0.0)) {
        *counts.entry(Pattern::natural(kernel)).or_default() += 1;
    }
    let mut all: Vec<(Pattern, usize)> = counts.into_iter().collect();
    all.sort_by_key(|&(p, n)| (std::cmp::Reverse(n), p));
    all.into_iter().take(LIBRARY).map(|(p, _)| p).collect()
}

/// Every kernel in the pattern of the library that keeps most of it.
pub(super) fn patterned(weights: &[f32], shape: &WeightShape) -> Mask {
    let library = library(weights);
    let mut keep = Vec::with_capacity(shape.len());
    for kernel in kernels(weights) {
        let best = library.iter().copied().reduce(|a, b| if b.energy(kernel) > a.energy(kernel) { b } else { a });
        keep.extend((0..KERNEL).map(|k| best.is_none_or(|p| p.keeps(k))));
    }
    Mask { keep }
}
