//! The training loop.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::backward::{GradView, Step, backward};
use crate::checkpoint::Checkpoint;
use crate::data::{Batch, Dataset, Split};
use crate::error::{Error, Result};
use crate::evaluate::{all_outputs, best, outputs};
use crate::imitation::Imitation;
use crate::loss::Objective;
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
    let per_epoch = data.len(Split::Train) / recipe.batch_size;
    if per_epoch == 0 {
        // Too few images for one batch: the error says so.
        data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, 0, 0)?;
    }
    let total = (recipe.epochs * per_epoch as f64).round() as usize;
    let lesson = Lesson::new(network, teacher, data, recipe)?;
    let mut course = Course::begin(network, recipe, [per_epoch, total], hooks)?;
    let (began, first) = (Instant::now(), course.done);
    let mut tally = Tally::default();
    let mut stopped = false;
    'epochs: while course.done < total {
        let (epoch, skip) = (course.done / per_epoch, course.done % per_epoch);
        if skip == 0 {
            tally = Tally::default();
        }
        for batch in data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, epoch as u64, skip)? {
            let batch = batch?;
            let step = lesson.backward(network, &batch, recipe.seed.wrapping_add(course.done as u64))?;
            let (loss, hits) = (step.loss, hits(&step, &batch));
            let rate = recipe.schedule.rate(recipe.lr, course.done, total, recipe.warmup_steps);
            let used = course.step(network, step, rate, batch.len(), hooks)?;
            tally.add(used.then_some(loss), hits, batch.len());
            let elapsed = began.elapsed();
            let progress = Progress {
                step: course.done,
                steps: total,
                steps_per_epoch: per_epoch,
                rate,
                loss,
                accuracy: hits as f64 / batch.len().max(1) as f64,
                elapsed,
                left: elapsed.mul_f64((total - course.done) as f64 / (course.done - first).max(1) as f64),
            };
            stopped = hooks.progress.as_mut().is_some_and(|watch| watch(&progress).is_break());
            course.save(network, stopped, hooks)?;
            if stopped {
                break 'epochs;
            }
            if course.done == total {
                break;
            }
        }
    }
    // The next network has other sizes.
    crate::kernels::buffers::release();
    Ok(FitReport {
        steps: course.done,
        dropped: course.dropped,
        loss: tally.loss / tally.counted.max(1) as f64,
        accuracy: tally.right as f64 / tally.seen.max(1) as f64,
        seconds: began.elapsed().as_secs_f64(),
        stopped,
    })
}

/// Images of a batch whose highest output is at their label.
fn hits(step: &Step, batch: &Batch) -> usize {
    let width = step.outputs.len() / batch.len().max(1);
    step.outputs.chunks_exact(width.max(1)).zip(&batch.labels).filter(|(row, l)| best(row) == Some(**l as usize)).count()
}

/// What an epoch came to so far.
#[derive(Default)]
struct Tally {
    loss: f64,
    /// Batches with a loss.
    counted: usize,
    right: usize,
    seen: usize,
}

impl Tally {
    /// Adds a batch; `None` is a loss that was not finite.
    fn add(&mut self, loss: Option<f64>, hits: usize, images: usize) {
        self.loss += loss.unwrap_or(0.0);
        self.counted += usize::from(loss.is_some());
        self.right += hits;
        self.seen += images;
    }
}

/// What a step learns from: labels, a teacher, or the inputs themselves.
struct Lesson<'a> {
    objective: Objective,
    /// The network to imitate.
    imitation: Option<(Imitation, &'a Network)>,
    /// The network whose outputs the objective wants.
    teacher: Option<&'a Network>,
}

impl<'a> Lesson<'a> {
    /// # Errors
    /// A recipe that wants a teacher or labels which are not there, or other classes than the network's.
    fn new(network: &Network, teacher: Option<&'a Network>, data: &Dataset, recipe: &Recipe) -> Result<Self> {
        let imitation = match teacher.filter(|_| recipe.imitate) {
            Some(teacher) => Some((Imitation::of(teacher, data, recipe.temperature(), recipe.seed)?, teacher)),
            None if recipe.imitate => return Err(Error::Recipe("imitation needs a network to imitate; give a teacher".into())),
            None => None,
        };
        if !recipe.mean_squared && imitation.is_none() {
            data.need_labels()?;
            let width = network.output_shape(1)?.iter().skip(1).product();
            data.check_classes(width)?;
        }
        let teacher = teacher.filter(|_| !recipe.imitate && (recipe.distill.is_some() || recipe.mean_squared));
        Ok(Self { objective: recipe.objective(), imitation, teacher })
    }

    fn backward(&self, network: &Network, batch: &Batch, seed: u64) -> Result<Step> {
        if let Some((imitation, reference)) = &self.imitation {
            return imitation.backward(network, batch, &all_outputs(reference, batch)?, Mode::Train, seed);
        }
        let targets = self.teacher.map(|t| outputs(t, batch)).transpose()?;
        backward(network, batch, &self.objective, targets.as_deref(), Mode::Train, seed)
    }
}

/// Where a training stands, and what the next step needs to know of it: what a checkpoint keeps.
struct Course<'a> {
    recipe: &'a Recipe,
    per_epoch: usize,
    total: usize,
    state: State,
    done: usize,
    dropped: usize,
    dropped_in_row: usize,
}

impl<'a> Course<'a> {
    /// From the start, or from the checkpoint where there is one.
    ///
    /// # Errors
    /// A checkpoint of another network or scheme.
    fn begin(network: &mut Network, recipe: &'a Recipe, [per_epoch, total]: [usize; 2], hooks: &mut Hooks<'_>) -> Result<Self> {
        let mut course = Self { recipe, per_epoch, total, state: State::new(network), done: 0, dropped: 0, dropped_in_row: 0 };
        if let Some((path, _)) = &hooks.checkpoint
            && path.is_file()
        {
            let saved = Checkpoint::load(path)?;
            course.done = saved.restore(path, network, &mut course.state)?;
            course.dropped = saved.dropped;
            if let Some(constraint) = &mut hooks.constraint
                && !constraint.restore(&saved.constraint)
            {
                let reason = "it was made under another scheme; remove it to start afresh".into();
                return Err(Error::Checkpoint { path: path.clone(), reason });
            }
        }
        if let Some(constraint) = &mut hooks.constraint {
            constraint.start(network.params_mut(), &mut course.state);
        }
        Ok(course)
    }

    /// Moves the parameters by one step; tells whether it did, or dropped a batch without a finite loss.
    ///
    /// # Errors
    /// Too many dropped in a row.
    fn step(&mut self, network: &mut Network, mut step: Step, rate: f32, images: usize, hooks: &mut Hooks<'_>) -> Result<bool> {
        let recipe = self.recipe;
        let finite = step.loss.is_finite() && step.gradients.iter().flatten().all(|g| g.is_finite());
        self.done += 1;
        if finite {
            self.dropped_in_row = 0;
            if let Some(watch) = &mut hooks.on_gradients {
                watch(&GradView { params: network.params(), gradients: &step.gradients, images });
            }
            if let Some(constraint) = &mut hooks.constraint {
                constraint.gradients(network.params(), &mut step.gradients);
            }
            clip(&mut step.gradients, recipe.clip_norm);
            recipe.optimizer.step(network.params_mut(), &step.gradients, &mut self.state, rate, recipe.weight_decay);
            network.update_running(&step.statistics);
        } else {
            self.dropped += 1;
            self.dropped_in_row += 1;
            if self.dropped_in_row >= PATIENCE {
                let epoch = (self.done - 1) / self.per_epoch;
                return Err(Error::Diverged { dropped: self.dropped_in_row, epoch, step: self.done });
            }
        }
        if let Some(constraint) = &mut hooks.constraint {
            constraint.after(network.params_mut(), &mut self.state, self.done, self.total);
        }
        Ok(finite)
    }

    /// Writes the checkpoint when it is due: every so many steps, at the end, and when training is `stopped`.
    fn save(&self, network: &Network, stopped: bool, hooks: &Hooks<'_>) -> Result<()> {
        let Some((path, every)) = &hooks.checkpoint else { return Ok(()) };
        if stopped || self.done == self.total || self.done.is_multiple_of((*every).max(1)) {
            let held = hooks.constraint.as_ref().map_or_else(Vec::new, |c| c.state());
            Checkpoint::of(network, &self.state, self.done, self.dropped, held).save(path)?;
        }
        Ok(())
    }
}
