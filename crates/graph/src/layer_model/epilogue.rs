//! What a runtime fuses into a layer.

use super::builder::{Builder, declare};
use crate::error::Result;
use crate::facts::Facts;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::model::Model;
use crate::ops::{Binary, Op, Unary};
use crate::proto::{AttributeProto, attribute_proto::AttributeType};

impl Builder {
    /// A shape of the model with this layer's width.
    pub(super) fn resize(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if shape.get(self.axis) == Some(&self.wide) {
            shape[self.axis] = self.narrow;
        }
        shape
    }

    /// Follows the readers of `value` as long as a runtime would fuse them; returns the value computed last.
    pub(super) fn epilogue(&mut self, model: &Model, graph: &Graph, facts: &Facts, mut value: ValueId) -> Result<ValueId> {
        let mut added = false;
        loop {
            let v = graph.value(value);
            let readers = v.consumers.as_slice();
            if v.is_output {
                return Ok(value);
            }
            let (node, slot) = match readers {
                [one] => *one,
                // x·sigmoid(x) and the error linear unit written out read x twice.
                [a, b] => match gate(graph, facts, value, a.0.min(b.0)) {
                    Some(gate) => return self.gated(model, graph, facts, &gate),
                    None => return Ok(value),
                },
                _ => return Ok(value),
            };
            let node = graph.node(node);
            let Some(out) = node.output(0).filter(|&o| facts.shape(o) == facts.shape(value)) else { return Ok(value) };
            let here = self.last.clone();
            let attributes = || model.graph_proto().node[node.position].attribute.clone();
            match &node.op {
                Op::BatchNormalization(bn) if slot == 0 => {
                    let mut input = vec![here];
                    for (name, center) in [("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("var", 1.0)] {
                        let name = format!("{name}{}", self.graph.node.len());
                        self.random(&name, vec![self.narrow], center, 0.5);
                        input.push(name);
                    }
                    let epsilon = AttributeProto {
                        name: Some("epsilon".into()),
                        r#type: Some(AttributeType::Float as i32),
                        f: Some(bn.epsilon),
                        ..Default::default()
                    };
                    self.push("BatchNormalization", input, vec![epsilon]);
                }
                Op::Unary(u) if !matches!(u, Unary::Cast { .. } | Unary::Dropout { .. }) => {
                    let mut input = vec![here];
                    for other in node.inputs.iter().skip(1) {
                        let Some(tensor) = other.and_then(|o| facts.constant(o)) else {
                            if other.is_some() {
                                return Ok(value);
                            }
                            input.push(String::new());
                            continue;
                        };
                        let name = format!("bound{}_{}", self.graph.node.len(), input.len());
                        self.graph.initializer.push(tensor.encode(&name));
                        input.push(name);
                    }
                    self.push(u.name(), input, attributes());
                }
                Op::Binary(op @ (Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::PRelu | Binary::Sum))
                    if node.inputs.len() == 2 =>
                {
                    let Some(other) = node.input(1 - slot) else { return Ok(value) };
                    let name = format!("operand{}", self.graph.node.len());
                    if let Some(constant) = facts.constant(other).filter(|_| graph.is_stored(other)) {
                        let skip = facts.shape(value).map_or(0, <[usize]>::len).saturating_sub(constant.shape.len());
                        let mut shape = constant.shape.clone();
                        if let Some(own) = self.axis.checked_sub(skip).filter(|&o| shape.get(o) == Some(&self.wide)) {
                            shape[own] = self.narrow;
                        }
                        self.random(&name, shape, 1.0, 0.5);
                    } else {
                        // A residual belongs to the layer that runs last.
                        let earlier = graph.producer(other).is_none_or(|p| graph.producer(value).is_some_and(|own| p.id < own.id));
                        let same = facts.shape(other) == facts.shape(value);
                        if added || !earlier || !same || !matches!(op, Binary::Add | Binary::Sum) {
                            return Ok(value);
                        }
                        added = true;
                        let shape = self.resize(facts.shape(other).unwrap_or_default());
                        let declared = declare(&name, self.dtype, &shape);
                        self.graph.input.push(declared);
                    }
                    let input = if slot == 0 { vec![here, name] } else { vec![name, here] };
                    self.push(op.name(), input, attributes());
                }
                _ => return Ok(value),
            }
            value = out;
        }
    }

    /// Writes a gate behind the value computed last; returns the value it computes.
    fn gated(&mut self, model: &Model, graph: &Graph, facts: &Facts, gate: &Gate) -> Result<ValueId> {
        let x = self.last.clone();
        for &(id, slot) in &gate.chain {
            self.elementwise(model, graph.node(id), slot, facts);
        }
        let gated = self.last.clone();
        self.push("Mul", vec![x, gated], Vec::new());
        if let Some((id, slot)) = gate.factor {
            self.elementwise(model, graph.node(id), slot, facts);
        }
        Ok(gate.output)
    }

    /// An elementwise node whose operands other than `slot` are constants, on the value computed last.
    pub(super) fn elementwise(&mut self, model: &Model, node: &Node, slot: usize, facts: &Facts) {
        let mut input = Vec::new();
        for (k, other) in node.inputs.iter().enumerate() {
            let constant = other.filter(|_| k != slot).and_then(|o| facts.constant(o));
            input.push(match constant {
                Some(tensor) => {
                    let name = format!("constant{}_{k}", self.graph.node.len());
                    self.stored(&name, tensor);
                    name
                }
                None if k == slot => self.last.clone(),
                None => String::new(),
            });
        }
        self.push(node.op.name(), input, model.graph_proto().node[node.position].attribute.clone());
    }
}

/// A value multiplied with a function of itself: `x·sigmoid(x)`, `x·(1 + erf(x/√2))·½`.
struct Gate {
    /// The function, node by node, with the slot that each reads the one before in.
    chain: Vec<(NodeId, usize)>,
    /// A constant factor behind the product.
    factor: Option<(NodeId, usize)>,
    output: ValueId,
}

/// The gate of `value` whose function starts at `first`.
fn gate(graph: &Graph, facts: &Facts, value: ValueId, first: NodeId) -> Option<Gate> {
    let mut chain = Vec::new();
    let (mut at, mut id) = (value, first);
    let product = loop {
        let node = graph.node(id);
        if matches!(node.op, Op::Binary(Binary::Mul))
            && node.inputs.contains(&Some(value))
            && node.inputs.contains(&Some(at))
            && at != value
        {
            break node;
        }
        let slot = node.inputs.iter().position(|i| *i == Some(at))?;
        if !constant_beside(facts, node, slot) {
            return None;
        }
        chain.push((id, slot));
        at = node.output(0)?;
        let [(next, _)] = graph.value(at).consumers.as_slice() else { return None };
        id = *next;
    };
    let output = product.output(0)?;
    let behind = match graph.value(output).consumers.as_slice() {
        [(id, slot)] if !graph.value(output).is_output => Some((graph.node(*id), *slot)),
        _ => None,
    };
    let factor = behind.filter(|(n, slot)| matches!(n.op, Op::Binary(Binary::Mul | Binary::Div)) && constant_beside(facts, n, *slot));
    let output = factor.and_then(|(n, _)| n.output(0)).unwrap_or(output);
    Some(Gate { chain, factor: factor.map(|(n, slot)| (n.id, slot)), output })
}

/// An elementwise function of the operand in `slot` alone: the others are constants of one element.
pub(super) fn constant_beside(facts: &Facts, node: &Node, slot: usize) -> bool {
    let constant = |v: ValueId| facts.constant(v).is_some_and(|t| t.len() == 1);
    let others = node.inputs.iter().enumerate().filter(|(k, _)| *k != slot).all(|(_, v)| v.is_none_or(constant));
    let elementwise = match &node.op {
        Op::Unary(u) => !matches!(u, Unary::Cast { .. } | Unary::Dropout { .. }),
        Op::Binary(b) => matches!(b, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div),
        _ => false,
    };
    elementwise && others
}
