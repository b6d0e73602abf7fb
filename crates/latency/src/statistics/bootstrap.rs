//! Interval of a median by the moving-block bootstrap, hierarchical over processes.
//!
//! Successive latencies are correlated (frequency, other work on the machine), so single samples
//! drawn with replacement would give intervals that are too narrow. Blocks of neighbours keep the
//! correlation (Künsch 1989). Several processes differ by more than the samples within one do, so
//! whole processes are drawn first.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::median_of;

/// Block length for a series of `n` samples taken in rounds of `per_round`: the usual n^(1/3), and
/// no less than one round.
pub fn block_length(n: usize, per_round: usize) -> usize {
    let cube_root = (n as f64).cbrt().ceil() as usize;
    cube_root.max(per_round).clamp(1, n.max(1))
}

/// Percentile interval of the median of all samples at level `confidence`.
///
/// `processes` holds one series per process, in order of time. `block` is the length of blocks.
/// NaN bounds where there are no samples; the same seed gives the same interval.
pub fn median_interval(processes: &[&[f64]], block: usize, resamples: usize, confidence: f64, seed: u64) -> (f64, f64) {
    let series: Vec<&[f64]> = processes.iter().copied().filter(|s| !s.is_empty()).collect();
    if series.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = Vec::with_capacity(series.iter().map(|s| s.len()).sum());
    let mut medians: Vec<f64> = (0..resamples.max(1))
        .map(|_| {
            drawn.clear();
            for own in 0..series.len() {
                let pick = if series.len() == 1 { own } else { rng.random_range(0..series.len()) };
                draw_blocks(series[pick], block, &mut rng, &mut drawn);
            }
            median_of(&mut drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    let at = |q: f64| {
        let index = (q * medians.len() as f64).floor() as usize;
        medians[index.min(medians.len() - 1)]
    };
    (at(tail), at(1.0 - tail))
}

/// Appends as many samples as `series` has, in blocks that start anywhere; blocks wrap around so
/// that the ends are drawn as often as the middle.
fn draw_blocks(series: &[f64], block: usize, rng: &mut ChaCha8Rng, out: &mut Vec<f64>) {
    let n = series.len();
    let block = block.clamp(1, n);
    let mut left = n;
    while left > 0 {
        let start = rng.random_range(0..n);
        for offset in 0..block.min(left) {
            out.push(series[(start + offset) % n]);
        }
        left = left.saturating_sub(block);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::median;

    /// Standard normal by the sum of twelve uniforms.
    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0
    }

    #[test]
    fn covers_the_true_median_of_independent_samples_about_as_often_as_it_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let trials = 200;
        let covered = (0..trials)
            .filter(|trial| {
                let x: Vec<f64> = (0..120).map(|_| 10.0 + normal(&mut rng)).collect();
                let (lo, hi) = median_interval(&[&x], block_length(120, 1), 300, 0.95, *trial);
                lo <= 10.0 && 10.0 <= hi
            })
            .count();
        assert!((176..=200).contains(&covered), "{covered} of {trials}");
    }

    #[test]
    fn blocks_widen_the_interval_of_correlated_samples() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut state = 0.0;
        let x: Vec<f64> = (0..1000)
            .map(|_| {
                state = 0.9 * state + normal(&mut rng);
                10.0 + state
            })
            .collect();
        let width = |block| {
            let (lo, hi) = median_interval(&[&x], block, 400, 0.95, 3);
            hi - lo
        };
        assert!(width(30) > 1.8 * width(1), "{} against {}", width(30), width(1));
    }

    #[test]
    fn processes_that_differ_widen_the_interval() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut process = |level: f64| -> Vec<f64> { (0..200).map(|_| level + 0.01 * normal(&mut rng)).collect() };
        let parts = [process(10.0), process(10.3), process(9.8)];
        let pooled: Vec<f64> = parts.concat();
        let views: Vec<&[f64]> = parts.iter().map(Vec::as_slice).collect();
        let (lo, hi) = median_interval(&views, 6, 400, 0.95, 5);
        assert!(lo < 9.9 && hi > 10.2, "{lo} {hi}");
        assert!(lo <= median(&pooled) && median(&pooled) <= hi);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let x: Vec<f64> = (0..50).map(|i| f64::from(i % 7)).collect();
        assert_eq!(median_interval(&[&x], 3, 100, 0.9, 9), median_interval(&[&x], 3, 100, 0.9, 9));
    }

    proptest! {
        #[test]
        fn lies_within_the_samples_and_shrinks_to_a_point_on_constants(x in prop::collection::vec(0.5f64..2.0, 1..60), block in 1usize..10, c in 0.1f64..10.0) {
            let (lo, hi) = median_interval(&[&x], block, 50, 0.95, 1);
            let min = x.iter().copied().fold(f64::INFINITY, f64::min);
            let max = x.iter().copied().fold(0.0, f64::max);
            prop_assert!(min <= lo && lo <= hi && hi <= max);
            let constant = vec![c; x.len()];
            prop_assert_eq!(median_interval(&[&constant], block, 20, 0.95, 1), (c, c));
        }
    }
}
