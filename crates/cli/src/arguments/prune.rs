//! The flags of the main job. Their defaults are those of the library's settings.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use secateur::{Budget, Criterion, Grid, Keep, LossKind, Method, Recover, SchemeJob, Settings, SizeBudget, Solver};
use train::data::{Augment, DataSpec};
use train::loss::Distill;
use train::optim::Optimizer;

use super::{DataArgs, MeasuringArgs, SchemeArgs, TargetArgs};
use crate::failure::{Failure, Result};
use crate::files::{self, Shape};

fn defaults() -> Settings {
    Settings::default()
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// What the network may cost: a time (5ms, 800us), a share of the dense latency (50%), or a speed-up (2x).
    #[arg(long, value_name = "BUDGET", required_unless_present_any = ["budget_params", "scheme", "mapping"])]
    pub budget: Option<Budget>,
    /// What it may weigh instead: a share of its parameters (70%) or a number (250k). By magnitude, nothing measured, data only to recover; needs --epochs 0.
    #[arg(long, value_name = "SIZE", conflicts_with = "budget")]
    pub budget_params: Option<SizeBudget>,
    /// Write the masked twin (twin.onnx), too, to compare the result with it in other tools (with --budget-params).
    #[arg(long, requires = "budget_params")]
    pub write_twin: bool,
    /// Shape of an input that the file leaves open (with --budget-params); may be repeated.
    #[arg(long, value_name = "NAME=D0,D1,…", requires = "budget_params")]
    pub shape: Vec<Shape>,
    #[command(flatten)]
    pub schemes: SchemeArgs,
    #[command(flatten)]
    pub job: JobArgs,
}

#[derive(Debug, Args)]
pub struct ParetoArgs {
    /// The least budget: a time, a share of the dense latency, or a speed-up.
    #[arg(long, value_name = "BUDGET", default_value = "30%")]
    pub from: Budget,
    /// The largest budget, a share of the dense latency.
    #[arg(long, value_name = "SHARE", default_value = "90%")]
    pub to: Budget,
    /// Budgets between the two, both among them.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub budgets: u32,
    #[command(flatten)]
    pub job: JobArgs,
}

/// What a network is pruned with.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// The trained ONNX file.
    pub model: PathBuf,
    /// Directory for what comes out (a run's models, plans, reports and journal); must be new or empty.
    #[arg(long, short, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = defaults().seed)]
    pub seed: u64,
    #[command(flatten)]
    pub choice: ChoiceArgs,
    #[command(flatten)]
    pub tuning: TuningArgs,
}

/// How it is decided what goes.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is pruned")]
pub struct ChoiceArgs {
    /// The measured latency ends in [budget·(1 − tolerance), budget]; where the latency steps are coarser than that, as near below
    /// the budget as was found, which the answer says.
    #[arg(long, value_name = "SHARE", default_value_t = defaults().tolerance)]
    pub tolerance: f64,
    /// halp: saliency against latency; archtree: a tree measured at every level; lacp: evolution from the dense network;
    /// evolution: halp's steps, and for the last one an evolution from the joint solver's answers; race: halp's steps, and for the last
    /// one several answers trained a little, the worse half dropped, until one is left; auto: what is known to end
    /// best, which is halp; uniform and flops (one width fraction; multiply-accumulates): controls.
    #[arg(long, default_value_t = defaults().method, value_parser = PossibleValuesParser::new(Method::NAMES).try_map(|s| s.parse::<Method>()))]
    pub method: Method,
    /// joint: widths and branches together, exactly; exact: prefix choice with input widths frozen; published: HALP's greedy programme.
    #[arg(long, default_value_t = defaults().solver, value_parser = PossibleValuesParser::new(Solver::NAMES).try_map(|s| s.parse::<Solver>()))]
    pub solver: Solver,
    /// What a channel is worth; taylor-* need data, the others only the weights.
    #[arg(long, default_value = "taylor-bn", value_parser = PossibleValuesParser::new(Criterion::NAMES).try_map(|s| s.parse::<Criterion>()))]
    pub criterion: Criterion,
    /// Pruning steps on the way to the budget.
    #[arg(long, value_name = "N", default_value_t = defaults().steps)]
    pub steps: usize,
    /// Mini-batches per step on which saliency is collected, the network training meanwhile.
    #[arg(long, value_name = "N", default_value_t = defaults().step_batches)]
    pub step_batches: usize,
    /// Channels pruned together; 0: by the width of the group.
    #[arg(long, value_name = "N", default_value_t = defaults().chunk)]
    pub chunk: usize,
    /// Leave widths as the method chose them, also where more channels take the same time.
    #[arg(long)]
    pub no_round_up: bool,
    /// Keep all residual branches; only widths change.
    #[arg(long)]
    pub no_depth: bool,
    /// Leave as it is: heads (the number of heads of attentions), head-width (their width), or what the layer of this name writes;
    /// may be repeated.
    #[arg(long, value_name = "WHAT")]
    pub keep: Vec<Keep>,
    /// Held-out images on which candidates, and the damage of removing a branch, are judged.
    #[arg(long, value_name = "N", alias = "damage-images", default_value_t = defaults().score_images)]
    pub score_images: usize,
    /// Training batches on which a candidate's BatchNorm is re-estimated before it is judged.
    #[arg(long, value_name = "N", default_value_t = defaults().score_batches)]
    pub score_batches: usize,
    /// Candidates scored at a time; 0: one per core. Latency is measured one at a time whatever this says.
    #[arg(long, value_name = "N", default_value_t = defaults().workers)]
    pub workers: usize,
    /// Widths that archtree, lacp and evolution choose among.
    #[arg(long, default_value_t = defaults().grid, value_parser = PossibleValuesParser::new(Grid::NAMES).try_map(|s| s.parse::<Grid>()))]
    pub grid: Grid,
    /// Sub-networks that archtree keeps per level; 1: a greedy descent.
    #[arg(long, value_name = "N", default_value_t = defaults().beam)]
    pub beam: usize,
    /// Levels of archtree between the dense latency and the budget.
    #[arg(long, value_name = "N", default_value_t = defaults().levels)]
    pub levels: usize,
    /// Candidates per generation of lacp and evolution.
    #[arg(long, value_name = "N", default_value_t = defaults().population)]
    pub population: usize,
    /// Generations of lacp and evolution.
    #[arg(long, value_name = "N", default_value_t = defaults().generations)]
    pub generations: usize,
    /// Answers of the joint solver that archtree and evolution add to their candidates.
    #[arg(long, value_name = "N", default_value_t = defaults().seeds)]
    pub seeds: usize,
    /// Networks at the budget that enter a race, at most.
    #[arg(long, value_name = "N", default_value_t = defaults().contenders)]
    pub contenders: usize,
    #[command(flatten)]
    pub measuring: MeasuringArgs,
}

/// Fine-tuning.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fine-tuning")]
pub struct TuningArgs {
    /// Passes over the training data in all, those during pruning included; 0: none (--recover still applies).
    #[arg(long, value_name = "N", default_value_t = defaults().recipe.epochs)]
    pub epochs: f64,
    /// Images per training step.
    #[arg(long, value_name = "N", default_value_t = defaults().recipe.batch_size)]
    pub batch_size: usize,
    /// Highest learning rate; cosine decay to zero after the warm-up.
    #[arg(long, value_name = "RATE", default_value_t = defaults().recipe.lr)]
    pub lr: f32,
    /// sgd (Nesterov momentum 0.9) or adamw.
    #[arg(long, default_value = "sgd", value_parser = ["sgd", "adamw"])]
    pub optimizer: String,
    /// Decay of weights (not of BatchNorm and biases).
    #[arg(long, value_name = "RATE", default_value_t = defaults().recipe.weight_decay)]
    pub weight_decay: f32,
    /// Steps of linear warm-up.
    #[arg(long, value_name = "N", default_value_t = defaults().recipe.warmup_steps)]
    pub warmup_steps: usize,
    /// Label smoothing.
    #[arg(long, value_name = "SHARE", default_value_t = defaults().recipe.label_smoothing)]
    pub label_smoothing: f32,
    /// Largest norm of the gradients; 0: no limit.
    #[arg(long, value_name = "NORM", default_value_t = defaults().recipe.clip_norm.unwrap_or(0.0))]
    pub clip_norm: f32,
    /// auto: labels mixed with the dense network's outputs, those alone where the data have no labels; distill: those alone, labels
    /// are not looked at (neither to choose: by agreement with the dense network).
    #[arg(long, default_value_t = defaults().loss, value_parser = PossibleValuesParser::new(LossKind::NAMES).try_map(|s| s.parse::<LossKind>()))]
    pub loss: LossKind,
    /// Before fine-tuning, or instead with --epochs 0: bn: BatchNorm re-estimated; lsq: layers fitted to the dense network's by least
    /// squares, too, without data on drawn inputs; none.
    #[arg(long, default_value_t = defaults().recover, value_parser = PossibleValuesParser::new(Recover::NAMES).try_map(|s| s.parse::<Recover>()))]
    pub recover: Recover,
    /// Training inputs that least squares are solved on; fewer where the network's values would not fit into memory.
    #[arg(long, value_name = "N", default_value_t = defaults().calibration_images)]
    pub calibration_images: usize,
    /// Learn from the dense network, too: its share of the loss, 0 to 1 (1: no labels are used).
    #[arg(long, value_name = "SHARE", default_value_t = defaults().recipe.distill.map_or(0.0, |d| d.alpha), overrides_with = "no_distill")]
    pub distill: f32,
    /// Learn from labels only; the same as --distill 0.
    #[arg(long, overrides_with = "distill")]
    pub no_distill: bool,
    /// Softening of both networks' outputs in distillation.
    #[arg(long, value_name = "T", default_value_t = defaults().recipe.distill.map_or(4.0, |d| d.temperature))]
    pub temperature: f32,
    /// Changes of training images: auto (by the data set), none, cifar (pad, crop, flip), imagenet (random part, flip).
    #[arg(long, default_value = "auto", value_parser = ["auto", "none", "cifar", "imagenet"])]
    pub augment: String,
    /// Share of the training data held out for choosing; the test split is used for the final line only.
    #[arg(long, value_name = "SHARE", default_value_t = defaults().holdout)]
    pub holdout: f64,
}

impl PruneArgs {
    /// As the library wants them.
    ///
    /// # Errors
    /// As [`JobArgs::settings`].
    pub fn settings(&self) -> Result<Settings> {
        self.job.settings(self.budget.unwrap_or(defaults().budget), self.job.choice.criterion)
    }

    /// The job of schemes and its settings; `None` where no schemes are asked for.
    ///
    /// # Errors
    /// As [`JobArgs::settings`]; a mapping that cannot be read, a rate that its regularity cannot have.
    pub fn scheme_job(&self) -> Result<Option<(Settings, SchemeJob)>> {
        let Some(mapping) = self.schemes.mapping(self.budget)? else { return Ok(None) };
        let s = &self.schemes;
        let job = SchemeJob {
            mapping,
            training: s.scheme_training,
            budget: self.budget,
            meet_budget: s.finds_rates(self.budget),
            reorder: s.reorder_filters,
            balanced: s.balanced,
            penalty: s.penalty,
            penalty_trials: s.penalty_trials,
        };
        // Units go by their norms; no saliency is collected.
        let settings = self.job.settings(self.budget.unwrap_or(defaults().budget), Criterion::Magnitude)?;
        job.check(&settings).map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(Some((settings, job)))
    }
}

impl ParetoArgs {
    /// As the library wants them, the budget being the least.
    ///
    /// # Errors
    /// As [`JobArgs::settings`]; the largest budget is no share.
    pub fn settings(&self) -> Result<(Settings, f64)> {
        match self.to {
            Budget::Share(to) => Ok((self.job.settings(self.from, self.job.choice.criterion)?, to)),
            Budget::Seconds(_) => Err(Failure::Usage("--to is a share of the dense latency, such as 90%".into())),
        }
    }
}

impl JobArgs {
    /// The settings these flags stand for.
    ///
    /// # Errors
    /// Settings outside their range, by flag, or that do not go together.
    pub fn settings(&self, budget: Budget, criterion: Criterion) -> Result<Settings> {
        let settings = self.in_range(budget, criterion)?;
        settings.check().map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(settings)
    }

    /// The same, each within its range; whether they go together is not checked yet.
    ///
    /// # Errors
    /// A setting outside its range, by flag.
    pub fn in_range(&self, budget: Budget, criterion: Criterion) -> Result<Settings> {
        let base = defaults();
        let (c, t) = (&self.choice, &self.tuning);
        let adamw = Optimizer::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let recipe = train::Recipe {
            epochs: t.epochs,
            batch_size: t.batch_size,
            lr: t.lr,
            optimizer: if t.optimizer == "adamw" { adamw } else { base.recipe.optimizer },
            weight_decay: t.weight_decay,
            warmup_steps: t.warmup_steps,
            label_smoothing: t.label_smoothing,
            clip_norm: (t.clip_norm > 0.0).then_some(t.clip_norm),
            distill: t.distill(),
            augment: augment(&t.augment, self.data.data.as_ref()),
            seed: self.seed,
            ..base.recipe
        };
        recipe.check().map_err(|e| Failure::Usage(e.to_string()))?;
        let settings = Settings {
            model: self.model.clone(),
            data: self.data.data.as_ref().map(ToString::to_string),
            preprocess: self.data.preprocess.clone(),
            target: self.target.spec().to_string(),
            budget,
            tolerance: c.tolerance,
            latency_batch: c.measuring.latency_batch,
            method: c.method,
            solver: c.solver,
            criterion,
            steps: c.steps,
            step_batches: c.step_batches,
            chunk: c.chunk,
            round_up: !c.no_round_up,
            depth: !c.no_depth,
            keep: c.keep.clone(),
            score_images: c.score_images,
            score_batches: c.score_batches,
            workers: c.workers,
            grid: c.grid,
            beam: c.beam,
            levels: c.levels,
            population: c.population,
            generations: c.generations,
            seeds: c.seeds,
            contenders: c.contenders,
            calibration_networks: c.measuring.calibration_networks,
            loss: t.loss,
            recover: t.recover,
            calibration_images: t.calibration_images,
            holdout: t.holdout,
            recipe,
            seed: self.seed,
            table: c.measuring.table.clone(),
            patience_s: c.measuring.patience,
            worker: Some(files::worker()?),
        };
        settings.check_ranges().map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(settings)
    }
}

impl TuningArgs {
    fn distill(&self) -> Option<Distill> {
        let share = if self.no_distill { 0.0 } else { self.distill };
        (share > 0.0).then_some(Distill { alpha: share, temperature: self.temperature })
    }
}

/// Changes of training images by name; `auto` goes by the data set.
pub(super) fn augment(name: &str, data: Option<&DataSpec>) -> Augment {
    match (name, data) {
        ("cifar", _) | ("auto", Some(DataSpec::Cifar10(_))) => Augment::cifar(),
        ("imagenet", _) | ("auto", Some(DataSpec::ImageFolder(_))) => Augment::imagenet(),
        // The made-up images are not symmetric: a mirrored one may be of another class.
        ("auto", Some(DataSpec::Synthetic { .. })) => Augment { flip: false, ..Augment::cifar() },
        _ => Augment::none(),
    }
}
