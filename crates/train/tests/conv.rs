//! The convolution kernels against the definition, written as plain loops in `f64`.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use secateur_train::kernels::conv::{self, Shape};

/// Visits every (output element, input element, weight element) that the definition pairs.
fn pairs(s: &Shape, mut visit: impl FnMut(usize, usize, usize)) {
    let [oh, ow] = s.output();
    let [c, o] = s.channels;
    let (cg, og) = (c / s.groups, o / s.groups);
    for n in 0..s.batch {
        for out in 0..o {
            for y in 0..oh {
                for x in 0..ow {
                    for i in 0..cg {
                        for ky in 0..s.kernel[0] {
                            for kx in 0..s.kernel[1] {
                                let iy = (y * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.before[0]);
                                let ix = (x * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.before[1]);
                                if iy < s.input[0] && ix < s.input[1] {
                                    let channel = out / og * cg + i;
                                    visit(
                                        ((n * o + out) * oh + y) * ow + x,
                                        ((n * c + channel) * s.input[0] + iy) * s.input[1] + ix,
                                        ((out * cg + i) * s.kernel[0] + ky) * s.kernel[1] + kx,
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            let z = i.wrapping_add(seed).wrapping_mul(2_654_435_761);
            ((z ^ (z >> 15)).wrapping_mul(0x85EB_CA6B) >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn assert_close(what: &str, found: &[f32], expected: &[f64]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len(), "{}", what);
    let scale = expected.iter().fold(1.0f64, |m, x| m.max(x.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        prop_assert!((f64::from(*f) - e).abs() < 2e-5 * scale, "{} [{}]: {} instead of {}", what, i, f, e);
    }
    Ok(())
}

fn check(s: Shape) -> Result<(), TestCaseError> {
    let [c, o] = s.channels;
    let [oh, ow] = s.output();
    let x = numbers(s.batch * c * s.input[0] * s.input[1], 1);
    let w = numbers(o * c / s.groups * s.kernel[0] * s.kernel[1], 2);
    let bias = numbers(o, 3);
    let dy = numbers(s.batch * o * oh * ow, 4);
    let residual = numbers(dy.len(), 5);
    let mut y: Vec<f64> = (0..dy.len()).map(|i| f64::from(bias[i / (oh * ow) % o])).collect();
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    pairs(&s, |a, b, k| {
        y[a] += f64::from(x[b]) * f64::from(w[k]);
        dx[b] += f64::from(dy[a]) * f64::from(w[k]);
        dw[k] += f64::from(dy[a]) * f64::from(x[b]);
    });
    assert_close("forward", &conv::forward(&s, &x, &w, Some(&bias), None, false), &y)?;
    let then: Vec<f64> = y.iter().zip(&residual).map(|(y, r)| (y + f64::from(*r)).max(0.0)).collect();
    assert_close("with sum and Relu", &conv::forward(&s, &x, &w, Some(&bias), Some(&residual), true), &then)?;
    assert_close("gradient of the input", &conv::backward_input(&s, &dy, &w), &dx)?;
    assert_close("gradient of the weight", &conv::backward_weight(&s, &x, &dy), &dw)?;
    let mut db = vec![0.0; o];
    dy.iter().enumerate().for_each(|(i, d)| db[i / (oh * ow) % o] += f64::from(*d));
    assert_close("gradient of the bias", &conv::backward_bias(&s, &dy), &db)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let pair = |r: std::ops::RangeInclusive<usize>| [r.clone(), r];
    let sizes = (1..=9usize, 1..=4usize, 1..=9usize, 1..=9usize, pair(1..=19), pair(1..=4));
    let steps = (pair(1..=3), pair(1..=3), pair(0..=3), pair(0..=3));
    (sizes, steps)
        .prop_map(|((batch, groups, c, o, input, kernel), (stride, dilation, before, after))| Shape {
            batch,
            channels: [c * groups, o * groups],
            groups,
            input,
            kernel,
            stride,
            dilation,
            before,
            after,
        })
        .prop_filter("the kernel fits the padded input", |s| {
            (0..2).all(|d| s.input[d] + s.before[d] + s.after[d] > s.dilation[d] * (s.kernel[d] - 1))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_convolution_agrees_with_the_definition(shape in shapes()) {
        check(shape)?;
    }
}

#[test]
fn the_shapes_of_common_networks_agree_with_the_definition() {
    let base = Shape {
        batch: 3,
        channels: [16, 16],
        groups: 1,
        input: [32, 32],
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        before: [1, 1],
        after: [1, 1],
    };
    let depthwise = Shape { channels: [24, 24], groups: 24, input: [14, 14], ..base };
    let pointwise = Shape { channels: [40, 24], kernel: [1, 1], before: [0, 0], after: [0, 0], input: [8, 8], ..base };
    for shape in [
        base,
        Shape { channels: [11, 13], ..base },
        Shape { channels: [16, 32], stride: [2, 2], ..base },
        Shape { channels: [33, 64], input: [8, 8], batch: 9, ..base },
        depthwise,
        Shape { stride: [2, 2], before: [0, 0], ..depthwise },
        pointwise,
        Shape { stride: [2, 2], ..pointwise },
        Shape { channels: [3, 8], kernel: [7, 7], stride: [2, 2], before: [3, 3], after: [3, 3], ..base },
        Shape { channels: [4, 6], input: [1, 50], kernel: [1, 5], before: [0, 2], after: [0, 2], ..base },
        // All padding above, a tap that reaches beyond the planes.
        Shape { batch: 1, channels: [1, 1], input: [1, 17], kernel: [1, 4], dilation: [1, 2], before: [3, 0], after: [0, 3], ..base },
    ] {
        check(shape).unwrap_or_else(|e| panic!("{shape:?}: {e}"));
    }
}
