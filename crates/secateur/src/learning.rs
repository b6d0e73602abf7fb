//! The data of a run, and the dense network to learn from.

use graph::Model;
pub use train::data::Split;
use train::data::{DataSpec, Dataset, Normalization, Options, Texture};
use train::{Hooks, Network, Recipe};

use crate::error::{Error, Result};
use crate::evaluator::{Effort, Judge, Score};
use crate::settings::{LossKind, Settings};

/// The data of a run, prepared for its network, and the dense network as teacher.
#[derive(Debug, Clone)]
pub struct Learning {
    data: Dataset,
    dense: Model,
    teacher: Network,
    judge: Judge,
    drawn: Option<String>,
}

impl Learning {
    /// Opens the data for the dense network.
    ///
    /// # Errors
    /// Data that are not there or do not fit the network; too few for the training that is asked for.
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
        let learning = Self { data, dense: dense.clone(), teacher, judge, drawn };
        if settings.recipe.epochs > 0.0 && learning.steps(settings) == 0 {
            let (images, batch) = (learning.data.len(Split::Train), settings.recipe.batch_size);
            return Err(Error::Setting(format!(
                "--epochs {} over {images} training images is not one step of --batch-size {batch}: give more epochs or smaller batches, or \
                 `--epochs 0` to train nothing",
                settings.recipe.epochs
            )));
        }
        Ok(learning)
    }

    /// That there is a batch for a criterion that takes gradients.
    ///
    /// # Errors
    /// There are fewer training images.
    pub(crate) fn check_gradients(&self, settings: &Settings) -> Result<()> {
        let (images, batch) = (self.data.len(Split::Train), settings.recipe.batch_size);
        if settings.criterion.needs_gradients() && images < batch {
            return Err(Error::Setting(format!(
                "--criterion {} takes gradients of batches of --batch-size {batch}, and there are {images} training images: give more of \
                 them, smaller batches, or `--criterion magnitude`",
                settings.criterion
            )));
        }
        Ok(())
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

    /// Training steps of the run.
    pub(crate) fn steps(&self, settings: &Settings) -> usize {
        (settings.recipe.epochs * self.steps_per_epoch(&settings.recipe) as f64).round() as usize
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
        let steps = self.steps(settings);
        if steps == 0 {
            return None;
        }
        let recipe = self.recipe_for(settings, 2);
        let step = train::fit(&mut network, Some(&self.teacher), &self.data, &recipe, &mut Hooks::default()).ok()?.seconds / 2.0;
        // The pruned network is cheaper about as its budget says; half of that saving is lost to what does not shrink.
        Some(step * steps as f64 * 0.7)
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
