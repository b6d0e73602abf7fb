//! Estimates from samples: quantiles, block-bootstrap intervals, comparisons, warnings.

mod bootstrap;
mod comparison;
mod shape;

pub use bootstrap::{block_length, median_interval};
pub use comparison::{EQUIVALENCE, PairComparison, Verdict, compare_rounds, log_ratios};
pub use shape::{count_outliers, two_states};

/// The `q`-quantile (0 ≤ q ≤ 1) of unordered samples, linear between order statistics; NaN where
/// there are none.
pub fn quantile(samples: &[f64], q: f64) -> f64 {
    if samples.is_empty() {
        return f64::NAN;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position.floor() as usize;
    let above = position.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

/// The median of unordered samples; NaN where there are none.
pub fn median(samples: &[f64]) -> f64 {
    median_of(&mut samples.to_vec())
}

/// The median, reordering its argument.
pub(crate) fn median_of(samples: &mut [f64]) -> f64 {
    let n = samples.len();
    if n == 0 {
        return f64::NAN;
    }
    let (below, &mut upper, _) = samples.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return upper;
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lower + (upper - lower) / 2.0
}

/// Summary of one candidate's samples. Times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The estimate.
    pub median: f64,
    /// 10th percentile.
    pub p10: f64,
    /// 90th percentile.
    pub p90: f64,
    /// Smallest sample.
    pub min: f64,
    /// 99th percentile, only from [`P99_FROM`] samples.
    pub p99: Option<f64>,
}

/// Samples from which a 99th percentile is given.
pub const P99_FROM: usize = 1000;

/// Summarises unordered samples.
pub fn summarise(samples: &[f64]) -> Summary {
    Summary {
        median: median(samples),
        p10: quantile(samples, 0.1),
        p90: quantile(samples, 0.9),
        min: samples.iter().copied().fold(f64::INFINITY, f64::min),
        p99: (samples.len() >= P99_FROM).then(|| quantile(samples, 0.99)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_one_to_five() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&samples), 3.0);
        assert_eq!(quantile(&samples, 0.0), 1.0);
        assert_eq!(quantile(&samples, 0.25), 2.0);
        assert_eq!(quantile(&samples, 1.0), 5.0);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn p99_needs_a_thousand_samples() {
        let samples: Vec<f64> = (0..1000).map(f64::from).collect();
        assert!(summarise(&samples).p99.is_some());
        assert!(summarise(&samples[1..]).p99.is_none());
    }

    proptest! {
        #[test]
        fn quantiles_are_monotone_and_inside(samples in prop::collection::vec(1e-6f64..1.0, 1..200), a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(quantile(&samples, low) <= quantile(&samples, high));
            let s = summarise(&samples);
            prop_assert!(s.min <= s.p10 && s.p10 <= s.median && s.median <= s.p90);
        }

        #[test]
        fn the_median_is_the_half_quantile_and_scales(samples in prop::collection::vec(1e-6f64..1.0, 1..200), factor in 0.1f64..10.0) {
            let m = median(&samples);
            prop_assert!((m - quantile(&samples, 0.5)).abs() <= 1e-12);
            let scaled: Vec<f64> = samples.iter().map(|x| x * factor).collect();
            prop_assert!((median(&scaled) - factor * m).abs() <= 1e-9 * factor);
        }
    }
}
