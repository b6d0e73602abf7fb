//! The layers of a network that can have a scheme.

use super::regularity::{Regularity, Scheme};
use super::shape::WeightShape;
use crate::error::{Error, Result};
use crate::facts::{Facts, is_float};
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::ops::Op;

/// Weights below which a layer is not worth a scheme; it can have one where it is asked for by name.
pub const TINY: usize = 1024;

/// A layer with a weight, and which regularities it can have.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemeLayer {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The weight's value and name.
    pub weight: ValueId,
    /// Name of the weight tensor.
    pub tensor: String,
    /// The weight.
    pub shape: WeightShape,
    /// Why it has to stay dense, where it has to.
    pub only_dense: Option<String>,
}

impl SchemeLayer {
    /// The layers (`Conv`, `Gemm`, `MatMul`) of `graph`, in its order; those whose weight is not a constant of known shape are left out.
    pub fn all(graph: &Graph, facts: &Facts) -> Vec<Self> {
        let first = first_conv(graph);
        graph.nodes.iter().filter_map(|n| layer(graph, facts, n, first)).collect()
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.shape.len()
    }

    /// It can have a scheme, but is too small to be worth one (fewer than [`TINY`] weights).
    pub fn is_tiny(&self) -> bool {
        self.weights() < TINY
    }

    /// The layer can have this regularity.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn legal(&self, regularity: Regularity) -> Result<()> {
        let refuse = |reason: &str| Err(Error::Scheme(format!("layer `{}` cannot be {regularity}: {reason}", self.name)));
        match (&self.only_dense, regularity) {
            (_, Regularity::Dense) => Ok(()),
            (Some(why), _) => refuse(&format!("{why}; it stays dense")),
            (None, r) => r.fits(&self.shape).or_else(|reason| refuse(&reason)),
        }
    }

    /// The layer can have this scheme: its regularity is legal and leaves enough units for the rate.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn legal_scheme(&self, scheme: &Scheme) -> Result<()> {
        self.legal(scheme.regularity)?;
        if scheme.is_dense() {
            return Ok(());
        }
        let units = scheme.regularity.units(&self.shape).len();
        let most = units as f64 * scheme.regularity.least_rate();
        if scheme.rate > most {
            return Err(Error::Scheme(format!(
                "layer `{}` has {units} unit(s) of {}, so its rate is {most} at most; {} was asked for",
                self.name, scheme.regularity, scheme.rate
            )));
        }
        Ok(())
    }
}

fn layer(graph: &Graph, facts: &Facts, node: &Node, first: Option<NodeId>) -> Option<SchemeLayer> {
    let weight = node.input(1)?;
    let fact = facts.get(weight)?;
    let dims = fact.shape.as_slice();
    let constant = |slot: usize| node.input(slot).is_some_and(|v| graph.is_parameter(v));
    if !constant(1) || constant(0) {
        return None;
    }
    let mut only_dense: Option<&str> = None;
    let shape = match (&node.op, dims) {
        (Op::Conv(conv), _) => {
            let shape = WeightShape::conv(dims, conv.group)?;
            if first == Some(node.id) {
                only_dense = Some("it is the first convolution, which reads the input");
            }
            if conv.group > 1 && shape.channels == 1 {
                only_dense = Some("it is depthwise");
            }
            shape
        }
        (Op::Gemm(gemm), &[a, b]) if gemm.trans_b => WeightShape::linear(a, b, false),
        (Op::Gemm(_) | Op::MatMul, &[a, b]) => WeightShape::linear(b, a, true),
        _ => return None,
    };
    if !graph.is_stored(weight) {
        only_dense = Some("its weight is computed from other tensors");
    } else if graph.value(weight).consumers.len() > 1 || graph.value(weight).is_output {
        only_dense = Some("its weight is read by other nodes, too");
    } else if !is_float(fact.dtype) {
        only_dense = Some("its weight is not of a floating type");
    }
    Some(SchemeLayer {
        node: node.id,
        name: node.name.clone(),
        weight,
        tensor: graph.value(weight).name.clone(),
        shape,
        only_dense: only_dense.map(str::to_owned),
    })
}

/// The first convolution that reads a graph input through no other layer.
fn first_conv(graph: &Graph) -> Option<NodeId> {
    let mut raw: Vec<bool> = vec![false; graph.values.len()];
    for v in &graph.inputs {
        raw[v.index()] = true;
    }
    for node in &graph.nodes {
        if !node.inputs.iter().flatten().any(|v| raw[v.index()]) {
            continue;
        }
        match &node.op {
            Op::Conv(_) => return Some(node.id),
            Op::Gemm(_) | Op::MatMul | Op::ConvTranspose(_) => {}
            _ => node.outputs.iter().flatten().for_each(|v| raw[v.index()] = true),
        }
    }
    None
}
