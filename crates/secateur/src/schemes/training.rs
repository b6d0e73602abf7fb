//! How weights get to their schemes: at once, gradually, or under a penalty first.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use graph::Model;
use graph::scheme::{Mask, Regularity, Threshold, Weighted, all_scores, global, valley};
use serde::{Deserialize, Serialize};
use train::sparse::{Constraint, Gradual, Masks, Reweighted, Target, bisect};
use train::{Hooks, Network, Progress, Recipe};

use super::work::Work;
use crate::error::{Error, Result};
use crate::evaluator::Score;
use crate::learning::{Learning, Split};
use crate::settings::{Recover, SchemeTraining};
use crate::tuning::{CHECKPOINT_EVERY, told, undone};

/// Share of the steps after which a gradual training has arrived.
const ARRIVED: f64 = 0.6;
/// Projections on the way of a gradual training.
const PROJECTIONS: usize = 20;
/// Share of the steps that a reweighted training spends under the penalty.
const PENALISED: f64 = 0.5;
/// Times that the weights of the penalty are renewed.
const RENEWALS: usize = 8;
/// ε of the penalty: scores of trained units are some hundredths.
const EPSILON: f64 = 1e-3;
/// How near to the wanted compression a penalty must bring the valley of the histogram.
const CLOSE: f64 = 0.05;
/// λ is sought within this factor of what was given, to both sides.
const REACH: f64 = 100.0;
/// Compressions that are measured to meet a latency, between none and the largest.
const MEETINGS: usize = 14;
const MOST: f64 = 64.0;

/// A network that has its schemes.
pub(super) struct Trained {
    pub model: Model,
    /// By weight tensor.
    pub masks: BTreeMap<String, Mask>,
    /// Held-out figure with BatchNorm re-estimated, before the last training with fixed masks, percent.
    pub holdout_before: Option<f64>,
    /// Held-out figure in the end, percent.
    pub holdout_after: Option<f64>,
    /// λ of the penalty, where there was one.
    pub penalty: Option<f64>,
}

/// A trial of the penalty, in the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    lambda: f64,
    /// Compression at the valley of the histogram; 1 where there is none.
    compression: f64,
    /// How far beyond what is wanted the network cut there is: in compression, or in speed where a latency is to be met.
    off: f64,
    file: String,
}

impl Work<'_> {
    /// Takes `start` to its schemes.
    pub fn train(&mut self, start: &Model) -> Result<Trained> {
        let steps = self.learning.as_ref().map_or(0, |l| l.steps(&self.settings));
        match self.job.training {
            SchemeTraining::OneShot => {
                let masks = self.projected(start)?;
                self.tune(start, masks, steps, None)
            }
            SchemeTraining::Gradual => self.gradual(start, steps),
            SchemeTraining::Reweighted => {
                let first = (steps as f64 * PENALISED).round() as usize;
                let (model, lambda) = self.penalised(start, first)?;
                let masks = self.thresholded(&model)?;
                self.tune(&model, masks, steps - first, Some(lambda))
            }
        }
    }

    fn projected(&self, model: &Model) -> Result<BTreeMap<String, Mask>> {
        let mask = |a: &super::mapping::Assigned| {
            let weights = Self::weights(model, &a.layer)?;
            Ok((a.layer.tensor.clone(), a.scheme.project(&weights, &a.layer.shape, self.balance())))
        };
        self.sparse().map(mask).collect()
    }

    /// Re-estimates BatchNorm and trains with the masks fixed.
    fn tune(&mut self, start: &Model, masks: BTreeMap<String, Mask>, steps: usize, penalty: Option<f64>) -> Result<Trained> {
        let mut model = Self::masked(start, &masks)?;
        let Some(learning) = self.learning.clone() else {
            return Ok(Trained { model, masks, holdout_before: None, holdout_after: None, penalty });
        };
        let mut network = Network::compile(&model)?;
        if self.settings.recover != Recover::None && learning.can_reestimate(&network) {
            self.stage("re-estimating BatchNorm")?;
            learning.reestimate(&mut network, &self.settings)?;
            network.write_back(&mut model)?;
        }
        let holdout_before = self.holdout("holdout before", &learning, &model)?;
        if steps == 0 {
            return Ok(Trained { model, masks, holdout_before, holdout_after: holdout_before, penalty });
        }
        let mut held = Masks::new(&network, masks.clone())?;
        let tuned = self.fitted("fine-tuning", "tuned.onnx", &model, &mut held, steps)?;
        let holdout_after = self.holdout("holdout after", &learning, &tuned)?;
        if let (Some(before), Some(after)) = (holdout_before, holdout_after)
            && after < before
        {
            self.note(undone(before, after));
            return Ok(Trained { model, masks, holdout_before, holdout_after: holdout_before, penalty });
        }
        Ok(Trained { model: tuned, masks, holdout_before, holdout_after, penalty })
    }

    fn gradual(&mut self, start: &Model, steps: usize) -> Result<Trained> {
        let targets: Vec<Target> =
            self.sparse().map(|a| Target { tensor: a.layer.tensor.clone(), shape: a.layer.shape.clone(), scheme: a.scheme }).collect();
        let every = (steps as f64 * ARRIVED / PROJECTIONS as f64).ceil() as usize;
        let mut gradual = Gradual::new(targets.clone(), self.balance(), ARRIVED, every);
        let model = self.fitted("training on the way to the schemes", "tuned.onnx", start, &mut gradual, steps)?;
        // A training that was found done left its masks as zeros.
        let masks = if gradual.masks().by_name().is_empty() { self.of_zeros(&model)? } else { gradual.masks().by_name().clone() };
        let holdout_after = match self.learning.clone() {
            Some(l) => self.holdout("holdout after", &l, &model)?,
            None => None,
        };
        Ok(Trained { model, masks, holdout_before: None, holdout_after, penalty: None })
    }

    /// The masks of a network that has its schemes: units of zeros are gone.
    fn of_zeros(&self, model: &Model) -> Result<BTreeMap<String, Mask>> {
        let mask = |a: &super::mapping::Assigned| {
            let weights = Self::weights(model, &a.layer)?;
            let found = if a.scheme.regularity == Regularity::Pattern {
                Mask::of_non_zeros(&weights)
            } else {
                let units = a.scheme.regularity.units(&a.layer.shape);
                let gone: Vec<bool> = units.scores(&weights).iter().map(|s| *s == 0.0).collect();
                units.without(&gone)
            };
            Ok((a.layer.tensor.clone(), found))
        };
        self.sparse().map(mask).collect()
    }

    /// Trains under the penalty, at λ as given or as bisection finds it; with λ.
    fn penalised(&mut self, start: &Model, steps: usize) -> Result<(Model, f64)> {
        let given = self.job.penalty;
        if self.job.penalty_trials == 0 {
            return Ok((self.under_penalty(start, given, 0, steps)?, given));
        }
        let mut trials: Vec<Trial> = Vec::new();
        let lambda = bisect(given / REACH..=given * REACH, self.job.penalty_trials, |lambda| -> Result<Ordering> {
            let k = trials.len() + 1;
            let name = format!("penalty trial {k}");
            let trial: Trial = match self.run.journal.recall(&name)? {
                Some(done) => done,
                None => {
                    let model = self.under_penalty(start, lambda, k, steps)?;
                    let (compression, off) = self.at_valley(&model)?;
                    let trial = Trial { lambda, compression, off, file: penalised_file(k) };
                    self.run.journal.record(&name, &trial, 0.0)?;
                    trial
                }
            };
            let off = trial.off;
            self.note(format!(
                "penalty {:.2e}: compression {:.2} at the valley, {off:.2} times what is wanted",
                trial.lambda, trial.compression
            ));
            trials.push(trial);
            Ok(if (off - 1.0).abs() <= CLOSE { Ordering::Equal } else { off.total_cmp(&1.0) })
        })?;
        // The trial at λ; where all were too weak, the strongest.
        // Numbers that were in the journal come back rounded.
        let at = |t: &&Trial| (t.lambda / lambda - 1.0).abs() < 1e-9;
        let best = trials.iter().find(at).or_else(|| trials.iter().max_by(|a, b| a.lambda.total_cmp(&b.lambda)));
        let best = best.ok_or_else(|| Error::Setting("--penalty-trials tried nothing".into()))?;
        Ok((Model::load(self.run.file(&best.file)?)?, best.lambda))
    }

    fn under_penalty(&mut self, start: &Model, lambda: f64, trial: usize, steps: usize) -> Result<Model> {
        let units = self.sparse().map(|a| (a.layer.tensor.clone(), a.scheme.regularity.units(&a.layer.shape))).collect();
        let mut penalty = Reweighted::new(units, lambda, EPSILON, steps.div_ceil(RENEWALS));
        self.fitted(&format!("training under the penalty {lambda:.2e}"), &penalised_file(trial), start, &mut penalty, steps)
    }

    /// Compression of all layers together that their schemes come to.
    fn wanted(&self) -> f64 {
        let (all, kept) = self.sparse().fold((0.0, 0.0), |(all, kept), a| {
            let n = a.layer.weights() as f64;
            (all + n, kept + n / a.scheme.rate)
        });
        all / kept
    }

    fn with_weights<T>(&self, model: &Model, work: impl FnOnce(&[Weighted]) -> T) -> Result<T> {
        let weights: Vec<Vec<f32>> = self.sparse().map(|a| Self::weights(model, &a.layer)).collect::<Result<_>>()?;
        let views: Vec<Weighted> = self
            .sparse()
            .zip(&weights)
            .map(|(a, weights)| Weighted { weights, shape: &a.layer.shape, regularity: a.scheme.regularity })
            .collect();
        Ok(work(&views))
    }

    /// The masks of all layers under one threshold, by tensor.
    fn cut_at(&self, model: &Model, threshold: Threshold) -> Result<BTreeMap<String, Mask>> {
        let masks = self.with_weights(model, |views| global(views, threshold))?;
        Ok(self.sparse().map(|a| a.layer.tensor.clone()).zip(masks).collect())
    }

    /// Compression of the network cut at the valley of its histogram, and how far beyond what is wanted it is.
    fn at_valley(&mut self, model: &Model) -> Result<(f64, f64)> {
        let valley = self.with_weights(model, |views| valley(&all_scores(views)))?;
        let masks = valley.map(|cut| self.cut_at(model, Threshold::Score(cut))).transpose()?;
        let compression = masks.as_ref().map_or(1.0, |masks| {
            let all: usize = masks.values().map(Mask::len).sum();
            all as f64 / masks.values().map(Mask::kept).sum::<usize>().max(1) as f64
        });
        if !self.job.meet_budget {
            return Ok((compression, compression / self.wanted()));
        }
        let share = match &masks {
            Some(masks) => self.share(&Self::masked(model, masks)?)?,
            None => 1.0,
        };
        Ok((compression, self.budget_share()? / share))
    }

    /// The least compression of all layers together at which the network, cut by one threshold, is measured within the budget.
    ///
    /// # Errors
    /// [`Error::BudgetNotReached`].
    fn compression_at_budget(&mut self, model: &Model) -> Result<f64> {
        self.stage("meeting the budget as measured")?;
        let (budget, dense_s) = (self.budget_share()?, self.dense_s.unwrap_or_default());
        let landing = self.settings.landing(budget);
        let mut measured: Vec<(f64, f64)> = Vec::new();
        bisect(1.0..=MOST, MEETINGS, |compression| -> Result<Ordering> {
            let masks = self.cut_at(model, Threshold::Rate(compression))?;
            let share = self.share(&Self::masked(model, &masks)?)?;
            measured.push((compression, share));
            self.note(format!("compression {compression:.2}: {:.1} % of the dense latency", 100.0 * share));
            Ok(match share {
                s if s > *landing.end() => Ordering::Less,
                s if s < *landing.start() => Ordering::Greater,
                _ => Ordering::Equal,
            })
        })?;
        let within = measured.iter().filter(|m| m.1 <= budget).map(|m| m.0).min_by(f64::total_cmp);
        let least = measured.iter().map(|m| m.1 * dense_s).min_by(f64::total_cmp);
        within.ok_or(Error::BudgetNotReached { budget_s: budget * dense_s, best_s: least })
    }

    /// One threshold for all layers, at the compression that the schemes come to, or that the budget asks for; each layer's rate
    /// falls out.
    fn thresholded(&mut self, model: &Model) -> Result<BTreeMap<String, Mask>> {
        let compression = if self.job.meet_budget { self.compression_at_budget(model)? } else { self.wanted() };
        let named = self.cut_at(model, Threshold::Rate(compression))?;
        for a in self.assigned.iter_mut().filter(|a| !a.scheme.is_dense()) {
            if let Some(mask) = named.get(&a.layer.tensor) {
                a.scheme.rate = mask.rate();
            }
        }
        // A layer of which nothing went is dense from here on.
        let stays: Vec<String> = self.assigned.iter().filter(|a| a.scheme.is_dense()).map(|a| a.layer.tensor.clone()).collect();
        Ok(named.into_iter().filter(|(name, _)| !stays.contains(name)).collect())
    }

    /// `start` trained for `steps` steps under `constraint`, left in `file`; found there if the journal says that it is done.
    fn fitted(&mut self, what: &str, file: &str, start: &Model, constraint: &mut dyn Constraint, steps: usize) -> Result<Model> {
        let step = format!("trained {file}");
        if self.run.journal.recall::<usize>(&step)?.is_some() {
            return Ok(Model::load(self.run.file(file)?)?);
        }
        self.stage(what)?;
        let learning = self.learning.clone().ok_or_else(|| Error::Setting("training needs `--data`".into()))?;
        let recipe: Recipe = learning.recipe_for(&self.settings, steps);
        let checkpoint = self.run.file(&format!("{file}.checkpoint"))?;
        let mut network = Network::compile(start)?;
        let began = std::time::Instant::now();
        let observer = self.observer();
        let mut progress = |p: &Progress| told(observer, p);
        let mut hooks = Hooks {
            progress: Some(&mut progress),
            checkpoint: Some((checkpoint.clone(), CHECKPOINT_EVERY)),
            constraint: Some(constraint),
            ..Hooks::default()
        };
        train::fit(&mut network, Some(learning.teacher()), learning.data(), &recipe, &mut hooks)?;
        self.heed_stop()?;
        let mut model = start.clone();
        network.write_back(&mut model)?;
        self.run.write_model(file, &model)?;
        self.run.journal.record(&step, &steps, began.elapsed().as_secs_f64())?;
        // It has served; what cannot be removed does no harm.
        let _ = std::fs::remove_file(checkpoint);
        Ok(model)
    }
}

fn penalised_file(trial: usize) -> String {
    format!("steps/penalised-{trial}.onnx")
}

impl Work<'_> {
    /// Held-out figure of a network, percent; recorded.
    fn holdout(&self, step: &str, learning: &Learning, model: &Model) -> Result<Option<f64>> {
        self.run.journal.step(step, || learning.score(model, learning.choosing(), None).map(|s| Some(s.percent)))
    }

    /// Score of a network on the test split, recorded. `None` without data.
    pub fn test_score(&mut self, name: &str, model: &Model) -> Result<Option<Score>> {
        let Some(learning) = self.learning.clone() else { return Ok(None) };
        self.stage(&format!("test {} of the {name} network", learning.judge().figure().name()))?;
        self.run.journal.step(&format!("test score {name}"), || learning.score(model, Split::Test, None).map(Some))
    }
}
