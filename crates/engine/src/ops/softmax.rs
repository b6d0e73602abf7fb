//! Softmax over channels.

use super::elementwise::exp;
use crate::layout::View;

/// Softmax, or its logarithm, over the channels of every pixel.
pub(crate) fn softmax(log: bool, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    for y in 0..to.extent.height {
        for x in 0..to.extent.width {
            let channels = 0..to.extent.channels;
            let largest = channels.clone().map(|c| input[from.at(c, y, x)]).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0f32;
            for c in channels.clone() {
                let e = exp(input[from.at(c, y, x)] - largest);
                sum += e;
                output[to.at(c, y, x)] = e;
            }
            for c in channels {
                let o = &mut output[to.at(c, y, x)];
                *o = if log { input[from.at(c, y, x)] - largest - sum.ln() } else { *o / sum };
            }
        }
    }
}
