//! What a run was asked to do. Saved as `config.json` in the run directory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::saliency::Criterion;
use crate::scope::Keep;

/// How widths and branches are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Saliency against latency (Shen et al., NeurIPS 2022), stepwise.
    #[default]
    Halp,
    /// One width fraction for all groups: the control.
    Uniform,
    /// The same saliency against multiply-accumulates: the control.
    Flops,
    /// A tree of sub-networks, latency measured at every level (after Reboul et al., 2023).
    Archtree,
    /// Evolution over widths under a latency limit (after Liu et al., 2021).
    Lacp,
    /// HALP's steps, and for the last one the evolution, started from the joint solver's answers.
    Evolution,
    /// HALP's steps, and for the last one several answers, trained a little, of which the best goes on.
    Race,
    /// What ends best after fine-tuning as far as is known: HALP.
    Auto,
}

impl Method {
    /// It goes to the budget in `--steps` steps.
    pub(crate) fn is_stepwise(self) -> bool {
        matches!(self, Self::Halp | Self::Flops | Self::Evolution | Self::Race | Self::Auto)
    }

    /// It cannot do without scores of candidates on held-out images.
    fn scores_candidates(self) -> bool {
        matches!(self, Self::Archtree | Self::Lacp | Self::Evolution | Self::Race)
    }
}

/// The widths that a search may give a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grid {
    /// Multiples of the chunk.
    #[default]
    Chunk,
    /// The right edges of the latency staircase.
    Kept,
    /// All.
    All,
}

/// How the choice of one step is solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// The published greedy programme with precedence, input widths frozen.
    Published,
    /// The same linearised problem, solved exactly.
    Exact,
    /// Input and output widths and removed branches chosen together, exactly.
    #[default]
    Joint,
}

/// How weights get to their schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeTraining {
    /// Projected at once, then trained with the masks fixed.
    #[default]
    OneShot,
    /// Projected to growing rates while training, on a cubic schedule.
    Gradual,
    /// Trained under a reweighted group penalty first; one threshold for all layers then, and training with the masks fixed.
    Reweighted,
}

/// What is done to a cut network before it is fine-tuned, or instead of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recover {
    /// Nothing.
    None,
    /// BatchNorm statistics are taken anew.
    #[default]
    Bn,
    /// Layers are fitted to the dense network's by least squares, too; the best on held-out inputs goes on.
    Lsq,
}

/// What is learnt from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Labels mixed with the dense network's outputs; those alone where the data have no labels.
    #[default]
    Auto,
    /// The dense network's outputs alone: labels are not looked at, neither for training nor for choosing.
    Distill,
}

/// The names that values are given by and told by.
macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),*) => {
        impl $type {
            /// All, by the names they are given by.
            pub const NAMES: &[&str] = &[$($name),*];
        }

        impl std::str::FromStr for $type {
            type Err = Error;

            fn from_str(s: &str) -> Result<Self> {
                match s {
                    $($name => Ok(Self::$variant),)*
                    _ => Err(Error::Setting(format!(concat!("`{}` is not a ", $what, "; there are ", $("`", $name, "` "),*), s))),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $name),* })
            }
        }
    };
}
named!(
    Method,
    "method",
    Halp = "halp",
    Archtree = "archtree",
    Lacp = "lacp",
    Evolution = "evolution",
    Race = "race",
    Auto = "auto",
    Uniform = "uniform",
    Flops = "flops"
);
named!(Grid, "grid of widths", Chunk = "chunk", Kept = "kept", All = "all");
named!(SchemeTraining, "training to a scheme", OneShot = "one-shot", Gradual = "gradual", Reweighted = "reweighted");
named!(Recover, "recovery", None = "none", Bn = "bn", Lsq = "lsq");
named!(LossKind, "loss", Auto = "auto", Distill = "distill");
pub(crate) use named;

named!(Solver, "solver", Joint = "joint", Exact = "exact", Published = "published");

/// Everything a run depends on besides the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Settings {
    /// The dense network.
    pub model: PathBuf,
    /// Data, as `cifar10:DIR`, `imagefolder:DIR`, `npz:FILE`, `synthetic` or `drawn`; none for pruning without data.
    pub data: Option<String>,
    /// Preprocessing preset of the network.
    pub preprocess: String,
    /// The target, as `engine`, `tract`, `ort` or `command:…`.
    pub target: String,
    /// What the network may cost.
    pub budget: Budget,
    /// The final latency lies in `[budget·(1 − tolerance), budget]`, or as near below as the steps of the target allow.
    pub tolerance: f64,
    /// Batch size the latency is meant for.
    pub latency_batch: usize,
    /// How widths and branches are chosen.
    pub method: Method,
    /// How the choice of one step is solved.
    pub solver: Solver,
    /// What channels are worth.
    pub criterion: Criterion,
    /// Pruning steps on the way to the budget.
    pub steps: usize,
    /// Mini-batches per step for saliency, the network training meanwhile.
    pub step_batches: usize,
    /// Channels pruned together; 0: by the width of the group.
    pub chunk: usize,
    /// Widths that `archtree`, `lacp` and `evolution` choose among.
    pub grid: Grid,
    /// Sub-networks kept per level by `archtree`.
    pub beam: usize,
    /// Levels between the dense latency and the budget in `archtree`.
    pub levels: usize,
    /// Candidates per generation of `lacp` and `evolution`.
    pub population: usize,
    /// Generations of `lacp` and `evolution`.
    pub generations: usize,
    /// Answers of the joint solver, with perturbed saliencies, that `archtree` and `evolution` add to their candidates.
    pub seeds: usize,
    /// Networks at the budget that enter a `race`, at most.
    pub contenders: usize,
    /// Widths inside a latency step are raised to the step's right edge in the end.
    pub round_up: bool,
    /// Residual branches may be removed.
    pub depth: bool,
    /// What is left as it is.
    pub keep: Vec<Keep>,
    /// Images of the held-out split on which candidates, and the damage of removing a branch, are judged.
    #[serde(alias = "damage-images")]
    pub score_images: usize,
    /// Training batches on which a candidate's BatchNorm statistics are re-estimated before it is judged.
    pub score_batches: usize,
    /// Candidates scored at a time; 0: one per core.
    pub workers: usize,
    /// Networks measured to calibrate the latency table.
    pub calibration_networks: usize,
    /// What is learnt from.
    pub loss: LossKind,
    /// What is done to the cut network before fine-tuning.
    pub recover: Recover,
    /// Training inputs that least squares are solved on.
    pub calibration_images: usize,
    /// Share of the training data held out for choosing.
    pub holdout: f64,
    /// Fine-tuning.
    pub recipe: train::Recipe,
    /// Seed of everything random.
    pub seed: u64,
    /// Latency table; the user's cache where not given.
    pub table: Option<PathBuf>,
    /// Seconds to wait for a device that is too noisy or slow.
    pub patience_s: f64,
    /// How to start this program again to measure in a process of its own. Not saved: a resumed run gets its own.
    #[serde(skip)]
    pub worker: Option<latency::WorkerCommand>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: PathBuf::new(),
            data: None,
            preprocess: "imagenet".into(),
            target: "engine".into(),
            budget: Budget::Share(0.5),
            tolerance: 0.02,
            latency_batch: 1,
            method: Method::default(),
            solver: Solver::default(),
            criterion: Criterion::default(),
            steps: 4,
            step_batches: 40,
            chunk: 0,
            grid: Grid::default(),
            beam: 4,
            levels: 20,
            population: 50,
            generations: 20,
            seeds: 12,
            contenders: 6,
            round_up: true,
            depth: true,
            keep: Vec::new(),
            score_images: 1000,
            score_batches: 16,
            workers: 0,
            calibration_networks: 12,
            loss: LossKind::default(),
            recover: Recover::default(),
            calibration_images: 512,
            holdout: 0.1,
            recipe: train::Recipe { distill: Some(train::loss::Distill { alpha: 0.9, temperature: 4.0 }), ..train::Recipe::cifar(3.0) },
            seed: 0,
            table: None,
            patience_s: 600.0,
            worker: None,
        }
    }
}

impl Settings {
    /// Candidates scored at a time, and threads for each.
    pub(crate) fn scoring_threads(&self) -> (usize, usize) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = if self.workers == 0 { cores } else { self.workers };
        (workers, cores / workers)
    }

    /// The data of the run: least squares without data and without training are solved on drawn inputs.
    pub fn data(&self) -> Option<&str> {
        let drawn = (self.recover == Recover::Lsq && self.recipe.epochs == 0.0).then_some("drawn");
        self.data.as_deref().or(drawn)
    }

    /// The damage of removing a branch can be measured, and candidates can be scored: there are held-out images for it.
    pub fn measures_branches(&self) -> bool {
        self.data().is_some() && self.score_images > 0
    }

    /// Latencies at which a search for `budget` ends: inside the tolerance, and so far below the budget that measuring again will
    /// not come out above it.
    pub(crate) fn landing(&self, budget: f64) -> std::ops::RangeInclusive<f64> {
        budget * (1.0 - self.tolerance)..=budget * (1.0 - self.tolerance / 4.0)
    }

    /// Checks each setting on its own.
    ///
    /// # Errors
    /// One outside its range, by name.
    pub fn check_ranges(&self) -> Result<()> {
        let range = |name: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(Error::Setting(format!("{name} is {value}; it must lie between {low} and {high}")))
            }
        };
        range("--tolerance", self.tolerance, 0.001, 0.5)?;
        range("--holdout", self.holdout, 0.0, 0.5)?;
        range("--steps", self.steps as f64, 1.0, 1000.0)?;
        range("--beam", self.beam as f64, 1.0, 64.0)?;
        range("--levels", self.levels as f64, 1.0, 1000.0)?;
        range("--population", self.population as f64, 4.0, 10_000.0)?;
        range("--generations", self.generations as f64, 1.0, 10_000.0)?;
        range("--contenders", self.contenders as f64, 1.0, 100.0)?;
        range("--latency-batch", self.latency_batch as f64, 1.0, 4096.0)?;
        range("--calibration-images", self.calibration_images as f64, 1.0, 1e6)?;
        range("--step-batches", self.step_batches as f64, 1.0, 1e6)?;
        range("--patience", self.patience_s, 0.0, 1e7)
    }

    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// As [`Settings::check_ranges`]; settings that do not go together.
    pub fn check(&self) -> Result<()> {
        self.check_ranges()?;
        if self.method.scores_candidates() && !self.measures_branches() {
            return Err(Error::Setting(format!(
                "--method {} judges candidates on held-out images: give `--data`, and --score-images above 0",
                self.method
            )));
        }
        let drawn = self.data().is_some_and(|d| d.starts_with("drawn"));
        if drawn && self.recipe.epochs > 0.0 {
            return Err(Error::Setting(
                "drawn inputs serve to solve for weights, not to train on: give `--data`, or `--epochs 0 --recover lsq`".into(),
            ));
        }
        if self.data().is_none() && (self.recipe.epochs > 0.0 || self.criterion.needs_gradients()) {
            return Err(Error::Setting(
                "fine-tuning and Taylor saliency need data: give `--data`, or `--epochs 0` with `--recover lsq` (on drawn inputs) or \
                 `--criterion magnitude`"
                    .into(),
            ));
        }
        Ok(())
    }
}
