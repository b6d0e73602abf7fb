//! Which convolutions are computed together with the depthwise one that reads them.

use crate::layout::LANES;
use crate::network::{Conv, Network, Operation, Step, TensorId};

/// Bytes of the activation between the two from which computing them together pays: smaller ones stay in the second-level cache anyway.
const WORTH: usize = 512 << 10;

/// Channels read at most, so that the first convolution takes them in one pass.
const CHANNELS: usize = 16 * LANES;

/// Joins the pairs. `planar` says which activations are planar; the kernels of pairs read and write blocks.
pub(crate) fn join_pairs(network: &mut Network, planar: &[bool]) {
    let mut at = 0;
    while at < network.steps.len() {
        match second(network, planar, at) {
            Some(j) => {
                let first = network.steps.remove(at);
                let then = &mut network.steps[j - 1];
                join(first, then);
            }
            None => at += 1,
        }
    }
}

/// The step that forms a pair with step `at`.
fn second(network: &Network, planar: &[bool], at: usize) -> Option<usize> {
    let first = &network.steps[at];
    let middle = first.output;
    let e = network.extent(middle);
    let j = only_reader(network, middle)?;
    let then = &network.steps[j];
    let blocks = |t: TensorId| !planar[t.0];
    let &[input] = first.inputs.as_slice() else { return None };
    let fits = then.inputs.len() == 1 && is_pointwise(&first.operation) && is_depthwise(&then.operation, e.channels);
    let worth = e.len() * size_of::<f32>() >= WORTH && network.extent(input).channels <= CHANNELS;
    (fits && worth && blocks(input) && blocks(middle) && blocks(then.output)).then_some(j)
}

/// The step that alone reads `t`.
fn only_reader(network: &Network, t: TensorId) -> Option<usize> {
    let mut readers = network.steps.iter().enumerate().filter(|(_, s)| s.inputs.contains(&t));
    let (j, _) = readers.next()?;
    (readers.next().is_none() && !network.outputs.iter().any(|(_, o)| *o == t)).then_some(j)
}

fn is_pointwise(operation: &Operation) -> bool {
    let Operation::Conv(c) = operation else { return false };
    c.weights.shape[2..] == [1, 1] && c.weights.group == 1 && c.stride == (1, 1) && c.pad == (0, 0)
}

fn is_depthwise(operation: &Operation, channels: usize) -> bool {
    let Operation::Conv(c) = operation else { return false };
    c.weights.group == channels && c.weights.shape[0] == channels && channels > 1
}

/// Makes `then` the pair of both.
fn join(first: Step, then: &mut Step) {
    let conv = |o: Operation| -> Option<Conv> { if let Operation::Conv(c) = o { Some(*c) } else { None } };
    let second = std::mem::replace(&mut then.operation, Operation::Reorder);
    if let (Some(a), Some(b)) = (conv(first.operation), conv(second)) {
        then.operation = Operation::Pair(Box::new([a, b]));
    }
    then.inputs = vec![first.inputs[0], first.output];
    then.name = first.name;
    then.operators = first.operators.into_iter().chain(std::mem::take(&mut then.operators)).collect();
}
