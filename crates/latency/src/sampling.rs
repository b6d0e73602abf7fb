//! Taking samples in interleaved rounds with a sentinel.
//!
//! Measured one after the other on a busy machine, equal models came out with ratios from 0.5 to
//! 2.2. Here every round runs every candidate once, in random order, together with a sentinel that
//! never changes; what slows one slows its neighbours, and a round in which the sentinel itself was
//! slow is dropped. Runs that lost their core to another program meanwhile are set aside.

use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::affinity::Pinned;
use crate::error::Error;
use crate::machine::Machine;
use crate::measurement::{Measurement, Origin, ToSentinel, half_width, interval};
use crate::model::ModelBytes;
use crate::protocol::{Mode, Protocol, SUSTAINED_S};
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::statistics::{compare_rounds, log_ratios, median};
use crate::timing::{Sample, Stopwatch, Timing};

/// A prepared model to be measured, with what its measurement will say about it.
pub struct Candidate {
    /// The model's name.
    pub name: String,
    /// [`Runtime::model_key`].
    pub model_key: String,
    /// Who runs it.
    pub runtime: RuntimeIdentity,
    /// The model, ready to run.
    pub prepared: Box<dyn Prepared>,
}

impl Candidate {
    /// Prepares `model` on `runtime`.
    ///
    /// # Errors
    /// Those of [`Runtime::prepare`], and [`Error::NotOnnx`].
    pub fn new(runtime: &dyn Runtime, model: &ModelBytes) -> Result<Self, Error> {
        Ok(Self {
            name: model.name.clone(),
            model_key: runtime.model_key(model)?,
            runtime: runtime.identity(),
            prepared: runtime.prepare(model)?,
        })
    }
}

/// Measures all candidates in interleaved rounds and returns one measurement each, in order.
///
/// Each round runs, in random order, every candidate that is not yet resolved and the sentinel:
/// once untimed (caches warm), then timed. A candidate is done when its interval reaches the
/// protocol's precision, checked on a geometric grid of sample counts, or its time is over
/// (unresolved). A round in which the sentinel is further than the allowed drift from its recent
/// median is dropped and repeated within that time; a run during which the thread had to wait for
/// its core is set aside.
///
/// # Errors
/// [`Error::ProtocolInvalid`], and whatever a run returns.
pub fn interleave(candidates: &mut [Candidate], sentinel: Option<&mut Candidate>, protocol: &Protocol) -> Result<Vec<Measurement>, Error> {
    let mut rounds = Rounds::start(candidates, sentinel, protocol)?;
    while rounds.step()? {
        rounds.retire_resolved();
    }
    Ok(rounds.measurements())
}

/// Samples of every candidate in one round; `None` where it took no part.
struct Round {
    samples: Vec<Option<Vec<Sample>>>,
    /// The sentinel's time, `None` where it was disturbed throughout.
    sentinel_s: Option<f64>,
    valid: bool,
}

/// Interleaved rounds in progress.
pub(crate) struct Rounds<'a> {
    candidates: &'a mut [Candidate],
    sentinel: Option<&'a mut Candidate>,
    protocol: &'a Protocol,
    timings: Vec<Timing>,
    sentinel_timing: Timing,
    rng: ChaCha8Rng,
    stopwatch: Stopwatch,
    rounds: Vec<Round>,
    sentinel_s: Vec<f64>,
    active: Vec<bool>,
    spent_s: Vec<f64>,
    valid: Vec<usize>,
    next_check: Vec<usize>,
    machine: Machine,
    _pinned: Option<Pinned>,
}

/// Sentinel values that its reference is the median of.
const SENTINEL_WINDOW: usize = 15;
/// Growth of the sample counts at which intervals are checked.
const GRID: f64 = 1.4;

impl<'a> Rounds<'a> {
    /// Warms everything up and decides how each candidate is timed.
    pub(crate) fn start(
        candidates: &'a mut [Candidate],
        mut sentinel: Option<&'a mut Candidate>,
        protocol: &'a Protocol,
    ) -> Result<Self, Error> {
        protocol.check()?;
        // Before pinning: the machine's cores, not this measurement's.
        let machine = Machine::detect();
        let pinned = candidates.first().and_then(|c| c.prepared.affinity()).map(Pinned::to).transpose()?;
        if protocol.mode == Mode::Sustained {
            preheat(candidates)?;
        }
        let mut stopwatch = Stopwatch::new(protocol.cache);
        let mut timings = Vec::with_capacity(candidates.len());
        for candidate in candidates.iter_mut() {
            timings.push(stopwatch.plan(candidate.prepared.as_mut(), protocol)?);
        }
        let sentinel_timing = match sentinel.as_mut() {
            Some(s) => stopwatch.plan(s.prepared.as_mut(), protocol)?,
            None => Timing::none(),
        };
        let n = candidates.len();
        Ok(Self {
            candidates,
            sentinel,
            protocol,
            timings,
            sentinel_timing,
            rng: ChaCha8Rng::seed_from_u64(protocol.seed),
            stopwatch,
            rounds: Vec::new(),
            sentinel_s: Vec::new(),
            active: vec![true; n],
            spent_s: vec![0.0; n],
            valid: vec![0; n],
            next_check: vec![protocol.min_rounds; n],
            machine,
            _pinned: pinned,
        })
    }

    /// Runs one round; false when no candidate has time left.
    pub(crate) fn step(&mut self) -> Result<bool, Error> {
        for i in 0..self.candidates.len() {
            if self.spent_s[i] >= self.protocol.time_limit_s && !self.rounds.is_empty() {
                self.active[i] = false;
            }
        }
        let n = self.candidates.len();
        let mut order: Vec<usize> = (0..n).filter(|i| self.active[*i]).collect();
        if order.is_empty() {
            return Ok(false);
        }
        if self.sentinel.is_some() {
            order.push(n);
        }
        let share = 1.0 / self.active.iter().filter(|a| **a).count() as f64;
        order.shuffle(&mut self.rng);
        let mut round = Round { samples: vec![None; n], sentinel_s: None, valid: true };
        for slot in order {
            let start = Instant::now();
            if slot == n {
                if let Some(sentinel) = self.sentinel.as_mut() {
                    let prepared = sentinel.prepared.as_mut();
                    let samples = self.stopwatch.sample(prepared, self.sentinel_timing)?;
                    round.sentinel_s = round_time(&samples, false);
                    round.valid = self.sentinel_agrees(round.sentinel_s);
                }
                // The sentinel runs for all; each candidate's time limit bears its share.
                let seconds = start.elapsed().as_secs_f64() * share;
                for (spent, active) in self.spent_s.iter_mut().zip(&self.active) {
                    *spent += if *active { seconds } else { 0.0 };
                }
            } else {
                let prepared = self.candidates[slot].prepared.as_mut();
                round.samples[slot] = Some(self.stopwatch.sample(prepared, self.timings[slot])?);
                self.spent_s[slot] += start.elapsed().as_secs_f64();
            }
        }
        if round.valid {
            for (valid, samples) in self.valid.iter_mut().zip(&round.samples) {
                *valid += usize::from(samples.iter().flatten().any(|s| !s.disturbed));
            }
        }
        self.rounds.push(round);
        Ok(true)
    }

    /// Whether the sentinel's time is within the allowed drift of its recent median. A sentinel that
    /// was disturbed throughout agrees with nothing.
    fn sentinel_agrees(&mut self, seconds: Option<f64>) -> bool {
        let Some(seconds) = seconds else { return false };
        self.sentinel_s.push(seconds);
        let from = self.sentinel_s.len().saturating_sub(SENTINEL_WINDOW);
        let reference = median(&self.sentinel_s[from..]);
        (seconds / reference).ln().abs() <= self.protocol.sentinel_drift
    }

    /// Takes candidates whose interval is narrow enough out of further rounds.
    pub(crate) fn retire_resolved(&mut self) {
        for i in 0..self.candidates.len() {
            if self.active[i] && self.due(i) && self.is_precise(i) {
                self.active[i] = false;
            }
        }
    }

    /// Whether candidate `i` reached the next point of the grid; moves the grid on.
    pub(crate) fn due(&mut self, i: usize) -> bool {
        let valid = self.valid[i];
        if valid < self.next_check[i] {
            return false;
        }
        self.next_check[i] = ((valid as f64 * GRID).ceil() as usize).max(valid + 1);
        true
    }

    /// Whether candidate `i`'s interval is within the asked precision.
    pub(crate) fn is_precise(&self, i: usize) -> bool {
        let series = vec![self.valid_samples(i)];
        let ci = interval(&series, self.timings[i].runs, 300, self.protocol);
        half_width(ci, median(&series[0])) <= self.protocol.precision
    }

    fn valid_samples(&self, i: usize) -> Vec<f64> {
        self.samples_where(i, |round, sample| round.valid && !sample.disturbed)
    }

    /// Without enough valid rounds: the undisturbed samples of all rounds where there are a few,
    /// else everything.
    fn best_samples(&self, i: usize) -> Vec<f64> {
        let clean = self.samples_where(i, |_, sample| !sample.disturbed);
        if clean.len() >= self.protocol.min_rounds { clean } else { self.samples_where(i, |_, _| true) }
    }

    fn samples_where(&self, i: usize, keep: impl Fn(&Round, &Sample) -> bool) -> Vec<f64> {
        self.rounds
            .iter()
            .flat_map(|r| r.samples[i].iter().flatten().map(move |s| (r, s)))
            .filter(|(round, sample)| keep(round, sample))
            .map(|(_, sample)| sample.seconds)
            .collect()
    }

    /// Per-round times of candidates `a` and `b` over the rounds both took part in, and whether they
    /// may decide anything. A round's time is the lower quartile of its undisturbed runs: what
    /// interferes only ever adds, often to more than half of the runs.
    ///
    /// Where too few rounds are valid, those in which the sentinel drifted serve too (a drift that
    /// slows both cancels in the ratio), and where too few were undisturbed, all runs do, for an
    /// estimate that decides nothing.
    pub(crate) fn paired(&self, a: usize, b: usize) -> (Vec<f64>, Vec<f64>, bool) {
        let pairs = |drifted: bool, disturbed: bool| -> (Vec<f64>, Vec<f64>) {
            let time = |r: &Round, i: usize| round_time(r.samples[i].as_deref()?, disturbed);
            let rounds = self.rounds.iter().filter(|r| drifted || r.valid);
            rounds.filter_map(|r| Some((time(r, a)?, time(r, b)?))).unzip()
        };
        for drifted in [false, true] {
            let (a, b) = pairs(drifted, false);
            if a.len() >= self.protocol.min_rounds {
                return (a, b, true);
            }
        }
        let (a, b) = pairs(true, true);
        (a, b, false)
    }

    /// Whether candidate `i` takes part in further rounds.
    pub(crate) fn is_active(&self, i: usize) -> bool {
        self.active[i]
    }

    /// One measurement per candidate.
    pub(crate) fn measurements(&self) -> Vec<Measurement> {
        (0..self.candidates.len()).map(|i| self.measurement(i)).collect()
    }

    /// The measurement of candidate `i` so far. Where fewer than the least number of rounds are
    /// valid, the others are used too and the result is unresolved.
    pub(crate) fn measurement(&self, i: usize) -> Measurement {
        let candidate = &self.candidates[i];
        let sound = self.valid[i] >= self.protocol.min_rounds;
        let samples = if sound { self.valid_samples(i) } else { self.best_samples(i) };
        let disturbed = self.rounds.iter().flat_map(|r| r.samples[i].iter().flatten()).filter(|s| s.disturbed).count();
        let invalid = self.rounds.iter().filter(|r| !r.valid && r.samples[i].is_some()).count();
        let origin = Origin {
            model: candidate.name.clone(),
            model_key: candidate.model_key.clone(),
            runtime: candidate.runtime.clone(),
            machine: self.machine.clone(),
            setup_s: candidate.prepared.setup_s(),
            rounds_invalidated: invalid,
            disturbed,
        };
        let runs = self.timings[i].runs;
        let to_sentinel = self.to_sentinel(i);
        Measurement { to_sentinel, ..Measurement::from_samples(origin, &[samples], runs, sound, self.protocol) }
    }

    /// Candidate `i` against the sentinel, over all rounds in which neither was disturbed: a drift slows both.
    fn to_sentinel(&self, i: usize) -> Option<ToSentinel> {
        let pair = |r: &Round| Some((r.sentinel_s?, round_time(r.samples[i].as_deref()?, false)?));
        let (sentinel, own): (Vec<f64>, Vec<f64>) = self.rounds.iter().filter_map(pair).unzip();
        if own.len() < 3 {
            return None;
        }
        let names = ("sentinel", self.candidates[i].name.as_str());
        let pair = compare_rounds(names, &[&log_ratios(&sentinel, &own)], self.protocol.confidence, self.protocol.seed);
        Some(ToSentinel { ratio: pair.ratio, ci: pair.ci, sentinel_s: median(&sentinel) })
    }
}

/// Lower quartile of one round's undisturbed runs (of all its runs where asked), an order statistic:
/// the least of up to three.
fn round_time(samples: &[Sample], all: bool) -> Option<f64> {
    let kept = samples.iter().filter(|s| all || !s.disturbed);
    let mut sorted: Vec<f64> = kept.map(|s| s.seconds).collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 4).copied()
}

/// Works without pause until the machine is thermally steady.
fn preheat(candidates: &mut [Candidate]) -> Result<(), Error> {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < SUSTAINED_S && !candidates.is_empty() {
        for candidate in candidates.iter_mut() {
            candidate.prepared.run()?;
        }
    }
    Ok(())
}
