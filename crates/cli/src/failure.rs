//! Errors of the command: what is printed, and the exit code that goes with it.

use std::error::Error as _;
use std::path::Path;

/// Exit codes, as documented in `--help` and the README.
pub mod exit {
    /// Something failed.
    pub const ERROR: u8 = 1;
    /// The command line, or the configuration file, makes no sense.
    pub const USAGE: u8 = 2;
    /// The budget was not reached.
    pub const BUDGET: u8 = 3;
    /// The noise does not allow an answer.
    pub const NOISE: u8 = 4;
    /// Stopped by the user.
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The library's error.
    #[error(transparent)]
    Library(#[from] secateur::Error),
    /// Flags or configuration.
    #[error("{0}")]
    Usage(String),
    /// Anything else, with where it happened and what to do.
    #[error("{0}")]
    Other(String),
    /// Stopped by the user; what was done is kept.
    #[error("{0}")]
    Stopped(String),
    /// The result was written, but it does not meet the budget.
    #[error("{0}")]
    Budget(String),
    /// The result was printed, but the noise leaves it open.
    #[error("{0}")]
    Noise(String),
}

impl From<graph::Error> for Failure {
    fn from(e: graph::Error) -> Self {
        Self::Library(e.into())
    }
}

impl From<latency::Error> for Failure {
    fn from(e: latency::Error) -> Self {
        Self::Library(e.into())
    }
}

impl From<train::Error> for Failure {
    fn from(e: train::Error) -> Self {
        Self::Library(e.into())
    }
}

impl Failure {
    /// A failure at a file.
    pub fn at(path: &Path, what: impl std::fmt::Display) -> Self {
        Self::Other(format!("{}: {what}", path.display()))
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        use secateur::Error as E;
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Budget(_) => exit::BUDGET,
            Self::Noise(_) => exit::NOISE,
            Self::Stopped(_) => exit::INTERRUPTED,
            Self::Other(_) => exit::ERROR,
            Self::Library(e) => match e {
                E::BelowFloor { .. } | E::SizeBelowFloor { .. } | E::BudgetNotReached { .. } => exit::BUDGET,
                E::Latency(latency::Error::TooNoisy { .. }) => exit::NOISE,
                E::Latency(latency::Error::TargetSyntax { .. }) => exit::USAGE,
                E::Interrupted { .. } | E::Stopped(_) => exit::INTERRUPTED,
                _ => exit::ERROR,
            },
        }
    }

    /// The message with its causes, one per line, without repeating what the message says already.
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(e) = cause {
            let line = e.to_string();
            if !text.contains(&line) {
                text.push_str(&format!("\n  caused by: {line}"));
            }
            cause = e.source();
        }
        text
    }
}

/// Result with [`Failure`].
pub type Result<T, E = Failure> = std::result::Result<T, E>;
