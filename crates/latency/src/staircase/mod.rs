//! The staircase: latency as a function of the number of channels, found with few measurements.
//!
//! On most targets the latency of a layer grows in steps: kernels work on whole tiles of channels, processors run whole waves
//! of tiles. Only the right edge of a step is worth keeping, because more channels cost nothing there. With δ from the
//! measured noise,
//!
//! ```text
//! Keep = { c : no c' > c has T(c') ≤ (1 + δ)·T(c) }
//! ```
//!
//! Where the latency of a width lies between that of the nearest narrower measured width and that of the cheapest wider one, and
//! these agree within δ, the width is not worth keeping. The others are *open*: as much hangs on them as the two differ, for
//! that high may an edge be that hides there. [`Search`] always wants the widths on which most hangs.
//!
//! Two things make that affordable. Kernels for aligned and unaligned widths differ, so that a curve may be a *comb*: widths of
//! one kind are compared with those of another only until they are seen to lie on different curves. (Where a width takes longer
//! than a wider one of its own kind, a faster kernel begins in between; it bounds nothing beyond, and the place is looked for.)
//! And steps mostly have one length: where measured widths agree on it, edges are foretold, and little hangs on them. What is
//! foretold decides which widths are kept, but an edge is claimed only where both of its sides were measured ([`Kind::Edge`]).
//!
//! Where latency climbs in a line, each channel costs less than the noise can show, and the formula above keeps nothing but
//! the top. There, and at edges that were foretold, [`Staircase::kept`] goes on with the widths that are cheaper by δ than the one
//! kept before ([`Kind::Slope`]), round ones where there is a choice.
//!
//! Probing is a pure function of what the probes answered: [`find`] takes a closure, [`Search`] can be fed in turn with
//! others so that several curves share one batch of measurements.

mod curve;
mod fit;
mod known;
mod open;
mod search;
mod tiles;

use serde::{Deserialize, Serialize};

pub use curve::{Kept, Kind, Staircase};
pub use fit::{TileModel, Tiling, fit_tiles};
pub use open::Want;
pub use search::{Search, find};

/// What measuring one width gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Estimate, seconds.
    pub latency_s: f64,
    /// Its interval, seconds.
    pub ci: (f64, f64),
}

/// One measured width of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Channels.
    pub width: usize,
    /// Estimate, seconds.
    pub latency_s: f64,
    /// Its interval, seconds.
    pub ci: (f64, f64),
    /// Times it was asked for.
    pub asked: usize,
}

impl Point {
    /// Half the interval's width as a share of the estimate.
    pub fn noise(&self) -> f64 {
        crate::measurement::half_width(self.ci, self.latency_s)
    }

    /// `ln(other / self)` with its interval, the two taken as independent.
    pub fn log_ratio(&self, other: &Self) -> (f64, f64, f64) {
        let ratio = (other.latency_s / self.latency_s).ln();
        let half = self.noise().hypot(other.noise());
        (ratio, ratio - half, ratio + half)
    }

    /// Takes another answer for the same width in, each weighted by its precision.
    fn merge(&mut self, probe: &Probe) {
        if (probe.latency_s, probe.ci) == (self.latency_s, self.ci) {
            // The same measurement, out of a table: nothing new.
            self.asked += 1;
            return;
        }
        let other = Self { width: self.width, latency_s: probe.latency_s, ci: probe.ci, asked: 1 };
        let weight = |p: &Self| 1.0 / p.noise().max(1e-6).powi(2);
        let (a, b) = (weight(self), weight(&other));
        self.latency_s = (a * self.latency_s + b * other.latency_s) / (a + b);
        // Two answers that contradict each other are not more precise for being two.
        let half = (1.0 / (a + b).sqrt()).max((other.latency_s / self.latency_s - 1.0).abs().min(self.noise().max(other.noise())));
        self.ci = (self.latency_s * (1.0 - half), self.latency_s * (1.0 + half));
        self.asked += 1;
    }
}

/// How a curve is probed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probing {
    /// Relative difference that counts, δ: 2–3 %, not below twice the half-width of the intervals.
    pub delta: f64,
    /// Times a width is measured again where noise leaves a comparison open.
    pub repeats: usize,
    /// Probes at most, the first ones aside; what was not reached then is foretold.
    pub most: usize,
    /// Another kernel computes a single channel than several, so that it says nothing about them: of a depthwise convolution, which is
    /// an ordinary one then.
    pub lone: bool,
}

impl Default for Probing {
    /// δ = 3 %, one repeat, no limit, a single channel like the others.
    fn default() -> Self {
        Self { delta: 0.03, repeats: 1, most: usize::MAX, lone: false }
    }
}

/// The answer to "does the second take more than (1 + δ) times the first?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rises {
    Yes,
    No,
    /// The interval of the ratio holds 1 + δ.
    Open,
}

impl Rises {
    pub(crate) fn between(low: &Point, high: &Point, delta: f64) -> Self {
        let (_, lo, hi) = low.log_ratio(high);
        let bound = delta.ln_1p();
        if lo > bound {
            Self::Yes
        } else if hi <= bound {
            Self::No
        } else {
            Self::Open
        }
    }
}
