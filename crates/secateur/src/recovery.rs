//! What is done to a network right after it was cut, before any gradient: BatchNorm statistics taken anew, and layers fitted to
//! the dense network's by least squares.

use std::collections::HashMap;

use graph::ops::Op;
use graph::{Graph, Model, Source};
use serde::{Deserialize, Serialize};
use train::Network;
use train::lsq::{Fitted, least_squares};

use crate::error::Result;
use crate::evaluator::Score;
use crate::learning::{Learning, Split};
use crate::settings::{Recover, Settings};

/// Mini-batches that BatchNorm statistics are re-estimated on, unless the data have fewer.
const REESTIMATION_BATCHES: usize = 100;

/// Images per batch of the calibration inputs.
const BATCH: usize = 32;

/// Bytes that the values of both networks may take on all calibration inputs together.
const MEMORY: usize = 3 << 30;

/// Values of the largest size that are alive at a time, in both networks, roughly.
const LIVE: usize = 8;

/// A network on its way back, judged on held-out inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// What was done to the cut network.
    pub what: String,
    /// How good it is.
    pub score: Score,
    /// The one that was gone on with.
    pub taken: bool,
}

/// A recovered network.
#[derive(Debug, Clone)]
pub struct Recovered {
    /// The best of what was tried.
    pub model: Model,
    /// All of it.
    pub steps: Vec<Recovery>,
    /// The layers that were fitted.
    pub fitted: Vec<Fitted>,
}

/// By weight, the output channels of `dense` that the network has which `cut` makes of it: `cut` is done to a network whose
/// weights are their own output coordinates.
///
/// # Errors
/// `cut` refuses.
pub fn kept_outputs(dense: &Model, cut: impl FnOnce(Model) -> Result<Model>) -> Result<HashMap<String, Vec<usize>>> {
    let graph = Graph::new(dense)?;
    let mut marked = dense.clone();
    let mut axes: Vec<(String, usize)> = Vec::new();
    for node in &graph.nodes {
        let Some(weight) = node.input(1).map(|v| graph.value(v)).filter(|v| v.source == Source::Initializer) else { continue };
        let axis = match &node.op {
            Op::Conv(_) => 0,
            Op::Gemm(g) => usize::from(!g.trans_b),
            Op::MatMul => 1,
            _ => continue,
        };
        let Some(tensor) = dense.tensor(&weight.name).transpose()? else { continue };
        let Some(&size) = tensor.shape.get(axis) else { continue };
        let inner: usize = tensor.shape[axis + 1..].iter().product();
        let outer: usize = tensor.shape[..axis].iter().product();
        let values: Vec<f32> = (0..outer * size * inner).map(|k| (k / inner.max(1) % size) as f32).collect();
        // An element type too coarse to count in is left out.
        let Some(marks) = tensor.with_f32(values.clone()).filter(|t| t.to_f32().is_some_and(|v| v == values)) else {
            continue;
        };
        marked.set_tensor(&weight.name, &marks)?;
        axes.push((weight.name.clone(), axis));
    }
    let smaller = cut(marked)?;
    let mut kept = HashMap::new();
    for (name, axis) in axes {
        // A layer that is gone has no weight left.
        let Some(tensor) = smaller.tensor(&name).transpose()? else { continue };
        let (Some(values), Some(&size)) = (tensor.to_f32(), tensor.shape.get(axis)) else { continue };
        let inner: usize = tensor.shape[axis + 1..].iter().product();
        kept.insert(name, (0..size).map(|o| values[o * inner] as usize).collect());
    }
    Ok(kept)
}

impl Learning {
    /// Brings back what can be brought back without gradients. `cut` makes the smaller network `model` of the dense one.
    ///
    /// # Errors
    /// The networks cannot be run on the data.
    pub fn recover(&self, model: &Model, cut: impl FnOnce(Model) -> Result<Model>, settings: &Settings) -> Result<Recovered> {
        let mut tried: Vec<(&str, Network, Score)> = Vec::new();
        let mut fitted = Vec::new();
        let network = Network::compile(model)?;
        let score = |n: &Network| self.judge().score(n, self.data(), self.choosing(), None);
        let renew = |n: &Network| -> Result<Network> {
            let mut n = n.clone();
            self.reestimate(&mut n, settings)?;
            Ok(n)
        };
        let renewable = self.can_reestimate(&network);
        // What nothing is compared with is not scored for its own sake.
        if settings.recover != Recover::Bn || !renewable {
            tried.push(("as cut", network.clone(), score(&network)?));
        }
        if settings.recover != Recover::None && renewable {
            let renewed = renew(&network)?;
            let s = score(&renewed)?;
            tried.push(("BatchNorm re-estimated", renewed, s));
        }
        if settings.recover == Recover::Lsq {
            let mut solved = network.clone();
            let kept = kept_outputs(self.dense(), cut)?;
            fitted = least_squares(&mut solved, self.teacher(), &kept, &self.calibration(settings)?, settings.seed)?;
            let s = score(&solved)?;
            if renewable {
                let renewed = renew(&solved)?;
                let s = score(&renewed)?;
                tried.push(("least squares, BatchNorm re-estimated", renewed, s));
            }
            tried.push(("least squares", solved, s));
        }
        let least = tried.iter().map(|t| t.2.loss).fold(f64::INFINITY, f64::min);
        let best = tried.iter().position(|t| t.2.loss <= least).unwrap_or(0);
        let mut recovered = model.clone();
        if let Some((_, network, _)) = tried.get(best) {
            network.write_back(&mut recovered)?;
        }
        let steps =
            tried.iter().enumerate().map(|(k, (what, _, score))| Recovery { what: (*what).into(), score: *score, taken: k == best });
        Ok(Recovered { model: recovered, steps: steps.collect(), fitted })
    }

    /// The network has BatchNorm statistics, and the data are such that new ones are worth having.
    pub(crate) fn can_reestimate(&self, network: &Network) -> bool {
        self.keeps_statistics().is_none() && !network.running().is_empty()
    }

    /// Takes the network's BatchNorm statistics anew, on training images.
    ///
    /// # Errors
    /// The network cannot be run on the data.
    pub(crate) fn reestimate(&self, network: &mut Network, settings: &Settings) -> Result<()> {
        let (recipe, images) = (&settings.recipe, self.data().len(Split::Train));
        let size = recipe.batch_size.min(images);
        let batches = REESTIMATION_BATCHES.min(images / size.max(1));
        train::bn::reestimate(network, self.data(), batches, size, &recipe.augment, settings.seed)?;
        Ok(())
    }

    /// Training inputs without augmentation, for least squares.
    fn calibration(&self, settings: &Settings) -> Result<Vec<train::data::Batch>> {
        let per_image = 4 * LIVE * self.teacher().largest_value()?.max(1);
        let images = settings.calibration_images.min(self.data().len(Split::Train)).min((MEMORY / per_image).max(BATCH));
        let size = BATCH.min(images);
        let batches = self.data().epoch(Split::Train, size, &train::data::Augment::none(), settings.seed ^ 0x15c, 0, 0)?;
        Ok(batches.take(images.div_ceil(size.max(1))).collect::<train::Result<_>>()?)
    }
}
