//! Everything that is not a convolution: plain loops over activations.

mod elementwise;
mod movement;
mod pool;
mod softmax;

pub(crate) use elementwise::{Arithmetic, Function, affine, binary, map};
pub(crate) use movement::{Moves, from_blocks, into_blocks};
pub(crate) use pool::{Pooling, global_pool, pool};
pub(crate) use softmax::softmax;

use crate::layout::View;

/// First elements of the rows of all blocks of `view`, block by block; a row is `width·lanes` elements.
#[inline(always)]
fn rows(view: &View) -> impl Iterator<Item = (usize, usize)> + use<> {
    let v = *view;
    (0..v.blocks()).flat_map(move |b| (0..v.extent.height).map(move |y| (b, v.base + b * v.block + y * v.row)))
}
