//! Timing single runs: batches, warm-up, cold caches, and whether the core was taken away.

use std::time::Instant;

use crate::error::Error;
use crate::protocol::{Cache, EVICT_BYTES, Protocol};
use crate::runtime::Prepared;
use crate::statistics::median_of;

/// How one candidate is timed in a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// Calls in one timed sample, so that the timer's resolution does not matter.
    batch: usize,
    /// Timed samples per round.
    pub(crate) runs: usize,
    /// Whether the runtime reports its own times.
    external: bool,
    /// Whether waiting is asked for after every sample; for short ones once per round.
    each: bool,
}

impl Timing {
    /// For a sentinel that is not there.
    pub(crate) fn none() -> Self {
        Self { batch: 1, runs: 1, external: false, each: false }
    }
}

/// One timed sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Seconds per inference.
    pub(crate) seconds: f64,
    /// Whether the thread waited for its core meanwhile, because something else ran there.
    pub(crate) disturbed: bool,
}

/// Samples no shorter than this are asked one by one whether they were disturbed; asking costs a
/// microsecond and touches the caches.
const EACH_FROM_S: f64 = 200e-6;
/// Share of a sample's time spent waiting for the core that makes it disturbed.
const WAITING_SHARE: f64 = 0.005;

/// Takes samples on the calling thread.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    waiting: Waiting,
    evictor: Vec<u8>,
    resolution_s: f64,
}

impl Stopwatch {
    pub(crate) fn new(cache: Cache) -> Self {
        let evictor = match cache {
            Cache::Warm => Vec::new(),
            Cache::Cold => vec![0; EVICT_BYTES],
        };
        Self { waiting: Waiting::of_this_thread(), evictor, resolution_s: timer_resolution() }
    }

    /// Warms one candidate up and decides its batch and runs per round.
    pub(crate) fn plan(&mut self, prepared: &mut dyn Prepared, protocol: &Protocol) -> Result<Timing, Error> {
        if let Some(times) = prepared.measure_external() {
            times?;
            return Ok(Timing { batch: 1, runs: 1, external: true, each: false });
        }
        let seconds = self.warm_up(prepared, protocol)?.max(1e-9);
        let batch = match protocol.cache {
            Cache::Warm => ((20.0 * self.resolution_s / seconds).ceil() as usize).max(1),
            // Only the first run after an eviction is cold.
            Cache::Cold => 1,
        };
        let sample_s = seconds * batch as f64;
        let runs = ((protocol.round_s / sample_s).floor() as usize).clamp(1, 32);
        Ok(Timing { batch, runs, external: false, each: sample_s >= EACH_FROM_S })
    }

    /// One round of one candidate: once untimed, then timed samples.
    pub(crate) fn sample(&mut self, prepared: &mut dyn Prepared, timing: Timing) -> Result<Vec<Sample>, Error> {
        if timing.external {
            let times = prepared.measure_external().unwrap_or_else(|| Ok(Vec::new()))?;
            let clean = |seconds| Sample { seconds, disturbed: false };
            return Ok(times.into_iter().map(clean).collect());
        }
        if self.evictor.is_empty() {
            prepared.run()?;
        }
        let mut samples = Vec::with_capacity(timing.runs);
        let start = self.waiting.seconds();
        let mut before = start;
        for _ in 0..timing.runs {
            evict(&mut self.evictor);
            if timing.each && !self.evictor.is_empty() {
                before = self.waiting.seconds();
            }
            let seconds = timed(prepared, timing.batch)?;
            let mut disturbed = false;
            if timing.each {
                let after = self.waiting.seconds();
                disturbed = after - before > WAITING_SHARE * seconds * timing.batch as f64;
                before = after;
            }
            samples.push(Sample { seconds, disturbed });
        }
        if !timing.each {
            let total: f64 = samples.iter().map(|s| s.seconds).sum::<f64>() * timing.batch as f64;
            let disturbed = self.waiting.seconds() - start > WAITING_SHARE * total;
            samples.iter_mut().for_each(|s| s.disturbed = disturbed);
        }
        Ok(samples)
    }

    /// Runs until two successive windows' medians agree; returns the last window's median over its
    /// undisturbed runs.
    fn warm_up(&mut self, prepared: &mut dyn Prepared, protocol: &Protocol) -> Result<f64, Error> {
        let rule = &protocol.warm_up;
        let start = Instant::now();
        let first = timed(prepared, 1)?.max(1e-9);
        // A window lasts an eighth of the least time, so that a median means something.
        let window = ((rule.min_s / 8.0 / first).ceil() as usize).clamp(3, 1000);
        let (mut runs, mut last) = (1, f64::INFINITY);
        loop {
            let (mut clean, mut all) = (Vec::new(), Vec::with_capacity(window));
            for _ in 0..window {
                let before = self.waiting.seconds();
                let seconds = timed(prepared, 1)?;
                if self.waiting.seconds() - before <= WAITING_SHARE * seconds {
                    clean.push(seconds);
                }
                all.push(seconds);
            }
            runs += window;
            let now = median_of(if clean.is_empty() { &mut all } else { &mut clean });
            let spent = start.elapsed().as_secs_f64();
            let agree = (now / last - 1.0).abs() <= rule.agreement;
            if spent >= rule.max_s || (agree && runs >= rule.min_runs && spent >= rule.min_s) {
                return Ok(now);
            }
            last = now;
        }
    }
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

/// How long the calling thread was ready to run but another one had its core: the second number of
/// Linux's `schedstat`. Always 0 where the system does not say.
///
/// Without it, a model longer than a time slice on a busy machine has a median several times its
/// latency and a narrow interval: every run is interrupted, and the short sentinel is not.
#[derive(Debug)]
struct Waiting {
    #[cfg(unix)]
    file: Option<std::fs::File>,
}

impl Waiting {
    fn of_this_thread() -> Self {
        Self {
            #[cfg(unix)]
            file: std::fs::File::open("/proc/thread-self/schedstat").ok(),
        }
    }

    /// Seconds waited since the thread began.
    fn seconds(&self) -> f64 {
        #[cfg(unix)]
        if let Some(file) = &self.file {
            use std::os::unix::fs::FileExt;

            let mut text = [0u8; 64];
            let n = file.read_at(&mut text, 0).unwrap_or(0);
            let field = text[..n].split(|b| *b == b' ').nth(1).unwrap_or_default();
            let digits = field.iter().filter(|b| b.is_ascii_digit());
            let ns = digits.fold(0u64, |n, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')));
            return ns as f64 * 1e-9;
        }
        0.0
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_only_when_others_run() {
        let waiting = Waiting::of_this_thread();
        let (start, before) = (Instant::now(), waiting.seconds());
        // Asleep is not waiting for a core; on a busy machine it does wait for one when it wakes up.
        while start.elapsed() < std::time::Duration::from_millis(200) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let waited = waiting.seconds() - before;
        assert!(waited >= 0.0 && waited <= 0.5 * start.elapsed().as_secs_f64(), "{waited}");
    }

    #[test]
    fn the_clock_ticks_below_a_microsecond_or_so() {
        let step = timer_resolution();
        assert!(step > 0.0 && step < 1e-3, "{step}");
    }
}
