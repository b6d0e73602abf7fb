//! Sizes for the dimensions that a file leaves open.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::facts::{Facts, InputShapes};
use crate::graph::Graph;
use crate::model::Model;
use crate::proto::{tensor_shape_proto::dimension, type_proto};

/// A shape taken for an input of which the file leaves dimensions open and nobody gave a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssumedShape {
    /// The graph input.
    pub input: String,
    /// The shape taken.
    pub shape: Vec<usize>,
}

/// Sizes tried for the open dimensions of images: what detectors and classifiers are exported at, then multiples of
/// 32 down to small ones.
const IMAGE: [usize; 9] = [224, 320, 256, 640, 96, 64, 48, 32, 28];
/// Sizes tried for the open dimensions of sequences and tables.
const SEQUENCE: [usize; 9] = [16, 512, 64, 128, 256, 1600, 16000, 4, 1];

impl InputShapes {
    /// These shapes, and one for every input that would stay open: the batch is as given (1 where not), a symbol that names
    /// a batch elsewhere is it here too, and for the rest common sizes are tried until all shapes of the graph follow. What
    /// was taken is told.
    ///
    /// Pruning does not depend on these sizes; counts of operations do.
    ///
    /// # Errors
    /// [`Error::UnboundDimension`] where no size that is tried fits the graph.
    pub fn completed(&self, model: &Model, graph: &Graph) -> Result<(Self, Vec<AssumedShape>)> {
        let open = open_inputs(self, model, graph)?;
        if open.is_empty() {
            return Ok((self.clone(), Vec::new()));
        }
        let images = open.iter().any(|o| o.dims.len() >= 4);
        let sizes = if images { IMAGE.iter().chain(&SEQUENCE) } else { SEQUENCE.iter().chain(&IMAGE) };
        let mut best: Option<(usize, Self, Vec<AssumedShape>)> = None;
        let mut failure = None;
        for (&size, channels) in sizes.flat_map(|s| [(s, 3), (s, 1)]) {
            let assumed: Vec<AssumedShape> = open.iter().map(|o| o.at(size, channels)).collect();
            let mut shapes = self.clone();
            shapes.shapes.extend(assumed.iter().map(|a| (a.input.clone(), a.shape.clone())));
            if best.as_ref().is_some_and(|(_, _, known)| *known == assumed) {
                continue;
            }
            match Facts::infer(model, graph, &shapes) {
                Ok(facts) => {
                    let known = facts.known();
                    if best.as_ref().is_none_or(|(most, ..)| known > *most) {
                        best = Some((known, shapes, assumed));
                    }
                    if known == graph.values.len() {
                        break;
                    }
                }
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        match best {
            Some((_, shapes, assumed)) => Ok((shapes, assumed)),
            None => Err(open[0].error(failure)),
        }
    }
}

impl Facts {
    /// The inputs at other sizes of the dimensions that the file leaves open: one more of a batch, twice as much of the rest, both,
    /// and each alone. The same sizes where nothing is open; nothing for inputs without a shape.
    pub(crate) fn other_sizes(&self, model: &Model, graph: &Graph) -> Vec<InputShapes> {
        let variant = |batches: bool, rest: bool| {
            let of = |&v: &crate::graph::ValueId| {
                let name = &graph.value(v).name;
                let declared = declared_shape(model, name)?;
                let other = |(axis, &size): (usize, &usize)| match declared.dim.get(axis).and_then(|d| d.value.as_ref()) {
                    Some(dimension::Value::DimValue(n)) if *n > 0 => size,
                    _ if axis == 0 || size == self.batch(graph) => size + usize::from(batches),
                    _ => size * (1 + usize::from(rest)),
                };
                Some((name.clone(), self.shape(v)?.iter().enumerate().map(other).collect()))
            };
            graph.inputs.iter().map(of).collect::<Option<Vec<_>>>().map(|shapes| InputShapes { batch: None, shapes })
        };
        [(true, true), (true, false), (false, true)].into_iter().filter_map(|(b, r)| variant(b, r)).collect()
    }

    /// Size of the first input's first dimension.
    fn batch(&self, graph: &Graph) -> usize {
        graph.inputs.first().and_then(|&v| self.shape(v)).and_then(|s| s.first().copied()).unwrap_or(1)
    }
}

fn declared_shape<'m>(model: &'m Model, name: &str) -> Option<&'m crate::proto::TensorShapeProto> {
    match model.graph_proto().input.iter().find(|i| i.name() == name)?.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(t) => t.shape.as_ref(),
        _ => None,
    }
}

/// A dimension of an open input.
enum Dim {
    Fixed(usize),
    Batch(usize),
    /// Counted from the front, of an input whose last dimension is open, or fixed.
    Open {
        symbol: String,
    },
}

struct Open {
    input: String,
    dims: Vec<Dim>,
}

impl Open {
    fn at(&self, size: usize, channels: usize) -> AssumedShape {
        let rank = self.dims.len();
        // Channels come second, unless the last dimension is fixed and can be them.
        let last = matches!(self.dims.last(), Some(Dim::Fixed(1..=4)));
        let shape = self.dims.iter().enumerate().map(|(axis, d)| match d {
            Dim::Fixed(n) | Dim::Batch(n) => *n,
            Dim::Open { .. } if axis == 1 && rank >= 4 && !last => channels,
            Dim::Open { .. } => size,
        });
        AssumedShape { input: self.input.clone(), shape: shape.collect() }
    }

    fn error(&self, cause: Option<Error>) -> Error {
        let open = self.dims.iter().enumerate().find_map(|(axis, d)| match d {
            Dim::Open { symbol } => Some((axis, symbol.clone())),
            _ => None,
        });
        let (axis, mut dim) = open.unwrap_or_default();
        if let Some(cause) = cause {
            dim = format!("{dim}` (no common size fits: {cause}) `");
        }
        Error::UnboundDimension { input: self.input.clone(), dim, axis }
    }
}

fn open_inputs(given: &InputShapes, model: &Model, graph: &Graph) -> Result<Vec<Open>> {
    let batch = given.batch.unwrap_or(1);
    let shape = |name: &str| declared_shape(model, name);
    let names: Vec<&str> = graph.inputs.iter().map(|&v| graph.value(v).name.as_str()).collect();
    let batches: BTreeSet<&str> = names
        .iter()
        .filter_map(|n| match shape(n)?.dim.first()?.value.as_ref()? {
            dimension::Value::DimParam(p) if !p.is_empty() => Some(p.as_str()),
            _ => None,
        })
        .collect();
    let mut open = Vec::new();
    for name in names.iter().filter(|n| !given.shapes.iter().any(|(g, _)| g == **n)) {
        let Some(shape) = shape(name) else { continue };
        let dims: Vec<Dim> = shape
            .dim
            .iter()
            .enumerate()
            .map(|(axis, d)| match &d.value {
                Some(dimension::Value::DimValue(n)) if *n > 0 => Dim::Fixed(*n as usize),
                _ if axis == 0 => Dim::Batch(batch),
                Some(dimension::Value::DimParam(p)) if batches.contains(p.as_str()) => Dim::Batch(batch),
                Some(dimension::Value::DimParam(p)) => Dim::Open { symbol: p.clone() },
                _ => Dim::Open { symbol: "?".into() },
            })
            .collect();
        if dims.iter().enumerate().any(|(axis, d)| matches!(d, Dim::Open { .. }) || (axis > 0 && matches!(d, Dim::Batch(_)))) {
            open.push(Open { input: (*name).to_owned(), dims });
        }
    }
    Ok(open)
}
