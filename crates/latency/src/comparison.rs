//! Models against each other, and a model against itself: the noise floor.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::lock::{DeviceLock, LOCK_WAIT};
use crate::measurement::Measurement;
use crate::model::ModelBytes;
use crate::protocol::Protocol;
use crate::runtime::Runtime;
use crate::sampling::{Candidate, Rounds};
use crate::sentinel::sentinel_model;
use crate::statistics::{PairComparison, Verdict, compare_rounds, log_ratios, median, quantile};

/// Verdicts are looked for several times while sampling, so each look is held to a stricter level:
/// the error 1 − confidence is divided by this number of looks (Bonferroni).
const LOOKS: f64 = 5.0;
/// Rounds before the first look at a pair.
const MIN_PAIRED_ROUNDS: usize = 20;

/// Interleaved measurements of several models and every other one against the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// One per model, in order.
    pub measurements: Vec<Measurement>,
    /// Models 2, 3, … against the first.
    pub pairs: Vec<PairComparison>,
}

/// What one process found about several models measured in the same rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessRounds {
    /// One per model, in order.
    pub measurements: Vec<Measurement>,
    /// Models 2, 3, …: logarithm of time / first model's time, per round.
    pub log_ratios: Vec<Vec<f64>>,
    /// Whether the rounds of these pairs may decide anything.
    pub sound: Vec<bool>,
}

impl Comparison {
    /// Puts together what several processes found about the same models; the intervals draw
    /// processes before rounds. Also from one process. `None` where the list is empty or its parts
    /// are of different models.
    pub fn merge(parts: &[ProcessRounds], protocol: &Protocol) -> Option<Self> {
        let first = parts.first()?;
        let keys = |p: &ProcessRounds| p.measurements.iter().map(|m| m.model_key.clone()).collect::<Vec<_>>();
        if parts.iter().any(|p| keys(p) != keys(first)) {
            return None;
        }
        let model = |i: usize| match parts {
            [only] => Some(only.measurements[i].clone()),
            _ => Measurement::merge(&parts.iter().map(|p| p.measurements[i].clone()).collect::<Vec<_>>()),
        };
        let measurements = (0..first.measurements.len()).map(model).collect::<Option<Vec<_>>>()?;
        let pairs = (1..measurements.len()).map(|i| {
            let series: Vec<&[f64]> = parts.iter().map(|p| p.log_ratios[i - 1].as_slice()).collect();
            let names = (measurements[0].model.as_str(), measurements[i].model.as_str());
            let mut pair = compare_rounds(names, &series, looked_at(protocol), protocol.seed);
            if parts.iter().any(|p| !p.sound[i - 1]) {
                pair.verdict = Verdict::Unresolved;
            }
            pair
        });
        Some(Self { pairs: pairs.collect(), measurements })
    }
}

/// Measures `models` in the same rounds until every latency reaches the protocol's precision and
/// every pair has a verdict, or the time limit comes.
///
/// Verdicts come from per-round ratios, which drifts of the machine do not touch, so they may be
/// resolved where the latencies themselves are not.
///
/// # Errors
/// [`Error::DeviceBusy`], [`Error::ProtocolInvalid`], and the runtime's errors.
pub fn compare(runtime: &dyn Runtime, models: &[ModelBytes], protocol: &Protocol) -> Result<Comparison, Error> {
    Comparison::merge(&[rounds_in_this_process(runtime, models, protocol)?], protocol).ok_or_else(nothing)
}

/// The rounds behind [`compare`], to be put together with those of others.
///
/// # Errors
/// Those of [`compare`].
pub fn rounds_in_this_process(runtime: &dyn Runtime, models: &[ModelBytes], protocol: &Protocol) -> Result<ProcessRounds, Error> {
    let _lock = DeviceLock::acquire(LOCK_WAIT)?;
    let mut candidates = models.iter().map(|m| Candidate::new(runtime, m)).collect::<Result<Vec<_>, _>>()?;
    let mut sentinel = Candidate::new(runtime, &sentinel_model())?;
    compare_rounds_of(&mut candidates, Some(&mut sentinel), protocol)
}

/// [`Comparison::merge`] of no models at all.
pub(crate) fn nothing() -> Error {
    Error::ProtocolInvalid { cause: "there is nothing to compare".into() }
}

/// [`compare`] for candidates that are already prepared, perhaps on different runtimes.
///
/// # Errors
/// Those of [`crate::interleave`].
pub fn compare_candidates(
    candidates: &mut [Candidate],
    sentinel: Option<&mut Candidate>,
    protocol: &Protocol,
) -> Result<Comparison, Error> {
    let rounds = compare_rounds_of(candidates, sentinel, protocol)?;
    Comparison::merge(&[rounds], protocol).ok_or_else(nothing)
}

/// Level of an interval that is looked at several times.
fn looked_at(protocol: &Protocol) -> f64 {
    1.0 - (1.0 - protocol.confidence) / LOOKS
}

/// The rounds behind [`compare_candidates`].
pub(crate) fn compare_rounds_of(
    candidates: &mut [Candidate],
    sentinel: Option<&mut Candidate>,
    protocol: &Protocol,
) -> Result<ProcessRounds, Error> {
    let protocol = &Protocol { min_rounds: protocol.min_rounds.max(MIN_PAIRED_ROUNDS), ..protocol.clone() };
    let n = candidates.len();
    let mut rounds = Rounds::start(candidates, sentinel, protocol)?;
    let paired = |rounds: &Rounds<'_>, i: usize| {
        let (a, b, sound) = rounds.paired(0, i);
        (log_ratios(&a, &b), sound)
    };
    let decided = |rounds: &Rounds<'_>, i: usize| {
        let (logs, sound) = paired(rounds, i);
        sound && compare_rounds(("", ""), &[&logs], looked_at(protocol), protocol.seed).verdict != Verdict::Unresolved
    };
    while rounds.step()? {
        let due = (0..n).fold(false, |due, i| rounds.due(i) | due);
        if due && (0..n).all(|i| rounds.is_precise(i)) && (1..n).all(|i| decided(&rounds, i)) {
            break;
        }
    }
    let (log_ratios, sound) = (1..n).map(|i| paired(&rounds, i)).unzip();
    Ok(ProcessRounds { measurements: rounds.measurements(), log_ratios, sound })
}

/// What a device can tell apart, from measuring a model against itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoiseFloor {
    /// Half the spread (5th to 95th percentile) of the A/A ratios of medians: a difference smaller
    /// than this is noise.
    pub ratio: f64,
    /// Trials made.
    pub trials: usize,
    /// Share of trials that came out equivalent.
    pub equivalent_share: f64,
    /// Share of trials that called one copy faster or slower: false alarms.
    pub false_share: f64,
    /// The ratios themselves.
    pub ratios: Vec<f64>,
}

impl NoiseFloor {
    /// From the A/A comparisons of a self-test.
    pub fn of(pairs: &[PairComparison]) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|p| p.ratio).collect();
        let share =
            |wanted: &dyn Fn(Verdict) -> bool| pairs.iter().filter(|p| wanted(p.verdict)).count() as f64 / pairs.len().max(1) as f64;
        Self {
            ratio: (quantile(&ratios, 0.95) - quantile(&ratios, 0.05)) / 2.0 / median(&ratios),
            trials: pairs.len(),
            equivalent_share: share(&|v| v == Verdict::Equivalent),
            false_share: share(&|v| matches!(v, Verdict::Faster | Verdict::Slower)),
            ratios,
        }
    }

    /// Refuses a tolerance finer than the device can tell apart.
    ///
    /// # Errors
    /// [`Error::TooNoisy`].
    pub fn allows(&self, tolerance: f64) -> Result<(), Error> {
        if self.ratio <= tolerance {
            return Ok(());
        }
        Err(Error::TooNoisy { what: "a latency on this device".into(), noise: self.ratio, needed: tolerance })
    }
}

/// Measures `model` against another copy of itself `trials` times, loading both anew each time
/// (where the copies lie in memory is part of the noise).
///
/// # Errors
/// Those of [`compare`].
pub fn self_test(runtime: &dyn Runtime, model: &ModelBytes, trials: usize, protocol: &Protocol) -> Result<NoiseFloor, Error> {
    let _lock = DeviceLock::acquire(LOCK_WAIT)?;
    let mut pairs = Vec::with_capacity(trials);
    for trial in 0..trials {
        let protocol = Protocol { seed: protocol.seed.wrapping_add(trial as u64), ..protocol.clone() };
        let copies = [model.clone(), model.clone()];
        pairs.extend(compare(runtime, &copies, &protocol)?.pairs);
    }
    Ok(NoiseFloor::of(&pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(ratio: f64, verdict: Verdict) -> PairComparison {
        PairComparison { a: "A".into(), b: "B".into(), ratio, ci: (ratio - 0.04, ratio + 0.04), verdict, rounds: 9 }
    }

    #[test]
    fn the_noise_floor_is_half_the_spread_of_ratios() {
        let pairs: Vec<_> = (0..=20).map(|i| pair(0.98 + 0.002 * f64::from(i), Verdict::Equivalent)).collect();
        let floor = NoiseFloor::of(&pairs);
        assert!((floor.ratio - 0.018).abs() < 1e-9, "{floor:?}");
        assert!(floor.equivalent_share == 1.0 && floor.allows(0.02).is_ok());
        let text = floor.allows(0.01).unwrap_err().to_string();
        assert!(text.contains("±1.8 %") && text.contains("time limit"), "{text}");
    }
}
