//! What is folded into the layer before it, and what is fused to it.

use graph::ops::{BatchNormalization, Binary, Op, Unary};
use graph::{Node, ValueId};

use super::{Lowering, is_sum, other_operand};
use crate::kernels::Clamp;
use crate::ops::Function;

/// What follows a layer and becomes part of it.
pub(super) struct Tail {
    /// The value that the fused layer computes.
    pub end: ValueId,
    /// Names of the operators taken along.
    pub operators: Vec<String>,
    /// Bounds.
    pub clamp: Clamp,
    /// The sum: its node and its other operand.
    pub sum: Option<(graph::NodeId, ValueId)>,
}

impl Lowering<'_> {
    /// `scale·x + shift` per channel, if that is what `node` does to `v` with stored numbers.
    pub(super) fn affine(&self, node: &Node, v: ValueId) -> Option<(Vec<f32>, Vec<f32>)> {
        let out = self.facts.shape(node.output(0)?)?;
        match &node.op {
            Op::BatchNormalization(op) if node.input(0) == Some(v) => self.normalization_numbers(node, *op),
            Op::Binary(b) => {
                let (other, side) = other_operand(node, v)?;
                if self.facts.shape(v)? != out {
                    return None;
                }
                let c = self.per_channel(other, out)?;
                let n = c.len();
                match (b, side) {
                    (Binary::Add | Binary::Sum, _) => Some((vec![1.0; n], c)),
                    (Binary::Mul, _) => Some((c, vec![0.0; n])),
                    (Binary::Sub, 1) => Some((vec![1.0; n], c.iter().map(|x| -x).collect())),
                    (Binary::Sub, _) => Some((vec![-1.0; n], c)),
                    (Binary::Div, 1) => Some((c.iter().map(|x| 1.0 / x).collect(), vec![0.0; n])),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// `scale/√(var + ε)` and `shift − mean·scale/√(var + ε)`.
    pub(super) fn normalization_numbers(&self, node: &Node, op: BatchNormalization) -> Option<(Vec<f32>, Vec<f32>)> {
        let read = |slot| self.constant(node, slot)?.to_f32();
        let (scale, shift, mean, variance) = (read(1)?, read(2)?, read(3)?, read(4)?);
        let factor: Vec<f64> = scale.iter().zip(&variance).map(|(&s, &v)| s as f64 / (v as f64 + op.epsilon as f64).sqrt()).collect();
        let moved = shift.iter().zip(&mean).zip(&factor).map(|((&b, &m), f)| (b as f64 - m as f64 * f) as f32).collect();
        Some((factor.iter().map(|&f| f as f32).collect(), moved))
    }

    /// The bounds that `node` is, if it is an activation of that form.
    pub(super) fn clamp(&self, node: &Node) -> Option<Clamp> {
        let Op::Unary(u) = &node.op else { return None };
        let bounds = match *u {
            Unary::Clip { min, max } => self.clip_bounds(node, min, max)?,
            _ => (0.0, 0.0),
        };
        match Function::of(*u, bounds)? {
            Function::Clamp(c) => Some(c),
            Function::Unary(_) => None,
        }
    }

    /// Folds what follows `v` into `weights` (outermost axis: filters) and `bias`, and collects what can be fused. The nodes
    /// taken along are marked.
    pub(super) fn tail(&mut self, v: ValueId, weights: &mut [f32], bias: &mut [f32]) -> Tail {
        let mut t = Tail { end: v, operators: Vec::new(), clamp: Clamp::NONE, sum: None };
        let per_filter = weights.len() / bias.len();
        while let Some(n) = self.only_reader(t.end) {
            if let Some((scale, shift)) = self.affine(n, t.end) {
                for (f, (s, b)) in scale.iter().zip(&shift).enumerate() {
                    weights[f * per_filter..(f + 1) * per_filter].iter_mut().for_each(|w| *w *= s);
                    bias[f] = bias[f] * s + b;
                }
            } else if !matches!(n.op, Op::Unary(Unary::Identity | Unary::Dropout { .. })) {
                break;
            }
            if !self.take(n, &mut t) {
                break;
            }
        }
        if let Some(n) = self.only_reader(t.end).filter(|n| is_sum(&n.op) && !self.deferred.contains_key(&n.id))
            && let Some((other, _)) = other_operand(n, t.end)
            && let Some(out) = n.output(0)
            && self.facts.shape(other) == self.facts.shape(out)
            && self.facts.shape(t.end) == self.facts.shape(out)
        {
            t.sum = Some((n.id, other));
            t.operators.push(n.op.name().to_owned());
            t.end = out;
        }
        if let Some(n) = self.only_reader(t.end)
            && let Some(c) = self.clamp(n)
            && self.take(n, &mut t)
        {
            t.clamp = c;
        }
        t
    }

    fn take(&mut self, node: &Node, tail: &mut Tail) -> bool {
        let Some(out) = node.output(0) else { return false };
        self.absorbed.insert(node.id);
        tail.operators.push(node.op.name().to_owned());
        tail.end = out;
        true
    }
}
