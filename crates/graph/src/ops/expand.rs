//! `Expand`.

use super::constant::LARGEST_FOLDED;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, elements};
use crate::movement::broadcast;
use crate::surgery::rewriter::Rewriter;

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let Some(x) = i.fact(0) else { return i.unknown() };
    let Some(target) = i.ints(1) else { return i.unknown() };
    let target: Vec<usize> = target.into_iter().map(|d| d.max(0) as usize).collect();
    let Some(shape) = broadcast(&x.shape, &target) else {
        return i.error(format!("{:?} does not broadcast to {target:?}", x.shape));
    };
    match x.constant.as_deref().filter(|_| elements(&shape).is_some_and(|n| n <= LARGEST_FOLDED)) {
        Some(c) => Ok(vec![Some(Fact::constant(c.expand(&shape)))]),
        None => i.one(x.dtype, shape),
    }
}

pub(super) fn couple(c: &mut Coupling) -> Result<()> {
    let (x, out) = (c.shape(0), c.output_shape(0));
    for axis in 0..x.len() {
        let to = axis + out.len() - x.len();
        if x[axis] == out[to] {
            let labels = c.get(0, axis);
            c.set(0, to, labels);
        } else {
            c.freeze(0, axis, "repeats it");
        }
    }
    Ok(())
}

pub(super) fn rewrite(r: &mut Rewriter) -> Result<()> {
    let (Some(target), Some(shape)) = (r.old_ints(1), r.expected_output(0)) else { return Ok(()) };
    let skip = shape.len() - target.len();
    let wanted = target.iter().zip(&shape[skip..]).map(|(&t, &n)| if t == 1 { 1 } else { n as i64 }).collect();
    r.want_ints(1, wanted)
}
