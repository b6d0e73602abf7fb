//! What a run tells while it works. The library prints nothing; the program that drives it decides what to show.

use serde::Serialize;

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// What is about to be done, before the hours are spent.
    Outlook {
        /// Dense latency, seconds.
        dense_s: f64,
        /// Budget, seconds.
        budget_s: f64,
        /// Least latency that could be reached, predicted, seconds.
        floor_s: f64,
        /// Estimated seconds of the whole run.
        estimate_s: Option<f64>,
    },
    /// A stage began.
    Stage {
        /// What it does.
        what: String,
    },
    /// Progress inside a stage.
    Progress {
        /// Units done.
        done: usize,
        /// Units in all.
        total: usize,
        /// What the units are, and the best so far.
        note: String,
    },
    /// A stage was found in the journal and not done again.
    Recalled {
        /// Which.
        what: String,
    },
    /// A decision was measured.
    Measured {
        /// Which attempt at the budget.
        attempt: usize,
        /// Predicted seconds.
        predicted_s: f64,
        /// Measured seconds.
        measured_s: f64,
    },
    /// How far a search is.
    Search {
        /// Level or generation.
        what: String,
        /// Held-out accuracy of the best candidate at or below the budget, percent.
        accuracy: Option<f64>,
        /// Its measured latency, seconds.
        latency_s: Option<f64>,
        /// Candidates measured so far.
        measured: usize,
        /// Candidates scored so far.
        scored: usize,
        /// Seconds left, estimated.
        left_s: Option<f64>,
    },
    /// The device is not fit to go on; it will be looked at again.
    Paused {
        /// What is wrong with it.
        unfit: Unfit,
        /// Seconds until the run waits no longer.
        left_s: f64,
    },
    /// Something the user should know.
    Note {
        /// Text.
        text: String,
    },
}

/// Why a device does not do to measure on just now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    /// Latencies are not known closely enough.
    Noisy {
        /// Half width of the interval as a share of the latency.
        noise: f64,
        /// What it must not exceed.
        needed: f64,
    },
    /// Everything takes much longer than when the run began.
    Slow {
        /// How many times as long the dense network takes.
        times: f64,
    },
}

/// Where events go, and where a wish to stop comes from.
pub trait Observer {
    /// Takes an event.
    fn event(&mut self, event: Event);

    /// The user wants to stop; asked between steps.
    fn stop(&self) -> bool {
        false
    }
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: Event) {}
}
