//! What can go wrong on the way to a budget, and what to do then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::budget::format_seconds;
use crate::events::Observer;

/// An error of the library. Every message says where and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading, analysing or changing the model.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// Measuring.
    #[error(transparent)]
    Latency(#[from] latency::Error),
    /// Training, evaluating, reading data.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// Choosing.
    #[error(transparent)]
    Search(#[from] search::Error),
    /// A file of the run directory.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Cause and remedy.
        cause: String,
    },
    /// The journal.
    #[error("journal {}: {source}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The database's reason.
        source: rusqlite::Error,
    },
    /// Nothing can be removed.
    #[error("{model}: no channel group can be pruned; each one is frozen:\n{reasons}")]
    NothingToPrune {
        /// Model.
        model: String,
        /// One line per group.
        reasons: String,
    },
    /// Operators of other vendors' sets, which no runtime of this program runs.
    #[error(
        "{model}: it uses operators of custom sets that no runtime here can run, so that a pruned network could not be checked: {operators}. \
         Export the network with standard operators (and without quantisation nodes of training tools)"
    )]
    CustomOperators {
        /// Model.
        model: String,
        /// Domain and name of each.
        operators: String,
    },
    /// The size is below what any decision reaches.
    #[error(
        "the budget of {allowed} parameters is below the floor: the smallest network found among those these groups allow has {floor}. Give a budget above it. \
         What is frozen:\n{reasons}"
    )]
    SizeBelowFloor {
        /// Asked.
        allowed: u64,
        /// Attainable.
        floor: u64,
        /// One line per frozen group.
        reasons: String,
    },
    /// No runtime runs the network.
    #[error(
        "{model}: no runtime here runs its masked twin, so that the pruned network could not be checked; it was not written:\n{causes}"
    )]
    Unverifiable {
        /// Model.
        model: String,
        /// One line per runtime.
        causes: String,
    },
    /// The budget is below what any decision reaches.
    #[error(
        "the budget {} is below the floor: the smallest network that this method makes of these groups is predicted to take {}, {:.0}% of the dense {}. \
         Give a budget above it, or allow more to be removed",
        format_seconds(*.budget_s), format_seconds(*.floor_s), 100.0 * .floor_s / .dense_s, format_seconds(*.dense_s)
    )]
    BelowFloor {
        /// Asked.
        budget_s: f64,
        /// Attainable.
        floor_s: f64,
        /// Dense latency.
        dense_s: f64,
    },
    /// The dense network meets the budget already.
    #[error("the budget {} is not below the dense latency {}: the network meets it as it is; there is nothing to prune", format_seconds(*.budget_s), format_seconds(*.dense_s))]
    AboveDense {
        /// Asked.
        budget_s: f64,
        /// Dense latency.
        dense_s: f64,
    },
    /// No candidate was measured at or below the budget.
    #[error(
        "no network at or below the budget of {:.4} ms was found; {}. Give a larger budget; where a method prunes in steps, what \
         one of them can remove may be too little: try more `--steps`",
        1e3 * .budget_s, fastest(*.best_s)
    )]
    BudgetNotReached {
        /// Budget.
        budget_s: f64,
        /// The least latency measured; none where no candidate was small enough to be measured.
        best_s: Option<f64>,
    },
    /// The pruned network is not the masked twin.
    #[error(
        "the pruned model does not compute what its masked twin computes: output `{output}` differs by {difference:e} (scale {scale:e}); it was not written. This is a defect: please report the model"
    )]
    TwinMismatch {
        /// Output.
        output: String,
        /// Largest absolute difference.
        difference: f64,
        /// Largest absolute value.
        scale: f64,
    },
    /// A weight does not have the regularity that it was to get.
    #[error("layer `{layer}`: {violation}; the network was not written. This is a defect: please report the model")]
    SchemeViolated {
        /// Layer.
        layer: String,
        /// Where and what.
        violation: graph::scheme::Violation,
    },
    /// A setting does not make sense.
    #[error("{0}")]
    Setting(String),
    /// The user asked to stop before anything was worth keeping.
    #[error("stopped: {0}")]
    Stopped(String),
    /// The user asked to stop.
    #[error("stopped; what was done is kept in {}. Continue with `secateur resume {}`", out.display(), out.display())]
    Interrupted {
        /// Run directory.
        out: PathBuf,
    },
}

impl Error {
    /// A solver found nothing at the budget it was given: a larger one may do.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Search(e) if e.is_out_of_reach())
    }
}

/// Does `work` on what is kept in `out`. Ctrl-C in a terminal reaches the processes that measure, too: where one failed and
/// the user asked to stop, nothing failed.
///
/// # Errors
/// Those of `work`.
pub(crate) fn stoppable<T>(out: &Path, observer: &mut dyn Observer, work: impl FnOnce(&mut dyn Observer) -> Result<T>) -> Result<T> {
    /// Until the signal that ended a process has reached this one, too.
    const ON_ITS_WAY: Duration = Duration::from_millis(100);
    let done = work(&mut *observer);
    if matches!(done, Err(Error::Latency(latency::Error::WorkerFailed { .. } | latency::Error::CommandFailed { .. }))) {
        std::thread::sleep(ON_ITS_WAY);
        if observer.stop() {
            return Err(Error::Interrupted { out: out.to_owned() });
        }
    }
    done
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn fastest(best_s: Option<f64>) -> String {
    best_s.map_or("none was predicted to be small enough to be measured".into(), |s| format!("the fastest measured took {:.4} ms", 1e3 * s))
}
