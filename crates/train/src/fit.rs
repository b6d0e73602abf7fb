//! The training loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::backward::{GradView, backward};
use crate::checkpoint::Checkpoint;
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::evaluate::{all_outputs, best, outputs};
use crate::imitation::Imitation;
use crate::network::{Mode, Network};
use crate::optim::{State, clip};
use crate::recipe::Recipe;
use crate::sparse::Constraint;

/// Batches in a row without a finite loss after which training is given up.
const PATIENCE: usize = 20;

/// Where a training stands, after every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done, this one included.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Steps per epoch.
    pub steps_per_epoch: usize,
    /// Learning rate of this step.
    pub rate: f32,
    /// Loss of this batch.
    pub loss: f64,
    /// Share of this batch's images that were right; 0 without labels.
    pub accuracy: f64,
    /// Time since training began (in this process).
    pub elapsed: Duration,
    /// Time left at the present speed.
    pub left: Duration,
}

/// What a training did.
#[derive(Debug, Clone, PartialEq)]
pub struct FitReport {
    /// Steps done in all, those before a resume included.
    pub steps: usize,
    /// Batches dropped because their loss was not finite.
    pub dropped: usize,
    /// Mean loss over the last epoch (or what there was of it).
    pub loss: f64,
    /// Share of right training images over the last epoch; 0 without labels.
    pub accuracy: f64,
    /// Seconds spent in this process.
    pub seconds: f64,
    /// It was stopped before the end.
    pub stopped: bool,
}

/// Called after every step; breaking stops the training (and saves it).
pub type OnProgress<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;
/// Sees parameters and gradients after every backward pass.
pub type OnGradients<'a> = &'a mut dyn FnMut(&GradView<'_>);

/// Who watches a training, and where it is saved.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Called after every step; breaking stops the training (and saves it).
    pub progress: Option<OnProgress<'a>>,
    /// Called after every backward pass.
    pub on_gradients: Option<OnGradients<'a>>,
    /// File to save to and resume from, and steps between two saves.
    pub checkpoint: Option<(PathBuf, usize)>,
    /// What parameters are held to besides the loss: masks, a penalty.
    pub constraint: Option<&'a mut dyn Constraint>,
}

/// Trains `network` on the training part of `data` by `recipe`; `teacher` gives targets where the
/// recipe distils. With a checkpoint that exists, training goes on where it was saved, and ends
/// with the same parameters as an undisturbed run.
///
/// # Errors
/// A recipe or data that do not fit; divergence; a checkpoint that cannot be written.
pub fn fit(network: &mut Network, teacher: Option<&Network>, data: &Dataset, recipe: &Recipe, hooks: &mut Hooks<'_>) -> Result<FitReport> {
    recipe.check()?;
    let objective = recipe.objective();
    let per_epoch = data.len(Split::Train) / recipe.batch_size;
    if per_epoch == 0 {
        // Too few images for one batch: the error says so.
        data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, 0, 0)?;
    }
    let total = (recipe.epochs * per_epoch as f64).round() as usize;
    let imitation = match teacher.filter(|_| recipe.imitate) {
        Some(teacher) => Some(Imitation::of(teacher, data, recipe.temperature(), recipe.seed)?),
        None if recipe.imitate => return Err(Error::Recipe("imitation needs a network to imitate; give a teacher".into())),
        None => None,
    };
    if !recipe.mean_squared && imitation.is_none() {
        data.need_labels()?;
        let width = network.output_shape(1)?.iter().skip(1).product();
        data.check_classes(width)?;
    }
    let mut state = State::new(network);
    let mut done = 0;
    let mut dropped = 0;
    if let Some((path, _)) = &hooks.checkpoint
        && path.is_file()
    {
        let saved = Checkpoint::load(path)?;
        done = saved.restore(path, network, &mut state)?;
        dropped = saved.dropped;
        if let Some(constraint) = &mut hooks.constraint
            && !constraint.restore(&saved.constraint)
        {
            let reason = "it was made under another scheme; remove it to start afresh".into();
            return Err(Error::Checkpoint { path: path.clone(), reason });
        }
    }
    if let Some(constraint) = &mut hooks.constraint {
        constraint.start(network.params_mut(), &mut state);
    }
    let began = Instant::now();
    let first = done;
    let mut dropped_in_row = 0;
    let (mut loss_sum, mut right, mut seen, mut counted) = (0.0, 0usize, 0usize, 0usize);
    let mut stopped = false;
    'epochs: while done < total {
        let (epoch, skip) = (done / per_epoch, done % per_epoch);
        if skip == 0 {
            (loss_sum, right, seen, counted) = (0.0, 0, 0, 0);
        }
        for batch in data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, epoch as u64, skip)? {
            let batch = batch?;
            let targets = match teacher {
                Some(teacher) if !recipe.imitate && (recipe.distill.is_some() || recipe.mean_squared) => Some(outputs(teacher, &batch)?),
                _ => None,
            };
            let seed = recipe.seed.wrapping_add(done as u64);
            let mut step = match (&imitation, teacher) {
                (Some(i), Some(teacher)) => i.backward(network, &batch, &all_outputs(teacher, &batch)?, Mode::Train, seed)?,
                _ => backward(network, &batch, &objective, targets.as_deref(), Mode::Train, seed)?,
            };
            let rate = recipe.schedule.rate(recipe.lr, done, total, recipe.warmup_steps);
            done += 1;
            let finite = step.loss.is_finite() && step.gradients.iter().flatten().all(|g| g.is_finite());
            if finite {
                dropped_in_row = 0;
                if let Some(watch) = &mut hooks.on_gradients {
                    watch(&GradView { params: network.params(), gradients: &step.gradients, images: batch.len() });
                }
                if let Some(constraint) = &mut hooks.constraint {
                    constraint.gradients(network.params(), &mut step.gradients);
                }
                clip(&mut step.gradients, recipe.clip_norm);
                recipe.optimizer.step(network.params_mut(), &step.gradients, &mut state, rate, recipe.weight_decay);
                network.update_running(&step.statistics);
                loss_sum += step.loss;
                counted += 1;
            } else {
                dropped += 1;
                dropped_in_row += 1;
                if dropped_in_row >= PATIENCE {
                    return Err(Error::Diverged { dropped: dropped_in_row, epoch, step: done });
                }
            }
            if let Some(constraint) = &mut hooks.constraint {
                constraint.after(network.params_mut(), &mut state, done, total);
            }
            let width = step.outputs.len() / batch.len().max(1);
            let hits = step.outputs.chunks_exact(width.max(1)).zip(&batch.labels).filter(|(row, l)| best(row) == **l as usize).count();
            right += hits;
            seen += batch.len();
            let elapsed = began.elapsed();
            let progress = Progress {
                step: done,
                steps: total,
                steps_per_epoch: per_epoch,
                rate,
                loss: step.loss,
                accuracy: hits as f64 / batch.len().max(1) as f64,
                elapsed,
                left: elapsed.mul_f64((total - done) as f64 / (done - first).max(1) as f64),
            };
            stopped = hooks.progress.as_mut().is_some_and(|watch| watch(&progress).is_break());
            if let Some((path, every)) = &hooks.checkpoint
                && (stopped || done == total || done.is_multiple_of((*every).max(1)))
            {
                let held = hooks.constraint.as_ref().map_or_else(Vec::new, |c| c.state());
                Checkpoint::of(network, &state, done, dropped, held).save(path)?;
            }
            if stopped {
                break 'epochs;
            }
            if done == total {
                break;
            }
        }
    }
    // The next network has other sizes.
    crate::kernels::buffers::release();
    Ok(FitReport {
        steps: done,
        dropped,
        loss: loss_sum / counted.max(1) as f64,
        accuracy: right as f64 / seen.max(1) as f64,
        seconds: began.elapsed().as_secs_f64(),
        stopped,
    })
}
