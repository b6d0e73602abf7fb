//! `MatMul`.

use crate::error::Result;
use crate::facts::{Inference, Outputs};
use crate::movement::broadcast;

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let (Some(a), Some(b)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
    if a.shape.is_empty() || b.shape.is_empty() {
        return i.error("an operand is a scalar");
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
