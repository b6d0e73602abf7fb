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
//! number, from measured sub-networks by ridge regression towards s = 1, c = 0, in relative error. There are about as many
//! coefficients as measured networks, so how far to trust them is what the networks say themselves: the ridge is the one with
//! the least error on networks left out of the fit, one at a time, and that is the error stated.

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
    /// Root mean square of (predicted − measured)/measured over them, each predicted from all the others. 0 with no network.
    pub relative_error: f64,
}

/// Weights of staying close to the single-layer times, per coefficient, in units of one measured network: what is tried.
const RIDGES: [f64; 9] = [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0];

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
        // Unknowns: a, then for all families together and for each the scale − 1 and the overhead per layer, in units in which 1
        // is a typical contribution to a network's latency. What all families have in common costs the ridge one coefficient
        // instead of one per family, so that little data moves them together.
        let count = points.len() as f64;
        let typical = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let mean = |pick: &dyn Fn(&Features) -> f64| points.iter().map(|(x, _)| pick(x)).sum::<f64>() / count;
        let table: Vec<f64> = (0..families).map(|f| mean(&|x| x.table_s[f]).max(1e-3 * typical)).collect();
        let layers: Vec<f64> = (0..families).map(|f| mean(&|x| x.layers[f] as f64).max(1.0)).collect();
        let (all_table, all_layers) = (table.iter().sum::<f64>(), layers.iter().sum::<f64>());
        let row = |x: &Features, y: f64| {
            let per_layer = |f: usize| typical / layers[f] * x.layers[f] as f64;
            let overhead = typical / all_layers * x.layers.iter().sum::<usize>() as f64;
            let mut row = vec![typical, x.table_s.iter().sum::<f64>() / all_table * typical, overhead];
            row.extend((0..families).map(|f| x.table_s[f] / table[f] * typical));
            row.extend((0..families).map(per_layer));
            row.iter_mut().for_each(|v| *v /= y);
            row
        };
        let rows: Vec<Vec<f64>> = points.iter().map(|(x, y)| row(x, *y)).collect();
        let residuals: Vec<f64> = points.iter().map(|(x, y)| 1.0 - x.table_s.iter().sum::<f64>() / y).collect();
        let fits = RIDGES.map(|ridge| regress(&rows, &residuals, ridge));
        let Some((z, relative_error)) = fits.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)) else { return Self::identity(families) };
        let mut fit = Self::identity(families);
        fit.constant_s = z[0] * typical;
        for f in 0..families {
            fit.scale[f] = 1.0 + (z[1] / all_table + z[3 + f] / table[f]) * typical;
            fit.per_layer_s[f] = (z[2] / all_layers + z[3 + families + f] / layers[f]) * typical;
        }
        fit.points = points.len();
        fit.relative_error = relative_error;
        fit
    }

    /// Predicted seconds of a network.
    pub fn predict(&self, x: &Features) -> f64 {
        let families = self.scale.iter().zip(&self.per_layer_s).zip(x.table_s.iter().zip(&x.layers));
        self.constant_s + families.map(|((s, c), (t, &n))| s * t + c * n as f64).sum::<f64>()
    }
}

/// Coefficients of ridge regression, and the root mean square of the errors when each point is predicted without itself: for
/// a linear fit that is its residual over 1 − its leverage, `h_i = x_iᵀ (XᵀX + λI)⁻¹ x_i`.
fn regress(rows: &[Vec<f64>], values: &[f64], ridge: f64) -> (Vec<f64>, f64) {
    let n = rows.first().map_or(0, Vec::len);
    let (mut normal, mut right) = (vec![vec![0.0; n]; n], vec![0.0; n]);
    for (row, y) in rows.iter().zip(values) {
        for a in 0..n {
            right[a] += row[a] * y;
            for b in 0..n {
                normal[a][b] += row[a] * row[b];
            }
        }
    }
    for (k, r) in normal.iter_mut().enumerate() {
        r[k] += ridge;
    }
    let z = solve(normal.clone(), right);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let left_out = |(row, y): (&Vec<f64>, &f64)| {
        let leverage = dot(row, &solve(normal.clone(), row.clone()));
        ((y - dot(row, &z)) / (1.0 - leverage).max(1e-9)).powi(2)
    };
    let squares: f64 = rows.iter().zip(values).map(left_out).sum();
    (z, (squares / rows.len().max(1) as f64).sqrt())
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

    /// The closed form of leaving one out against really leaving it out.
    #[test]
    fn the_stated_error_is_that_of_networks_left_out() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let rows: Vec<Vec<f64>> = (0..9).map(|_| (0..5).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        let values: Vec<f64> = (0..9).map(|_| rng.random_range(-1.0..1.0)).collect();
        for ridge in RIDGES {
            let mut squares = 0.0;
            for k in 0..9 {
                let without = |v: &[f64]| [&v[..k], &v[k + 1..]].concat();
                let others: Vec<Vec<f64>> = [&rows[..k], &rows[k + 1..]].concat();
                let z = regress(&others, &without(&values), ridge).0;
                squares += (values[k] - rows[k].iter().zip(&z).map(|(a, b)| a * b).sum::<f64>()).powi(2);
            }
            let stated = regress(&rows, &values, ridge).1;
            assert!((stated - (squares / 9.0).sqrt()).abs() < 1e-9, "{stated}");
        }
    }

    /// More coefficients than networks fit anything; the error stated must not be that of the fit.
    #[test]
    fn noise_is_not_taken_for_knowledge() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(8);
        let points: Vec<_> = networks(5, 6, 10)
            .into_iter()
            .map(|x| {
                let y = x.table_s.iter().sum::<f64>() * rng.random_range(0.9..1.1);
                (x, y)
            })
            .collect();
        let fit = Calibration::fit(&points);
        assert!(fit.relative_error > 0.03, "{}", fit.relative_error);
        // A table that is right on average is not made worse on other networks.
        for x in networks(77, 6, 20) {
            assert!((fit.predict(&x) / x.table_s.iter().sum::<f64>() - 1.0).abs() < 0.1, "{fit:?}");
        }
    }

    #[test]
    fn with_no_network_measured_the_table_is_believed() {
        let x = &networks(1, 2, 1)[0];
        assert!((Calibration::identity(2).predict(x) - x.table_s.iter().sum::<f64>()).abs() < 1e-12);
    }
}
