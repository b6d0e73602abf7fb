//! `MatMul`.

use crate::coupling::Role;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};
use crate::movement::broadcast;

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let (Some(a), Some(b)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
    if a.shape.is_empty() || b.shape.is_empty() {
        return i.error("an operand is a scalar");
    }
    if b.shape.contains(&0) {
        return i.error(format!("operand {:?} is empty", b.shape));
    }
    // A vector stands for a matrix of one row (left) or one column (right), which the result does not show.
    let left = if a.shape.len() == 1 { vec![1, a.shape[0]] } else { a.shape.clone() };
    let right = if b.shape.len() == 1 { vec![b.shape[0], 1] } else { b.shape.clone() };
    let (la, lb) = (left.len(), right.len());
    let batch = broadcast(&left[..la - 2], &right[..lb - 2]);
    let (Some(mut shape), true) = (batch, left[la - 1] == right[lb - 2]) else {
        return i.error(format!("operands {:?} and {:?} do not fit", a.shape, b.shape));
    };
    if a.shape.len() > 1 {
        shape.push(left[la - 2]);
    }
    if b.shape.len() > 1 {
        shape.push(right[lb - 1]);
    }
    i.one(a.dtype, shape)
}

pub(super) fn couple(c: &mut Coupling) -> Result<()> {
    let (a, b) = (c.shape(0), c.shape(1));
    let (ra, rb) = (a.len(), b.len());
    let (k, k2) = (ra - 1, rb.saturating_sub(2));
    let (left, right) = (c.input(0, k), c.input(1, k2));
    c.join(&[left, right]);
    c.role(0, k, Role::Consumed);
    c.role(1, k2, Role::Consumed);
    let stored = left.is_some_and(|p| c.is_parameter(p.0));
    c.contract(usize::from(stored), if stored { k2 } else { k });
    let out = c.output_shape(0);
    let batch = out.len() - usize::from(ra > 1) - usize::from(rb > 1);
    for (axis, &dim) in out.iter().enumerate().take(batch) {
        // Leading axes broadcast like elementwise operands.
        let own = |rank: usize| (axis + rank).checked_sub(batch + 2);
        let mut places = Vec::new();
        for (slot, shape) in [(0, a), (1, b)] {
            if let Some(o) = own(shape.len()).filter(|&o| shape[o] == dim) {
                places.push(c.input(slot, o));
            }
        }
        let labels = c.join(&places);
        c.set(0, axis, labels);
    }
    if ra > 1 {
        let labels = c.get(0, ra - 2);
        c.set(0, batch, labels);
    }
    if rb > 1 {
        c.role(1, rb - 1, Role::Produced);
        let labels = c.get(1, rb - 1);
        c.set(0, out.len() - 1, labels);
    }
    Ok(())
}

/// Multiply-accumulates: every output element sums over the contracted axis.
pub(super) fn macs(a: &[usize], out: &[usize]) -> u64 {
    (out.iter().product::<usize>() * a.last().copied().unwrap_or(1)) as u64
}
