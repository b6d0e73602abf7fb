//! Functions of one element, and of two.

use graph::ops::Unary;

use super::rows;
use crate::kernels::Clamp;
use crate::layout::{LANES, View};

/// A function of one element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Function {
    /// As the file has it, with the bounds of `Clip` filled in.
    Unary(Unary),
    /// A fused bound.
    Clamp(Clamp),
}

/// A function of two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Clamp {
    /// Of one value.
    #[inline(always)]
    pub fn of(&self, v: f32) -> f32 {
        let v = if v < 0.0 { v * self.slope } else { v };
        let v = if v < self.low { self.low } else { v };
        if v > self.high { self.high } else { v }
    }
}

/// `e^x` to about one unit in the last place, in arithmetic that compilers vectorise: `2^n·e^r` with `|r| ≤ ln 2/2`, the second
/// factor by its Taylor series.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding and subtracting 1.5·2²³ rounds to an integer.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Near zero the quotient cancels; there the Taylor series is exact enough.
    const SERIES: [f32; 6] = [21844.0 / 6_081_075.0, -1382.0 / 155_925.0, 62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0];
    let z = x * x;
    let series = SERIES.into_iter().fold(0.0, |p, c| p * z + c);
    if x.abs() < 0.5 { x + x * z * series } else { 1.0 - 2.0 / (exp(2.0 * x) + 1.0) }
}

impl Function {
    /// The function of a unary operator, `bounds` being those of `Clip`. `None` where there is none here.
    pub fn of(unary: Unary, bounds: (f32, f32)) -> Option<Self> {
        use Unary as U;
        Some(match unary {
            U::Relu => Self::Clamp(Clamp { low: 0.0, ..Clamp::NONE }),
            U::Clip { .. } => Self::Clamp(Clamp { low: bounds.0, high: bounds.1, slope: 1.0 }),
            U::LeakyRelu { alpha } => Self::Clamp(Clamp { slope: alpha, ..Clamp::NONE }),
            U::Sigmoid
            | U::HardSigmoid { .. }
            | U::HardSwish
            | U::Elu { .. }
            | U::Tanh
            | U::Exp
            | U::Log
            | U::Sqrt
            | U::Neg
            | U::Abs
            | U::Softplus
            | U::Softsign
            | U::Mish
            | U::Reciprocal
            | U::Floor
            | U::Ceil => Self::Unary(unary),
            U::Selu { .. } | U::Gelu { .. } | U::Erf | U::Sign | U::Round | U::Not | U::IsNan | U::Sin | U::Cos => return None,
            U::Cast { .. } | U::Identity | U::Dropout { .. } => return None,
        })
    }
}

/// `output = function(input)`, views of one extent.
#[inline(always)]
pub(crate) fn map(function: Function, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    #[inline(always)]
    fn each(input: &[f32], from: &View, output: &mut [f32], to: &View, f: impl Fn(f32) -> f32) {
        let width = to.extent.width * to.lanes;
        for ((_, i), (_, o)) in rows(from).zip(rows(to)) {
            for (y, &x) in output[o..o + width].iter_mut().zip(&input[i..i + width]) {
                *y = f(x);
            }
        }
    }
    use Unary as U;
    match function {
        Function::Clamp(c) => each(input, from, output, to, |x| c.of(x)),
        Function::Unary(u) => match u {
            U::Sigmoid => each(input, from, output, to, sigmoid),
            U::HardSigmoid { alpha, beta } => each(input, from, output, to, |x| (alpha * x + beta).clamp(0.0, 1.0)),
            U::HardSwish => each(input, from, output, to, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
            U::Elu { alpha } => each(input, from, output, to, |x| if x < 0.0 { alpha * x.exp_m1() } else { x }),
            U::Tanh => each(input, from, output, to, tanh),
            U::Exp => each(input, from, output, to, f32::exp),
            U::Log => each(input, from, output, to, f32::ln),
            U::Sqrt => each(input, from, output, to, f32::sqrt),
            U::Neg => each(input, from, output, to, |x| -x),
            U::Abs => each(input, from, output, to, f32::abs),
            U::Softplus => each(input, from, output, to, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
            U::Softsign => each(input, from, output, to, |x| x / (1.0 + x.abs())),
            U::Mish => each(input, from, output, to, |x| x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()),
            U::Reciprocal => each(input, from, output, to, |x| 1.0 / x),
            U::Floor => each(input, from, output, to, f32::floor),
            U::Ceil => each(input, from, output, to, f32::ceil),
            // `Function::of` gives no others.
            _ => each(input, from, output, to, |x| x),
        },
    }
}

/// `output = clamp(scale·input + shift)`; `scale` and `shift` are filled up to whole blocks.
#[inline(always)]
pub(crate) fn affine(scale: &[f32], shift: &[f32], clamp: Clamp, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    let width = to.extent.width * LANES;
    let (scale, shift) = (scale.as_chunks::<LANES>().0, shift.as_chunks::<LANES>().0);
    for ((b, i), (_, o)) in rows(from).zip(rows(to)) {
        let (scale, shift) = (&scale[b], &shift[b]);
        let x = input[i..i + width].as_chunks::<LANES>().0;
        for (y, x) in output[o..o + width].as_chunks_mut::<LANES>().0.iter_mut().zip(x) {
            for l in 0..LANES {
                y[l] = clamp.of(x[l] * scale[l] + shift[l]);
            }
        }
    }
}

/// How the second operand of [`binary`] spreads over the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    Full,
    PerChannel,
    One,
}

/// `output = clamp(function(a, b))`; `b` has the extent of `a`, or one pixel, or one element.
#[inline(always)]
pub(crate) fn binary(function: Arithmetic, clamp: Clamp, a: (&[f32], &View), b: (&[f32], &View), output: &mut [f32], to: &View) {
    #[inline(always)]
    fn each(a: (&[f32], &View), b: (&[f32], &View), output: &mut [f32], to: &View, f: impl Fn(f32, f32) -> f32) {
        let spread = match b.1.extent {
            e if e == a.1.extent => Spread::Full,
            e if e.len() == 1 => Spread::One,
            _ => Spread::PerChannel,
        };
        let width = to.extent.width * LANES;
        for ((block, i), (_, o)) in rows(a.1).zip(rows(to)) {
            let x = a.0[i..i + width].as_chunks::<LANES>().0;
            let y = output[o..o + width].as_chunks_mut::<LANES>().0;
            match spread {
                Spread::Full => {
                    let row = (i - a.1.base - block * a.1.block) / a.1.row;
                    let from = b.1.base + block * b.1.block + row * b.1.row;
                    let z = b.0[from..from + width].as_chunks::<LANES>().0;
                    for ((y, x), z) in y.iter_mut().zip(x).zip(z) {
                        for l in 0..LANES {
                            y[l] = f(x[l], z[l]);
                        }
                    }
                }
                Spread::PerChannel | Spread::One => {
                    let mut z = [b.0[b.1.base]; LANES];
                    if spread == Spread::PerChannel {
                        let from = b.1.base + block * b.1.block;
                        z.copy_from_slice(&b.0[from..from + LANES]);
                    }
                    for (y, x) in y.iter_mut().zip(x) {
                        for l in 0..LANES {
                            y[l] = f(x[l], z[l]);
                        }
                    }
                }
            }
        }
    }
    match function {
        Arithmetic::Add => each(a, b, output, to, |x, y| clamp.of(x + y)),
        Arithmetic::Sub => each(a, b, output, to, |x, y| clamp.of(x - y)),
        Arithmetic::Mul => each(a, b, output, to, |x, y| clamp.of(x * y)),
        Arithmetic::Div => each(a, b, output, to, |x, y| clamp.of(x / y)),
        Arithmetic::Max => each(a, b, output, to, |x, y| clamp.of(if x > y { x } else { y })),
        Arithmetic::Min => each(a, b, output, to, |x, y| clamp.of(if x < y { x } else { y })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exponentials_are_those_of_the_standard_library(x in -87f32..88.0) {
            prop_assert!((exp(x) / x.exp() - 1.0).abs() < 3e-7, "exp({x}) = {} against {}", exp(x), x.exp());
            prop_assert!((tanh(x / 10.0) - (x / 10.0).tanh()).abs() < 3e-7, "tanh({}) = {}", x / 10.0, tanh(x / 10.0));
        }
    }
}
