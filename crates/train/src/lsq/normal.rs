//! Normal equations of a linear layer: moments of its inputs and residuals, and their regularised solution.

use pulp::Arch;
use rayon::prelude::*;

/// Samples taken up at a time.
const BLOCK: usize = 64;

/// Ridges that are tried, as shares of the mean second moment of an input.
const RIDGES: [f64; 6] = [1e-9, 1e-6, 1e-4, 1e-2, 1e-1, 1.0];

/// A smaller ridge has to predict better by this share to be preferred.
const SLACK: f64 = 1e-3;

/// Sums over samples `z = (x, r)` of `inputs` inputs and `outputs` residuals: `Σ z`, `Σ x zᵀ` and `Σ r²`.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    inputs: usize,
    outputs: usize,
    count: f64,
    sums: Vec<f64>,
    /// `[inputs, inputs + outputs]`; of the left square only what lies on and right of the diagonal.
    products: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    pub fn new(inputs: usize, outputs: usize) -> Self {
        let width = inputs + outputs;
        Self { inputs, outputs, count: 0.0, sums: vec![0.0; width], products: vec![0.0; inputs * width], squares: vec![0.0; outputs] }
    }

    /// Takes up samples, each `inputs + outputs` numbers.
    pub fn add(&mut self, samples: &[f64]) {
        let (inputs, width) = (self.inputs, self.inputs + self.outputs);
        for block in samples.chunks(BLOCK * width) {
            for z in block.chunks_exact(width) {
                self.count += 1.0;
                self.sums.iter_mut().zip(z).for_each(|(s, z)| *s += z);
                self.squares.iter_mut().zip(&z[inputs..]).for_each(|(s, r)| *s += r * r);
            }
            let update = |(i, row): (usize, &mut [f64])| Arch::new().dispatch(|| rank_update(block, width, i, row));
            if inputs < 64 {
                self.products.chunks_mut(width).enumerate().for_each(update);
            } else {
                self.products.par_chunks_mut(width).enumerate().for_each(update);
            }
        }
    }

    /// Both together.
    pub fn merged(&self, other: &Self) -> Self {
        let add = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a + b).collect();
        Self {
            inputs: self.inputs,
            outputs: self.outputs,
            count: self.count + other.count,
            sums: add(&self.sums, &other.sums),
            products: add(&self.products, &other.products),
            squares: add(&self.squares, &other.squares),
        }
    }

    /// `Σ r²` over all residuals.
    pub fn residual(&self) -> f64 {
        self.squares.iter().sum()
    }

    fn mean(&self, k: usize) -> f64 {
        self.sums[k] / self.count.max(1.0)
    }

    /// `Σ x_i z_k` for `i ≤ k`, about the means where there is an intercept.
    fn product(&self, i: usize, k: usize, centred: bool) -> f64 {
        let raw = self.products[i * (self.inputs + self.outputs) + k];
        if centred { raw - self.mean(i) * self.sums[k] } else { raw }
    }

    /// The change of weights `[outputs, inputs]` that minimises `Σ ‖r − ΔW x − b‖² + ridge·m·‖ΔW‖²` (`m` the mean of `Σ x²`
    /// over the inputs), and `b`, which is 0 without an intercept. `None` where the inputs leave nothing to solve.
    fn solve(&self, ridge: f64, intercept: bool) -> Option<Change> {
        let d = self.inputs;
        let trace: f64 = (0..d).map(|i| self.product(i, i, intercept)).sum();
        if !(trace > 0.0 && trace.is_finite()) {
            return None;
        }
        let mut factor = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                factor[i * d + j] = self.product(j, i, intercept);
            }
            factor[i * d + i] += ridge * trace / d as f64;
        }
        cholesky(&mut factor, d)?;
        let mut weights: Vec<f64> =
            (0..self.outputs).flat_map(|o| (0..d).map(move |i| (i, d + o))).map(|(i, k)| self.product(i, k, intercept)).collect();
        weights.par_chunks_mut(d).for_each(|row| substitute(&factor, d, row));
        let offset = |o: usize| self.mean(d + o) - (0..d).map(|i| weights[o * d + i] * self.mean(i)).sum::<f64>();
        let offsets = (0..self.outputs).map(|o| if intercept { offset(o) } else { 0.0 }).collect();
        Some(Change { weights, offsets, ridge: Some(ridge) })
    }

    /// Weights as they are; only the means are matched.
    fn unchanged(&self, intercept: bool) -> Change {
        let offsets = (0..self.outputs).map(|o| if intercept { self.mean(self.inputs + o) } else { 0.0 }).collect();
        Change { weights: vec![0.0; self.outputs * self.inputs], offsets, ridge: None }
    }

    /// `Σ ‖r − ΔW x − b‖²`.
    pub fn error(&self, change: &Change) -> f64 {
        let (d, width) = (self.inputs, self.inputs + self.outputs);
        let at = |i: usize, j: usize| self.products[i.min(j) * width + i.max(j)];
        let one = |o: usize| {
            let (w, b) = (&change.weights[o * d..(o + 1) * d], change.offsets[o]);
            let mut error = self.squares[o] - 2.0 * b * self.sums[d + o] + self.count * b * b;
            for i in (0..d).filter(|&i| w[i] != 0.0) {
                let quadratic: f64 = (0..d).map(|j| w[j] * at(i, j)).sum();
                error += w[i] * (quadratic - 2.0 * self.products[i * width + d + o] + 2.0 * b * self.sums[i]);
            }
            error.max(0.0)
        };
        (0..self.outputs).into_par_iter().map(one).collect::<Vec<_>>().iter().sum()
    }
}

/// What is added to a layer's weights `[outputs, inputs]` and to its outputs.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub weights: Vec<f64>,
    pub offsets: Vec<f64>,
    /// The ridge it was found with; `None` where the weights stay.
    pub ridge: Option<f64>,
}

/// The best change: its ridge is the largest that predicts `held` nearly as well as any does, among them an infinite one; then
/// it is fitted to all samples.
pub(super) fn best_change(fitted: &Moments, held: &Moments, intercept: bool) -> Change {
    let all = fitted.merged(held);
    let middle = RIDGES.len() / 2;
    if held.count == 0.0 {
        return all.solve(RIDGES[middle], intercept).unwrap_or_else(|| all.unchanged(intercept));
    }
    let stay = held.error(&fitted.unchanged(intercept));
    let tried: Vec<(f64, f64)> =
        RIDGES.iter().filter_map(|&ridge| fitted.solve(ridge, intercept).map(|c| (ridge, held.error(&c)))).collect();
    let least = tried.iter().map(|t| t.1).fold(f64::INFINITY, f64::min);
    if least.is_nan() || least >= stay {
        return all.unchanged(intercept);
    }
    // Below this, differences are rounding.
    let floor = 1e-12 * held.residual();
    let ridge = tried.iter().filter(|t| t.1 <= least * (1.0 + SLACK) + floor).map(|t| t.0).fold(0.0, f64::max);
    all.solve(ridge, intercept).unwrap_or_else(|| all.unchanged(intercept))
}

/// Adds `Σ z_i z_k` over the samples of `block` to `row[k]` for `k ≥ i`; eight samples at a time, so that `row` is read and
/// written once for them.
#[inline(always)]
fn rank_update(block: &[f64], width: usize, i: usize, row: &mut [f64]) {
    let row = &mut row[i..];
    let mut eights = block.chunks_exact(8 * width);
    for z in &mut eights {
        let s: [&[f64]; 8] = std::array::from_fn(|k| &z[k * width + i..(k + 1) * width]);
        let c: [f64; 8] = std::array::from_fn(|k| s[k][0]);
        let [a, b, d, e, f, g, h, l] = s.map(|s| &s[..row.len()]);
        for k in 0..row.len() {
            let first = c[0] * a[k] + c[1] * b[k] + c[2] * d[k] + c[3] * e[k];
            row[k] += first + (c[4] * f[k] + c[5] * g[k] + c[6] * h[k] + c[7] * l[k]);
        }
    }
    for z in eights.remainder().chunks_exact(width) {
        let c = z[i];
        row.iter_mut().zip(&z[i..]).for_each(|(r, z)| *r += c * z);
    }
}

/// Replaces the lower triangle of a symmetric matrix `[n, n]` by its Cholesky factor; `None` if it is not positive definite.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for j in 0..n {
        let (above, rest) = a.split_at_mut((j + 1) * n);
        let row = &mut above[j * n..];
        let pivot = row[j] - dot(&row[..j], &row[..j]);
        if !(pivot > 0.0 && pivot.is_finite()) {
            return None;
        }
        let pivot = pivot.sqrt();
        row[j] = pivot;
        let row = &*row;
        rest.par_chunks_mut(n).with_min_len(16).for_each(|below| below[j] = (below[j] - dot(&below[..j], &row[..j])) / pivot);
    }
    Some(())
}

/// Solves `L Lᵀ x = b` in place.
fn substitute(l: &[f64], n: usize, b: &mut [f64]) {
    for i in 0..n {
        b[i] = (b[i] - dot(&l[i * n..i * n + i], &b[..i])) / l[i * n + i];
    }
    for i in (0..n).rev() {
        b[i] /= l[i * n + i];
        let x = b[i];
        b[..i].iter_mut().zip(&l[i * n..i * n + i]).for_each(|(b, l)| *b -= x * l);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    #[inline(always)]
    fn sum(a: &[f64], b: &[f64]) -> f64 {
        let (a, x) = a.as_chunks::<8>();
        let (b, y) = b.as_chunks::<8>();
        let mut lanes = [0.0; 8];
        for (a, b) in a.iter().zip(b) {
            for k in 0..8 {
                lanes[k] += a[k] * b[k];
            }
        }
        lanes.iter().sum::<f64>() + x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>()
    }
    if a.len() < 64 { sum(a, b) } else { Arch::new().dispatch(|| sum(a, b)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(n: usize, width: usize) -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(-1.0..1.0, n * width)
    }

    /// `Σ ‖r − ΔW x − b‖²` from the samples themselves.
    fn error(z: &[f64], d: usize, outputs: usize, c: &Change) -> f64 {
        let residual = |z: &[f64], o: usize| {
            let fitted: f64 = (0..d).map(|i| c.weights[o * d + i] * z[i]).sum();
            z[d + o] - fitted - c.offsets[o]
        };
        z.chunks_exact(d + outputs).map(|z| (0..outputs).map(|o| residual(z, o).powi(2)).sum::<f64>()).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_solution_is_a_minimum(
            (d, outputs, z) in (1usize..7, 1usize..4, 1usize..40).prop_flat_map(|(d, o, n)| (Just(d), Just(o), samples(n, d + o))),
            intercept: bool,
            seed in 0usize..1000,
        ) {
            let mut m = Moments::new(d, outputs);
            m.add(&z);
            let scale = 1.0 + m.residual();
            let Some(best) = m.solve(1e-6, intercept) else { return Ok(()) };
            prop_assert!((m.error(&best) - error(&z, d, outputs, &best)).abs() < 1e-6 * scale);
            let trace: f64 = (0..d).map(|i| m.product(i, i, intercept)).sum();
            let objective = |c: &Change| error(&z, d, outputs, c) + 1e-6 * trace / d as f64 * c.weights.iter().map(|w| w * w).sum::<f64>();
            for step in [1e-2, -1e-2] {
                let mut moved = best.clone();
                let k = seed % moved.weights.len();
                moved.weights[k] += step;
                if intercept {
                    moved.offsets[seed % outputs] -= step;
                }
                prop_assert!(objective(&best) <= objective(&moved) + 1e-9 * scale);
            }
            prop_assert!(error(&z, d, outputs, &best) <= m.residual() + 1e-9 * scale);
            let (half, held) = (z.len() / (d + outputs) / 2 * (d + outputs), Moments::new(d, outputs));
            let (mut fitted, mut rest) = (held.clone(), held);
            fitted.add(&z[..half]);
            rest.add(&z[half..]);
            let chosen = best_change(&fitted, &rest, intercept);
            prop_assert!(error(&z, d, outputs, &chosen) <= m.residual() + 1e-9 * scale);
        }
    }
}
