//! The flags of schemes: which weights of a layer are removed together, and how many.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};
use graph::scheme::{Regularity, Scheme};
use secateur::{Budget, Mapping, SchemeJob, SchemeTraining};

use crate::failure::{Failure, Result};

fn defaults() -> SchemeJob {
    SchemeJob::default()
}

/// Fine-grained structured pruning.
#[derive(Debug, Args)]
#[command(next_help_heading = "Schemes")]
#[command(group(ArgGroup::new("scheme_or_mapping").args(["scheme", "mapping"]).multiple(true)))]
pub struct SchemeArgs {
    /// Remove weights instead of channels, in all layers that can have it: filter, channel, block-punched:16x1 (filters x channels of a block, * for all), block-based:16x16:column (linear layers), pattern, unstructured. Needs --rate, except that `--scheme-training reweighted` with a --budget finds the rates that meet it; otherwise a --budget is measured only.
    #[arg(long, value_name = "REGULARITY", conflicts_with_all = ["mapping", "budget_params"])]
    pub scheme: Option<Regularity>,
    /// All weights over those that stay: 4 removes three quarters.
    #[arg(long, value_name = "N", requires = "scheme")]
    pub rate: Option<f64>,
    /// Schemes layer by layer: a TOML file with [default] and [layers."NAME"], each with regularity and rate.
    #[arg(long, value_name = "FILE.toml", conflicts_with = "budget_params")]
    pub mapping: Option<PathBuf>,
    /// one-shot: remove, then train what is left; gradual: remove more and more while training; reweighted: a penalty presses units to
    /// zero first, and the rates of layers fall out (those given make the sum; without any, the --budget does).
    #[arg(long, requires = "scheme_or_mapping", default_value_t = defaults().training, value_parser = PossibleValuesParser::new(SchemeTraining::NAMES).try_map(|s| s.parse::<SchemeTraining>()))]
    pub scheme_training: SchemeTraining,
    /// Bring similar filters into the same block first; the next layers absorb the order.
    #[arg(long, requires = "scheme_or_mapping")]
    pub reorder_filters: bool,
    /// Remove as much in every row of blocks, so that threads get equal work.
    #[arg(long, requires = "scheme_or_mapping")]
    pub balanced: bool,
    /// Strength of the penalty of reweighted training.
    #[arg(long, value_name = "LAMBDA", requires = "scheme_or_mapping", default_value_t = defaults().penalty)]
    pub penalty: f64,
    /// Trainings spent on finding the strength of the penalty that brings the rates, or the budget, by bisection around --penalty; 0:
    /// as given.
    #[arg(long, value_name = "N", requires = "scheme_or_mapping", default_value_t = defaults().penalty_trials)]
    pub penalty_trials: usize,
}

impl SchemeArgs {
    /// No rate is given, and a training that can find it.
    pub fn finds_rates(&self, budget: Option<Budget>) -> bool {
        self.scheme.is_some() && self.rate.is_none() && self.scheme_training == SchemeTraining::Reweighted && budget.is_some()
    }

    /// The mapping these flags stand for; `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read; no rate where one is needed, or one that the regularity cannot have.
    pub fn mapping(&self, budget: Option<Budget>) -> Result<Option<Mapping>> {
        if let Some(file) = &self.mapping {
            return Ok(Some(Mapping::read(file)?));
        }
        let Some(regularity) = self.scheme else { return Ok(None) };
        // Any rate stands for those that are found.
        let found = self.finds_rates(budget).then(|| regularity.least_rate().max(2.0));
        let Some(rate) = self.rate.or(found) else {
            return Err(Failure::Usage(
                "--scheme says which weights go together; --rate says how many: 4 removes three quarters (or `--scheme-training reweighted` \
                 finds as many as a --budget asks for)"
                    .into(),
            ));
        };
        let scheme = Scheme::new(regularity, rate).map_err(|e| Failure::Usage(format!("--scheme, --rate: {e}")))?;
        Ok(Some(Mapping::everywhere(scheme)))
    }
}
