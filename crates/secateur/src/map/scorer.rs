//! Networks under schemes, and how good they are before they are trained to them.

use graph::Model;
use graph::scheme::SchemeLayer;
use train::Network;
use train::data::{Dataset, Split};

use super::space::{Schemes, Space};
use crate::cost::prune_tensor;
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

/// Scores schemes in this process: one-shot projection, BatchNorm re-estimated, held-out images.
#[derive(Debug)]
pub(crate) struct SchemeScorer {
    model: Model,
    layers: Vec<SchemeLayer>,
    data: Dataset,
    split: Split,
    judge: Judge,
    effort: Effort,
    identity: String,
    pool: rayon::ThreadPool,
}

impl SchemeScorer {
    /// Candidates are projections of `model`, scored on `split` of `data` by `judge`, each with `threads` threads.
    ///
    /// # Errors
    /// The model cannot be written; threads cannot be started.
    pub fn new(
        model: Model,
        layers: Vec<SchemeLayer>,
        (data, split): (Dataset, Split),
        judge: Judge,
        effort: Effort,
        threads: usize,
    ) -> Result<Self> {
        let weights = blake3::hash(&model.to_bytes()?);
        let what = format!("schemes {} {:?} {:?} {:?}", weights.to_hex(), split, effort, judge.figure());
        let identity = blake3::hash(what.as_bytes()).to_hex()[..16].to_owned();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::Setting(format!("cannot start {threads} threads for scoring: {e}")))?;
        Ok(Self { model, layers, data, split, judge, effort, identity, pool })
    }
}

impl Scorer<Schemes> for SchemeScorer {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn score(&self, candidate: &Schemes) -> Result<Score> {
        let mut network = Network::compile(&project(&self.model, &self.layers, candidate)?)?;
        self.pool.install(|| self.effort.score(&mut network, &self.judge, &self.data, self.split))
    }
}

/// The service that scores candidates.
///
/// # Errors
/// There are no data; threads cannot be started.
pub(super) fn evaluator(session: &Session, space: &Space) -> Result<Evaluator<Schemes>> {
    let Some(learning) = &session.learning else { return Err(Error::Setting("scoring candidates needs `--data`".into())) };
    let (workers, threads) = session.settings.scoring_threads();
    let part = (learning.data().clone(), learning.choosing());
    let (judge, effort) = (learning.judge().clone(), learning.effort(&session.settings));
    let scorer = SchemeScorer::new(session.dense.model.clone(), space.layers.clone(), part, judge, effort, threads)?;
    Ok(Evaluator::new(Box::new(scorer), workers))
}
