//! Warnings about the shape of the samples: outliers and two states. Nothing is deleted.

use super::{median, quantile};

/// Samples further than three interquartile ranges outside the quartiles (Tukey's "far out").
pub fn count_outliers(samples: &[f64]) -> usize {
    if samples.len() < 4 {
        return 0;
    }
    let (q1, q3) = (quantile(samples, 0.25), quantile(samples, 0.75));
    let reach = 3.0 * (q3 - q1);
    samples.iter().filter(|x| **x < q1 - reach || **x > q3 + reach).count()
}

/// Whether the samples come from two states (two clock frequencies, two kinds of core).
///
/// The best split of the sorted log samples into two classes (least variance within, Otsu 1979)
/// counts where each class holds a tenth of the samples, the classes are 3 % apart, and their
/// distance is six times the spread within. A single normal, uniform or exponential distribution
/// has 2.7, 3.5 and about 4.
pub fn two_states(samples: &[f64]) -> bool {
    if samples.len() < 20 || samples.iter().any(|x| *x <= 0.0) {
        return false;
    }
    let mut logs: Vec<f64> = samples.iter().map(|x| x.ln()).collect();
    logs.sort_by(f64::total_cmp);
    let trim = logs.len() / 50;
    let logs = &logs[trim..logs.len() - trim];
    let n = logs.len();
    let least = n.div_ceil(10);
    let (mut sums, mut squares) = (vec![0.0], vec![0.0]);
    let centre = median(logs);
    for x in logs {
        let x = x - centre;
        sums.push(sums[sums.len() - 1] + x);
        squares.push(squares[squares.len() - 1] + x * x);
    }
    let mut best: Option<(f64, f64)> = None;
    for split in least..=n - least {
        let (left, right) = (split as f64, (n - split) as f64);
        let low = sums[split] / left;
        let high = (sums[n] - sums[split]) / right;
        let within = squares[n] - left * low * low - right * high * high;
        if best.is_none_or(|(least_within, _)| within < least_within) {
            best = Some((within, high - low));
        }
    }
    let Some((within, distance)) = best else { return false };
    let spread = (within.max(0.0) / n as f64).sqrt();
    distance > 0.03 && distance > 6.0 * spread
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn uniform(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.random::<f64>()).collect()
    }

    #[test]
    fn two_frequencies_are_seen_and_one_is_not() {
        let state = |i: usize| if i.is_multiple_of(3) { 1.2 } else { 1.0 };
        let two: Vec<f64> = uniform(300, 1).iter().enumerate().map(|(i, u)| state(i) + 0.02 * u).collect();
        assert!(two_states(&two));
        for seed in 0..50 {
            let flat: Vec<f64> = uniform(200, seed).iter().map(|u| 1.0 + 0.3 * u).collect();
            assert!(!two_states(&flat), "uniform, seed {seed}");
            let tail: Vec<f64> = uniform(200, seed).iter().map(|u| 1.0 - 0.1 * (1.0 - u).ln()).collect();
            assert!(!two_states(&tail), "exponential tail, seed {seed}");
        }
    }

    #[test]
    fn outliers_are_counted() {
        let mut samples: Vec<f64> = uniform(100, 2).iter().map(|u| 1.0 + 0.01 * u).collect();
        assert_eq!(count_outliers(&samples), 0);
        samples.extend([5.0, 7.0]);
        assert_eq!(count_outliers(&samples), 2);
    }
}
