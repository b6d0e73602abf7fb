//! How a measurement is made, as a value.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The measuring protocol. Numbers of different [`Protocol::version`], [`Mode`] or [`Cache`] are
/// never compared or mixed in one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// Version of the procedure this crate follows; part of every table key.
    pub version: u32,
    /// Seed of the order of candidates and of the bootstrap.
    pub seed: u64,
    /// Relative half-width of the median's interval at which sampling stops.
    pub precision: f64,
    /// Level of the intervals.
    pub confidence: f64,
    /// Seconds of sampling per candidate, warm-up not counted; when they are over first, the
    /// result is unresolved.
    pub time_limit_s: f64,
    /// When a model counts as warm.
    pub warm_up: WarmUp,
    /// Seconds of timed runs per candidate in one round; at least one run, at most 32.
    pub round_s: f64,
    /// Rounds before the first check of the interval.
    pub min_rounds: usize,
    /// Relative drift of the sentinel that invalidates a round.
    pub sentinel_drift: f64,
    /// Cool or thermally steady.
    pub mode: Mode,
    /// Warm or cold caches.
    pub cache: Cache,
}

/// When a model counts as warm: two successive windows' medians agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    /// Runs at least.
    pub min_runs: usize,
    /// Seconds at least.
    pub min_s: f64,
    /// Seconds at most; after them the model counts as warm whatever its medians say.
    pub max_s: f64,
    /// Relative difference of two successive windows' medians.
    pub agreement: f64,
}

/// The thermal state numbers are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// From a cool start, as an occasional call meets it.
    #[default]
    Burst,
    /// After [`SUSTAINED_S`] seconds of uninterrupted work.
    Sustained,
}

/// The state of the processor's caches before each timed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// The model ran just before.
    #[default]
    Warm,
    /// [`EVICT_BYTES`] of other memory were written just before.
    Cold,
}

/// Version of the procedure in this crate.
pub const PROTOCOL_VERSION: u32 = 1;
/// Seconds of work before [`Mode::Sustained`] numbers are taken.
pub const SUSTAINED_S: f64 = 30.0;
/// Bytes written to evict caches for [`Cache::Cold`].
pub const EVICT_BYTES: usize = 128 << 20;

impl Default for Protocol {
    /// 1 %, up to five seconds per model.
    fn default() -> Self {
        Self {
            version: PROTOCOL_VERSION,
            seed: 0,
            precision: 0.01,
            confidence: 0.95,
            time_limit_s: 5.0,
            warm_up: WarmUp { min_runs: 3, min_s: 0.2, max_s: 10.0, agreement: 0.01 },
            round_s: 0.02,
            min_rounds: 12,
            sentinel_drift: 0.02,
            mode: Mode::Burst,
            cache: Cache::Warm,
        }
    }
}

impl Protocol {
    /// For latency tables: 2 %, about half a second per model.
    pub fn table() -> Self {
        Self {
            precision: 0.02,
            time_limit_s: 0.5,
            warm_up: WarmUp { min_runs: 3, min_s: 0.05, max_s: 0.5, agreement: 0.02 },
            round_s: 0.004,
            min_rounds: 6,
            ..Self::default()
        }
    }

    /// For single widths of a staircase, where many are needed: 1 %, a third of a second per model; each time a width is asked for
    /// `again`, half the width of the interval and three times as long.
    pub fn staircase(again: usize) -> Self {
        let again = i32::try_from(again.min(4)).unwrap_or(4);
        Self {
            precision: 0.01 * 0.5f64.powi(again),
            time_limit_s: 0.33 * 3f64.powi(again),
            warm_up: WarmUp { min_runs: 3, min_s: 0.02, max_s: 0.2, agreement: 0.03 },
            round_s: 0.003,
            min_rounds: 10,
            ..Self::default()
        }
    }

    /// For values that decide: 1 %, several seconds per model.
    pub fn confirm() -> Self {
        Self { time_limit_s: 8.0, min_rounds: 20, ..Self::default() }
    }

    /// Checks that the protocol can be followed.
    ///
    /// # Errors
    /// [`Error::ProtocolInvalid`] naming the field.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |cause: String| Err(Error::ProtocolInvalid { cause });
        if self.version != PROTOCOL_VERSION {
            return wrong(format!("version {} is not the version {PROTOCOL_VERSION} of this program", self.version));
        }
        let fields = [
            ("precision", self.precision, 1e-4, 1.0),
            ("confidence", self.confidence, 0.5, 0.999),
            ("time_limit_s", self.time_limit_s, 1e-3, 86_400.0),
            ("round_s", self.round_s, 1e-6, 3600.0),
            ("sentinel_drift", self.sentinel_drift, 1e-4, 10.0),
        ];
        for (name, value, low, high) in fields {
            if !(low..=high).contains(&value) {
                return wrong(format!("{name} = {value} is outside {low} to {high}"));
            }
        }
        if self.min_rounds < 3 {
            return wrong(format!("min_rounds = {} is below 3", self.min_rounds));
        }
        Ok(())
    }
}
