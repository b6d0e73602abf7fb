//! One pass forward and backward: the loss of a batch and its gradient for every parameter.

use burn_autodiff::Autodiff;
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use burn_backend::{AutodiffBackend, DType};
use burn_flex::Flex;

use crate::backend::{BatchStatistics, Gradients, Kernels};
use crate::data::Batch;
use crate::error::{Error, Result};
use crate::loss::{Loss, Objective};
use crate::network::{Mode, Network, Param};
use crate::tensors;

/// What [`backward`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Mean loss of the batch.
    pub loss: f64,
    /// Gradient of every parameter, in the order of [`Network::params`]; zeros where the loss
    /// does not depend on it.
    pub gradients: Vec<Vec<f32>>,
    /// Outputs `[N, K]`.
    pub outputs: Vec<f32>,
    /// Batch statistics of the normalisations (in training mode), for
    /// [`Network::update_running`].
    pub statistics: Vec<(usize, BatchStatistics)>,
}

/// Parameters with their gradients, as shown to an observer during training.
#[derive(Debug, Clone, Copy)]
pub struct GradView<'a> {
    /// The parameters before the step.
    pub params: &'a [Param],
    /// Their gradients, in the same order.
    pub gradients: &'a [Vec<f32>],
    /// Images in the batch.
    pub images: usize,
}

impl<'a> GradView<'a> {
    /// Values and gradient of the parameter called `name`.
    pub fn get(&self, name: &str) -> Option<(&'a Param, &'a [f32])> {
        self.params.iter().zip(self.gradients).find(|(p, _)| p.name == name).map(|(p, g)| (p, g.as_slice()))
    }
}

/// Loss of `batch` and its gradients, on the CPU. `teacher` are the teacher's outputs where the
/// objective wants them.
///
/// # Errors
/// Inputs that do not fit the network; an objective without its teacher.
pub fn backward(network: &Network, batch: &Batch, objective: &Objective, teacher: Option<&[f32]>, mode: Mode, seed: u64) -> Result<Step> {
    let width = |outputs: &[f32]| outputs.len() / batch.len().max(1);
    let inputs = vec![(batch.shape.clone(), batch.inputs.clone())];
    let result = backward_with::<Flex>(network, inputs, mode, DType::F32, seed, |outputs| {
        objective.loss(&outputs[0], width(&outputs[0]), &batch.labels, teacher, &batch.inputs).map(|loss| {
            let mut all = vec![None; outputs.len()];
            all[0] = Some(loss);
            all
        })
    })?;
    Ok(result)
}

/// The same for any backend and any loss on the graph's outputs: `loss` gets the outputs and gives
/// a loss for those that have one; the values are summed.
///
/// # Errors
/// As [`backward`].
pub fn backward_with<B: Gradients>(
    network: &Network,
    inputs: Vec<(Vec<usize>, Vec<f32>)>,
    mode: Mode,
    dtype: DType,
    seed: u64,
    loss: impl FnOnce(&[Vec<f32>]) -> Result<Vec<Option<Loss>>>,
) -> Result<Step>
where
    Autodiff<B>: Kernels + AutodiffBackend<InnerBackend = B>,
{
    type A<B> = Autodiff<B>;
    let leaf = |shape: &[usize], values: Vec<f32>| tensors::from_f32::<A<B>>(shape, values, dtype);
    let params: Vec<FloatTensor<A<B>>> =
        network.params().iter().map(|p| A::<B>::float_set_require_grad(leaf(&p.shape, p.values.clone()), true)).collect();
    let inputs = inputs.into_iter().map(|(shape, values)| leaf(&shape, values)).collect();
    let pass = network.pass::<A<B>>(inputs, params.clone(), mode, dtype, seed)?;
    let host: Vec<Vec<f32>> = pass.outputs.iter().map(|o| tensors::to_f32::<A<B>>(o.clone())).collect();
    let losses = loss(&host)?;
    let mut root: Option<FloatTensor<A<B>>> = None;
    let mut value = 0.0;
    for (output, loss) in pass.outputs.into_iter().zip(losses) {
        let Some(loss) = loss else { continue };
        value += loss.value;
        // d(Σ outputs · constant) = constant: the gradient of the loss enters the tape here.
        use burn_backend::TensorMetadata;
        let shape = output.shape();
        // A scalar has no axis to sum over.
        let (output, shape) = match shape.num_dims() {
            0 => (A::<B>::float_reshape(output, [1].into()), [1].into()),
            _ => (output, shape),
        };
        let seeded = A::<B>::float_sum(A::<B>::float_mul(output, leaf(shape.as_slice(), loss.gradient)));
        root = Some(match root {
            Some(other) => A::<B>::float_add(other, seeded),
            None => seeded,
        });
    }
    let Some(root) = root else { return Err(Error::Recipe("no output has a loss".into())) };
    let mut tape = A::<B>::backward(root);
    let gradients = params
        .iter()
        .zip(network.params())
        .map(|(tensor, param)| match A::<B>::grad_remove(tensor, &mut tape) {
            Some(gradient) => tensors::to_f32::<B>(gradient),
            None => vec![0.0; param.values.len()],
        })
        .collect();
    Ok(Step { loss: value, gradients, outputs: host.into_iter().next().unwrap_or_default(), statistics: pass.statistics })
}
