//! How much each channel matters, by several criteria.
//!
//! Taylor criteria follow Molchanov et al. (CVPR 2019) as HALP uses them: per mini-batch `|Σ (γ·∂L/∂γ + β·∂L/∂β)|` over the
//! BatchNorm layers of a coupled group, the signed terms of all its layers summed *before* the absolute value, then the mean
//! over mini-batches.

use std::collections::BTreeMap;
use std::convert::Infallible;

use graph::{Graph, GroupId, Groups, Model, Role, Tensor, ops::Op};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::settings::named;

/// What a channel's number is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// First-order Taylor term of the loss in the BatchNorm scale and shift; groups without BatchNorm take the weights.
    #[default]
    TaylorBn,
    /// First-order Taylor term of the loss in the weights that produce the channel.
    TaylorWeight,
    /// Euclidean norm of the weights that produce the channel.
    Magnitude,
    /// Size of the BatchNorm scale; groups without BatchNorm take the weights' norm.
    BnScale,
}

impl Criterion {
    /// It needs gradients, hence data.
    pub fn needs_gradients(self) -> bool {
        matches!(self, Self::TaylorBn | Self::TaylorWeight)
    }
}

named!(
    Criterion,
    "saliency criterion",
    TaylorBn = "taylor-bn",
    TaylorWeight = "taylor-weight",
    Magnitude = "magnitude",
    BnScale = "bn-scale"
);

/// One number per channel and group, with the criterion that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saliency {
    /// What the numbers are.
    pub criterion: Criterion,
    /// Mini-batches they are the mean over; 0 for criteria that need none.
    pub batches: usize,
    /// By group, one non-negative number per channel.
    pub channels: BTreeMap<GroupId, Vec<f64>>,
}

impl Saliency {
    /// The channels of `group`, most salient first; equal ones in order.
    pub fn ranked(&self, group: GroupId) -> Vec<usize> {
        let s = self.channels.get(&group).map_or(&[][..], Vec::as_slice);
        let mut order: Vec<usize> = (0..s.len()).collect();
        order.sort_by(|&a, &b| s[b].total_cmp(&s[a]).then(a.cmp(&b)));
        order
    }

    /// The `count` most salient channels of `group`, ascending.
    pub fn best(&self, group: GroupId, count: usize) -> Vec<usize> {
        let mut keep = self.ranked(group);
        keep.truncate(count);
        keep.sort_unstable();
        keep
    }

    /// `sums[k]`: what the `k` most salient channels of `group` amount to together.
    pub fn prefix_sums(&self, group: GroupId) -> Vec<f64> {
        let mut sums = vec![0.0];
        let mut total = 0.0;
        for c in self.ranked(group) {
            total += self.channels[&group][c];
            sums.push(total);
        }
        sums
    }
}

/// Where the numbers of a group are read from: slices of named parameters.
#[derive(Debug, Clone, PartialEq)]
struct Source {
    parameter: String,
    axis: usize,
    /// Per channel, its coordinates along `axis`.
    coordinates: Vec<Vec<usize>>,
}

/// Which parameters tell of which group.
#[derive(Debug, Clone, PartialEq)]
pub struct Sources {
    criterion: Criterion,
    groups: Vec<(GroupId, Vec<Source>)>,
}

impl Sources {
    /// Finds, for every group that can be pruned, the parameters its criterion reads.
    pub fn find(graph: &Graph, groups: &Groups, criterion: Criterion) -> Self {
        let wants_bn = matches!(criterion, Criterion::TaylorBn | Criterion::BnScale);
        let list = groups.groups.iter().filter(|g| g.frozen.is_none()).map(|g| {
            let produced: Vec<(Source, Kind)> = g
                .members
                .iter()
                .filter(|m| m.role == Role::Produced && graph.is_stored(m.value))
                .filter_map(|m| {
                    let value = graph.value(m.value);
                    let kind = kind_of(graph, m.value)?;
                    Some((Source { parameter: value.name.clone(), axis: m.axis, coordinates: m.coordinates.clone() }, kind))
                })
                .collect();
            let of = |wanted: fn(Kind) -> bool| produced.iter().filter(|(_, k)| wanted(*k)).map(|(s, _)| s.clone()).collect::<Vec<_>>();
            let bn = match criterion {
                Criterion::BnScale => of(|k| k == Kind::Scale),
                _ => of(|k| matches!(k, Kind::Scale | Kind::Shift)),
            };
            let weights = of(|k| k == Kind::Weight);
            (g.id, if wants_bn && !bn.is_empty() { bn } else { weights })
        });
        Self { criterion, groups: list.collect() }
    }

    /// One value per channel and group: Σ over the group's parameters of `term(parameter)` summed over each channel's elements.
    ///
    /// # Errors
    /// Those of `term`; a `None` of it counts nothing.
    fn sum<E>(&self, sizes: &Groups, term: &dyn Fn(&str) -> Result<Option<Tensor>, E>) -> Result<BTreeMap<GroupId, Vec<f64>>, E> {
        let size = |id: GroupId| sizes.groups[id.0 as usize].size;
        self.groups.iter().map(|(id, sources)| channel_sums(sources, size(*id), term).map(|sums| (*id, sums))).collect()
    }

    /// Saliency by a criterion that needs no gradients.
    pub fn from_weights(&self, model: &Model, groups: &Groups) -> Saliency {
        let squares = |name: &str| {
            let t = model.tensor(name)?.ok()?;
            let v = t.to_f32()?;
            Some(Tensor::f32(t.shape.clone(), v.into_iter().map(|x| x * x).collect::<Vec<_>>()))
        };
        let Ok(mut channels) = self.sum(groups, &|name| Ok::<_, Infallible>(squares(name)));
        for v in channels.values_mut().flatten() {
            *v = v.sqrt();
        }
        Saliency { criterion: self.criterion, batches: 0, channels }
    }
}

/// Per channel, the sum of `term(parameter)` over its elements in all `sources`.
fn channel_sums<E>(sources: &[Source], size: usize, term: &dyn Fn(&str) -> Result<Option<Tensor>, E>) -> Result<Vec<f64>, E> {
    let mut sums = vec![0.0; size];
    for s in sources {
        let Some(t) = term(&s.parameter)? else { continue };
        let Some(values) = t.to_f32() else { continue };
        let inner: usize = t.shape[s.axis + 1..].iter().product();
        let outer: usize = t.shape[..s.axis].iter().product();
        let dim = t.shape[s.axis];
        for (channel, coordinates) in s.coordinates.iter().enumerate() {
            for o in 0..outer {
                for &c in coordinates {
                    let start = (o * dim + c) * inner;
                    sums[channel] += values[start..start + inner].iter().map(|&v| f64::from(v)).sum::<f64>();
                }
            }
        }
    }
    Ok(sums)
}

/// What a stored tensor is to the node that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Weight,
    Scale,
    Shift,
}

fn kind_of(graph: &Graph, value: graph::ValueId) -> Option<Kind> {
    let &(node, slot) = graph.value(value).consumers.first()?;
    let node = graph.node(node);
    // What is computed from stored tensors alone is the same parameter in another form.
    if let Some(form) = node.output(0).filter(|v| graph.is_parameter(*v)) {
        return kind_of(graph, form);
    }
    match (&node.op, slot) {
        (Op::Recurrent(_), 1 | 2) => Some(Kind::Weight),
        (Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul, 0 | 1) => Some(Kind::Weight),
        (Op::BatchNormalization(_), 1) => Some(Kind::Scale),
        (Op::BatchNormalization(_), 2) => Some(Kind::Shift),
        _ => None,
    }
}

/// Collects a Taylor saliency while training: one call per mini-batch.
#[derive(Debug, Clone)]
pub struct TaylorAccumulator {
    sources: Sources,
    total: BTreeMap<GroupId, Vec<f64>>,
    batches: usize,
    /// A parameter that tells of a group and has no gradient: the group's zeros would look like channels worth nothing.
    missing: Option<String>,
}

impl TaylorAccumulator {
    /// Nothing seen yet.
    pub fn new(sources: Sources) -> Self {
        Self { sources, total: BTreeMap::new(), batches: 0, missing: None }
    }

    /// Adds one mini-batch; `product(name)` is parameter times gradient, elementwise, in the parameter's shape.
    /// A batch with a NaN or infinite term is dropped.
    pub fn add(&mut self, groups: &Groups, product: &dyn Fn(&str) -> Option<Tensor>) {
        let terms = match self.sources.sum(groups, &|name| product(name).map(Some).ok_or_else(|| name.to_owned())) {
            Ok(terms) => terms,
            Err(name) => {
                self.missing = Some(name);
                return;
            }
        };
        if terms.values().flatten().any(|v| !v.is_finite()) {
            return;
        }
        for (id, v) in terms {
            let total = self.total.entry(id).or_insert_with(|| vec![0.0; v.len()]);
            for (t, x) in total.iter_mut().zip(v) {
                *t += x.abs();
            }
        }
        self.batches += 1;
    }

    /// The mean over the mini-batches so far.
    ///
    /// # Errors
    /// No usable mini-batch was seen; a parameter that is read has no gradient.
    pub fn finish(self) -> Result<Saliency> {
        if let Some(name) = self.missing {
            return Err(Error::Setting(format!(
                "parameter `{name}` tells what channels are worth, but the network does not train it: it has no gradient; take a criterion \
                 that needs none (magnitude, bn-scale), or export the network with the weight as the layer reads it"
            )));
        }
        if self.batches == 0 {
            return Err(Error::Setting(
                "no mini-batch gave a finite gradient: the learning rate is too high, or the data do not fit the network's preprocessing"
                    .into(),
            ));
        }
        let n = self.batches as f64;
        let channels = self.total.into_iter().map(|(id, v)| (id, v.into_iter().map(|x| x / n).collect())).collect();
        Ok(Saliency { criterion: self.sources.criterion, batches: self.batches, channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(parameter: &str, axis: usize, coordinates: &[&[usize]]) -> Source {
        Source { parameter: parameter.into(), axis, coordinates: coordinates.iter().map(|c| c.to_vec()).collect() }
    }

    #[test]
    fn a_channel_is_the_sum_over_its_places_in_all_parameters() {
        let terms = |name: &str| {
            Ok::<_, Infallible>(Some(match name {
                "w" => Tensor::f32([2, 3], vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0]),
                _ => Tensor::f32([2], vec![100.0, 200.0]),
            }))
        };
        // Columns 0 and 2 are one channel, column 1 the other.
        let Ok(sums) = channel_sums(&[source("w", 1, &[&[0, 2], &[1]]), source("b", 0, &[&[1], &[0]])], 2, &terms);
        assert_eq!(sums, [1.0 + 4.0 + 8.0 + 32.0 + 200.0, 2.0 + 16.0 + 100.0]);
    }

    #[test]
    fn a_parameter_without_a_gradient_is_an_error_and_not_a_zero() {
        let term = |name: &str| if name == "w" { Ok(Some(Tensor::f32([2], vec![1.0, 2.0]))) } else { Err(name.to_owned()) };
        let sums = |names: &[&str]| {
            let sources: Vec<Source> = names.iter().map(|n| source(n, 0, &[&[0], &[1]])).collect();
            channel_sums(&sources, 2, &term)
        };
        assert_eq!((sums(&["w"]), sums(&["w", "behind"])), (Ok(vec![1.0, 2.0]), Err("behind".to_owned())));
        let sources = Sources { criterion: Criterion::TaylorWeight, groups: Vec::new() };
        let taylor = TaylorAccumulator { missing: Some("behind".into()), batches: 1, ..TaylorAccumulator::new(sources) };
        let error = taylor.finish().map(|s| s.batches).map_err(|e| e.to_string());
        assert!(matches!(&error, Err(e) if e.contains("`behind`") && e.contains("magnitude")), "{error:?}");
    }
}
