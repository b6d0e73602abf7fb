//! `Conv`, `Gemm` and `MatMul`.

use graph::ops::{self, Op, Pad, PadMode};
use graph::{Node, ValueId};

use super::{Deferred, Lowering};
use crate::error::Result;
use crate::layout::Extent;
use crate::network::{Conv, Operation, TensorId};
use crate::survivors::Weights;

impl Lowering<'_> {
    pub(super) fn conv(&mut self, node: &Node, op: &ops::Conv) -> Result<()> {
        let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Ok(()) };
        let Some(w) = self.constant(node, 1).filter(|w| (3..=4).contains(&w.shape.len())) else {
            return self.unsupported(node, "its weight is not a stored tensor of a convolution over one or two axes");
        };
        let Some(mut values) = w.to_f32() else { return self.unsupported(node, "its weight is not of a floating type") };
        let filters = w.shape[0];
        let mut bias = match node.input(2) {
            None => vec![0.0; filters],
            Some(_) => match self.constant(node, 2).and_then(|b| b.to_f32()) {
                Some(b) if b.len() == filters => b,
                _ => return self.unsupported(node, "its bias is not stored"),
            },
        };
        let sequence = w.shape.len() == 3;
        let shape = if sequence { [filters, w.shape[1], 1, w.shape[2]] } else { [filters, w.shape[1], w.shape[2], w.shape[3]] };
        let spatial = self.facts.need_shape(self.graph, x)?[2..].to_vec();
        let pads = op.window.resolve_pads(&spatial, &w.shape[2..]);
        let two = |f: &dyn Fn(usize) -> usize, absent: usize| if sequence { (absent, f(0)) } else { (f(0), f(1)) };
        let mut pad = two(&|d| pads[d].0, 0);
        let stride = two(&|d| op.window.stride(d), 1);
        let dilation = two(&|d| op.window.dilation(d), 1);
        let mut input = x;
        if let Some(p) = self.graph.producer(x)
            && let Some((top, left)) = self.zero_padding(p)
        {
            pad = (pad.0 + top, pad.1 + left);
            input = p.input(0).unwrap_or(x);
        }
        let input = self.tensor(input)?;
        let tail = self.tail(y, &mut values, &mut bias);
        let conv = Conv { weights: Weights { shape, values, bias, group: op.group }, stride, dilation, pad, clamp: tail.clamp };
        self.layer(node, conv, input, tail)
    }

    fn layer(&mut self, node: &Node, conv: Conv, input: TensorId, tail: super::fold::Tail) -> Result<()> {
        let mut operators = vec![node.op.name().to_owned()];
        operators.extend(tail.operators);
        let operation = Operation::Conv(Box::new(conv));
        match tail.sum {
            Some((sum, other)) => {
                self.deferred.insert(sum, Deferred { name: node.name.clone(), operators, operation, input, other, end: tail.end });
            }
            None => {
                let output = self.define(tail.end)?;
                self.push(node.name.clone(), operators, operation, vec![input], output);
            }
        }
        Ok(())
    }

    /// Zeros added to rows and columns only: how many above and to the left.
    fn zero_padding(&self, node: &Node) -> Option<(usize, usize)> {
        let Op::Pad(op @ Pad { mode: PadMode::Constant, .. }) = &node.op else { return None };
        let i = self.inference(node);
        let amounts = op.amounts(&i, self.shape(node, 0)?.len()).ok()??;
        let positive = amounts.iter().all(|&(a, b)| a >= 0 && b >= 0);
        if op.fill(&i) != Some(0.0) || !positive {
            return None;
        }
        match amounts[..] {
            [(0, 0), (0, 0), (left, _)] => Some((0, left as usize)),
            [(0, 0), (0, 0), (top, _), (left, _)] => Some((top as usize, left as usize)),
            _ => None,
        }
    }

    /// `node` adds zeros that only convolutions read: they take them as their own padding.
    pub(super) fn is_padding_of_convolutions(&self, node: &Node) -> bool {
        let Some(v) = node.output(0) else { return false };
        let value = self.graph.value(v);
        let convolutions = value.consumers.iter().all(|&(n, slot)| slot == 0 && matches!(self.graph.node(n).op, Op::Conv(_)));
        !value.is_output && convolutions && self.zero_padding(node).is_some()
    }

    /// `Gemm` and `MatMul` of one row with a stored matrix: a convolution of one pixel; of all pixels, where the row was one.
    pub(super) fn linear(&mut self, node: &Node) -> Result<()> {
        let Some(y) = node.output(0) else { return Ok(()) };
        let (mut values, mut bias, k) = match self.linear_numbers(node) {
            Ok(numbers) => numbers,
            Err(reason) => return self.unsupported(node, reason),
        };
        let (mut input, mut kernel) = (node.input(0), (1, 1));
        // A row that was flattened from channels and pixels is read where it lies.
        if let Some(from) = input.and_then(|v| self.flattened_from(v)) {
            let e = self.extent(from)?;
            (input, kernel) = (Some(from), (e.height, e.width));
        }
        let Some(input) = input else { return self.unsupported(node, "it has no operand") };
        let input = self.tensor(input)?;
        let shape = [bias.len(), k / (kernel.0 * kernel.1), kernel.0, kernel.1];
        let tail = self.tail(y, &mut values, &mut bias);
        let weights = Weights { shape, values, bias, group: 1 };
        self.layer(node, Conv { weights, stride: (1, 1), dilation: (1, 1), pad: (0, 0), clamp: tail.clamp }, input, tail)
    }

    /// Weights `[N, K]`, biases and `K` of a linear layer on one row.
    fn linear_numbers(&self, node: &Node) -> std::result::Result<(Vec<f32>, Vec<f32>, usize), &'static str> {
        let one_row = self.shape(node, 0).and_then(|s| if let [1, k] = *s { Some(k) } else { None });
        let k = one_row.ok_or("its first operand is not a single row")?;
        let b = self.constant(node, 1).filter(|b| b.shape.len() == 2).ok_or("its second operand is not a stored matrix")?;
        let stored = b.to_f32().ok_or("its second operand is not of a floating type")?;
        let gemm = if let Op::Gemm(g) = &node.op { Some(*g) } else { None };
        if gemm.is_some_and(|g| g.trans_a) {
            return Err("its first operand is transposed");
        }
        let transposed = gemm.is_some_and(|g| g.trans_b);
        let n = if transposed { b.shape[0] } else { b.shape[1] };
        let alpha = gemm.map_or(1.0, |g| g.alpha);
        let mut values = if transposed { stored } else { (0..n * k).map(|i| stored[i % k * n + i / k]).collect() };
        values.iter_mut().for_each(|w| *w *= alpha);
        let beta = gemm.map_or(1.0, |g| g.beta);
        let bias = match node.input(2) {
            Some(c) if gemm.is_some() => {
                let c = self.per_channel(c, &[1, n]).ok_or("its bias is not stored")?;
                c.iter().map(|v| v * beta).collect()
            }
            _ => vec![0.0; n],
        };
        Ok((values, bias, k))
    }

    /// The value `[1, C, H, W]` of which `v` is the flat form, in the file's order.
    fn flattened_from(&self, v: ValueId) -> Option<ValueId> {
        let p = self.graph.producer(v).filter(|p| matches!(p.op, Op::Flatten(_) | Op::Reshape(_)))?;
        let from = p.input(0)?;
        let e = Extent::of(self.facts.shape(from)?)?;
        (Extent::of(self.facts.shape(v)?)? == Extent { channels: e.len(), height: 1, width: 1 } && !e.is_vector()).then_some(from)
    }

    /// `node` flattens what only linear layers read: they read the original.
    pub(super) fn is_flattening_for_linear(&self, node: &Node) -> bool {
        let Some(v) = node.output(0) else { return false };
        let value = self.graph.value(v);
        let linear = |n: &Node| matches!(n.op, Op::Gemm(_) | Op::MatMul) && self.linear_numbers(n).is_ok();
        !value.is_output
            && self.flattened_from(v).is_some()
            && value.consumers.iter().all(|&(n, slot)| slot == 0 && linear(self.graph.node(n)))
    }
}
