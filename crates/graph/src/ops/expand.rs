//! `Expand`.

use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};
use crate::movement::broadcast;

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let Some(x) = i.fact(0) else { return i.unknown() };
    let Some(target) = i.ints(1) else { return i.unknown() };
    let target: Vec<usize> = target.into_iter().map(|d| d.max(0) as usize).collect();
    let Some(shape) = broadcast(&x.shape, &target) else {
        return i.error(format!("{:?} does not broadcast to {target:?}", x.shape));
    };
    match x.constant.as_deref().filter(|_| shape.iter().product::<usize>() <= 1 << 20) {
        Some(c) => Ok(vec![Some(Fact::constant(c.expand(&shape)))]),
        None => i.one(x.dtype, shape),
    }
}
