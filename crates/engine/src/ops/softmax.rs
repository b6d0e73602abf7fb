//! Softmax.

use super::elementwise::exp;
use crate::layout::View;

/// Softmax, or its logarithm, over channels (`axis` 0), rows (1) or columns (2).
pub(crate) fn softmax(log: bool, axis: usize, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    let sizes = [to.extent.channels, to.extent.height, to.extent.width];
    let outer = {
        let mut o = sizes;
        o[axis] = 1;
        o
    };
    for c in 0..outer[0] {
        for y in 0..outer[1] {
            for x in 0..outer[2] {
                let place = |view: &View, k: usize| {
                    let mut i = [c, y, x];
                    i[axis] = k;
                    view.at(i[0], i[1], i[2])
                };
                let along = 0..sizes[axis];
                let largest = along.clone().map(|k| input[place(from, k)]).fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0f32;
                for k in along.clone() {
                    let e = exp(input[place(from, k)] - largest);
                    sum += e;
                    output[place(to, k)] = e;
                }
                for k in along {
                    let o = &mut output[place(to, k)];
                    *o = if log { input[place(from, k)] - largest - sum.ln() } else { *o / sum };
                }
            }
        }
    }
}
