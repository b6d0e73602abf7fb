//! Operators that only move elements.

use graph::ops::{Concat, Pad, PadMode, Resize, Slice, Split, Transpose};
use graph::{Node, ValueId, for_each_index, strides};

use super::Lowering;
use crate::error::Result;
use crate::network::{Operation, TensorId};

impl Lowering<'_> {
    /// A step that moves elements. A move of a move reads what that one reads; where nobody else wants its result, it is dead.
    fn moved(&mut self, node: &Node, from: TensorId, value: ValueId, source: Vec<Option<u32>>, fill: f32) -> Result<()> {
        let mut operators = vec![node.op.name().to_owned()];
        let before = self.network.steps.iter().rfind(|s| s.output == from);
        let (mut source, mut input, mut fill) = (source, from, fill);
        if let Some(step) = before
            && let Operation::Move { source: inner, fill: inner_fill } = &step.operation
        {
            let fills = source.iter().any(Option::is_none);
            let inner_fills = inner.iter().any(Option::is_none);
            if !fills || !inner_fills || *inner_fill == fill {
                if !fills {
                    fill = *inner_fill;
                }
                source = source.into_iter().map(|s| s.and_then(|i| inner[i as usize])).collect();
                input = step.inputs[0];
                operators.splice(0..0, step.operators.iter().cloned());
            }
        }
        let output = self.define(value)?;
        self.push(node.name.clone(), operators, Operation::Move { source, fill }, vec![input], output);
        Ok(())
    }

    /// Moves by coordinates: axis `d` of the result takes, at `k`, coordinate `kept[d][k]` of the operand.
    fn selected(&mut self, node: &Node, value: ValueId, kept: &[Vec<Option<usize>>], fill: f32) -> Result<()> {
        let from = self.operand(node, 0)?;
        let Some(shape) = self.shape(node, 0) else { return self.unsupported(node, "the shape of its operand is not known") };
        let steps = strides(shape);
        let sizes: Vec<usize> = kept.iter().map(Vec::len).collect();
        let mut source = Vec::with_capacity(sizes.iter().product());
        for_each_index(&sizes, |index| {
            let at = index.iter().enumerate().map(|(d, &k)| kept[d][k].map(|c| c * steps[d])).sum::<Option<usize>>();
            source.push(at.map(|a| a as u32));
        });
        self.moved(node, from, value, source, fill)
    }

    pub(super) fn pad(&mut self, node: &Node, op: &Pad) -> Result<()> {
        if self.is_padding_of_convolutions(node) {
            return Ok(());
        }
        let (Some(shape), Some(out)) = (self.shape(node, 0), node.output(0)) else { return Ok(()) };
        let i = self.inference(node);
        let (Some(amounts), Some(fill)) = (op.amounts(&i, shape.len())?, op.fill(&i)) else {
            return self.unsupported(node, "its amounts are computed");
        };
        let coordinate = |at: i64, size: usize| {
            let n = size as i64;
            let inside = (0..n).contains(&at);
            match op.mode {
                _ if inside => Some(at),
                PadMode::Constant => None,
                PadMode::Edge => Some(at.clamp(0, n - 1)),
                PadMode::Reflect if n > 1 => {
                    let m = at.rem_euclid(2 * (n - 1));
                    Some(m.min(2 * (n - 1) - m))
                }
                PadMode::Reflect => Some(0),
                PadMode::Wrap => Some(at.rem_euclid(n)),
            }
            .map(|c| c as usize)
        };
        let kept: Vec<Vec<Option<usize>>> =
            shape.iter().zip(&amounts).map(|(&size, &(a, b))| (-a..size as i64 + b).map(|at| coordinate(at, size)).collect()).collect();
        self.selected(node, out, &kept, fill)
    }

    pub(super) fn slice(&mut self, node: &Node, op: &Slice) -> Result<()> {
        let (Some(shape), Some(out)) = (self.shape(node, 0), node.output(0)) else { return Ok(()) };
        let Some(kept) = op.coordinates(&self.inference(node), shape)? else {
            return self.unsupported(node, "its bounds are computed");
        };
        let kept: Vec<Vec<Option<usize>>> = kept.into_iter().map(|k| k.into_iter().map(Some).collect()).collect();
        self.selected(node, out, &kept, 0.0)
    }

    pub(super) fn split(&mut self, node: &Node, op: &Split) -> Result<()> {
        let Some(shape) = self.shape(node, 0) else { return self.unsupported(node, "the shape of its operand is not known") };
        let given = self.inference(node).ints(1);
        if node.input(1).is_some() && given.is_none() {
            return self.unsupported(node, "its parts are computed");
        }
        let axis = if op.axis < 0 { op.axis + shape.len() as i64 } else { op.axis } as usize;
        let mut start = 0;
        // A part that is left out takes its place on the axis all the same.
        for (v, size) in node.outputs.iter().zip(op.parts(shape[axis], given, node.outputs.len())) {
            let kept: Vec<Vec<Option<usize>>> = (0..shape.len())
                .map(|d| if d == axis { (start..start + size).map(Some).collect() } else { (0..shape[d]).map(Some).collect() })
                .collect();
            if let Some(v) = *v {
                self.selected(node, v, &kept, 0.0)?;
            }
            start += size;
        }
        Ok(())
    }

    pub(super) fn transpose(&mut self, node: &Node, op: &Transpose) -> Result<()> {
        let (Some(shape), Some(out)) = (self.shape(node, 0), node.output(0)) else { return Ok(()) };
        let from = self.operand(node, 0)?;
        let perm: Vec<usize> = op.permutation(shape.len());
        let steps = strides(shape);
        let sizes: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        let mut source = Vec::with_capacity(sizes.iter().product());
        for_each_index(&sizes, |index| {
            source.push(Some(index.iter().zip(&perm).map(|(&k, &p)| k * steps[p]).sum::<usize>() as u32));
        });
        self.moved(node, from, out, source, 0.0)
    }

    pub(super) fn reshape(&mut self, node: &Node) -> Result<()> {
        if self.is_flattening_for_linear(node) {
            return Ok(());
        }
        let Some(out) = node.output(0) else { return Ok(()) };
        let from = self.operand(node, 0)?;
        let (before, after) = (self.network.extent(from), self.extent(out)?);
        if before == after {
            self.tensors.insert(out, from);
            return Ok(());
        }
        self.moved(node, from, out, (0..after.len() as u32).map(Some).collect(), 0.0)
    }

    pub(super) fn resize(&mut self, node: &Node, op: &Resize) -> Result<()> {
        let (Some(shape), Some(out)) = (self.shape(node, 0), node.output(0)) else { return Ok(()) };
        let target = self.facts.need_shape(self.graph, out)?.to_vec();
        let whole = shape.len() == target.len() && shape.iter().zip(&target).all(|(&a, &b)| b % a == 0);
        let floor = op.coordinates == "asymmetric" && op.nearest == "floor";
        // For whole factors these agree: floor of asymmetric, and the nearest of half-pixel.
        let same = floor || (op.coordinates == "half_pixel" && op.nearest.starts_with("round_prefer"));
        if op.mode != "nearest" || !whole || !same {
            return self.unsupported(node, "it is not the repetition of pixels by whole factors");
        }
        let kept: Vec<Vec<Option<usize>>> = shape.iter().zip(&target).map(|(&a, &b)| (0..b).map(|k| Some(k / (b / a))).collect()).collect();
        self.selected(node, out, &kept, 0.0)
    }

    pub(super) fn concat(&mut self, node: &Node, op: &Concat) -> Result<()> {
        let Some(out) = node.output(0) else { return Ok(()) };
        let rank = self.facts.need_shape(self.graph, out)?.len() as i64;
        let axis = if op.axis < 0 { op.axis + rank } else { op.axis };
        let Some(axis) = super::axis_of(axis, rank) else { return self.unsupported(node, "it joins along the batch") };
        let inputs = (0..node.inputs.len()).map(|s| self.operand(node, s)).collect::<Result<Vec<_>>>()?;
        self.step(node, Operation::Concat { axis }, inputs)
    }
}
