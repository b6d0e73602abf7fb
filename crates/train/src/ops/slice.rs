//! `Slice`.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Slice as Range, TensorData};
use graph::ops::Slice;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::At;

/// The coordinates of an axis as a range, where they are one with a positive step.
fn range(kept: &[usize]) -> Option<Range> {
    let first = *kept.first()?;
    let step = kept.get(1).map_or(1, |second| second.wrapping_sub(first));
    let regular = step > 0 && step < isize::MAX as usize && kept.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step);
    regular.then(|| Range::new(first as isize, Some(kept[kept.len() - 1] as isize + 1), step as isize))
}

/// The coordinates `kept` of `axis`, in that order.
pub(super) fn select<B: Backend>(x: FloatTensor<B>, axis: usize, kept: &[usize]) -> FloatTensor<B> {
    let indices: Vec<i32> = kept.iter().map(|k| *k as i32).collect();
    let indices = B::int_from_data(TensorData::new(indices, [kept.len()]), &B::Device::default());
    B::float_select(x, axis, indices)
}

pub(super) fn forward<B: Kernels>(op: &Slice, at: &mut At<'_, '_, B>) -> Result<()> {
    let shape = at.shape(0)?;
    let Some(kept) = op.coordinates(&at.inference(), shape)? else {
        return Err(at.unsupported("its bounds are not constants"));
    };
    let mut x = at.input(0)?;
    let mut slices = Vec::with_capacity(shape.len());
    for (axis, kept) in kept.iter().enumerate() {
        match range(kept) {
            Some(range) => slices.push(range),
            None => {
                x = select::<B>(x, axis, kept);
                slices.push((0..kept.len()).into());
            }
        }
    }
    at.set(0, B::float_slice(x, &slices))
}
