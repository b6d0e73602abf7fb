//! Pointwise convolutions with steps, as the choice of their pixels and a convolution without.
//!
//! The kernels for sparse weights read neighbouring pixels at once; picking the pixels first costs one pass over a part of the input.

use graph::ops::{AutoPad, PoolKind, Window};

use crate::layout::{Extent, LANES};
use crate::network::{Network, Operation, Step};
use crate::sorted::Structure;

/// Share of the units of 16 filters kept from which picking pixels first does not pay.
const WORTH: f64 = 0.75;

/// Splits them.
pub(crate) fn split_strides(network: &mut Network) {
    for mut step in std::mem::take(&mut network.steps) {
        if let Operation::Conv(conv) = &mut step.operation
            && conv.stride != (1, 1)
            && conv.weights.shape[2..] == [1, 1]
            && conv.weights.group == 1
            && conv.pad == (0, 0)
        {
            let input = network.extent(step.inputs[0]);
            let s = Structure::of(&conv.weights);
            let whole = conv.weights.shape[0].div_ceil(LANES) * conv.weights.shape[1];
            if (s.sixteens as f64) < WORTH * whole as f64 {
                let Extent { height, width, .. } = network.extent(step.output);
                let picked = network.tensor(Extent { height, width, ..input });
                let (rows, columns) = std::mem::replace(&mut conv.stride, (1, 1));
                // The mean over a window of one pixel.
                let window = Window {
                    kernel: vec![1, 1],
                    strides: vec![rows, columns],
                    dilations: vec![],
                    pads: vec![],
                    auto_pad: AutoPad::Explicit,
                };
                let kind = PoolKind::Average { include_pad: false };
                let pick = Operation::Pool { kind, window, pad: (0, 0), pad_end: (0, 0) };
                let input = std::mem::replace(&mut step.inputs[0], picked);
                network.steps.push(Step {
                    name: step.name.clone(),
                    operators: vec![],
                    operation: pick,
                    inputs: vec![input],
                    output: picked,
                });
            }
        }
        network.steps.push(step);
    }
}
