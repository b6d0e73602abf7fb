//! Element-wise operators that nothing was fused with, and standalone normalisation.

use graph::ops::{Binary, Op, Unary};
use graph::{Node, ValueId};

use super::Lowering;
use crate::error::Result;
use crate::kernels::Clamp;
use crate::layout::Extent;
use crate::network::{Operation, TensorId};
use crate::ops::{Arithmetic, Function};

impl Lowering<'_> {
    pub(super) fn unary(&mut self, node: &Node, u: Unary) -> Result<()> {
        let bounds = match u {
            Unary::Clip { min, max } => self.clip_bounds(node, min, max),
            _ => Some((0.0, 0.0)),
        };
        let Some(function) = bounds.and_then(|b| Function::of(u, b)) else {
            return self.unsupported(node, "there is no kernel for this function, or its bounds are computed");
        };
        let x = self.operand(node, 0)?;
        self.step(node, Operation::Map(function), vec![x])
    }

    pub(super) fn normalization(&mut self, node: &Node) -> Result<()> {
        let Op::BatchNormalization(op) = node.op else { return Ok(()) };
        let Some((scale, shift)) = self.normalization_numbers(node, op) else {
            return self.unsupported(node, "its statistics are not stored in the file");
        };
        self.scaled(node, 0, scale, shift)
    }

    /// `scale·x + shift` with what can be fused to it.
    fn scaled(&mut self, node: &Node, slot: usize, scale: Vec<f32>, shift: Vec<f32>) -> Result<()> {
        let x = self.operand(node, slot)?;
        let (clamp, end, operators) = self.activation_after(node);
        let Some(end) = end else { return Ok(()) };
        let output = self.define(end)?;
        self.push(node.name.clone(), operators, Operation::Affine { scale, shift, clamp }, vec![x], output);
        Ok(())
    }

    /// The bounds that alone read the result of `node`, and where the fused result is.
    fn activation_after(&mut self, node: &Node) -> (Clamp, Option<ValueId>, Vec<String>) {
        let mut operators = vec![node.op.name().to_owned()];
        let Some(v) = node.output(0) else { return (Clamp::NONE, None, operators) };
        if let Some(n) = self.only_reader(v)
            && let (Some(c), Some(out)) = (self.clamp(n), n.output(0))
        {
            self.absorbed.insert(n.id);
            operators.push(n.op.name().to_owned());
            return (c, Some(out), operators);
        }
        (Clamp::NONE, Some(v), operators)
    }

    pub(super) fn binary(&mut self, node: &Node, b: Binary) -> Result<()> {
        let function = match b {
            Binary::Add | Binary::Sum => Arithmetic::Add,
            Binary::Sub => Arithmetic::Sub,
            Binary::Mul => Arithmetic::Mul,
            Binary::Div => Arithmetic::Div,
            Binary::Max => Arithmetic::Max,
            Binary::Min => Arithmetic::Min,
            _ => return self.unsupported(node, "there is no kernel for this operator"),
        };
        let [Some(a), Some(c)] = node.inputs[..] else {
            return self.unsupported(node, format!("it has {} operands, not two", node.inputs.len()));
        };
        let Some(out) = node.output(0) else { return Ok(()) };
        for (slot, v) in [a, c].into_iter().enumerate() {
            if let Some((scale, shift)) = self.affine(node, v) {
                return self.scaled(node, slot, scale, shift);
            }
        }
        let whole = self.extent(out)?;
        let small = |e: Extent| e.len() == 1 || (e.is_vector() && e.channels == whole.channels);
        // Operands of lower rank spread as if axes of size 1 stood before them.
        let extents = [a, c].map(|v| {
            let shape = self.facts.shape(v)?;
            let rank = self.facts.shape(out)?.len();
            let mut full = vec![1; rank.checked_sub(shape.len())?];
            full.extend_from_slice(shape);
            Extent::of(&full)
        });
        let ([Some(ea), Some(ec)], commutes) = (extents, !matches!(function, Arithmetic::Sub | Arithmetic::Div)) else {
            return self.unsupported(node, "an operand has more axes than batch, channels, rows and columns");
        };
        let order = if ea == whole && (ec == whole || small(ec)) {
            [a, c]
        } else if ec == whole && small(ea) && commutes {
            [c, a]
        } else {
            return self.unsupported(node, format!("operands of {ea:?} and {ec:?} spread in a way that there is no kernel for"));
        };
        let extent = |v: ValueId| if v == a { ea } else { ec };
        let inputs = vec![self.spread(node, order[0], extent(order[0]))?, self.spread(node, order[1], extent(order[1]))?];
        let (clamp, end, operators) = self.activation_after(node);
        let Some(end) = end else { return Ok(()) };
        let output = self.define(end)?;
        self.push(node.name.clone(), operators, Operation::Binary { function, clamp }, inputs, output);
        Ok(())
    }

    /// The activation of `v`, an operand of `node`, with its elements counted in the axes of `extent`, to which it spreads.
    fn spread(&mut self, node: &Node, v: ValueId, extent: Extent) -> Result<TensorId> {
        let known = self.tensors.get(&v).copied();
        if let Some(t) = known.filter(|&t| self.network.extent(t) == extent) {
            return Ok(t);
        }
        let (inputs, operation) = match self.facts.constant(v).filter(|_| known.is_none()).and_then(|c| c.to_f32()) {
            Some(values) => (vec![], Operation::Constant(values)),
            None => {
                let t = self.tensor(v)?;
                if self.network.extent(t) == extent {
                    return Ok(t);
                }
                (vec![t], Operation::Move { source: (0..extent.len() as u32).map(Some).collect(), fill: 0.0 })
            }
        };
        let output = self.network.tensor(extent);
        self.push(node.name.clone(), vec![], operation, inputs, output);
        Ok(output)
    }

    pub(super) fn softmax(&mut self, node: &Node, op: &graph::ops::Softmax) -> Result<()> {
        let x = self.operand(node, 0)?;
        let rank = self.shape(node, 0).map_or(0, <[usize]>::len) as i64;
        let axis = if op.axis < 0 { op.axis + rank } else { op.axis };
        let Some(own) = super::axis_of(axis, rank).filter(|_| !op.flattened || self.network.extent(x).is_vector() || axis == rank - 1)
        else {
            return self.unsupported(node, "it is over the batch, or over several axes at once");
        };
        self.step(node, Operation::Softmax { axis: own, log: op.log }, vec![x])
    }
}
