//! From the cut network to the one that is handed over: recovery without gradients, then fine-tuning.

use std::ops::ControlFlow;

use graph::{InputShapes, Model};
use serde::{Deserialize, Serialize};
use train::{Hooks, Network, Progress};

use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::plan::Cut;
use crate::recovery::Recovery;
use crate::session::Session;
use crate::settings::Recover;
use crate::stage::Stage;

/// Steps between two checkpoints.
pub(crate) const CHECKPOINT_EVERY: usize = 50;

/// Passes a training step on, and a wish to stop back.
pub(crate) fn told(observer: &mut dyn Observer, p: &Progress) -> ControlFlow<()> {
    observer.event(Event::Progress { done: p.step, total: p.steps, note: format!("loss {:.3}", p.loss) });
    if observer.stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// That a training went the wrong way: from a figure on held-out images, percent, to a lower one.
pub(crate) fn undone(before: f64, after: f64) -> String {
    format!("fine-tuning left the network worse on held-out images ({after:.2} % after {before:.2} %) and is undone")
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

impl Session<'_> {
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
        let (data, teacher, split) = (learning.data().clone(), learning.teacher().clone(), learning.choosing());
        let total = learning.steps(&self.settings).saturating_sub(steps_spent);
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
            self.tell(Event::Note { text: undone(holdout_before.unwrap_or_default(), after) });
        } else {
            model = tuned;
        }
        let holdout_after = if worse { holdout_before } else { Some(after) };
        self.run.write_model("tuned.onnx", &model)?;
        self.run.journal.record("holdout after", &holdout_after, 0.0)?;
        self.run.journal.record("fine-tuned", &"tuned.onnx".to_owned(), 0.0)?;
        Ok(Tuned { model, holdout_before, holdout_after, recovery })
    }
}
