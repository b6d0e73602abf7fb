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
        /// Held-out accuracy of the best candidate, percent.
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
    /// The device is too noisy to go on; it will be looked at again.
    Paused {
        /// Half width of the interval as a share of the latency.
        noise: f64,
        /// What it must not exceed.
        needed: f64,
        /// Seconds until the run gives up.
        left_s: f64,
    },
    /// Something the user should know.
    Note {
        /// Text.
        text: String,
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
