//! Two convolutions computed together against the same two in turn.

use super::*;
use crate::kernels::Pair;

/// Random weights, half of the units of 16 filters zero.
fn weights(random: &mut Random, shape: [usize; 4], group: usize) -> Weights {
    let units = shape[1] * shape[2] * shape[3];
    let mut values: Vec<f32> = (0..shape[0] * units).map(|_| random.unit()).collect();
    for (first, unit) in (0..shape[0]).step_by(LANES).flat_map(|f| (0..units).map(move |u| (f, u))) {
        if group == 1 && random.next().is_multiple_of(2) {
            (first..(first + LANES).min(shape[0])).for_each(|f| values[f * units + unit] = 0.0);
        }
    }
    Weights { shape, values, bias: (0..shape[0]).map(|_| random.unit()).collect(), group }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// To the last bit: the same kernels add the same numbers in the same order.
    #[test]
    fn a_pair_computes_what_its_two_convolutions_compute(
        (channels, between) in (1usize..40, 2usize..70),
        (height, width) in (1usize..24, 1usize..40),
        (kernel, stride, dilation) in (1usize..=5, 1usize..=3, 1usize..=2),
        (blocks, rows_stored) in (1usize..=2, 0usize..24),
        seed in any::<u64>(),
    ) {
        let mut random = Random(seed | 1);
        let pad = dilation * (kernel - 1) / 2;
        let out = |size: usize| (size + 2 * pad).checked_sub(dilation * (kernel - 1) + 1).map(|r| r / stride + 1);
        let (Some(rows), Some(columns)) = (out(height), out(width)) else { return Ok(()) };
        prop_assume!(between.div_ceil(LANES).is_multiple_of(blocks));
        let view = |channels, height, width, halo| Layout { extent: Extent { channels, height, width }, halo, lanes: LANES }.view();
        let around = Halo { top: pad, left: pad, bottom: pad + stride, right: pad + stride };
        let input = view(channels, height, width, Halo::default());
        let middle = view(between, height, width, around);
        let output = view(between, rows, columns, Halo { top: 1, left: 1, bottom: 1, right: 1 });
        let first = weights(&mut random, [between, channels, 1, 1], 1);
        let second = weights(&mut random, [between, 1, kernel, kernel], between);
        let clamp = Clamp { low: 0.0, high: 6.0, slope: 1.0 };
        for isa in Isa::available() {
            let make = |weights: &Weights, from, pad, stride, dilation, to: View, blocks, vector| {
                let geometry = Geometry { input: from, pad: (pad, pad), stride: (stride, stride), output: to, residual: None };
                let survivors = Survivors::pack(weights, Taps { dilation_y: dilation, dilation_x: dilation }, &from, blocks).expect("fits");
                let access = Access { step: stride * LANES, vector };
                let tiles = cover(isa, access, blocks, to.extent.height, to.extent.width)?.tiles;
                Some(Convolution::new(isa, &geometry, &survivors, &weights.bias, &tiles, clamp, true).expect("fits its buffers"))
            };
            let Some(a) = make(&first, input, 0, 1, 1, middle, blocks, false) else { continue };
            let b = make(&second, middle, pad, stride, dilation, output, 1, true).expect("one block always has kernels");
            let mut x = Buffer::zeros(input.len);
            let values: Vec<f32> = (0..input.extent.len()).map(|_| random.unit()).collect();
            fill(&mut x, &input, &values);
            let (mut whole, mut expected) = (Buffer::zeros(middle.len), Buffer::zeros(output.len));
            a.run(x.as_slice(), whole.as_mut_slice(), None, None, None);
            b.run(whole.as_slice(), expected.as_mut_slice(), None, None, None);
            let reads = |y: usize| ((y * stride).saturating_sub(pad), (y * stride + dilation * (kernel - 1)).saturating_sub(pad));
            let band = rows_stored * blocks * middle.row * size_of::<f32>();
            // A first convolution to a single pixel has no tiles; there is nothing to gain from a pair then.
            let Some(pair) = Pair::new(a, b, reads, band) else {
                prop_assert!(height * width == 1);
                continue;
            };
            prop_assert_eq!(pair.middle_len(), blocks * middle.block);
            for threads in [1, 2, 5] {
                let (mut part, mut result) = (Buffer::zeros(threads * pair.middle_len()), Buffer::zeros(output.len));
                pair.clone().divided(threads, 0).run(x.as_slice(), part.as_mut_slice(), result.as_mut_slice(), None);
                prop_assert_eq!(result.as_slice(), expected.as_slice());
            }
        }
    }
}
