//! A graph made ready to run and to train: its parameters apart, its steps planned.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use burn_backend::DType;
use burn_backend::tensor::FloatTensor;
use burn_flex::Flex;
use graph::ops::{Binary, Op, Unary};
use graph::{Facts, Graph, InputShapes, Model, Node, NodeId, Source, Tensor, ValueId};
use serde::{Deserialize, Serialize};

use crate::backend::{BatchStatistics, Kernels};
use crate::error::{Error, Result};
use crate::ops;
use crate::run::Run;
use crate::tensors;

/// How a pass treats what behaves differently in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Normalisation by the batch, Dropout active.
    Train,
    /// Normalisation by the running statistics.
    Eval,
}

/// The part a parameter plays, which decides on weight decay and how it is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Of a convolution or matrix product.
    Weight,
    /// Added per channel.
    Bias,
    /// Scale of a normalisation.
    Scale,
    /// Shift of a normalisation.
    Shift,
    /// Slope of a PRelu.
    Slope,
    /// Any other learnt tensor.
    Other,
}

/// A trainable tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    /// Name of the initializer.
    pub name: String,
    /// Dimensions as in the file.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f32>,
    /// Its part.
    pub kind: Kind,
    pub(crate) id: ValueId,
}

/// Running statistics of one BatchNormalization, or of several that share them in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Name of the (first) node.
    pub node: String,
    /// Names of the initializers of mean and variance.
    pub names: [String; 2],
    /// Means per channel.
    pub mean: Vec<f32>,
    /// Unbiased variances per channel.
    pub variance: Vec<f32>,
    /// Share of the old statistic kept at an update.
    pub momentum: f32,
}

/// What is run at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// One node.
    Node(NodeId),
    /// A convolution or normalisation with what follows it: normalisation, sum, Relu.
    Fused { conv: Option<NodeId>, norm: Option<NodeId>, add: Option<(NodeId, ValueId)>, relu: Option<NodeId> },
}

/// A network that can be run, trained and written back.
#[derive(Debug)]
pub struct Network {
    pub(crate) model: Model,
    pub(crate) graph: Graph,
    pub(crate) params: Vec<Param>,
    pub(crate) running: Vec<Running>,
    pub(crate) running_of: HashMap<NodeId, usize>,
    /// Nodes whose results are constants of the file that change with a parameter.
    learning: HashSet<NodeId>,
    train_steps: Vec<Step>,
    eval_steps: Vec<Step>,
    facts: Mutex<HashMap<usize, Arc<Facts>>>,
}

impl Clone for Network {
    fn clone(&self) -> Self {
        Self {
            model: self.model.clone(),
            graph: self.graph.clone(),
            params: self.params.clone(),
            running: self.running.clone(),
            running_of: self.running_of.clone(),
            learning: self.learning.clone(),
            train_steps: self.train_steps.clone(),
            eval_steps: self.eval_steps.clone(),
            facts: Mutex::default(),
        }
    }
}

impl Network {
    /// Reads the parameters of `model` and plans the passes. No batch size is fixed.
    ///
    /// # Errors
    /// An inconsistent graph; an operator that cannot be run here, with its node.
    pub fn compile(model: &Model) -> Result<Self> {
        let graph = Graph::new(model)?;
        let mut network = Self {
            // Constants are folded by value, wherever the file keeps them.
            model: if model.has_external_data() { model.with_data_inside()? } else { model.clone() },
            params: Vec::new(),
            running: Vec::new(),
            running_of: HashMap::new(),
            learning: HashSet::new(),
            train_steps: Vec::new(),
            eval_steps: Vec::new(),
            facts: Mutex::default(),
            graph,
        };
        let facts = network.facts(1).ok();
        network.collect_params(facts.as_deref())?;
        network.collect_running()?;
        if let Some(facts) = &facts {
            network.learning = network.learning(facts);
        }
        for node in &network.graph.nodes {
            if !facts.as_ref().is_some_and(|f| network.is_folded(node, f)) {
                ops::check(node, facts.as_deref())?;
            }
        }
        network.train_steps = network.plan(false);
        network.eval_steps = network.plan(true);
        Ok(network)
    }

    /// The learnt tensors that passes read. What only folded nodes read is a constant of the architecture: scales of a Resize,
    /// say.
    fn collect_params(&mut self, facts: Option<&Facts>) -> Result<()> {
        let mut seen: HashSet<ValueId> = HashSet::new();
        for node in &self.graph.nodes {
            if facts.is_some_and(|f| self.is_folded(node, f)) {
                continue;
            }
            for (slot, input) in node.inputs.iter().enumerate() {
                let Some(v) = input.and_then(|v| self.stored_form(v)) else { continue };
                let Some(kind) = kind_of(node, slot).filter(|_| !seen.contains(&v)) else { continue };
                let name = self.graph.value(v).name.clone();
                let Some(tensor) = self.model.tensor(&name).transpose()? else { continue };
                let Some(values) = tensor.to_f32() else { continue };
                let initializer = self.graph.value(v).source == Source::Initializer;
                if kind == Kind::Other && (values.len() < 2 || !initializer) {
                    continue;
                }
                seen.insert(v);
                self.params.push(Param { name, shape: tensor.shape, values, kind, id: v });
            }
        }
        Ok(())
    }

    /// The running statistics; nodes that share them in the file share them here.
    fn collect_running(&mut self) -> Result<()> {
        for node in &self.graph.nodes {
            let Op::BatchNormalization(op) = &node.op else { continue };
            let refused = |reason: String| Error::Unsupported { node: node.name.clone(), op: node.op.name().into(), reason };
            let read = |slot: usize| -> Result<(String, Vec<f32>)> {
                let missing = || refused("its running statistics are not stored in the file; export the network in inference form".into());
                let name = node.input(slot).map(|v| self.graph.value(v).name.clone()).ok_or_else(missing)?;
                let values = self.model.tensor(&name).transpose()?.and_then(|t| t.to_f32()).ok_or_else(missing)?;
                Ok((name, values))
            };
            let ((mean_name, mean), (variance_name, variance)) = (read(3)?, read(4)?);
            let running = Running { node: node.name.clone(), names: [mean_name, variance_name], mean, variance, momentum: op.momentum };
            let known = self.running.iter().position(|r| r.names.iter().any(|n| running.names.contains(n)));
            let index = match known.map(|i| (i, &self.running[i])) {
                Some((i, r)) if r.names == running.names && r.momentum == running.momentum => i,
                Some((_, r)) => {
                    return Err(refused(format!(
                        "it shares running statistics with node `{}`, but not both of them, or not with the same momentum; give each of the \
                         two its own, or the same",
                        r.node
                    )));
                }
                None => {
                    self.running.push(running);
                    self.running.len() - 1
                }
            };
            self.running_of.insert(node.id, index);
        }
        Ok(())
    }

    /// The stored value that `v` is, or is another form of: transposed, reshaped, or of another float type.
    pub(crate) fn stored_form(&self, mut v: ValueId) -> Option<ValueId> {
        while !self.graph.is_stored(v) {
            let Source::Node(id, 0) = self.graph.value(v).source else { return None };
            let node = self.graph.node(id);
            let keeps_numbers = match node.op {
                Op::Transpose(_) | Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) | Op::Unsqueeze(_) => true,
                Op::Unary(Unary::Identity) => true,
                Op::Unary(Unary::Cast { to }) => graph::is_float(to),
                _ => false,
            };
            v = node.input(0).filter(|_| keeps_numbers)?;
        }
        Some(v)
    }

    /// The nodes that passes run though their results are constants of the file: what is computed from a parameter, other than
    /// its shape.
    fn learning(&self, facts: &Facts) -> HashSet<NodeId> {
        let mut changing: HashSet<ValueId> = self.params.iter().map(|p| p.id).collect();
        let mut nodes = HashSet::new();
        for node in self.graph.nodes.iter().filter(|n| self.is_folded(n, facts) && !matches!(n.op, Op::Shape | Op::ConstantOfShape(_))) {
            if node.inputs.iter().flatten().any(|v| changing.contains(v)) {
                changing.extend(node.outputs.iter().flatten());
                nodes.insert(node.id);
            }
        }
        nodes
    }

    /// Passes take the results of `node` from `facts` instead of running it.
    pub(crate) fn is_folded(&self, node: &Node, facts: &Facts) -> bool {
        !self.learning.contains(&node.id) && node.outputs.iter().flatten().all(|v| facts.constant(*v).is_some())
    }

    /// Facts for a batch size; computed once.
    pub(crate) fn facts(&self, batch: usize) -> Result<Arc<Facts>> {
        if let Ok(known) = self.facts.lock()
            && let Some(facts) = known.get(&batch)
        {
            return Ok(facts.clone());
        }
        let facts = Arc::new(Facts::infer(&self.model, &self.graph, &InputShapes::batch(batch))?);
        if let Ok(mut known) = self.facts.lock() {
            if known.len() > 8 {
                known.clear();
            }
            known.insert(batch, facts.clone());
        }
        Ok(facts)
    }

    /// The trainable tensors, in the order of the graph.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The trainable tensors, to change them.
    pub fn params_mut(&mut self) -> &mut [Param] {
        &mut self.params
    }

    /// Running statistics of the normalisations, in the order of the graph.
    pub fn running(&self) -> &[Running] {
        &self.running
    }

    /// Running statistics, to change them.
    pub fn running_mut(&mut self) -> &mut [Running] {
        &mut self.running
    }

    /// The indexed graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Shape of the first input for a batch of `batch`.
    ///
    /// # Errors
    /// A dimension that is not fixed.
    pub fn input_shape(&self, batch: usize) -> Result<Vec<usize>> {
        let facts = self.facts(batch)?;
        let v = self.graph.inputs.first().ok_or_else(|| Error::Input { input: "-".into(), reason: "the network has no input".into() })?;
        Ok(facts.need_shape(&self.graph, *v)?.to_vec())
    }

    /// Shape of the first output for a batch of `batch`.
    ///
    /// # Errors
    /// A shape that cannot be known.
    pub fn output_shape(&self, batch: usize) -> Result<Vec<usize>> {
        let facts = self.facts(batch)?;
        let v = self.graph.outputs.first().ok_or_else(|| Error::Input { input: "-".into(), reason: "the network has no output".into() })?;
        Ok(facts.need_shape(&self.graph, *v)?.to_vec())
    }

    /// It has one output `[N, K]` (`K ≥ 2`, further axes of size 1) that is not of its input's shape: a classifier, as far as
    /// the graph tells.
    ///
    /// # Errors
    /// A shape that cannot be known.
    pub fn classifies(&self) -> Result<bool> {
        let (input, output) = (self.input_shape(1)?, self.output_shape(1)?);
        let flat = output.len() >= 2 && output[1] >= 2 && output[2..].iter().all(|&d| d == 1);
        Ok(self.graph.outputs.len() == 1 && flat && output != input)
    }

    /// Elements of the largest value that is computed for one image.
    ///
    /// # Errors
    /// A graph whose shapes cannot be known.
    pub fn largest_value(&self) -> Result<usize> {
        let facts = self.facts(1)?;
        let outputs = self.graph.nodes.iter().flat_map(|n| n.outputs.iter().flatten());
        Ok(outputs.filter_map(|v| facts.shape(*v)).map(|s| s.iter().product()).max().unwrap_or(0))
    }

    /// The planned steps; `folded` takes normalisations into the convolutions before them.
    pub(crate) fn steps(&self, folded: bool) -> &[Step] {
        if folded { &self.eval_steps } else { &self.train_steps }
    }

    /// The only reader of `v`, if it is not an output.
    pub(crate) fn only_reader(&self, v: ValueId) -> Option<&Node> {
        let value = self.graph.value(v);
        match value.consumers.as_slice() {
            [(node, _)] if !value.is_output => Some(self.graph.node(*node)),
            _ => None,
        }
    }

    /// Joins convolution (in evaluation), normalisation, sum and Relu where nothing else reads
    /// what lies between.
    fn plan(&self, with_conv: bool) -> Vec<Step> {
        let mut taken = vec![false; self.graph.nodes.len()];
        let mut at: HashMap<NodeId, Step> = HashMap::new();
        for node in &self.graph.nodes {
            if taken[node.id.index()] {
                continue;
            }
            let is_conv = matches!(node.op, Op::Conv(_));
            let is_norm = matches!(node.op, Op::BatchNormalization(_));
            if !(is_norm || (is_conv && with_conv)) {
                continue;
            }
            let (conv, mut norm) = (is_conv.then_some(node.id), is_norm.then_some(node.id));
            let Some(mut out) = node.output(0) else { continue };
            let mut last = node.id;
            let mut members = vec![node.id];
            if is_conv
                && let Some(next) = self.only_reader(out).filter(|n| matches!(n.op, Op::BatchNormalization(_)) && n.input(0) == Some(out))
            {
                norm = Some(next.id);
                members.push(next.id);
                (last, out) = (next.id, next.output(0).unwrap_or(out));
            }
            let mut add = None;
            if let Some(next) =
                self.only_reader(out).filter(|n| matches!(n.op, Op::Binary(Binary::Add)) && n.inputs.len() == 2 && !taken[n.id.index()])
            {
                let other = next.inputs.iter().flatten().copied().find(|v| *v != out);
                // A sum with itself, or one that broadcasts, stays as it is.
                let same_shape =
                    self.facts(1).ok().is_some_and(|f| other.is_some_and(|o| f.shape(o).is_some() && f.shape(o) == f.shape(out)));
                let stored = other.is_some_and(|o| self.graph.is_stored(o));
                if let Some(other) = other.filter(|_| same_shape && !stored) {
                    add = Some((next.id, other));
                    members.push(next.id);
                    (last, out) = (next.id, next.output(0).unwrap_or(out));
                }
            }
            let mut relu = None;
            if let Some(next) = self.only_reader(out).filter(|n| matches!(n.op, Op::Unary(Unary::Relu))) {
                relu = Some(next.id);
                members.push(next.id);
                last = next.id;
            }
            for m in members {
                taken[m.index()] = true;
            }
            at.insert(last, Step::Fused { conv, norm, add, relu });
        }
        self.graph
            .nodes
            .iter()
            .filter_map(|node| match at.remove(&node.id) {
                Some(step) => Some(step),
                None if taken[node.id.index()] => None,
                None => Some(Step::Node(node.id)),
            })
            .collect()
    }

    /// Steps without any fusion, for passes that ask for values in between.
    pub(crate) fn plain(&self) -> Self {
        let mut plain = self.clone();
        plain.train_steps = plain.graph.nodes.iter().map(|n| Step::Node(n.id)).collect();
        plain.eval_steps = plain.train_steps.clone();
        plain
    }

    /// Runs the network on the CPU: outputs in the graph's order.
    ///
    /// # Errors
    /// Inputs of the wrong shape; operators that cannot be run here.
    pub fn forward(&self, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        let inputs = inputs
            .iter()
            .map(|t| Ok(tensors::from_f32::<Flex>(&t.shape, t.to_f32().ok_or_else(|| not_float(&t.shape))?, DType::F32)))
            .collect::<Result<Vec<_>>>()?;
        let pass = self.pass::<Flex>(inputs, self.lifted::<Flex>(), mode, DType::F32, 0)?;
        let back = |t: FloatTensor<Flex>| {
            use burn_backend::TensorMetadata;
            let shape = t.shape().to_vec();
            Tensor::f32(shape, tensors::to_f32::<Flex>(t))
        };
        Ok(pass.outputs.into_iter().map(back).collect())
    }

    /// The parameters as tensors of a backend, for a pass without gradients.
    pub(crate) fn lifted<B: Kernels>(&self) -> Vec<FloatTensor<B>> {
        self.params.iter().map(|p| tensors::from_f32::<B>(&p.shape, p.values.clone(), DType::F32)).collect()
    }

    /// Statistics of a batch at every normalisation, by position in [`Network::running`].
    pub(crate) fn statistics(&self, batch: &crate::data::Batch, mode: Mode) -> Result<Vec<(usize, BatchStatistics)>> {
        let inputs = vec![tensors::from_f32::<Flex>(&batch.shape, batch.inputs.clone(), DType::F32)];
        Ok(self.pass::<Flex>(inputs, self.lifted::<Flex>(), mode, DType::F32, 0)?.statistics)
    }

    /// One pass with given parameters.
    pub(crate) fn pass<B: Kernels>(
        &self,
        inputs: Vec<FloatTensor<B>>,
        params: Vec<FloatTensor<B>>,
        mode: Mode,
        dtype: DType,
        seed: u64,
    ) -> Result<Pass<B>> {
        use burn_backend::TensorMetadata;
        if inputs.len() != self.graph.inputs.len() {
            let reason = format!("the network has {} inputs, {} were given", self.graph.inputs.len(), inputs.len());
            return Err(Error::Input { input: "-".into(), reason });
        }
        let batch = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
        let facts = self.facts(batch)?;
        let mut run = Run::<B>::new(self, &facts, mode, dtype, &[]);
        run.seed = seed;
        for (v, tensor) in self.graph.inputs.iter().zip(inputs) {
            let expected = facts.need_shape(&self.graph, *v)?;
            let found = tensor.shape();
            if found.as_slice() != expected {
                let reason = format!("it has shape {found:?}, the network wants {expected:?}");
                return Err(Error::Input { input: self.graph.value(*v).name.clone(), reason });
            }
            run.set(*v, tensor);
        }
        for (param, tensor) in self.params.iter().zip(params) {
            run.set(param.id, tensor);
        }
        run.execute()?;
        let missing = |v: ValueId| Error::Input { input: self.graph.value(v).name.clone(), reason: "it was not computed".into() };
        let outputs = self.graph.outputs.iter().map(|v| run.get(*v).ok_or_else(|| missing(*v))).collect::<Result<_>>()?;
        Ok(Pass { outputs, statistics: run.statistics })
    }

    /// Moves running statistics towards those of a batch:
    /// `running·momentum + batch·(1 − momentum)`, with the unbiased variance; shared ones once for every node.
    pub fn update_running(&mut self, statistics: &[(usize, BatchStatistics)]) {
        for (index, batch) in statistics {
            let Some(running) = self.running.get_mut(*index) else { continue };
            let keep = running.momentum;
            let unbiased = batch.count as f32 / (batch.count.max(2) - 1) as f32;
            for (r, b) in running.mean.iter_mut().zip(&batch.mean) {
                *r = *r * keep + b * (1.0 - keep);
            }
            for (r, b) in running.variance.iter_mut().zip(&batch.variance) {
                *r = *r * keep + b * unbiased * (1.0 - keep);
            }
        }
    }

    /// Writes parameters and running statistics into the tensors of `model`, by name.
    ///
    /// # Errors
    /// A tensor that `model` does not have, or has with another number of elements.
    pub fn write_back(&self, model: &mut Model) -> Result<()> {
        let statistics = self.running.iter().flat_map(|r| [(&r.names[0], &r.mean), (&r.names[1], &r.variance)]);
        for (name, values) in self.params.iter().map(|p| (&p.name, &p.values)).chain(statistics) {
            let lost = |reason: &str| Error::Graph(graph::Error::Tensor { tensor: name.clone(), reason: reason.into() });
            let old = model.tensor(name).transpose()?.ok_or_else(|| lost("the model has no tensor of this name"))?;
            let new = old.with_f32(values.clone()).ok_or_else(|| lost("the model has it with another shape"))?;
            model.set_tensor(name, &new)?;
        }
        Ok(())
    }
}

fn not_float(shape: &[usize]) -> Error {
    Error::Input { input: format!("{shape:?}"), reason: "it is not a tensor of floats".into() }
}

/// What a pass leaves.
pub(crate) struct Pass<B: Kernels> {
    pub outputs: Vec<FloatTensor<B>>,
    pub statistics: Vec<(usize, BatchStatistics)>,
}

fn kind_of(node: &Node, slot: usize) -> Option<Kind> {
    match (&node.op, slot) {
        (Op::Conv(_) | Op::ConvTranspose(_), 1) => Some(Kind::Weight),
        (Op::Conv(_) | Op::ConvTranspose(_), 2) | (Op::Gemm(_), 2) => Some(Kind::Bias),
        (Op::Gemm(_) | Op::MatMul, 0 | 1) => Some(Kind::Weight),
        (Op::BatchNormalization(_) | Op::LayerNormalization(_), 1) => Some(Kind::Scale),
        (Op::BatchNormalization(_) | Op::LayerNormalization(_), 2) => Some(Kind::Shift),
        (Op::Binary(Binary::PRelu), 1) => Some(Kind::Slope),
        (Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Sum), _) => Some(Kind::Other),
        _ => None,
    }
}
