//! What channels and branches are worth: saliency while training, and the damage of removing what it cannot compare.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use graph::{BranchId, Decision, Model, NamedDecision, Tensor};
use serde::{Deserialize, Serialize};
use train::data::{Dataset, Split};
use train::schedule::Schedule;
use train::{GradView, Hooks, Imitation, Mode, Network, Progress, Recipe};

use crate::choice::{Space, Values};
use crate::error::{Error, Result};
use crate::evaluator::{Evaluator, LocalScorer, Score};
use crate::events::{Event, Observer};
use crate::saliency::{Saliency, Sources, TaylorAccumulator};
use crate::session::Session;
use crate::settings::Method;
use crate::stage::Stage;
use crate::tuning::told;

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
        let labelled = learning.data().labelled();
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
        let (data, teacher, drawn) = (learning.data().clone(), learning.teacher().clone(), learning.drawn().is_some());
        let observer = self.observer();
        if !labelled {
            if moves && step > 0 {
                // The dense network has nothing to learn from itself; later ones have.
                let mut progress = |p: &Progress| told(observer, p);
                let mut hooks = Hooks { progress: Some(&mut progress), ..Hooks::default() };
                train::fit(&mut network, Some(&teacher), &data, &recipe, &mut hooks)?;
            }
            // Statistics of drawn inputs are none to normalise by.
            let mode = if drawn { Mode::Eval } else { Mode::Train };
            let how = Imitation::of(&teacher, &data, recipe.temperature(), recipe.seed)?;
            project(&how, &network, &data, &recipe, (mode, total), &mut collect, observer)?;
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
        let part = (learning.data().clone(), learning.choosing());
        let effort = learning.effort(&self.settings);
        let scorer = LocalScorer::new(stage.analysis.clone(), part, learning.judge().clone(), effort, threads)?;
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

    /// What every option is worth: kept saliency, as the literature has it, and where branches may go the damage of losing them
    /// ([`Values::sharing_out`]).
    ///
    /// # Errors
    /// The network cannot be run on the data.
    pub(crate) fn values(&mut self, stage: &Stage, space: &Space, saliency: &Saliency, step: usize) -> Result<Values> {
        let values = Values::kept_saliency(space, saliency);
        if space.branches.is_empty() || self.settings.method == Method::Uniform || self.settings.score_images == 0 {
            return Ok(values);
        }
        let damage = self.damage(stage, space, step)?;
        Ok(if damage.is_empty() { values } else { values.sharing_out(space, &damage) })
    }
}

/// Hands `collect` the gradients of projections of the outputs on `total` batches, for data without labels.
fn project(
    how: &Imitation,
    network: &Network,
    data: &Dataset,
    recipe: &Recipe,
    (mode, total): (Mode, usize),
    collect: &mut dyn FnMut(&GradView<'_>),
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut done = 0;
    for epoch in 0.. {
        for batch in data.epoch(Split::Train, recipe.batch_size, &recipe.augment, recipe.seed, epoch, 0)?.take(total - done) {
            let step = how.project(network, &batch?, mode, recipe.seed.wrapping_add(done as u64))?;
            collect(&GradView { params: network.params(), gradients: &step.gradients, images: recipe.batch_size });
            done += 1;
            observer.event(Event::Progress { done, total, note: "projections of the outputs".into() });
        }
        if done >= total || observer.stop() {
            break;
        }
    }
    Ok(())
}
