//! Accuracy of a network on a part of a data set, without a tape.

use burn_backend::DType;
use burn_flex::Flex;
use serde::{Deserialize, Serialize};

use crate::backend::Kernels;
use crate::data::{Batch, Dataset, Split};
use crate::error::Result;
use crate::loss::cross_entropy;
use crate::network::{Mode, Network};
use crate::tensors;

/// Images per pass of an evaluation.
const BATCH: usize = 250;

/// Share of images whose highest output is at their label.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share in [0, 1].
    pub top1: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Images.
    pub n: usize,
}

/// Outputs `[N, K]` of the first graph output on a batch, in evaluation mode.
///
/// # Errors
/// Inputs that do not fit the network.
pub fn outputs(network: &Network, batch: &Batch) -> Result<Vec<f32>> {
    outputs_on::<Flex>(network, batch)
}

pub(crate) fn outputs_on<B: Kernels>(network: &Network, batch: &Batch) -> Result<Vec<f32>> {
    Ok(all_outputs_on::<B>(network, batch)?.into_iter().next().unwrap_or_default())
}

/// All graph outputs on a batch, in evaluation mode.
///
/// # Errors
/// Inputs that do not fit the network.
pub fn all_outputs(network: &Network, batch: &Batch) -> Result<Vec<Vec<f32>>> {
    all_outputs_on::<Flex>(network, batch)
}

fn all_outputs_on<B: Kernels>(network: &Network, batch: &Batch) -> Result<Vec<Vec<f32>>> {
    let inputs = vec![tensors::from_f32::<B>(&batch.shape, batch.inputs.clone(), DType::F32)];
    let pass = network.pass::<B>(inputs, network.lifted::<B>(), Mode::Eval, DType::F32, 0)?;
    Ok(pass.outputs.into_iter().map(tensors::to_f32::<B>).collect())
}

/// Position of the highest value, the first of equal ones: the class that a row of outputs answers with. None among numbers that
/// are not.
pub fn best(row: &[f32]) -> Option<usize> {
    if row.is_empty() || row.iter().any(|x| x.is_nan()) {
        return None;
    }
    Some(row.iter().enumerate().fold((0, f32::NEG_INFINITY), |m, (i, x)| if *x > m.1 { (i, *x) } else { m }).0)
}

/// Accuracy on `split`, or on its first `limit` images.
///
/// # Errors
/// Data that do not decode, do not fit the network or have no labels; no image to score.
pub fn evaluate(network: &Network, data: &Dataset, split: Split, limit: Option<usize>) -> Result<Accuracy> {
    data.need_labels()?;
    let (mut right, mut loss, mut n) = (0usize, 0.0, 0usize);
    for batch in data.in_order(split, BATCH, limit) {
        let batch = batch?;
        let logits = outputs(network, &batch)?;
        let width = logits.len() / batch.len().max(1);
        data.check_classes(width)?;
        right += logits.chunks_exact(width.max(1)).zip(&batch.labels).filter(|(row, label)| best(row) == Some(**label as usize)).count();
        loss += cross_entropy(&logits, &batch.labels, width, 0.0).value * batch.len() as f64;
        n += batch.len();
    }
    let of = data.need_images(split, n)? as f64;
    Ok(Accuracy { top1: right as f64 / of, loss: loss / of, n })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_answers_and_no_number_does_not() {
        assert_eq!(best(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(best(&[f32::NEG_INFINITY; 3]), Some(0));
        for row in [&[][..], &[f32::NAN; 2], &[5.0, f32::NAN]] {
            assert_eq!(best(row), None);
        }
    }
}
