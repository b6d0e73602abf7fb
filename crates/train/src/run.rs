//! The interpreter: one pass over the steps of a [`Network`] on a backend.

use burn_backend::tensor::FloatTensor;
use burn_backend::{DType, TensorMetadata};
use graph::{Facts, Inference, Node, ValueId};

use crate::backend::{BatchStatistics, Kernels};
use crate::error::{Error, Result};
use crate::network::{Mode, Network};
use crate::ops;
use crate::tensors;

/// Values of one pass.
pub(crate) struct Run<'a, B: Kernels> {
    pub network: &'a Network,
    pub facts: &'a Facts,
    pub mode: Mode,
    pub dtype: DType,
    /// Seed of what is random in training (Dropout).
    pub seed: u64,
    values: Vec<Option<FloatTensor<B>>>,
    /// Reads still to come of every value; `u32::MAX` keeps it.
    reads: Vec<u32>,
    /// Batch statistics of the normalisations passed in training, by position in
    /// [`Network::running`].
    pub statistics: Vec<(usize, BatchStatistics)>,
}

impl<'a, B: Kernels> Run<'a, B> {
    pub fn new(network: &'a Network, facts: &'a Facts, mode: Mode, dtype: DType, keep: &[ValueId]) -> Self {
        let mut reads: Vec<u32> = network.graph.values.iter().map(|v| v.consumers.len() as u32).collect();
        for v in keep.iter().chain(&network.graph.outputs) {
            reads[v.index()] = u32::MAX;
        }
        let values = vec![None; network.graph.values.len()];
        Self { network, facts, mode, dtype, seed: 0, values, reads, statistics: Vec::new() }
    }

    /// Sets a value before the pass.
    pub fn set(&mut self, v: ValueId, tensor: FloatTensor<B>) {
        self.values[v.index()] = Some(tensor);
    }

    /// A value after the pass.
    pub fn get(&self, v: ValueId) -> Option<FloatTensor<B>> {
        self.values[v.index()].clone()
    }

    /// Puts a value back that a node to be run again has read.
    pub fn restore(&mut self, v: ValueId, tensor: FloatTensor<B>) {
        self.values[v.index()] = Some(tensor);
        let reads = &mut self.reads[v.index()];
        *reads = reads.saturating_add(1);
    }

    /// Keeps a value no longer than for `reads` more reads.
    pub fn release(&mut self, v: ValueId, reads: u32) {
        if self.network.graph.value(v).is_output {
            return;
        }
        self.reads[v.index()] = reads;
        if reads == 0 {
            self.values[v.index()] = None;
        }
    }

    /// Reads a value: computed, or a constant of the graph.
    pub fn read(&mut self, node: &Node, v: ValueId) -> Result<FloatTensor<B>> {
        let i = v.index();
        let constant = self.values[i].is_none();
        if constant {
            let tensor = self.facts.constant(v).and_then(|t| t.to_f32().map(|values| (t, values)));
            let Some((t, values)) = tensor else {
                let name = &self.network.graph.value(v).name;
                return Err(unsupported(node, format!("its input `{name}` is neither a float tensor that was computed nor a constant")));
            };
            return Ok(tensors::from_f32::<B>(&t.shape, values, self.dtype));
        }
        if self.reads[i] != u32::MAX {
            self.reads[i] = self.reads[i].saturating_sub(1);
            if self.reads[i] == 0
                && let Some(tensor) = self.values[i].take()
            {
                return Ok(tensor);
            }
        }
        self.values[i].clone().ok_or_else(|| unsupported(node, "an input was not computed".into()))
    }

    pub fn execute(&mut self) -> Result<()> {
        let network = self.network;
        // Folding a normalisation into weights leaves the tape: not where gradients are wanted.
        let folded = self.mode == Mode::Eval && !B::ad_enabled(&B::Device::default());
        for step in network.steps(folded) {
            ops::step(self, step)?;
        }
        Ok(())
    }
}

pub(crate) fn unsupported(node: &Node, reason: String) -> Error {
    Error::Unsupported { node: node.name.clone(), op: node.op.name().to_owned(), reason }
}

/// One node of a pass, seen by its operator.
pub(crate) struct At<'r, 'a, B: Kernels> {
    pub run: &'r mut Run<'a, B>,
    pub node: &'a Node,
}

impl<'a, B: Kernels> At<'_, 'a, B> {
    /// The float tensor at input `slot`.
    pub fn input(&mut self, slot: usize) -> Result<FloatTensor<B>> {
        match self.node.input(slot) {
            Some(v) => self.run.read(self.node, v),
            None => Err(self.unsupported(format!("input {slot} is missing"))),
        }
    }

    /// The float tensor at input `slot`, where there is one.
    pub fn optional(&mut self, slot: usize) -> Result<Option<FloatTensor<B>>> {
        self.node.input(slot).map(|v| self.run.read(self.node, v)).transpose()
    }

    /// Shape of input `slot`.
    pub fn shape(&self, slot: usize) -> Result<&'a [usize]> {
        let v = self.node.input(slot).ok_or_else(|| self.unsupported(format!("input {slot} is missing")))?;
        Ok(self.run.facts.need_shape(&self.run.network.graph, v)?)
    }

    /// Shape of output `slot`.
    pub fn output_shape(&self, slot: usize) -> Result<&'a [usize]> {
        let v = self.node.output(slot).ok_or_else(|| self.unsupported(format!("output {slot} is missing")))?;
        Ok(self.run.facts.need_shape(&self.run.network.graph, v)?)
    }

    /// Sets output `slot`.
    pub fn set(&mut self, slot: usize, tensor: FloatTensor<B>) -> Result<()> {
        if let Some(v) = self.node.output(slot) {
            if let Some(expected) = self.run.facts.shape(v) {
                let found = tensor.shape();
                if found.as_slice() != expected {
                    return Err(self.unsupported(format!(
                        "its result has shape {found:?} where {expected:?} was expected; this is a defect of the program"
                    )));
                }
            }
            self.run.set(v, tensor);
        }
        Ok(())
    }

    /// What the shape rules of the graph see.
    pub fn inference(&self) -> Inference<'a> {
        let inputs = self.node.inputs.iter().map(|v| v.and_then(|v| self.run.facts.get(v))).collect();
        Inference { model: &self.run.network.model, node: self.node, inputs }
    }

    pub fn unsupported(&self, reason: impl Into<String>) -> Error {
        unsupported(self.node, reason.into())
    }

    /// A constant tensor of this run's element type.
    pub fn tensor(&self, shape: &[usize], values: Vec<f32>) -> FloatTensor<B> {
        tensors::from_f32::<B>(shape, values, self.run.dtype)
    }
}
