//! Taking samples: warm-up, timed batches, interleaved rounds with a sentinel.
//!
//! Measured one after the other on a busy machine, equal models came out with ratios from 0.5 to
//! 2.2. Here every round runs every candidate once, in random order, together with a sentinel that
//! never changes; what disturbs one disturbs its neighbours, and a round in which the sentinel
//! itself was disturbed is dropped.

use std::time::Instant;

use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::affinity::Pinned;
use crate::error::Error;
use crate::machine::Machine;
use crate::measurement::{Measurement, Origin, half_width, interval};
use crate::model::ModelBytes;
use crate::protocol::{Cache, EVICT_BYTES, Mode, Protocol, SUSTAINED_S};
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::statistics::{median, median_of};

/// A prepared model to be measured, with what its measurement will say about it.
pub struct Candidate {
    /// The model's name.
    pub name: String,
    /// Hash of its structure and shapes.
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
            model_key: model.structure_key()?,
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
/// median is dropped and repeated within that time.
///
/// # Errors
/// [`Error::ProtocolInvalid`], and whatever a run returns.
pub fn interleave(
    candidates: &mut [Candidate],
    sentinel: Option<&mut Candidate>,
    protocol: &Protocol,
) -> Result<Vec<Measurement>, Error> {
    let mut rounds = Rounds::start(candidates, sentinel, protocol)?;
    while rounds.step()? {
        rounds.retire_resolved();
    }
    Ok(rounds.measurements())
}

/// How one candidate is timed in a round.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// Calls in one timed sample, so that the timer's resolution does not matter.
    batch: usize,
    /// Timed samples per round.
    runs: usize,
    /// Whether the runtime reports its own times.
    external: bool,
}

/// Samples of every candidate in one round; `None` where it took no part.
struct Round {
    samples: Vec<Option<Vec<f64>>>,
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
    evictor: Vec<u8>,
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
        let pinned = candidates
            .first()
            .and_then(|c| c.prepared.affinity())
            .map(Pinned::to)
            .transpose()?;
        if protocol.mode == Mode::Sustained {
            preheat(candidates)?;
        }
        let resolution = timer_resolution();
        let mut timings = Vec::with_capacity(candidates.len());
        for candidate in candidates.iter_mut() {
            timings.push(plan(candidate.prepared.as_mut(), protocol, resolution)?);
        }
        let sentinel_timing = match sentinel.as_mut() {
            Some(s) => plan(s.prepared.as_mut(), protocol, resolution)?,
            None => Timing { batch: 1, runs: 1, external: false },
        };
        let n = candidates.len();
        let evictor = match protocol.cache {
            Cache::Warm => Vec::new(),
            Cache::Cold => vec![0; EVICT_BYTES],
        };
        Ok(Self {
            candidates,
            sentinel,
            protocol,
            timings,
            sentinel_timing,
            rng: ChaCha8Rng::seed_from_u64(protocol.seed),
            evictor,
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
        let mut round = Round { samples: vec![None; n], valid: true };
        for slot in order {
            let start = Instant::now();
            if slot == n {
                if let Some(sentinel) = self.sentinel.as_mut() {
                    let mut times =
                        sample(sentinel.prepared.as_mut(), self.sentinel_timing, &mut self.evictor)?;
                    round.valid = self.sentinel_agrees(median_of(&mut times));
                }
                // The sentinel runs for all; each candidate's time limit bears its share.
                let seconds = start.elapsed().as_secs_f64() * share;
                for (spent, active) in self.spent_s.iter_mut().zip(&self.active) {
                    *spent += if *active { seconds } else { 0.0 };
                }
            } else {
                let prepared = self.candidates[slot].prepared.as_mut();
                round.samples[slot] = Some(sample(prepared, self.timings[slot], &mut self.evictor)?);
                self.spent_s[slot] += start.elapsed().as_secs_f64();
            }
        }
        if round.valid {
            for (valid, samples) in self.valid.iter_mut().zip(&round.samples) {
                *valid += usize::from(samples.is_some());
            }
        }
        self.rounds.push(round);
        Ok(true)
    }

    /// Whether the sentinel's time is within the allowed drift of its recent median.
    fn sentinel_agrees(&mut self, seconds: f64) -> bool {
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
        self.samples_where(i, |r| r.valid)
    }

    fn samples_where(&self, i: usize, keep: impl Fn(&Round) -> bool) -> Vec<f64> {
        self.rounds
            .iter()
            .filter(|r| keep(r))
            .filter_map(|r| r.samples[i].as_ref())
            .flatten()
            .copied()
            .collect()
    }

    /// Per-round medians of candidates `a` and `b` over the rounds both took part in; the valid
    /// ones, or all where there are too few.
    pub(crate) fn paired(&self, a: usize, b: usize) -> (Vec<f64>, Vec<f64>) {
        let pairs = |all: bool| -> (Vec<f64>, Vec<f64>) {
            self.rounds
                .iter()
                .filter(|r| all || r.valid)
                .filter_map(|r| Some((median(r.samples[a].as_ref()?), median(r.samples[b].as_ref()?))))
                .unzip()
        };
        let valid = pairs(false);
        if valid.0.len() >= self.protocol.min_rounds { valid } else { pairs(true) }
    }

    /// Whether candidate `i` takes part in further rounds.
    pub(crate) fn is_active(&self, i: usize) -> bool {
        self.active[i]
    }

    /// One measurement per candidate.
    pub(crate) fn measurements(&self) -> Vec<Measurement> {
        (0..self.candidates.len()).map(|i| self.measurement(i)).collect()
    }

    /// The measurement of candidate `i` so far. Where the sentinel left fewer than the least number
    /// of rounds, all rounds are used and the result is unresolved.
    pub(crate) fn measurement(&self, i: usize) -> Measurement {
        let candidate = &self.candidates[i];
        let sound = self.valid[i] >= self.protocol.min_rounds;
        let samples = if sound { self.valid_samples(i) } else { self.samples_where(i, |_| true) };
        let invalid = self.rounds.iter().filter(|r| !r.valid && r.samples[i].is_some()).count();
        let origin = Origin {
            model: candidate.name.clone(),
            model_key: candidate.model_key.clone(),
            runtime: candidate.runtime.clone(),
            machine: self.machine.clone(),
            setup_s: candidate.prepared.setup_s(),
        };
        let runs = self.timings[i].runs;
        Measurement::from_samples(origin, &[samples], runs, invalid, sound, self.protocol)
    }
}

/// One round of one candidate: once untimed, then timed samples.
fn sample(
    prepared: &mut dyn Prepared,
    timing: Timing,
    evictor: &mut [u8],
) -> Result<Vec<f64>, Error> {
    if timing.external {
        return match prepared.measure_external() {
            Some(times) => times,
            None => Ok(Vec::new()),
        };
    }
    if evictor.is_empty() {
        prepared.run()?;
    }
    let mut times = Vec::with_capacity(timing.runs);
    for _ in 0..timing.runs {
        evict(evictor);
        times.push(timed(prepared, timing.batch)?);
    }
    Ok(times)
}

fn timed(prepared: &mut dyn Prepared, batch: usize) -> Result<f64, Error> {
    let start = Instant::now();
    for _ in 0..batch {
        prepared.run()?;
    }
    Ok(start.elapsed().as_secs_f64() / batch as f64)
}

/// Writes one byte per cache line.
fn evict(memory: &mut [u8]) {
    for byte in memory.iter_mut().step_by(64) {
        *byte = byte.wrapping_add(1);
    }
    std::hint::black_box(memory);
}

/// Warms one candidate up and decides its batch and runs per round.
fn plan(
    prepared: &mut dyn Prepared,
    protocol: &Protocol,
    resolution: f64,
) -> Result<Timing, Error> {
    if let Some(times) = prepared.measure_external() {
        times?;
        return Ok(Timing { batch: 1, runs: 1, external: true });
    }
    let seconds = warm_up(prepared, protocol)?.max(1e-9);
    let batch = match protocol.cache {
        Cache::Warm => ((20.0 * resolution / seconds).ceil() as usize).max(1),
        // Only the first run after an eviction is cold.
        Cache::Cold => 1,
    };
    let runs = ((protocol.round_s / (seconds * batch as f64)).floor() as usize).clamp(1, 32);
    Ok(Timing { batch, runs, external: false })
}

/// Runs until two successive windows' medians agree; returns the last window's median.
fn warm_up(prepared: &mut dyn Prepared, protocol: &Protocol) -> Result<f64, Error> {
    let rule = &protocol.warm_up;
    let start = Instant::now();
    let first = timed(prepared, 1)?.max(1e-9);
    // A window lasts an eighth of the least time, so that a median means something.
    let window = ((rule.min_s / 8.0 / first).ceil() as usize).clamp(3, 1000);
    let (mut runs, mut before) = (1, f64::INFINITY);
    loop {
        let mut times = Vec::with_capacity(window);
        for _ in 0..window {
            times.push(timed(prepared, 1)?);
        }
        runs += window;
        let now = median_of(&mut times);
        let spent = start.elapsed().as_secs_f64();
        let agree = (now / before - 1.0).abs() <= rule.agreement;
        if spent >= rule.max_s || (agree && runs >= rule.min_runs && spent >= rule.min_s) {
            return Ok(now);
        }
        before = now;
    }
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

/// The smallest step the clock is seen to make, in seconds.
fn timer_resolution() -> f64 {
    (0..64)
        .map(|_| {
            let start = Instant::now();
            loop {
                let step = start.elapsed();
                if !step.is_zero() {
                    break step.as_secs_f64();
                }
            }
        })
        .fold(f64::INFINITY, f64::min)
}
