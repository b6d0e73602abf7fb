//! From sums of single-layer times to the latency of whole networks.
//!
//! A layer timed alone pays for things a network pays once (entering the runtime, changing the memory layout), and a network
//! fuses what single layers cannot. So the latency of a network is fitted as
//!
//! ```text
//! a + Σ_f ( s_f · T_f + c_f · n_f )
//! ```
//!
//! over its layer families f (layers of one kind and resolution), with `T_f` the table sum of the family's layers, `n_f` their
//! number, from measured sub-networks by ridge regression towards s = 1, c = 0, in relative error.

use serde::{Deserialize, Serialize};

/// What the fit sees of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// Table sum per family, in seconds.
    pub table_s: Vec<f64>,
    /// Number of layers present per family.
    pub layers: Vec<usize>,
}

/// Coefficients of the fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Seconds that every network takes.
    pub constant_s: f64,
    /// Per family: factor of its table sum.
    pub scale: Vec<f64>,
    /// Per family: seconds per layer on top.
    pub per_layer_s: Vec<f64>,
    /// Networks it was fitted to.
    pub points: usize,
    /// Root mean square of (predicted − measured)/measured over them.
    pub relative_error: f64,
}

/// Weight of staying close to the single-layer times, per coefficient, in units of one measured network.
const RIDGE: f64 = 0.02;

impl Calibration {
    /// Single-layer times taken at face value.
    pub fn identity(families: usize) -> Self {
        Self { constant_s: 0.0, scale: vec![1.0; families], per_layer_s: vec![0.0; families], points: 0, relative_error: 0.0 }
    }

    /// Fits measured networks.
    pub fn fit(points: &[(Features, f64)]) -> Self {
        let families = points.first().map_or(0, |(f, _)| f.table_s.len());
        if points.is_empty() {
            return Self::identity(families);
        }
        // Unknowns: [a, s_0.., c_0..], each scaled so that 1 is a typical contribution of the whole network's latency.
        let n = 1 + 2 * families;
        let typical = points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
        let mean = |pick: &dyn Fn(&Features) -> f64| points.iter().map(|(f, _)| pick(f)).sum::<f64>() / points.len() as f64;
        let mut unit = vec![typical; n];
        for f in 0..families {
            unit[1 + f] = (mean(&|x| x.table_s[f])).max(1e-3 * typical);
            unit[1 + families + f] = typical;
        }
        let prior = |k: usize| if (1..=families).contains(&k) { 1.0 } else { 0.0 };
        let (mut normal, mut right) = (vec![vec![0.0; n]; n], vec![0.0; n]);
        for (x, y) in points {
            // Row of relative contributions; the unknown of family f's scale is (s_f − 1)·unit/typical, and so on.
            let mut row = vec![1.0 / y * typical; n];
            for f in 0..families {
                row[1 + f] = x.table_s[f] / unit[1 + f] * typical / y;
                let layers = mean(&|p| p.layers[f] as f64).max(1.0);
                row[1 + families + f] = x.layers[f] as f64 / layers * typical / y;
            }
            let base: f64 = x.table_s.iter().sum::<f64>() / y;
            let residual = 1.0 - base;
            for a in 0..n {
                right[a] += row[a] * residual;
                for b in 0..n {
                    normal[a][b] += row[a] * row[b];
                }
            }
        }
        for (k, r) in normal.iter_mut().enumerate() {
            r[k] += RIDGE;
        }
        let z = solve(normal, right);
        let mut fit = Self::identity(families);
        fit.constant_s = z[0] * typical;
        for f in 0..families {
            fit.scale[f] = prior(1 + f) + z[1 + f] * typical / unit[1 + f];
            let layers = mean(&|p| p.layers[f] as f64).max(1.0);
            fit.per_layer_s[f] = z[1 + families + f] * typical / layers;
        }
        fit.points = points.len();
        let squares: f64 = points.iter().map(|(x, y)| (fit.predict(x) / y - 1.0).powi(2)).sum();
        fit.relative_error = (squares / points.len() as f64).sqrt();
        fit
    }

    /// Predicted seconds of a network.
    pub fn predict(&self, x: &Features) -> f64 {
        let families = self.scale.iter().zip(&self.per_layer_s).zip(x.table_s.iter().zip(&x.layers));
        self.constant_s + families.map(|((s, c), (t, &n))| s * t + c * n as f64).sum::<f64>()
    }
}

/// Solves a symmetric positive definite system by Gaussian elimination with pivoting.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for c in 0..n {
        let pivot = (c..n).max_by(|&p, &q| a[p][c].abs().total_cmp(&a[q][c].abs())).unwrap_or(c);
        a.swap(c, pivot);
        b.swap(c, pivot);
        if a[c][c].abs() < 1e-300 {
            continue;
        }
        for r in c + 1..n {
            let f = a[r][c] / a[c][c];
            if f != 0.0 {
                let above = a[c].clone();
                a[r][c..].iter_mut().zip(&above[c..]).for_each(|(x, u)| *x -= f * u);
                b[r] -= f * b[c];
            }
        }
    }
    let mut x = vec![0.0; n];
    for r in (0..n).rev() {
        let known: f64 = (r + 1..n).map(|k| a[r][k] * x[k]).sum();
        x[r] = if a[r][r].abs() < 1e-300 { 0.0 } else { (b[r] - known) / a[r][r] };
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};

    fn networks(seed: u64, families: usize, count: usize) -> Vec<Features> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|_| {
                let layers: Vec<usize> = (0..families).map(|_| rng.random_range(1..18)).collect();
                let table_s = layers.iter().map(|&n| n as f64 * rng.random_range(1e-5..6e-5)).collect();
                Features { table_s, layers }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn finds_overheads_that_single_layers_do_not_show(seed in 0u64..50, constant in 0.0f64..1e-4, overhead in -8e-6f64..4e-6, scale in 0.8f64..1.2) {
            let truth = |x: &Features| constant + x.table_s.iter().sum::<f64>() * scale + overhead * x.layers.iter().sum::<usize>() as f64;
            let points: Vec<_> = networks(seed, 3, 40).into_iter().map(|x| { let y = truth(&x); (x, y) }).collect();
            let fit = Calibration::fit(&points);
            for x in networks(seed + 1000, 3, 10) {
                prop_assert!((fit.predict(&x) / truth(&x) - 1.0).abs() < 0.08, "{} against {}", fit.predict(&x), truth(&x));
            }
        }
    }

    #[test]
    fn with_no_network_measured_the_table_is_believed() {
        let x = &networks(1, 2, 1)[0];
        assert!((Calibration::identity(2).predict(x) - x.table_s.iter().sum::<f64>()).abs() < 1e-12);
    }
}
