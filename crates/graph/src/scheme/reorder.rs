//! Filter reordering: similar filters share a block, so that less of what matters goes with what does not.

use std::collections::BTreeMap;

use super::layer::SchemeLayer;
use super::project::Balance;
use super::regularity::{Regularity, Scheme};
use crate::coupling::{Group, Groups};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::graph::Graph;
use crate::model::Model;
use crate::surgery::{can_permute, permute};

/// A group that was reordered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reordered {
    /// Name of the group.
    pub group: String,
    /// Channel `order[k]` came to place `k`.
    pub order: Vec<usize>,
    /// Mean share of the squared norm of the group's layers that projection keeps, before and after.
    pub kept: (f64, f64),
}

/// `model` with the channels of groups reordered so that the filters of a block are alike, where projection to `schemes` then
/// keeps more of the squared norm of the layers concerned than before; it computes the same. The next layers absorb the order.
///
/// # Errors
/// A tensor that does not decode, or is not of floats.
pub fn reorder(
    model: &Model,
    graph: &Graph,
    facts: &Facts,
    groups: &Groups,
    schemes: &[(SchemeLayer, Scheme)],
    balance: Balance,
) -> Result<(Model, Vec<Reordered>)> {
    let mut result = model.clone();
    let mut done = Vec::new();
    for group in groups.groups.iter().filter(|g| g.size > 1 && can_permute(graph, groups, g).is_ok()) {
        // Layers whose filters the group is, in blocks of several; and all whose weight would move.
        let touched: Vec<&(SchemeLayer, Scheme)> =
            schemes.iter().filter(|(l, s)| !s.is_dense() && group.members.iter().any(|m| m.value == l.weight)).collect();
        let written: Vec<&(SchemeLayer, Scheme)> =
            touched.iter().copied().filter(|(l, s)| filter_axis(group, l).is_some() && block_filters(s.regularity, l) > 1).collect();
        let Some(block) = written.iter().map(|(l, s)| block_filters(s.regularity, l)).max().filter(|&b| b < group.size) else { continue };
        let mut signatures: Vec<Vec<f32>> = vec![Vec::new(); group.size];
        for (layer, _) in &written {
            let weights = floats(&result, &layer.tensor)?;
            let total: f32 = weights.iter().map(|w| w * w).sum();
            let Some(member) = filter_axis(group, layer) else { continue };
            for (signature, coordinates) in signatures.iter_mut().zip(&group.members[member].coordinates) {
                let (filter, s) = (coordinates[0], &layer.shape);
                let places = (0..s.channels).flat_map(|c| (0..s.positions()).map(move |k| (c, k)));
                signature.extend(places.map(|(c, k)| weights[s.index(filter, c, k)].powi(2) / total.max(f32::MIN_POSITIVE)));
            }
        }
        let order = similar(&signatures, block);
        let candidate = permute(&result, graph, facts, groups, &BTreeMap::from([(group.id, order.clone())]))?;
        let kept = (kept_share(&result, &touched, balance)?, kept_share(&candidate, &touched, balance)?);
        if kept.1 > kept.0 {
            result = candidate;
            done.push(Reordered { group: group.name.clone(), order, kept });
        }
    }
    Ok((result, done))
}

/// The member of `group` that is the filters of `layer`.
fn filter_axis(group: &Group, layer: &SchemeLayer) -> Option<usize> {
    let axis = usize::from(layer.shape.transposed);
    group.members.iter().position(|m| m.value == layer.weight && m.axis == axis)
}

/// Filters that are removed together.
fn block_filters(regularity: Regularity, layer: &SchemeLayer) -> usize {
    match regularity {
        Regularity::BlockPunched { filters, .. } => filters.on(layer.shape.partition_filters()),
        Regularity::BlockBased { outputs, direction: super::Direction::Column, .. } => outputs.on(layer.shape.partition_filters()),
        _ => 1,
    }
}

fn floats(model: &Model, tensor: &str) -> Result<Vec<f32>> {
    let missing = |reason: &str| Error::Tensor { tensor: tensor.to_owned(), reason: reason.into() };
    model.tensor(tensor).ok_or_else(|| missing("it is not stored in the file"))??.to_f32().ok_or_else(|| missing("it is not of floats"))
}

/// Mean over the layers of the share of the squared norm that projection keeps.
fn kept_share(model: &Model, layers: &[&(SchemeLayer, Scheme)], balance: Balance) -> Result<f64> {
    let mut sum = 0.0;
    for (layer, scheme) in layers {
        let weights = floats(model, &layer.tensor)?;
        let mask = scheme.project(&weights, &layer.shape, balance);
        let square = |w: &f32| f64::from(*w).powi(2);
        let kept: f64 = weights.iter().zip(&mask.keep).filter(|(_, k)| **k).map(|(w, _)| square(w)).sum();
        sum += kept / weights.iter().map(square).sum::<f64>().max(f64::MIN_POSITIVE);
    }
    Ok(sum / layers.len().max(1) as f64)
}

/// An order in which each run of `block` is alike: the strongest that is left starts a block and is joined by those whose
/// squared weights point most in the direction of the block's.
fn similar(signatures: &[Vec<f32>], block: usize) -> Vec<usize> {
    let norm = |s: &[f32]| s.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    let norms: Vec<f32> = signatures.iter().map(|s| norm(s)).collect();
    let mut left: Vec<usize> = (0..signatures.len()).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let mut sum = vec![0.0f32; signatures[0].len()];
        for n in 0..block.min(left.len()) {
            let score = |i: usize| {
                if n == 0 { norms[i] } else { signatures[i].iter().zip(&sum).map(|(a, b)| a * b).sum::<f32>() / norms[i] }
            };
            let scores: Vec<f32> = left.iter().map(|&i| score(i)).collect();
            // The first of equal ones.
            let best = (0..left.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
            let next = left.remove(best);
            sum.iter_mut().zip(&signatures[next]).for_each(|(s, x)| *s += x);
            order.push(next);
        }
    }
    order
}
