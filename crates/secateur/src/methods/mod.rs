//! The methods: each a way to walk the loop from a dense network to a decision at a budget.

mod archtree;
mod halp;
mod lacp;
mod pareto;
mod race;
mod schedule;
mod trials;
mod uniform;

pub(crate) use halp::Chooser;
pub use pareto::{FRONT_VERSION, Front, FrontPoint, is_pareto_run, pareto, resume_pareto};
pub use schedule::geometric;

use crate::error::Result;
use crate::session::Session;
use crate::settings::Method;
use crate::stage::Stage;

/// What a method hands over: the smaller network at the budget, not yet fine-tuned to the end.
#[derive(Debug)]
pub struct Outcome {
    /// The network and how it came from the dense one.
    pub stage: Stage,
    /// Its latency, measured against the dense network.
    pub latency: crate::bench::Relative,
    /// What the calibrated table predicted, seconds.
    pub predicted_s: f64,
    /// What right-edge rounding did.
    pub rounding: crate::rounding::Rounding,
    /// Training steps spent on the way; they count against the fine-tuning.
    pub steps_spent: usize,
}

/// Runs the method that the settings name.
///
/// # Errors
/// A budget that cannot be reached; what measuring, training and surgery refuse.
pub fn run(session: &mut Session) -> Result<Outcome> {
    match session.settings.method {
        Method::Halp | Method::Auto => halp::run(session, halp::Cost::Latency),
        Method::Flops => halp::run(session, halp::Cost::Macs),
        Method::Uniform => uniform::run(session),
        Method::Archtree => archtree::run(session),
        Method::Lacp => lacp::run(session),
        Method::Evolution => lacp::run_after_halp(session),
        Method::Race => race::run(session),
    }
}
