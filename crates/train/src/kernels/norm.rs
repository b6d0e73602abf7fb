//! Batch normalisation in training, forward and backward, with what usually follows it (a
//! residual sum and a Relu) in the same pass over memory.

use pulp::Arch;
use rayon::prelude::*;

use super::buffers;

/// `[N, C, S]`: images, channels, positions.
pub type Dims = [usize; 3];

/// Partial sums are formed over fixed runs of images, so that results do not depend on threads.
const RUNS: usize = 16;

fn run_elements([n, c, s]: Dims) -> usize {
    (n.div_ceil(RUNS) * c * s).max(1)
}

/// Mean and biased variance per channel over images and positions.
pub fn statistics(x: &[f32], dims: Dims) -> (Vec<f32>, Vec<f32>) {
    let [n, c, s] = dims;
    // Sums of differences from one of the channel's values: a large common offset costs nothing.
    let pivots: Vec<f32> = (0..c).map(|c| x.get(c * s).copied().unwrap_or(0.0)).collect();
    let partial: Vec<Vec<[f64; 2]>> = x
        .par_chunks(run_elements(dims))
        .map(|x| {
            let mut sums = vec![[0.0f64; 2]; c];
            Arch::new().dispatch(|| {
                for image in x.chunks_exact(c * s) {
                    for ((plane, pivot), sums) in image.chunks_exact(s).zip(&pivots).zip(&mut sums) {
                        let [first, second] = moments(plane, *pivot);
                        sums[0] += first;
                        sums[1] += second;
                    }
                }
            });
            sums
        })
        .collect();
    let count = (n * s) as f64;
    let mut means = Vec::with_capacity(c);
    let mut variances = Vec::with_capacity(c);
    for channel in 0..c {
        let [first, second] = partial.iter().fold([0.0; 2], |[a, b], run| [a + run[channel][0], b + run[channel][1]]);
        let shifted = first / count;
        means.push((f64::from(pivots[channel]) + shifted) as f32);
        variances.push((second / count - shifted * shifted).max(0.0) as f32);
    }
    (means, variances)
}

#[inline(always)]
fn total(lanes: [f32; 16]) -> f64 {
    lanes.iter().map(|l| f64::from(*l)).sum()
}

#[inline(always)]
fn moments(plane: &[f32], pivot: f32) -> [f64; 2] {
    let mut first = [0.0f32; 16];
    let mut second = [0.0f32; 16];
    let (chunks, rest) = plane.as_chunks::<16>();
    for chunk in chunks {
        for l in 0..16 {
            let d = chunk[l] - pivot;
            first[l] += d;
            second[l] += d * d;
        }
    }
    for (l, value) in rest.iter().enumerate() {
        let d = value - pivot;
        first[l] += d;
        second[l] += d * d;
    }
    [total(first), total(second)]
}

/// `y = a[c]·x + b[c]`, then `+ residual`, then `max(0, ·)`, as asked.
pub fn apply(x: &[f32], dims: Dims, a: &[f32], b: &[f32], residual: Option<&[f32]>, relu: bool) -> Vec<f32> {
    let [_, c, s] = dims;
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let mut y = buffers::take(x.len());
    let run = run_elements(dims);
    y.par_chunks_mut(run).zip(x.par_chunks(run)).enumerate().for_each(|(i, (y, x))| {
        let residual = residual.map(|r| &r[i * run..][..x.len()]);
        Arch::new().dispatch(|| {
            for (p, (y, x)) in y.chunks_exact_mut(s).zip(x.chunks_exact(s)).enumerate() {
                let (a, b) = (a[p % c], b[p % c]);
                match residual {
                    Some(r) => {
                        for ((y, x), r) in y.iter_mut().zip(x).zip(&r[p * s..][..s]) {
                            *y = maximum(a * x + b + r, floor);
                        }
                    }
                    None => {
                        for (y, x) in y.iter_mut().zip(x) {
                            *y = maximum(a * x + b, floor);
                        }
                    }
                }
            }
        });
    });
    y
}

/// Keeps NaN visible, unlike `f32::max`.
#[inline(always)]
fn maximum(x: f32, floor: f32) -> f32 {
    if x < floor { floor } else { x }
}

/// What [`backward`] returns.
#[derive(Debug)]
pub struct Gradients {
    /// Of the input, `[N, C, S]`.
    pub x: Vec<f32>,
    /// Of the scale, `[C]`.
    pub scale: Vec<f32>,
    /// Of the shift, `[C]`.
    pub shift: Vec<f32>,
    /// Of what was added before the Relu, if there was a Relu (otherwise it is `dy` itself).
    pub residual: Option<Vec<f32>>,
}

/// Gradients of `relu?(scale·(x − mean)/std + shift [+ residual])` with batch statistics:
/// with `g = dy·[y > 0]` and `x̂` the normalised input,
/// `dx = scale/std · (g − mean(g) − x̂·mean(g·x̂))`.
///
/// `y` is given where there was a Relu; `residual` asks for the gradient of the added operand.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    x: &[f32],
    y: Option<&[f32]>,
    dy: &[f32],
    dims: Dims,
    mean: &[f32],
    inverse_std: &[f32],
    scale: &[f32],
    residual: bool,
) -> Gradients {
    let [n, c, s] = dims;
    let run = run_elements(dims);
    let mut masked = (residual && y.is_some()).then(|| buffers::take(x.len()));
    let sums_of = |i: usize, x: &[f32], mut masked: Option<&mut [f32]>| {
        let at = i * run;
        let dy = &dy[at..at + x.len()];
        let y = y.map(|y| &y[at..at + x.len()]);
        let mut sums = vec![[0.0f64; 2]; c];
        Arch::new().dispatch(|| {
            for (p, x) in x.chunks_exact(s).enumerate() {
                let range = p * s..(p + 1) * s;
                let y = y.map(|y| &y[range.clone()]);
                let masked = masked.as_deref_mut().map(|m| &mut m[range.clone()]);
                let [first, second] = products(x, y, &dy[range], mean[p % c], masked);
                sums[p % c][0] += first;
                sums[p % c][1] += second;
            }
        });
        sums
    };
    let partial: Vec<Vec<[f64; 2]>> = match &mut masked {
        Some(masked) => {
            x.par_chunks(run).zip(masked.par_chunks_mut(run)).enumerate().map(|(i, (x, masked))| sums_of(i, x, Some(masked))).collect()
        }
        None => x.par_chunks(run).enumerate().map(|(i, x)| sums_of(i, x, None)).collect(),
    };
    let count = (n * s) as f64;
    let mut d_scale = Vec::with_capacity(c);
    let mut d_shift = Vec::with_capacity(c);
    // dx = g·p + x·q + r per channel.
    let mut coefficients = Vec::with_capacity(c);
    for channel in 0..c {
        let [sum, dot] = partial.iter().fold([0.0; 2], |[a, b], run| [a + run[channel][0], b + run[channel][1]]);
        let inverse_std = f64::from(inverse_std[channel]);
        let dot = dot * inverse_std;
        d_shift.push(sum as f32);
        d_scale.push(dot as f32);
        let p = f64::from(scale[channel]) * inverse_std;
        let q = -p * inverse_std * dot / count;
        let r = -p * sum / count - q * f64::from(mean[channel]);
        coefficients.push([p as f32, q as f32, r as f32]);
    }
    let mut dx = buffers::take(x.len());
    let (g, y) = match &masked {
        Some(masked) => (masked.as_slice(), None),
        None => (dy, y),
    };
    dx.par_chunks_mut(run).zip(x.par_chunks(run)).enumerate().for_each(|(i, (dx, x))| {
        let at = i * run;
        let g = &g[at..at + x.len()];
        let y = y.map(|y| &y[at..at + x.len()]);
        Arch::new().dispatch(|| {
            let planes = dx.chunks_exact_mut(s).zip(x.chunks_exact(s)).zip(g.chunks_exact(s));
            for (plane, ((dx, x), g)) in planes.enumerate() {
                let [p, q, r] = coefficients[plane % c];
                match y {
                    Some(y) => {
                        let y = &y[plane * s..][..s];
                        for (((dx, x), g), y) in dx.iter_mut().zip(x).zip(g).zip(y) {
                            *dx = if *y > 0.0 { *g } else { 0.0 } * p + (x * q + r);
                        }
                    }
                    None => {
                        for ((dx, x), g) in dx.iter_mut().zip(x).zip(g) {
                            *dx = g * p + (x * q + r);
                        }
                    }
                }
            }
        });
    });
    Gradients { x: dx, scale: d_scale, shift: d_shift, residual: masked }
}

/// `Σ g` and `Σ g·(x − mean)` of a plane, writing `g` where asked.
#[inline(always)]
fn products(x: &[f32], y: Option<&[f32]>, dy: &[f32], mean: f32, mut masked: Option<&mut [f32]>) -> [f64; 2] {
    const BLOCK: usize = 16;
    let mut first = [0.0f32; BLOCK];
    let mut second = [0.0f32; BLOCK];
    let whole = x.len() / BLOCK * BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let mut g = [0.0f32; BLOCK];
        g.copy_from_slice(&dy[at..at + BLOCK]);
        if let Some(y) = y {
            let y = &y[at..at + BLOCK];
            for l in 0..BLOCK {
                g[l] = if y[l] > 0.0 { g[l] } else { 0.0 };
            }
        }
        if let Some(masked) = &mut masked {
            masked[at..at + BLOCK].copy_from_slice(&g);
        }
        let x = &x[at..at + BLOCK];
        for l in 0..BLOCK {
            first[l] += g[l];
            second[l] += g[l] * (x[l] - mean);
        }
    }
    for at in whole..x.len() {
        let g = if y.is_none_or(|y| y[at] > 0.0) { dy[at] } else { 0.0 };
        if let Some(masked) = &mut masked {
            masked[at] = g;
        }
        first[0] += g;
        second[0] += g * (x[at] - mean);
    }
    [total(first), total(second)]
}
