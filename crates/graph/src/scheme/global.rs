//! One threshold for the units of all layers.

use super::mask::Mask;
use super::pattern::{self, KEPT_OF_KERNEL};
use super::project::lowest;
use super::regularity::Regularity;
use super::shape::WeightShape;
use super::units::Units;

/// A layer's weight and what of it is removed together.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    /// The weights, as stored.
    pub weights: &'a [f32],
    /// Their shape.
    pub shape: &'a WeightShape,
    /// What goes at once.
    pub regularity: Regularity,
}

/// Where units of all layers are cut off.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// Units whose score is below it go.
    Score(f64),
    /// The units of lowest score in all layers go until this compression of all the weights together is reached.
    Rate(f64),
}

/// A layer with its units scored.
struct Scored {
    units: Units,
    scores: Vec<f64>,
    /// What regularities beside whole units remove: the rest of the patterns.
    within: Option<Mask>,
}

impl Scored {
    fn new(w: &Weighted) -> Self {
        let units = w.regularity.units(w.shape);
        let within = (w.regularity == Regularity::Pattern).then(|| pattern::patterned(w.weights, w.shape));
        let mut weights = w.weights.to_vec();
        if let Some(mask) = &within {
            mask.apply(&mut weights);
        }
        Self { scores: units.scores(&weights), units, within }
    }

    /// Weights that stay if the unit stays.
    fn size(&self, unit: usize) -> f64 {
        if self.within.is_some() { KEPT_OF_KERNEL as f64 } else { f64::from(self.units.sizes[unit]) }
    }
}

/// The masks of all layers under one threshold: rates per layer fall out by themselves. At least one unit of every layer stays,
/// and all of a dense one.
pub fn global(layers: &[Weighted], threshold: Threshold) -> Vec<Mask> {
    let scored: Vec<Scored> = layers.iter().map(Scored::new).collect();
    let mut gone: Vec<Vec<bool>> = scored.iter().map(|s| vec![false; s.units.len()]).collect();
    // Layer and unit of all that may go; the strongest unit of a layer may not.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (l, s) in scored.iter().enumerate().filter(|(l, _)| layers[*l].regularity != Regularity::Dense) {
        let strongest = (0..s.scores.len()).max_by(|&a, &b| s.scores[a].total_cmp(&s.scores[b]));
        open.extend((0..s.units.len()).filter(|u| Some(*u) != strongest).map(|u| (l, u)));
    }
    let scores: Vec<f64> = open.iter().map(|&(l, u)| scored[l].scores[u]).collect();
    match threshold {
        Threshold::Score(limit) => open.iter().zip(&scores).filter(|(_, s)| **s < limit).for_each(|(&(l, u), _)| gone[l][u] = true),
        Threshold::Rate(rate) => {
            let all: usize = layers.iter().map(|w| w.weights.len()).sum();
            let stays: f64 = scored.iter().map(|s| (0..s.units.len()).map(|u| s.size(u)).sum::<f64>()).sum();
            let sizes: Vec<f64> = open.iter().map(|&(l, u)| scored[l].size(u)).collect();
            let surplus = (stays - all as f64 / rate).max(0.0);
            let share = surplus / sizes.iter().sum::<f64>().max(1.0);
            lowest(&scores, &sizes, share).into_iter().for_each(|k| gone[open[k].0][open[k].1] = true);
        }
    }
    let mask = |(s, gone): (&Scored, &Vec<bool>)| {
        let mut mask = s.units.without(gone);
        if let Some(within) = &s.within {
            mask.keep.iter_mut().zip(&within.keep).for_each(|(k, w)| *k &= w);
        }
        mask
    };
    scored.iter().zip(&gone).map(mask).collect()
}

/// The scores of all units of all layers that are not dense.
pub fn all_scores(layers: &[Weighted]) -> Vec<f64> {
    layers.iter().filter(|w| w.regularity != Regularity::Dense).flat_map(|w| Scored::new(w).scores).collect()
}

/// Bins of the histogram, and over how many to each side it is smoothed.
const BINS: usize = 48;
const SMOOTHING: usize = 2;

/// The valley between the two hills of the histogram of `scores` over their logarithm: what lies below has been driven to
/// zero, what lies above carries the network. `None` where there are no two hills, with less than half of the smaller one's
/// height between them.
pub fn valley(scores: &[f64]) -> Option<f64> {
    let top = scores.iter().copied().fold(0.0, f64::max);
    // What is six orders below the largest is zero.
    let floor = top * 1e-6;
    let logs: Vec<f64> = scores.iter().map(|s| s.max(floor).ln()).collect();
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
    let width = (top.ln() - low) / BINS as f64;
    if !(width.is_finite() && width > 0.0) {
        return None;
    }
    let mut counts = [0.0f64; BINS];
    for l in &logs {
        counts[(((l - low) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let around = |b: usize| b.saturating_sub(SMOOTHING)..(b + SMOOTHING + 1).min(BINS);
    let smooth: Vec<f64> = (0..BINS).map(|b| counts[around(b)].iter().sum::<f64>() / around(b).len() as f64).collect();
    // The bin with the most of the smaller hill above it.
    let peak = |range: std::ops::Range<usize>| smooth[range].iter().copied().fold(0.0, f64::max);
    let depth = |b: &usize| peak(0..*b).min(peak(b + 1..BINS)) - smooth[*b];
    let deepest = (1..BINS - 1).max_by(|a, b| depth(a).total_cmp(&depth(b)))?;
    let hill = peak(0..deepest).min(peak(deepest + 1..BINS));
    (smooth[deepest] < hill / 2.0).then(|| {
        // The middle of a flat valley.
        let flat: Vec<usize> = (1..BINS - 1).filter(|b| depth(b) == depth(&deepest)).collect();
        let middle = flat[flat.len() / 2];
        (low + (middle as f64 + 0.5) * width).exp()
    })
}
