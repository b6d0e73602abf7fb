//! The proof that a mask, or a weight, has the regularity it claims.

use std::collections::BTreeSet;
use std::fmt;

use super::mask::Mask;
use super::pattern::{KERNEL, LIBRARY, Pattern};
use super::regularity::{Regularity, Scheme};
use super::shape::WeightShape;

/// Where a weight does not have the regularity it claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was claimed.
    pub claim: String,
    /// The place, in words.
    pub place: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is not {}: at {}: {}", self.claim, self.place, self.reason)
    }
}

impl std::error::Error for Violation {}

impl Regularity {
    /// A weight of this shape can have this regularity.
    ///
    /// # Errors
    /// It cannot: why.
    pub fn fits(self, shape: &WeightShape) -> Result<(), String> {
        match self {
            Self::Pattern if shape.kernel != [3, 3] => Err(if shape.is_linear() {
                "patterns are for 3x3 kernels, it has none".into()
            } else {
                format!("patterns are for 3x3 kernels, its are {:?}", shape.kernel)
            }),
            Self::BlockBased { .. } if !shape.is_linear() => {
                Err("block-based is for linear layers; take block-punched for convolutions".into())
            }
            _ => Ok(()),
        }
    }

    /// Proves that `mask` has this regularity: every unit stays or goes as a whole; for patterns, every kernel is gone or keeps
    /// its centre and three more, in at most [`LIBRARY`] ways.
    ///
    /// # Errors
    /// The first place where it has not.
    pub fn validate(self, shape: &WeightShape, mask: &Mask) -> Result<(), Violation> {
        let wrong = |place: String, reason: String| Violation { claim: self.to_string(), place, reason };
        if mask.len() != shape.len() {
            return Err(wrong("the tensor".into(), format!("it has {} weights, the layer has {}", mask.len(), shape.len())));
        }
        self.fits(shape).map_err(|reason| wrong("the layer".into(), reason))?;
        if self == Self::Pattern {
            return patterns(shape, mask, true).map_err(|(place, reason)| wrong(place, reason));
        }
        let units = self.units(shape);
        let mut kept = vec![0u32; units.len()];
        for (&u, &keep) in units.of.iter().zip(&mask.keep) {
            kept[u as usize] += u32::from(keep);
        }
        let gone = |u: usize| kept[u] == 0 && self != Self::Dense;
        match (0..units.len()).find(|&u| kept[u] != units.sizes[u] && !gone(u)) {
            None => Ok(()),
            Some(u) => Err(wrong(units.describe(u, shape), format!("{} of its {} weights stay", kept[u], units.sizes[u]))),
        }
    }
}

impl Scheme {
    /// Proves that the zeros of `weights` bring the rate in whole units: zeros inside of units that stay do not count. The
    /// difference of one unit in every block row is allowed, as rounding.
    ///
    /// # Errors
    /// The first place where the regularity is broken, or how far the rate is missed.
    pub fn validate(&self, shape: &WeightShape, weights: &[f32]) -> Result<(), Violation> {
        let wrong = |place: String, reason: String| Violation { claim: self.to_string(), place, reason };
        if weights.len() != shape.len() {
            return Err(wrong("the tensor".into(), format!("it has {} weights, the layer has {}", weights.len(), shape.len())));
        }
        self.regularity.fits(shape).map_err(|reason| wrong("the layer".into(), reason))?;
        if self.is_dense() {
            return Ok(());
        }
        let units = self.regularity.units(shape);
        let zeros = Mask::of_non_zeros(weights);
        let removed = if self.regularity == Regularity::Pattern {
            patterns(shape, &zeros, false).map_err(|(place, reason)| wrong(place, reason))?;
            zeros.len() - zeros.kept()
        } else {
            let mut alive = vec![false; units.len()];
            units.of.iter().zip(&zeros.keep).for_each(|(&u, &keep)| alive[u as usize] |= keep);
            units.sizes.iter().zip(&alive).filter(|(_, a)| !**a).map(|(&n, _)| n as usize).sum()
        };
        let largest = units.sizes.iter().max().copied().unwrap_or(0) as usize;
        let wanted = self.removed_share() * shape.len() as f64;
        if removed as f64 + (largest * units.row_count) as f64 + 1e-6 < wanted {
            let found = shape.len() as f64 / (shape.len() - removed).max(1) as f64;
            let reason = format!("{removed} of {} weights are removed in whole units, a rate of {found:.2}", shape.len());
            return Err(wrong("the layer".into(), reason));
        }
        Ok(())
    }
}

/// Place and reason of a kernel that has no legal pattern. Where `exact`, it has its four weights; otherwise some of them may
/// be zero by themselves.
fn patterns(shape: &WeightShape, mask: &Mask, exact: bool) -> Result<(), (String, String)> {
    let kernels = mask.keep.as_chunks::<KERNEL>().0;
    let place = |i: usize| format!("filter {}, channel {}", i / shape.channels, i % shape.channels);
    let found: Vec<Pattern> = kernels.iter().map(|k| Pattern::of(k.iter().copied())).collect();
    for (i, p) in found.iter().enumerate() {
        let fits = p.count() == 0 || p.is_legal() || (!exact && (0..1 << KERNEL).any(|q| Pattern(q).is_legal() && p.within(Pattern(q))));
        if !fits {
            return Err((place(i), format!("{} of 9 weights stay{}", p.count(), if p.keeps(4) { "" } else { ", not the centre" })));
        }
    }
    let mut library: BTreeSet<Pattern> = BTreeSet::new();
    let mut by_size: Vec<usize> = (0..found.len()).filter(|&i| found[i].count() > 0).collect();
    by_size.sort_by_key(|&i| (std::cmp::Reverse(found[i].count()), i));
    for i in by_size {
        let p = found[i];
        if !library.iter().any(|q| p.within(*q)) {
            library.insert(p);
        }
        if library.len() > LIBRARY {
            return Err((place(i), format!("it is the {}th pattern, a layer has {LIBRARY}", library.len())));
        }
    }
    Ok(())
}
