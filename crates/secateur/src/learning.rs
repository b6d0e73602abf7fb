//! Data and training of a run: saliency while training, damage of removed branches, recovery, accuracy.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use graph::{BranchId, Decision, InputShapes, Model, NamedDecision, Tensor};
use serde::{Deserialize, Serialize};
pub use train::data::Split;
use train::data::{DataSpec, Dataset, Normalization, Options, Texture};
use train::schedule::Schedule;
use train::{GradView, Hooks, Imitation, Mode, Network, Progress, Recipe};

use crate::choice::{Space, Values};
use crate::error::{Error, Result};
use crate::evaluator::{Effort, Evaluator, Judge, LocalScorer, Score};
use crate::events::{Event, Observer};
use crate::plan::Cut;
use crate::recovery::Recovery;
use crate::saliency::{Saliency, Sources, TaylorAccumulator};
use crate::session::Session;
use crate::settings::{LossKind, Method, Recover, Settings};
use crate::stage::Stage;

/// The data of a run, prepared for its network, and the dense network as teacher.
#[derive(Debug, Clone)]
pub struct Learning {
    data: Dataset,
    dense: Model,
    teacher: Network,
    judge: Judge,
    drawn: Option<String>,
}

/// Steps between two checkpoints.
pub(crate) const CHECKPOINT_EVERY: usize = 50;

impl Learning {
    /// Opens the data for the dense network.
    ///
    /// # Errors
    /// Data that are not there or do not fit the network.
    pub fn open(spec: &str, settings: &Settings, dense: &Model) -> Result<Self> {
        let teacher = Network::compile(dense)?;
        let normalization: Normalization = settings.preprocess.parse()?;
        let options = Options { holdout: settings.holdout, seed: settings.seed, ..Options::for_network(&teacher, normalization)? };
        let mut drawn = None;
        let data = match (spec.parse::<DataSpec>()?, settings.loss) {
            (DataSpec::Drawn { count, seed }, _) => {
                let matched = Texture::matched(&teacher, &options, seed)?;
                let (texture, text) = texture_told(matched, &settings.preprocess);
                drawn = Some(text);
                Dataset::drawn(options, texture, count, seed)?
            }
            (spec, LossKind::Auto) => Dataset::open(&spec, options)?,
            (spec, LossKind::Distill) => Dataset::open_without_labels(&spec, options)?,
        };
        if let Some(&classes) = teacher.output_shape(1)?.last()
            && data.labelled()
        {
            data.check_classes(classes)?;
        }
        let judge = Judge::new((!data.labelled()).then(|| teacher.clone()));
        Ok(Self { data, dense: dense.clone(), teacher, judge, drawn })
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The dense network.
    pub fn dense(&self) -> &Model {
        &self.dense
    }

    /// The dense network, compiled.
    pub(crate) fn teacher(&self) -> &Network {
        &self.teacher
    }

    /// What tells how good a network is.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What the inputs are, where they are drawn for want of data.
    pub fn drawn(&self) -> Option<&str> {
        self.drawn.as_deref()
    }

    /// Why BatchNorm statistics are not taken anew, where they are not.
    pub fn keeps_statistics(&self) -> Option<&'static str> {
        self.drawn.is_some().then_some("the recorded statistics come from real data, those of drawn inputs would be worse")
    }

    /// How much is looked at to score a candidate.
    pub(crate) fn effort(&self, settings: &Settings) -> Effort {
        Effort {
            images: settings.score_images,
            batches: if self.keeps_statistics().is_some() { 0 } else { settings.score_batches },
            batch_size: settings.recipe.batch_size,
            augment: settings.recipe.augment.clone(),
            seed: settings.seed,
        }
    }

    /// Whole mini-batches in one pass over the training split.
    pub fn steps_per_epoch(&self, recipe: &Recipe) -> usize {
        self.data.len(Split::Train) / recipe.batch_size.max(1)
    }

    /// The run's recipe for `steps` steps.
    pub(crate) fn recipe_for(&self, settings: &Settings, steps: usize) -> Recipe {
        let epochs = steps as f64 / self.steps_per_epoch(&settings.recipe).max(1) as f64;
        Recipe { epochs, imitate: !self.data.labelled(), ..settings.recipe.clone() }
    }

    /// The split to choose on: the held-out one, or the training data where nothing is held out.
    pub(crate) fn choosing(&self) -> Split {
        if self.data.is_empty(Split::Holdout) { Split::Train } else { Split::Holdout }
    }

    /// Score on (the first `limit` images of) a split.
    ///
    /// # Errors
    /// The network cannot be run on the data.
    pub fn score(&self, model: &Model, split: Split, limit: Option<usize>) -> Result<Score> {
        self.judge.score(&Network::compile(model)?, &self.data, split, limit)
    }

    /// Seconds that a run will take for its training, from the time of one step of the dense network.
    pub fn estimate_s(&self, settings: &Settings) -> Option<f64> {
        let mut network = self.teacher.clone();
        let steps = settings.recipe.epochs * self.steps_per_epoch(&settings.recipe) as f64;
        if steps == 0.0 {
            return None;
        }
        let recipe = self.recipe_for(settings, 2);
        let step = train::fit(&mut network, Some(&self.teacher), &self.data, &recipe, &mut Hooks::default()).ok()?.seconds / 2.0;
        // The pruned network is cheaper about as its budget says; half of that saving is lost to what does not shrink.
        Some(step * steps * 0.7)
    }
}

/// The texture to draw, and what to tell of it.
fn texture_told(matched: Option<(Texture, f64)>, preprocess: &str) -> (Texture, String) {
    let texture = matched.map_or_else(Texture::default, |m| m.0);
    let like = match matched {
        Some((t, distance)) => format!(
            "noise on several scales (roughness {}, contrast {}), the nearest of those tried to the statistics that BatchNorm recorded \
             (distance {distance:.2} per channel)",
            t.roughness, t.contrast
        ),
        None => format!("noise on several scales in the range of `{preprocess}`; the network recorded no statistics to match"),
    };
    let text = format!(
        "there are no data: inputs are drawn at random, {like}. BatchNorm statistics stay as recorded, and what is told of agreement \
         holds on drawn inputs"
    );
    (texture, text)
}

/// Passes a training step on, and a wish to stop back.
pub(crate) fn told(observer: &mut dyn Observer, p: &Progress) -> ControlFlow<()> {
    observer.event(Event::Progress { done: p.step, total: p.steps, note: format!("loss {:.3}", p.loss) });
    if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// A network after recovery.
#[derive(Debug)]
pub struct Tuned {
    /// The network.
    pub model: Model,
    /// Accuracy (or agreement) on the held-out split after recovery without gradients, percent.
    pub holdout_before: Option<f64>,
    /// The same after fine-tuning.
    pub holdout_after: Option<f64>,
    /// What was tried before fine-tuning.
    pub recovery: Vec<Recovery>,
}

/// What the journal keeps of the recovery.
#[derive(Debug, Serialize, Deserialize)]
struct RecoveryStep {
    steps: Vec<Recovery>,
    /// File of the network.
    model: String,
}

/// What the journal keeps of a saliency step.
#[derive(Debug, Serialize, Deserialize)]
struct SaliencyStep {
    saliency: Saliency,
    /// File of the network with the weights it was left with; none where it did not train.
    model: Option<String>,
}

impl Session<'_> {
    /// Training steps that one collection of saliency takes.
    pub(crate) fn steps_per_saliency(&self) -> usize {
        if self.settings.recipe.epochs > 0.0 && self.settings.criterion.needs_gradients() { self.settings.step_batches } else { 0 }
    }

    /// Saliency of the stage's channels. Taylor criteria are collected while the network trains (without moving where there
    /// is no fine-tuning to follow); the stage goes on with the weights that training left.
    ///
    /// # Errors
    /// Training diverges, data do not decode.
    pub(crate) fn saliency(&mut self, stage: &mut Stage, step: usize) -> Result<Saliency> {
        let a = &stage.analysis;
        let sources = Sources::find(&a.graph, &a.groups, self.settings.criterion);
        if !self.settings.criterion.needs_gradients() {
            return Ok(sources.from_weights(&a.model, &a.groups));
        }
        let name = format!("saliency {step}");
        if let Some(done) = self.run.journal.recall::<SaliencyStep>(&name)? {
            self.tell(Event::Recalled { what: name });
            if let Some(file) = done.model {
                let model = Model::load(self.run.file(&file)?)?;
                stage.analysis = stage.analysis.with_model(model, self.settings.latency_batch)?;
            }
            return Ok(done.saliency);
        }
        let learning = self.learning.as_ref().ok_or_else(|| Error::Setting("Taylor saliency needs `--data`".into()))?;
        let moves = self.settings.recipe.epochs > 0.0;
        let total = self.settings.step_batches;
        let mut network = Network::compile(&a.model)?;
        // Labels alone: against the network it was a moment ago, a distillation loss has no slope.
        let labelled = learning.data.labelled();
        let recipe = Recipe {
            distill: self.settings.recipe.distill.filter(|_| !labelled),
            schedule: Schedule::Constant,
            warmup_steps: 0,
            seed: self.settings.recipe.seed.wrapping_add(1 + step as u64),
            ..learning.recipe_for(&self.settings, total)
        };
        let mut taylor = TaylorAccumulator::new(sources);
        let groups = &a.groups;
        let mut collect = |view: &GradView<'_>| {
            let product = |name: &str| {
                let (param, gradient) = view.get(name)?;
                Some(Tensor::f32(param.shape.clone(), param.values.iter().zip(gradient).map(|(w, g)| w * g).collect()))
            };
            taylor.add(groups, &product);
        };
        let (data, teacher, drawn) = (learning.data().clone(), learning.teacher.clone(), learning.drawn.is_some());
        let observer = self.observer();
        if !data.labelled() {
            // The dense network has nothing to learn from itself.
            if moves && step > 0 {
                let mut progress = |p: &Progress| told(observer, p);
                let mut hooks = Hooks { progress: Some(&mut progress), ..Hooks::default() };
                train::fit(&mut network, Some(&teacher), &data, &recipe, &mut hooks)?;
            }
            let how = Imitation::of(&teacher, &data, recipe.temperature(), recipe.seed)?;
            // Statistics of drawn inputs are none to normalise by.
            let mode = if drawn { Mode::Eval } else { Mode::Train };
            let mut done = 0;
            for epoch in 0.. {
                for batch in data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, epoch, 0)?.take(total - done) {
                    let step = how.project(&network, &batch?, mode, recipe.seed.wrapping_add(done as u64))?;
                    collect(&GradView { params: network.params(), gradients: &step.gradients, images: recipe.batch_size });
                    done += 1;
                    observer.event(Event::Progress { done, total, note: "projections of the outputs".into() });
                }
                if done >= total || observer.stop() {
                    break;
                }
            }
        } else if moves {
            let mut progress = |p: &Progress| told(observer, p);
            let mut hooks = Hooks { on_gradients: Some(&mut collect), progress: Some(&mut progress), ..Hooks::default() };
            train::fit(&mut network, None, &data, &recipe, &mut hooks)?;
        } else {
            for (k, batch) in data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, 0, 0)?.take(total).enumerate() {
                let step = train::backward(&network, &batch?, &recipe.objective(), None, Mode::Train, recipe.seed)?;
                collect(&GradView { params: network.params(), gradients: &step.gradients, images: recipe.batch_size });
                observer.event(Event::Progress { done: k + 1, total, note: format!("loss {:.3}", step.loss) });
            }
        }
        self.heed_stop()?;
        let saliency = taylor.finish()?;
        let model = if moves {
            let mut model = stage.analysis.model.clone();
            network.write_back(&mut model)?;
            let file = format!("steps/{step:02}-trained.onnx");
            self.run.write_model(&file, &model)?;
            stage.analysis = stage.analysis.with_model(model, self.settings.latency_batch)?;
            Some(file)
        } else {
            None
        };
        self.run.journal.record(&name, &SaliencyStep { saliency: saliency.clone(), model }, 0.0)?;
        Ok(saliency)
    }

    /// Loss that removing each branch of the stage adds, on held-out images; at least 0.
    fn damage(&mut self, stage: &Stage, space: &Space, step: usize) -> Result<BTreeMap<BranchId, f64>> {
        let images = self.settings.score_images;
        let base = {
            let Some(learning) = &self.learning else { return Ok(BTreeMap::new()) };
            self.run.journal.step(&format!("damage {step} base"), || {
                learning.score(&stage.analysis.model, learning.choosing(), Some(images)).map(|s| s.loss)
            })?
        };
        let mut all = BTreeMap::new();
        for (k, &branch) in space.branches.iter().enumerate() {
            self.heed_stop()?;
            self.tell(Event::Progress { done: k, total: space.branches.len(), note: "branches left out in turn".into() });
            let decision = Decision { removed_branches: [branch].into(), ..Decision::keep_all() };
            let name = format!("damage {step} {}", stage.analysis.groups.branches[branch.index()].name);
            let Some(learning) = &self.learning else { break };
            let loss = self
                .run
                .journal
                .step(&name, || learning.score(&stage.analysis.apply(&decision)?, learning.choosing(), Some(images)).map(|s| s.loss))?;
            all.insert(branch, (loss - base).max(0.0));
        }
        Ok(all)
    }

    /// The service that scores decisions about `stage` on held-out images.
    ///
    /// # Errors
    /// There are no data; threads cannot be started.
    pub(crate) fn evaluator(&self, stage: &Stage) -> Result<Evaluator> {
        let Some(learning) = &self.learning else { return Err(Error::Setting("scoring candidates needs `--data`".into())) };
        let (workers, threads) = self.settings.scoring_threads();
        let part = (learning.data.clone(), learning.choosing());
        let effort = learning.effort(&self.settings);
        let scorer = LocalScorer::new(stage.analysis.clone(), part, learning.judge.clone(), effort, threads)?;
        Ok(Evaluator::new(Box::new(scorer), workers))
    }

    /// Scores of decisions about `stage`, in order.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; as [`Evaluator::score_all`].
    pub(crate) fn score(&mut self, evaluator: &mut Evaluator, stage: &Stage, decisions: &[Decision]) -> Result<Vec<Score>> {
        let named: Vec<NamedDecision> = decisions.iter().map(|d| d.to_named(&stage.analysis.groups, &stage.analysis.graph)).collect();
        let (journal, observer) = self.journal_and_observer();
        let mut told = |done: usize, total: usize| {
            observer.event(Event::Progress { done, total, note: "candidates scored".into() });
            if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match evaluator.score_all(journal, &named, &mut told)? {
            Some(scores) => Ok(scores),
            None => Err(Error::Interrupted { out: self.run.directory().to_owned() }),
        }
    }

    /// What every option is worth. Without removable branches this is kept saliency, as the literature has it. With them,
    /// the channels inside a branch share out the *measured* damage of losing it in proportion to their saliency, and all
    /// other channels are brought to the same scale.
    ///
    /// # Errors
    /// The network cannot be run on the data.
    pub(crate) fn values(&mut self, stage: &Stage, space: &Space, saliency: &Saliency, step: usize) -> Result<Values> {
        let mut values = Values::kept_saliency(space, saliency);
        if space.branches.is_empty() || self.settings.method == Method::Uniform || self.settings.score_images == 0 {
            return Ok(values);
        }
        let damage = self.damage(stage, space, step)?;
        if damage.is_empty() {
            return Ok(values);
        }
        let mut sums = vec![0.0; space.branches.len()];
        for (g, v) in space.groups.iter().zip(&values.groups) {
            if let (Some(b), Some(&all)) = (g.branch, v.last()) {
                sums[b] += all;
            }
        }
        let (total_damage, total_saliency): (f64, f64) = (damage.values().sum(), sums.iter().sum());
        let common = if total_saliency > 0.0 && total_damage > 0.0 { total_damage / total_saliency } else { 1.0 };
        for (g, v) in space.groups.iter().zip(&mut values.groups) {
            let factor = match g.branch {
                Some(b) if sums[b] > 0.0 => damage.get(&space.branches[b]).copied().unwrap_or(0.0) / sums[b],
                _ => common,
            };
            for x in v {
                *x *= factor;
            }
        }
        Ok(values)
    }

    /// What `--recover` asks for, recorded.
    fn recover(&mut self, model: &Model, cut: &Cut) -> Result<(Model, Vec<Recovery>)> {
        self.stage(match self.settings.recover {
            Recover::Lsq => "solving for the weights",
            Recover::Bn => "re-estimating BatchNorm",
            Recover::None => "scoring the network as it was cut",
        })?;
        if let Some(RecoveryStep { steps, model }) = self.run.journal.recall("recovered")? {
            self.tell(Event::Recalled { what: "recovered".into() });
            return Ok((Model::load(self.run.file(&model)?)?, steps));
        }
        let Some(learning) = &self.learning else { return Ok((model.clone(), Vec::new())) };
        let shapes = InputShapes::batch(self.settings.latency_batch);
        let began = std::time::Instant::now();
        let found = learning.recover(model, |dense| cut.apply(dense, &shapes), &self.settings)?;
        let file = "steps/recovered.onnx";
        self.run.write_model(file, &found.model)?;
        self.run.journal.record(
            "recovered",
            &RecoveryStep { steps: found.steps.clone(), model: file.into() },
            began.elapsed().as_secs_f64(),
        )?;
        for r in &found.steps {
            let (percent, figure, taken) = (r.score.percent, r.score.figure.name(), if r.taken { "; goes on" } else { "" });
            self.tell(Event::Note { text: format!("{}: held-out {figure} {percent:.2} %, loss {:.4}{taken}", r.what, r.score.loss) });
        }
        Ok((found.model, found.steps))
    }

    /// Recovers the stage, which `cut` makes of the dense network, and fine-tunes what is left of the epochs, with checkpoints.
    ///
    /// # Errors
    /// Training diverges; the user stops.
    pub(crate) fn fine_tune(&mut self, stage: &Stage, cut: &Cut, steps_spent: usize) -> Result<Tuned> {
        if self.learning.is_none() {
            let model = stage.analysis.model.clone();
            return Ok(Tuned { model, holdout_before: None, holdout_after: None, recovery: Vec::new() });
        }
        let (mut model, recovery) = self.recover(&stage.analysis.model, cut)?;
        let holdout_before = recovery.iter().find(|r| r.taken).map(|r| r.score.percent);
        let Some(learning) = &self.learning else { return Err(Error::Setting("the data are gone".into())) };
        let (data, teacher, split) = (learning.data().clone(), learning.teacher.clone(), learning.choosing());
        let all = (self.settings.recipe.epochs * learning.steps_per_epoch(&self.settings.recipe) as f64).round() as usize;
        let total = all.saturating_sub(steps_spent);
        if total == 0 {
            return Ok(Tuned { model, holdout_before, holdout_after: holdout_before, recovery });
        }
        if let Some(file) = self.run.journal.recall::<String>("fine-tuned")? {
            let model = Model::load(self.run.file(&file)?)?;
            let holdout_after = self.run.journal.recall("holdout after")?.flatten();
            return Ok(Tuned { model, holdout_before, holdout_after, recovery });
        }
        self.stage("fine-tuning")?;
        let mut network = Network::compile(&model)?;
        let Some(learning) = &self.learning else { return Err(Error::Setting("the data are gone".into())) };
        let recipe = learning.recipe_for(&self.settings, total);
        let checkpoint = self.run.file("checkpoint.bin")?;
        let observer = self.observer();
        let mut progress = |p: &Progress| told(observer, p);
        let mut hooks = Hooks { progress: Some(&mut progress), checkpoint: Some((checkpoint, CHECKPOINT_EVERY)), ..Hooks::default() };
        train::fit(&mut network, Some(&teacher), &data, &recipe, &mut hooks)?;
        self.heed_stop()?;
        let mut tuned = model.clone();
        network.write_back(&mut tuned)?;
        let Some(learning) = &self.learning else { return Err(Error::Setting("the data are gone".into())) };
        let after = self.run.journal.step("tuned", || learning.score(&tuned, split, None).map(|s| s.percent))?;
        // Trained on other images, or too fast: what the recovery left may be better, and nobody asked for worse.
        let worse = holdout_before.is_some_and(|before| after < before);
        if worse {
            let before = holdout_before.unwrap_or_default();
            let text = format!("fine-tuning left the network worse on held-out images ({after:.2} % after {before:.2} %) and is undone");
            self.tell(Event::Note { text });
        } else {
            model = tuned;
        }
        let holdout_after = if worse { holdout_before } else { Some(after) };
        self.run.write_model("tuned.onnx", &model)?;
        self.run.journal.record("holdout after", &holdout_after, 0.0)?;
        self.run.journal.record("fine-tuned", &"tuned.onnx", 0.0)?;
        Ok(Tuned { model, holdout_before, holdout_after, recovery })
    }
}
