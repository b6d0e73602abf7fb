//! `Where`.

use super::constant::LARGEST_FOLDED;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, elements};
use crate::movement::broadcast;
use crate::tensor::{Data, Tensor};

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let (Some(c), Some(x), Some(y)) = (i.fact(0), i.fact(1), i.fact(2)) else { return i.unknown() };
    let Some(shape) = broadcast(&c.shape, &x.shape).and_then(|s| broadcast(&s, &y.shape)) else {
        return i.error(format!("operands {:?}, {:?} and {:?} do not broadcast", c.shape, x.shape, y.shape));
    };
    if elements(&shape).is_some_and(|n| n <= LARGEST_FOLDED)
        && let (Some(c), Some(x), Some(y)) = (i.constant(0), i.ints(1).and(i.constant(1)), i.ints(2).and(i.constant(2)))
        && let (Data::Bool(c), Some(x), Some(y)) = (&c.expand(&shape).data, x.expand(&shape).to_i64(), y.expand(&shape).to_i64())
    {
        let chosen = c.iter().zip(x.iter().zip(&y)).map(|(&c, (&x, &y))| if c { x } else { y }).collect();
        return Ok(vec![Some(Fact::constant(Tensor::i64(shape, chosen)))]);
    }
    i.one(x.dtype, shape)
}

pub(super) fn couple(c: &mut Coupling) -> Result<()> {
    c.broadcast(0..3);
    Ok(())
}
