//! What a model computes, in the engine's own steps: after folding and fusing, before anything has a place in memory.

use graph::ops::{PoolKind, Window};

use crate::kernels::Clamp;
use crate::layout::Extent;
use crate::ops::{Arithmetic, Function};
use crate::survivors::Weights;

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TensorId(pub usize);

/// A convolution, or a linear layer as one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conv {
    /// Folded numbers.
    pub weights: Weights,
    /// Rows and columns.
    pub stride: (usize, usize),
    /// Rows and columns.
    pub dilation: (usize, usize),
    /// Above and to the left; below and to the right follows from the output's size.
    pub pad: (usize, usize),
    /// On the result.
    pub clamp: Clamp,
}

/// What a step computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// The network's input of this number.
    Load(usize),
    /// A stored tensor, in the order of the file.
    Constant(Vec<f32>),
    /// Operands: input, and what is added before the clamp where there is a second.
    Conv(Box<Conv>),
    /// A convolution and the depthwise one that alone reads it, together. Operands: input, and the activation between the two, of
    /// which only a part is ever stored.
    Pair(Box<[Conv; 2]>),
    /// Windows with their padding resolved.
    Pool {
        /// Maximum or mean.
        kind: PoolKind,
        /// Kernel, strides.
        window: Window,
        /// Above and to the left.
        pad: (usize, usize),
        /// Below and to the right, as the file states it.
        pad_end: (usize, usize),
    },
    /// Over all pixels.
    GlobalPool {
        /// Maximum instead of mean.
        maximum: bool,
    },
    /// Element by element.
    Map(Function),
    /// `scale·x + shift` per channel, clamped.
    Affine {
        /// Per channel.
        scale: Vec<f32>,
        /// Per channel.
        shift: Vec<f32>,
        /// On the result.
        clamp: Clamp,
    },
    /// Two operands; the second has the extent of the first, or is a value per channel, or one value.
    Binary {
        /// Which.
        function: Arithmetic,
        /// On the result.
        clamp: Clamp,
    },
    /// Every element of the result is an element of the operand or a fill value; in the file's order (`NCHW`).
    Move {
        /// Index in the operand; `None` for the fill value.
        source: Vec<Option<u32>>,
        /// Where there is no source.
        fill: f32,
    },
    /// The operand in the other layout, planar or blocked.
    Reorder,
    /// Operands joined along an axis: 0 for channels, 1 for rows, 2 for columns.
    Concat {
        /// Which.
        axis: usize,
    },
    /// Over an axis, as for the join.
    Softmax {
        /// Which.
        axis: usize,
        /// Its logarithm.
        log: bool,
    },
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Name of the node it comes from; of the first where several were fused.
    pub name: String,
    /// ONNX operators fused in it, in order.
    pub operators: Vec<String>,
    /// What it computes.
    pub operation: Operation,
    /// Operands.
    pub inputs: Vec<TensorId>,
    /// Result.
    pub output: TensorId,
}

/// A named input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name in the file.
    pub name: String,
    /// Dimensions in the file's order; the batch is 1.
    pub shape: Vec<usize>,
}

/// Steps in the order in which they run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Network {
    /// Extent of every activation.
    pub tensors: Vec<Extent>,
    /// In order.
    pub steps: Vec<Step>,
    /// What the user feeds.
    pub inputs: Vec<Port>,
    /// What the user reads, and where it is.
    pub outputs: Vec<(Port, TensorId)>,
}

impl Network {
    /// A new activation.
    pub fn tensor(&mut self, extent: Extent) -> TensorId {
        self.tensors.push(extent);
        TensorId(self.tensors.len() - 1)
    }

    /// Its extent.
    pub fn extent(&self, t: TensorId) -> Extent {
        self.tensors[t.0]
    }

    /// Removes steps whose result nobody reads.
    pub fn remove_dead(&mut self) {
        let mut needed = vec![false; self.tensors.len()];
        self.outputs.iter().for_each(|(_, t)| needed[t.0] = true);
        let mut kept = Vec::new();
        while let Some(step) = self.steps.pop() {
            if needed[step.output.0] {
                step.inputs.iter().for_each(|t| needed[t.0] = true);
                kept.push(step);
            }
        }
        kept.reverse();
        self.steps = kept;
    }
}
