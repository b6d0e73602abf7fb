//! Networks under schemes, and how good they are before they are trained to them, or after a few steps.

use std::collections::BTreeMap;

use graph::Model;
use graph::scheme::{Mask, SchemeLayer};
use train::data::{Dataset, Split};
use train::sparse::Masks;
use train::{Hooks, Network, Recipe};

use super::space::{Schemes, Space};
use crate::cost::{prune_tensor, scheme_weight};
use crate::error::{Error, Result};
use crate::evaluator::{Effort, Evaluator, Judge, Score, Scorer};
use crate::session::Session;

/// Prunes the layers of `model` to their schemes at once, the weakest units going; nothing is trained.
///
/// # Errors
/// A layer that the model does not have, or a scheme that is not legal for it.
pub(crate) fn project(model: &Model, layers: &[SchemeLayer], schemes: &Schemes) -> Result<Model> {
    let mut pruned = model.clone();
    for (name, scheme) in schemes {
        let layer = layers.iter().find(|l| l.name == *name);
        let layer =
            layer.ok_or_else(|| Error::Setting(format!("the mapping names layer `{name}`, which {} does not have", model.origin())))?;
        layer.legal_scheme(scheme)?;
        prune_tensor(&mut pruned, &layer.tensor, &layer.shape, scheme)?;
    }
    Ok(pruned)
}

/// Scores schemes in this process: one-shot projection, a few steps of training with the masks held where asked for, BatchNorm
/// re-estimated, held-out images.
#[derive(Debug)]
pub(crate) struct SchemeScorer {
    model: Model,
    layers: Vec<SchemeLayer>,
    data: Dataset,
    split: Split,
    judge: Judge,
    effort: Effort,
    /// The training before a candidate is judged, and the dense network as its teacher.
    tuning: Option<(Recipe, Network)>,
    identity: String,
    pool: rayon::ThreadPool,
}

impl SchemeScorer {
    /// Candidates are projections of `model`, judged on `part` of the data, each with `threads` threads.
    ///
    /// # Errors
    /// The model cannot be written; threads cannot be started.
    pub fn new(
        model: Model,
        layers: Vec<SchemeLayer>,
        part: (Dataset, Split),
        judge: Judge,
        effort: Effort,
        tuning: Option<(Recipe, Network)>,
        threads: usize,
    ) -> Result<Self> {
        let (data, split) = part;
        let weights = blake3::hash(&model.to_bytes()?);
        let recipe = tuning.as_ref().map(|(recipe, _)| recipe);
        let what = format!("schemes {} {split:?} {effort:?} {recipe:?} {:?}", weights.to_hex(), judge.figure());
        let identity = blake3::hash(what.as_bytes()).to_hex()[..16].to_owned();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::Setting(format!("cannot start {threads} threads for scoring: {e}")))?;
        Ok(Self { model, layers, data, split, judge, effort, tuning, identity, pool })
    }
}

impl Scorer<Schemes> for SchemeScorer {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn score(&self, candidate: &Schemes) -> Result<Score> {
        let pruned = project(&self.model, &self.layers, candidate)?;
        let mut network = Network::compile(&pruned)?;
        self.pool.install(|| {
            if let Some((recipe, teacher)) = &self.tuning {
                let mut masks = BTreeMap::new();
                for layer in self.layers.iter().filter(|l| candidate.contains_key(&l.name)) {
                    masks.insert(layer.tensor.clone(), Mask::of_non_zeros(&scheme_weight(&pruned, &layer.tensor)?.1));
                }
                let mut held = Masks::new(&network, masks)?;
                let mut hooks = Hooks { constraint: Some(&mut held), ..Hooks::default() };
                train::fit(&mut network, Some(teacher), &self.data, recipe, &mut hooks)?;
            }
            self.effort.score(&mut network, &self.judge, &self.data, self.split)
        })
    }
}

/// The service that scores candidates, after `steps` steps of training each.
///
/// # Errors
/// There are no data; threads cannot be started.
pub(super) fn evaluator(session: &Session, space: &Space, steps: usize) -> Result<Evaluator<Schemes>> {
    let Some(learning) = &session.learning else { return Err(Error::Setting("scoring candidates needs `--data`".into())) };
    let (workers, threads) = session.settings.scoring_threads();
    let part = (learning.data().clone(), learning.choosing());
    let (judge, effort) = (learning.judge().clone(), learning.effort(&session.settings));
    let short = || Recipe { warmup_steps: 0, ..learning.recipe_for(&session.settings, steps) };
    let tuning = (steps > 0).then(|| (short(), learning.teacher().clone()));
    let scorer = SchemeScorer::new(session.dense.model.clone(), space.layers.clone(), part, judge, effort, tuning, threads)?;
    Ok(Evaluator::new(Box::new(scorer), workers))
}
