//! What a job of schemes is asked to do, beside the settings of every run.

use serde::{Deserialize, Serialize};

use super::mapping::Mapping;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::settings::{Recover, SchemeTraining, Settings};

/// A job of schemes. Saved as `schemes.json` in the run directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SchemeJob {
    /// Which layer gets which scheme.
    pub mapping: Mapping,
    /// How the weights get there.
    pub training: SchemeTraining,
    /// What the network may cost on the target; nothing is measured without it.
    pub budget: Option<Budget>,
    /// A reweighted training finds the rates at which the budget is met, whatever those of the mapping are.
    pub meet_budget: bool,
    /// Bring similar filters into the same block first.
    pub reorder: bool,
    /// Remove as much in every block row.
    pub balanced: bool,
    /// λ of the reweighted penalty.
    pub penalty: f64,
    /// Trainings spent on finding λ by bisection; 0: λ is as given.
    pub penalty_trials: usize,
}

impl Default for SchemeJob {
    fn default() -> Self {
        Self {
            mapping: Mapping::default(),
            training: SchemeTraining::default(),
            budget: None,
            meet_budget: false,
            reorder: false,
            balanced: false,
            penalty: 1e-3,
            penalty_trials: 0,
        }
    }
}

impl SchemeJob {
    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// A setting outside its range, or that needs data or epochs.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        settings.check()?;
        if !(self.penalty.is_finite() && self.penalty > 0.0) {
            return Err(Error::Setting(format!("--penalty is {}; it must be positive", self.penalty)));
        }
        if settings.recover == Recover::Lsq {
            return Err(Error::Setting(
                "--recover lsq fits layers that lost channels; with schemes, train with `--data` and `--epochs`".into(),
            ));
        }
        if self.meet_budget && (self.training != SchemeTraining::Reweighted || self.budget.is_none()) {
            return Err(Error::Setting("rates are found by latency under `--scheme-training reweighted` and a `--budget` only".into()));
        }
        if self.training != SchemeTraining::OneShot && settings.recipe.epochs == 0.0 {
            return Err(Error::Setting(format!("--scheme-training {} trains: give `--data` and `--epochs` above 0", self.training)));
        }
        Ok(())
    }
}
