//! From the file's graph to the engine's steps: constants folded, normalisation, activation and sums fused into convolutions.

mod conv;
mod elementwise;
mod fold;
mod movement;
mod pool;

use std::collections::{HashMap, HashSet};

use graph::ops::{Binary, Op, Unary};
use graph::proto::tensor_proto::DataType;
use graph::{Fact, Facts, Graph, Inference, InputShapes, Model, Node, NodeId, Tensor, ValueId};

use crate::error::{Error, Result};
use crate::layout::Extent;
use crate::network::{Network, Operation, Port, Step, TensorId};

/// What to use for a model that the engine cannot run.
pub(crate) const ELSEWHERE: &str = "run this model with ONNX Runtime (`--target ort`) or tract";

/// Reads `model` for one input of batch 1.
pub(crate) fn lower(model: &Model, shapes: &InputShapes) -> Result<Network> {
    // Weights are constants here, wherever the file keeps them.
    let inside = model.has_external_data().then(|| model.with_data_inside()).transpose()?;
    let model = inside.as_ref().unwrap_or(model);
    let graph = Graph::new(model)?;
    let facts = Facts::infer(model, &graph, shapes)?;
    let mut l = Lowering::new(model, &graph, &facts);
    for (i, &v) in graph.inputs.iter().enumerate() {
        l.input(i, v)?;
    }
    for node in &graph.nodes {
        l.node(node)?;
    }
    l.outputs()?;
    l.network.remove_dead();
    Ok(l.network)
}

/// The nodes that [`lower`] would refuse if the results of those before them were there all the same. Large external tensors are not
/// read for that: layers with such weights are among them, though [`lower`] takes the data in.
pub(crate) fn refused(model: &Model, shapes: &InputShapes) -> Result<Vec<(NodeId, Error)>> {
    let graph = Graph::new(model)?;
    let facts = Facts::infer(model, &graph, shapes)?;
    let mut l = Lowering::new(model, &graph, &facts);
    for (i, &v) in graph.inputs.iter().enumerate() {
        // An input that the engine cannot hold is an obstacle to the nodes that read it only.
        let _ = l.input(i, v);
    }
    let mut refused = Vec::new();
    for node in &graph.nodes {
        if let Err(e) = l.node(node) {
            refused.push((node.id, e));
            for &v in node.outputs.iter().flatten() {
                let _ = l.define(v);
            }
        }
    }
    Ok(refused)
}

/// The state of one pass over the nodes.
struct Lowering<'a> {
    model: &'a Model,
    graph: &'a Graph,
    facts: &'a Facts,
    network: Network,
    tensors: HashMap<ValueId, TensorId>,
    /// Nodes that became part of an earlier one.
    absorbed: HashSet<NodeId>,
    /// Convolutions that wait for the other operand of their sum: by the node of the sum.
    deferred: HashMap<NodeId, Deferred>,
}

/// A convolution that runs in place of a later node.
struct Deferred {
    name: String,
    operators: Vec<String>,
    operation: Operation,
    input: TensorId,
    other: ValueId,
    end: ValueId,
}

impl<'a> Lowering<'a> {
    fn new(model: &'a Model, graph: &'a Graph, facts: &'a Facts) -> Self {
        Self {
            model,
            graph,
            facts,
            network: Network::default(),
            tensors: HashMap::new(),
            absorbed: HashSet::new(),
            deferred: HashMap::new(),
        }
    }

    fn input(&mut self, i: usize, v: ValueId) -> Result<()> {
        let name = self.graph.value(v).name.clone();
        let shape = self.facts.need_shape(self.graph, v)?.to_vec();
        let used = !self.graph.value(v).consumers.is_empty();
        self.network.inputs.push(Port { name: name.clone(), shape });
        if used {
            let output = self.define(v)?;
            self.push(name, vec![], Operation::Load(i), vec![], output);
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<()> {
        for &v in &self.graph.outputs {
            let shape = self.facts.need_shape(self.graph, v)?.to_vec();
            let name = self.graph.value(v).name.clone();
            let t = self.tensor(v)?;
            self.network.outputs.push((Port { name, shape }, t));
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        if self.absorbed.contains(&node.id) {
            return Ok(());
        }
        if let Some(d) = self.deferred.remove(&node.id) {
            let other = self.tensor(d.other)?;
            let output = self.define(d.end)?;
            self.push(d.name, d.operators, d.operation, vec![d.input, other], output);
            return Ok(());
        }
        if node.outputs.iter().flatten().all(|&v| self.facts.constant(v).is_some()) {
            return Ok(());
        }
        // Extra outputs (indices, masks) are fine as long as nobody reads them.
        let read = |v: &ValueId| self.graph.value(*v).is_output || !self.graph.value(*v).consumers.is_empty();
        if node.outputs.iter().skip(1).flatten().any(read) && !matches!(node.op, Op::Split(_)) {
            return self.unsupported(node, "more than one of its outputs is read");
        }
        // Kernels and moves take it that there is something to compute.
        let empty = |v: &ValueId| self.facts.get(*v).is_some_and(Fact::is_empty);
        if node.input(0).iter().chain(node.outputs.iter().flatten()).any(empty) {
            return self.unsupported(node, "its operand or its result has no elements");
        }
        match &node.op {
            Op::Conv(op) => self.conv(node, op),
            Op::Gemm(_) | Op::MatMul => self.linear(node),
            Op::BatchNormalization(_) => self.normalization(node),
            Op::Unary(Unary::Identity | Unary::Dropout { .. }) => self.alias(node),
            Op::Unary(u) => self.unary(node, *u),
            Op::Binary(b) => self.binary(node, *b),
            Op::Pool(op) => self.pool(node, op),
            Op::Reduce(op) => self.reduce(node, op),
            Op::Concat(op) => self.concat(node, op),
            Op::Softmax(op) => self.softmax(node, op),
            Op::Pad(op) => self.pad(node, op),
            Op::Slice(op) => self.slice(node, op),
            Op::Split(op) => self.split(node, op),
            Op::Transpose(op) => self.transpose(node, op),
            Op::Resize(op) => self.resize(node, op),
            Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => self.reshape(node),
            Op::ConvTranspose(_)
            | Op::LayerNormalization(_)
            | Op::InstanceNormalization(_)
            | Op::GroupNormalization(_)
            | Op::Lrn(_)
            | Op::Recurrent(_)
            | Op::DepthSpace(_)
            | Op::Tile
            | Op::Where
            | Op::Gather(_)
            | Op::Expand
            | Op::Shape
            | Op::Constant
            | Op::ConstantOfShape(_)
            | Op::Range
            | Op::Opaque(_) => self.unsupported(node, "there is no kernel for this operator"),
        }
    }

    /// The error for a node that the engine does not run.
    fn unsupported<T>(&self, node: &Node, reason: impl Into<String>) -> Result<T> {
        Err(Error::Unsupported {
            node: node.name.clone(),
            op: node.op.name().to_owned(),
            reason: reason.into(),
            remedy: ELSEWHERE.to_owned(),
        })
    }

    fn push(&mut self, name: String, operators: Vec<String>, operation: Operation, inputs: Vec<TensorId>, output: TensorId) {
        self.network.steps.push(Step { name, operators, operation, inputs, output });
    }

    /// A step that computes the first output of `node`.
    fn step(&mut self, node: &Node, operation: Operation, inputs: Vec<TensorId>) -> Result<()> {
        let Some(v) = node.output(0) else { return Ok(()) };
        let output = self.define(v)?;
        self.push(node.name.clone(), vec![node.op.name().to_owned()], operation, inputs, output);
        Ok(())
    }

    /// A new activation for `v`.
    fn define(&mut self, v: ValueId) -> Result<TensorId> {
        let extent = self.extent(v)?;
        let t = self.network.tensor(extent);
        self.tensors.insert(v, t);
        Ok(t)
    }

    fn alias(&mut self, node: &Node) -> Result<()> {
        let t = self.operand(node, 0)?;
        if let Some(v) = node.output(0) {
            self.tensors.insert(v, t);
        }
        Ok(())
    }

    /// Input `slot` of `node` as an activation.
    fn operand(&mut self, node: &Node, slot: usize) -> Result<TensorId> {
        match node.input(slot) {
            Some(v) => self.tensor(v),
            None => self.unsupported(node, format!("input {slot} is missing")),
        }
    }

    /// The activation of `v`; a stored tensor becomes one.
    fn tensor(&mut self, v: ValueId) -> Result<TensorId> {
        if let Some(&t) = self.tensors.get(&v) {
            return Ok(t);
        }
        let name = self.graph.value(v).name.clone();
        let fail = |reason: &str| Error::Value { value: name.clone(), reason: reason.into(), remedy: ELSEWHERE.into() };
        let Some(constant) = self.facts.constant(v) else {
            // Not computed because the engine has no place for it, perhaps.
            self.extent(v)?;
            return Err(fail("it is needed before it is computed"));
        };
        let values = constant.to_f32().ok_or_else(|| fail("the engine computes in f32, and this is not a floating type"))?;
        let output = self.define(v)?;
        self.push(name, vec![], Operation::Constant(values), vec![], output);
        Ok(output)
    }

    /// The extent of `v`.
    fn extent(&self, v: ValueId) -> Result<Extent> {
        let shape = self.facts.need_shape(self.graph, v)?;
        let fail = |reason, remedy| Error::Value { value: self.graph.value(v).name.clone(), reason, remedy };
        let dtype = self.facts.get(v).map_or(DataType::Float, |f| f.dtype);
        if dtype != DataType::Float {
            return Err(fail(format!("the engine computes in f32, this is {}", dtype.as_str_name()), ELSEWHERE.to_owned()));
        }
        Extent::of(shape).ok_or_else(|| {
            let reason = format!("the engine runs activations of shape [1, C], [1, C, W] or [1, C, H, W], this one is {shape:?}");
            fail(reason, format!("set the batch to 1, or {ELSEWHERE}"))
        })
    }

    fn constant(&self, node: &Node, slot: usize) -> Option<&'a Tensor> {
        self.facts.constant(node.input(slot)?)
    }

    fn shape(&self, node: &Node, slot: usize) -> Option<&'a [usize]> {
        self.facts.shape(node.input(slot)?)
    }

    /// What the operators' own readers of attributes and constants want.
    fn inference<'n>(&'n self, node: &'n Node) -> Inference<'n> {
        let inputs = node.inputs.iter().map(|v| v.and_then(|v| self.facts.get(v))).collect();
        Inference { model: self.model, node, inputs }
    }

    /// The only node that reads `v`; `None` for an output of the graph.
    fn only_reader(&self, v: ValueId) -> Option<&'a Node> {
        let value = self.graph.value(v);
        match value.consumers.as_slice() {
            [(n, _)] if !value.is_output => Some(self.graph.node(*n)),
            _ => None,
        }
    }

    /// Bounds of a `Clip`.
    fn clip_bounds(&self, node: &Node, min: Option<f32>, max: Option<f32>) -> Option<(f32, f32)> {
        let read = |given: Option<f32>, slot: usize, open: f32| match (given, node.input(slot)) {
            (Some(b), _) => Some(b),
            (None, None) => Some(open),
            (None, Some(_)) => self.constant(node, slot)?.to_f32()?.first().copied(),
        };
        Some((read(min, 1, f32::NEG_INFINITY)?, read(max, 2, f32::INFINITY)?))
    }

    /// A stored tensor that has one value per channel of a result of shape `out`, or one value: as one value per channel.
    fn per_channel(&self, v: ValueId, out: &[usize]) -> Option<Vec<f32>> {
        let t = self.facts.constant(v)?;
        let values = t.to_f32()?;
        let &channels = out.get(1)?;
        let lead = out.len().checked_sub(t.shape.len())?;
        let only_channels = t.shape.iter().enumerate().all(|(d, &n)| n == 1 || (d + lead == 1 && n == channels));
        match values.len() {
            1 => Some(vec![values[0]; channels]),
            n if n == channels && only_channels => Some(values),
            _ => None,
        }
    }
}

/// The operand of a sum or product that is not `v`.
fn other_operand(node: &Node, v: ValueId) -> Option<(ValueId, usize)> {
    match node.inputs.as_slice() {
        [Some(a), Some(b)] if *a == v && *b != v => Some((*b, 1)),
        [Some(a), Some(b)] if *b == v && *a != v => Some((*a, 0)),
        _ => None,
    }
}

/// A sum of two operands.
fn is_sum(op: &Op) -> bool {
    matches!(op, Op::Binary(Binary::Add | Binary::Sum))
}

/// Of channels, rows and columns, what axis `axis` of a tensor of rank `rank` is; `None` for the batch.
fn axis_of(axis: i64, rank: i64) -> Option<usize> {
    match (axis, rank) {
        (1, _) => Some(0),
        (2, 4) => Some(1),
        (2, 3) | (3, 4) => Some(2),
        _ => None,
    }
}
