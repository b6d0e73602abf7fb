//! Limits in, solutions out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;

/// How much work a solver may do before it settles for an answer with a stated gap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest number of combinations in one elimination table, and of Pareto states in one
    /// message. A wider interaction graph goes to [`crate::lagrange`]; a longer message is thinned.
    pub max_states: usize,
    /// Width of the cost buckets in which thinning keeps the best state, as a fraction of the
    /// budget; doubled until the message fits.
    pub tolerance: f64,
    /// Wall-clock limit. Once it is reached messages are thinned hard, so the answer comes soon
    /// after it and is no longer reproducible bit for bit. `None`: no limit, always reproducible.
    pub time: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_states: 2_000_000, tolerance: 1e-4, time: None }
    }
}

impl Limits {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.max_states == 0 {
            return Err(Error::Argument { name: "max_states", value: 0.0, cause: "it must be at least 1" });
        }
        if !(self.tolerance > 0.0 && self.tolerance < 1.0) {
            let cause = "the relative cost bucket must lie between 0 and 1, both excluded";
            return Err(Error::Argument { name: "tolerance", value: self.tolerance, cause });
        }
        Ok(())
    }
}

/// Why a solver stopped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Proven optimal (to a relative 1e-9 of the values' scale, the rounding of the sums).
    Optimal,
    /// Pareto messages were thinned to `max_states`; the value is within `gap` of the optimum.
    WithinGap {
        /// As [`Solution::gap`].
        gap: f64,
    },
    /// The wall-clock limit was reached; the value is within `gap` of the optimum.
    OutOfTime {
        /// As [`Solution::gap`].
        gap: f64,
    },
    /// The interaction graph was too wide to eliminate: dual bound and local refinement
    /// ([`crate::lagrange`]); the value is within `gap` of the optimum.
    Relaxed {
        /// As [`Solution::gap`].
        gap: f64,
    },
}

/// One option per variable, with what is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Solution {
    /// The chosen option of each variable.
    pub choice: Vec<usize>,
    /// Its total value.
    pub value: f64,
    /// Its total cost, at most the budget (to a relative 1e-12 of the costs' scale).
    pub cost: f64,
    /// Proven upper bound on the value of every choice within the budget; at least `value`.
    pub bound: f64,
    /// Why the solver stopped.
    pub stop: Stop,
}

impl Solution {
    /// How far the value may be from the optimum, as a fraction of the bound: `(bound − value) / |bound|`.
    pub fn gap(&self) -> f64 {
        relative_gap(self.value, self.bound)
    }
}

pub(crate) fn relative_gap(value: f64, bound: f64) -> f64 {
    let room = (bound - value).max(0.0);
    if room == 0.0 { 0.0 } else { room / bound.abs().max(f64::MIN_POSITIVE) }
}

/// The cheapest choice of a problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// The chosen option of each variable.
    pub choice: Vec<usize>,
    /// Its total value.
    pub value: f64,
    /// Its total cost.
    pub cost: f64,
    /// Proven lower bound on the cost of every choice; equal to `cost` unless the interaction
    /// graph was too wide to eliminate.
    pub bound: f64,
}
