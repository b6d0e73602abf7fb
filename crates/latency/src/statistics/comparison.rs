//! Is B faster than A? Per-round log ratios and a verdict.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{block_length, median, median_interval};

/// Relative difference below which two models are equivalent.
pub const EQUIVALENCE: f64 = 0.01;

/// What a comparison of B with A allows to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// B takes less time: the interval of the ratio is below 1.
    Faster,
    /// B takes more time: the interval of the ratio is above 1.
    Slower,
    /// The interval of the ratio lies within ±[`EQUIVALENCE`].
    Equivalent,
    /// The interval allows more than one of these.
    Unresolved,
}

impl Verdict {
    /// The verdict for an interval of log ratios. An interval inside the equivalence band is
    /// equivalent even where it excludes 0: the difference is real and of no consequence.
    pub fn of(lo: f64, hi: f64, tolerance: f64) -> Self {
        if lo >= (1.0 - tolerance).ln() && hi <= (1.0 + tolerance).ln() {
            Self::Equivalent
        } else if hi < 0.0 {
            Self::Faster
        } else if lo > 0.0 {
            Self::Slower
        } else {
            Self::Unresolved
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Equivalent => "equivalent",
            Self::Unresolved => "unresolved",
        })
    }
}

/// B against A, from the same rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairComparison {
    /// Name of A, the reference.
    pub a: String,
    /// Name of B.
    pub b: String,
    /// Median over rounds of time(B) / time(A).
    pub ratio: f64,
    /// Interval of the ratio.
    pub ci: (f64, f64),
    /// What may be said.
    pub verdict: Verdict,
    /// Rounds used.
    pub rounds: usize,
}

/// Logarithms of the ratios b/a, round by round.
pub fn log_ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| (b / a).ln()).collect()
}

/// Compares B with A from the logarithms of their per-round ratios time(B)/time(A), one series per process in order of time.
///
/// Both were measured within the same fraction of a second, so slow drifts of the machine cancel
/// in the ratio. The interval draws processes before blocks of rounds. A process with fewer than
/// three rounds leaves everything open.
pub fn compare_rounds(names: (&str, &str), processes: &[&[f64]], confidence: f64, seed: u64) -> PairComparison {
    let logs = processes.concat();
    let shortest = processes.iter().map(|p| p.len()).min().unwrap_or(0);
    let longest = processes.iter().map(|p| p.len()).max().unwrap_or(0);
    let (lo, hi) = median_interval(processes, block_length(longest, 1), 1000, confidence, seed);
    let verdict = if shortest < 3 { Verdict::Unresolved } else { Verdict::of(lo, hi, EQUIVALENCE) };
    PairComparison {
        a: names.0.to_string(),
        b: names.1.to_string(),
        ratio: median(&logs).exp(),
        ci: (lo.exp(), hi.exp()),
        verdict,
        rounds: logs.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Log ratios of two models whose true ratio is `ratio`, on a machine that drifts by 30 %.
    fn rounds(ratio: f64, noise: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..n)
            .map(|i| {
                let drift = 1.0 + 0.3 * (i as f64 / 7.0).sin();
                let mut jitter = || 1.0 + noise * (rng.random::<f64>() - 0.5);
                let (a, b): (f64, f64) = (drift * jitter(), ratio * drift * jitter());
                (b / a).ln()
            })
            .collect()
    }

    fn verdict(ratio: f64, noise: f64, n: usize) -> Verdict {
        compare_rounds(("a", "b"), &[&rounds(ratio, noise, n, 7)], 0.95, 0).verdict
    }

    #[test]
    fn verdicts() {
        assert_eq!(verdict(0.95, 0.02, 40), Verdict::Faster);
        assert_eq!(verdict(1.05, 0.02, 40), Verdict::Slower);
        assert_eq!(verdict(1.0, 0.01, 40), Verdict::Equivalent);
        assert_eq!(verdict(1.003, 0.004, 40), Verdict::Equivalent);
        assert_eq!(verdict(1.01, 0.5, 10), Verdict::Unresolved);
        assert_eq!(verdict(0.5, 0.0, 2), Verdict::Unresolved);
    }

    #[test]
    fn drift_of_the_machine_cancels_in_the_ratio() {
        let pair = compare_rounds(("a", "b"), &[&rounds(0.8, 0.01, 60, 3)], 0.95, 0);
        assert!((pair.ratio - 0.8).abs() < 0.004, "{pair:?}");
        assert!(pair.ci.1 - pair.ci.0 < 0.01, "{pair:?}");
    }

    #[test]
    fn processes_that_disagree_leave_more_open_than_their_rounds_together() {
        let parts = [rounds(0.97, 0.01, 40, 1), rounds(1.0, 0.01, 40, 2), rounds(1.03, 0.01, 40, 3)];
        let views: Vec<&[f64]> = parts.iter().map(Vec::as_slice).collect();
        let pair = compare_rounds(("a", "b"), &views, 0.95, 0);
        assert_eq!((pair.verdict, pair.rounds), (Verdict::Unresolved, 120), "{pair:?}");
        assert!(pair.ci.0 < 0.98 && pair.ci.1 > 1.02, "{pair:?}");
        assert_eq!(compare_rounds(("a", "b"), &[&parts[0], &parts[1][..2]], 0.95, 0).verdict, Verdict::Unresolved);
    }

    proptest! {
        #[test]
        fn swapping_a_and_b_mirrors_the_verdict(lo in -0.2f64..0.2, width in 0.0f64..0.1) {
            let hi = lo + width;
            let mirror = |v| match v {
                Verdict::Faster => Verdict::Slower,
                Verdict::Slower => Verdict::Faster,
                other => other,
            };
            // The band ±1 % is not exactly symmetric in logs; stay clear of its edges.
            let clear = |x: f64| (x.abs() - 0.01).abs() > 1e-4;
            prop_assume!(clear(lo) && clear(hi));
            prop_assert_eq!(Verdict::of(lo, hi, 0.01), mirror(Verdict::of(-hi, -lo, 0.01)));
        }
    }
}
