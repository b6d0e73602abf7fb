//! A latency with everything that belongs to it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::protocol::{Mode, Protocol};
use crate::runtime::RuntimeIdentity;
use crate::statistics::{block_length, count_outliers, median, median_interval, summarise, two_states};

/// The latency of one model: estimate, interval, raw samples, and how they were obtained. Times in
/// seconds per inference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The model's name; not part of any key.
    pub model: String,
    /// Hash of what the latency depends on of the model ([`crate::Runtime::model_key`]).
    pub model_key: String,
    /// The estimate: the median of `samples`.
    pub median_s: f64,
    /// Block-bootstrap interval of the median at the protocol's confidence.
    pub ci: (f64, f64),
    /// 10th percentile.
    pub p10: f64,
    /// 90th percentile.
    pub p90: f64,
    /// Smallest sample.
    pub min: f64,
    /// 99th percentile, from 1,000 samples.
    pub p99: Option<f64>,
    /// Number of samples.
    pub n: usize,
    /// Rounds dropped because the sentinel drifted.
    pub rounds_invalidated: usize,
    /// Timed runs set aside because the thread lost its core to another program meanwhile.
    pub disturbed: usize,
    /// Samples far outside; counted, never deleted.
    pub outliers: usize,
    /// Whether the samples come from two states, such as two clock frequencies.
    pub two_states: bool,
    /// Whether the interval reached the asked precision before the time limit, with enough rounds
    /// that the sentinel did not invalidate.
    pub resolved: bool,
    /// Against the sentinel of the same rounds, where there was one: comparable between batches in which the machine ran at
    /// different speeds.
    #[serde(default)]
    pub to_sentinel: Option<ToSentinel>,
    /// Raw samples in order of time, one process after another.
    pub samples: Vec<f64>,
    /// How many of the samples each process gave.
    pub per_process: Vec<usize>,
    /// Seconds to load the model and run it once; not part of the latency.
    pub setup_s: f64,
    /// The machine.
    pub machine: Machine,
    /// The runtime.
    pub runtime: RuntimeIdentity,
    /// The protocol.
    pub protocol: Protocol,
    /// Burst or sustained.
    pub mode: Mode,
    /// When, in seconds since 1970 (UTC).
    pub taken_at: u64,
}

/// A model's time relative to the sentinel's in the same rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ToSentinel {
    /// Median over rounds of time(model) / time(sentinel).
    pub ratio: f64,
    /// Its interval.
    pub ci: (f64, f64),
    /// The sentinel's median time in these rounds, seconds.
    pub sentinel_s: f64,
}

/// What a measurement is made of besides its samples.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub model: String,
    pub model_key: String,
    pub runtime: RuntimeIdentity,
    pub machine: Machine,
    pub setup_s: f64,
    pub rounds_invalidated: usize,
    pub disturbed: usize,
}

impl Measurement {
    /// Summarises series of samples, one per process, that were taken in rounds of `per_round`.
    /// `sound` is false where the rounds cannot be trusted; the result is then unresolved.
    pub(crate) fn from_samples(origin: Origin, processes: &[Vec<f64>], per_round: usize, sound: bool, protocol: &Protocol) -> Self {
        let samples = processes.concat();
        let ci = interval(processes, per_round, 1000, protocol);
        let summary = summarise(&samples);
        Self {
            model: origin.model,
            model_key: origin.model_key,
            median_s: summary.median,
            ci,
            p10: summary.p10,
            p90: summary.p90,
            min: summary.min,
            p99: summary.p99,
            n: samples.len(),
            rounds_invalidated: origin.rounds_invalidated,
            disturbed: origin.disturbed,
            outliers: count_outliers(&samples),
            two_states: two_states(&samples),
            resolved: sound && half_width(ci, summary.median) <= protocol.precision,
            to_sentinel: None,
            per_process: processes.iter().map(Vec::len).collect(),
            samples,
            setup_s: origin.setup_s,
            machine: origin.machine,
            runtime: origin.runtime,
            protocol: protocol.clone(),
            mode: protocol.mode,
            taken_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        }
    }

    /// Half the interval's width as a share of the median.
    pub fn relative_half_width(&self) -> f64 {
        half_width(self.ci, self.median_s)
    }

    /// One measurement from several processes' measurements of the same model, with a hierarchical
    /// interval. `None` where the list is empty.
    pub fn merge(parts: &[Self]) -> Option<Self> {
        let first = parts.first()?;
        let series: Vec<Vec<f64>> = parts.iter().map(|p| p.samples.clone()).collect();
        let origin = Origin {
            model: first.model.clone(),
            model_key: first.model_key.clone(),
            runtime: first.runtime.clone(),
            machine: first.machine.clone(),
            setup_s: median(&parts.iter().map(|p| p.setup_s).collect::<Vec<_>>()),
            rounds_invalidated: parts.iter().map(|p| p.rounds_invalidated).sum(),
            disturbed: parts.iter().map(|p| p.disturbed).sum(),
        };
        // A part that is precise and still unresolved had too few rounds that counted.
        let sound = parts.iter().all(|p| p.resolved || p.relative_half_width() > p.protocol.precision);
        Some(Self::from_samples(origin, &series, 1, sound, &first.protocol))
    }
}

/// Half an interval's width as a share of the median; infinite where there is none.
pub(crate) fn half_width(ci: (f64, f64), median: f64) -> f64 {
    let half = (ci.1 - ci.0) / 2.0 / median;
    if half.is_finite() { half } else { f64::INFINITY }
}

/// The interval of the median of all processes' samples.
pub(crate) fn interval(processes: &[Vec<f64>], per_round: usize, resamples: usize, protocol: &Protocol) -> (f64, f64) {
    let views: Vec<&[f64]> = processes.iter().map(Vec::as_slice).collect();
    let longest = views.iter().map(|v| v.len()).max().unwrap_or(0);
    let block = block_length(longest, per_round);
    median_interval(&views, block, resamples, protocol.confidence, protocol.seed)
}
