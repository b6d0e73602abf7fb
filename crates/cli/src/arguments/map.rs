//! The flags of `map`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use secateur::{Budget, Criterion, MapBy, MapSettings, Settings};

use super::prune::augment;
use super::{DataArgs, MeasuringArgs, TargetArgs};
use crate::failure::{Failure, Result};
use crate::files;

fn defaults() -> Settings {
    Settings::default()
}

#[derive(Debug, Args)]
pub struct MapArgs {
    /// The trained ONNX file.
    pub model: PathBuf,
    /// The mapping to write, for `prune --mapping`; must not exist.
    #[arg(long, short, value_name = "FILE.toml")]
    pub out: PathBuf,
    /// What the network may cost: a time (5ms, 800us), a share of the dense latency (50%), or a speed-up (2x).
    #[arg(long, value_name = "BUDGET", required_unless_present = "compression")]
    pub budget: Option<Budget>,
    /// What its layers may weigh instead: all their weights over those that stay; 4 removes three quarters.
    #[arg(long, value_name = "RATE", conflicts_with = "budget")]
    pub compression: Option<f64>,
    /// rules: regularity and block by rules, rates by an exact knapsack; knapsack: all three by it; search: a policy that learns
    /// from scored candidates; evolution and random: its controls.
    #[arg(long, default_value_t = MapSettings::default().by, value_parser = PossibleValuesParser::new(MapBy::NAMES).try_map(|s| s.parse::<MapBy>()))]
    pub by: MapBy,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Candidates that search, evolution and random score.
    #[arg(long, value_name = "N", default_value_t = MapSettings::default().evaluations)]
    pub evaluations: usize,
    /// Training steps, with what is removed held at zero, before a candidate is judged.
    #[arg(long, value_name = "N", default_value_t = MapSettings::default().tune_steps)]
    pub tune_steps: usize,
    /// Search, evolution and random start from nothing, not from what the solvers find.
    #[arg(long)]
    pub from_scratch: bool,
    /// The data are a hard set: 3x3 kernels get patterns, where the target is fast with them. Without it and --easy, a set of more than 100 classes is hard.
    #[arg(long, conflicts_with = "easy")]
    pub hard: bool,
    /// The data are an easy set: 3x3 kernels get punched blocks.
    #[arg(long)]
    pub easy: bool,
    /// How much longer (share) a small block may take than one block over all filters, in the rules.
    #[arg(long, value_name = "SHARE", default_value_t = MapSettings::default().beta)]
    pub beta: f64,
    /// The measured latency is to end in [budget·(1 − tolerance), budget]; where no mapping lies there, as near below the budget as
    /// was found.
    #[arg(long, value_name = "SHARE", default_value_t = defaults().tolerance)]
    pub tolerance: f64,
    /// Held-out images on which candidates are judged.
    #[arg(long, value_name = "N", default_value_t = defaults().score_images)]
    pub score_images: usize,
    /// Training batches on which a candidate's BatchNorm is re-estimated before it is judged.
    #[arg(long, value_name = "N", default_value_t = defaults().score_batches)]
    pub score_batches: usize,
    /// Images per such batch.
    #[arg(long, value_name = "N", default_value_t = defaults().recipe.batch_size)]
    pub batch_size: usize,
    /// Candidates scored at a time; 0: one per core. Latency is measured one at a time whatever this says.
    #[arg(long, value_name = "N", default_value_t = defaults().workers)]
    pub workers: usize,
    /// Share of the training data held out for choosing.
    #[arg(long, value_name = "SHARE", default_value_t = defaults().holdout)]
    pub holdout: f64,
    #[command(flatten)]
    pub measuring: MeasuringArgs,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = defaults().seed)]
    pub seed: u64,
}

impl MapArgs {
    /// As the library wants them.
    ///
    /// # Errors
    /// Settings outside their range, by flag.
    pub fn settings(&self) -> Result<(Settings, MapSettings)> {
        let data = self.data.data.as_ref();
        let settings = Settings {
            model: self.model.clone(),
            data: data.map(ToString::to_string),
            preprocess: self.data.preprocess.clone(),
            target: self.target.spec().to_string(),
            // Where weights are limited, any latency budget that no network meets as it is will do.
            budget: self.budget.unwrap_or(Budget::Share(0.999)),
            tolerance: self.tolerance,
            latency_batch: self.measuring.latency_batch,
            criterion: Criterion::Magnitude,
            score_images: self.score_images,
            score_batches: self.score_batches,
            workers: self.workers,
            calibration_networks: self.measuring.calibration_networks,
            holdout: self.holdout,
            // Nothing is trained.
            recipe: train::Recipe { epochs: 0.0, batch_size: self.batch_size, augment: augment("auto", data), ..defaults().recipe },
            seed: self.seed,
            table: self.measuring.table.clone(),
            patience_s: self.measuring.patience,
            worker: Some(files::worker()?),
            ..defaults()
        };
        let map = MapSettings {
            by: self.by,
            compression: self.compression,
            evaluations: self.evaluations,
            hard: (self.hard || self.easy).then_some(self.hard),
            beta: self.beta,
            tune_steps: self.tune_steps,
            seeded: !self.from_scratch,
        };
        let usage = |e: secateur::Error| Failure::Usage(e.to_string());
        settings.check().map_err(usage)?;
        map.check(&settings).map_err(usage)?;
        Ok((settings, map))
    }
}
