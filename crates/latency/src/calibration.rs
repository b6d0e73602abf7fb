//! From sums of table entries to measured latencies of whole networks.
//!
//! Single layers measured alone know nothing of fusion, of caches filled by the layer before, or of
//! the runtime's cost per call, so their sum is off by a factor and an offset. Both are fitted to a
//! few sub-networks measured whole.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::statistics::median;

/// `measured ≈ offset_s + scale · table_sum`, and how well it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Seconds that every network costs beside its layers.
    pub offset_s: f64,
    /// Factor on the table's sums.
    pub scale: f64,
    /// Median over the points of |predicted − measured| / measured.
    pub residual: f64,
    /// What was predicted and what measured, in the order of the points.
    pub points: Vec<CalibrationPoint>,
}

/// One sub-network of a calibration. Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPoint {
    /// Sum of table entries.
    pub table_sum_s: f64,
    /// Prediction from the sum.
    pub predicted_s: f64,
    /// Latency as measured.
    pub measured_s: f64,
}

impl Calibration {
    /// Sums are latencies: no correction.
    pub fn identity() -> Self {
        Self { offset_s: 0.0, scale: 1.0, residual: 0.0, points: Vec::new() }
    }

    /// The latency predicted for a sum of table entries.
    pub fn to_measured(&self, table_sum_s: f64) -> f64 {
        self.offset_s + self.scale * table_sum_s
    }

    /// The sum of table entries at which a latency is predicted.
    pub fn to_table(&self, measured_s: f64) -> f64 {
        (measured_s - self.offset_s) / self.scale
    }
}

/// Fits a line through (table sum, measured) points: the slope is the median of the slopes between
/// all pairs (Theil 1950, Sen 1968), so up to 29 % of the points may be wild. One point, or points
/// with equal sums, give a scale and no offset.
///
/// # Errors
/// [`Error::Calibration`] where there is no point, a point is not positive and finite, or more
/// layers came out faster.
pub fn fit(points: &[(f64, f64)]) -> Result<Calibration, Error> {
    let wrong = |cause: String| Err(Error::Calibration { cause });
    if points.is_empty() {
        return wrong("there is no measured sub-network to fit; measure at least one".into());
    }
    if let Some((sum, measured)) = points.iter().find(|(s, m)| !(s.is_finite() && m.is_finite() && *s > 0.0 && *m > 0.0)) {
        return wrong(format!("the point (sum {sum} s, measured {measured} s) is not positive"));
    }
    let slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(i, a)| points[i + 1..].iter().map(move |b| (b.0 - a.0, b.1 - a.1)))
        .filter(|(run, _)| run.abs() > 1e-12)
        .map(|(run, rise)| rise / run)
        .collect();
    let (offset_s, scale) = if slopes.is_empty() {
        (0.0, median(&points.iter().map(|(s, m)| m / s).collect::<Vec<_>>()))
    } else {
        let scale = median(&slopes);
        (median(&points.iter().map(|(s, m)| m - scale * s).collect::<Vec<_>>()), scale)
    };
    if scale <= 0.0 {
        return wrong(format!(
            "networks with a larger sum of layer times came out faster (slope {scale:.3}); the noise is too high: raise the time limit or measure sub-networks that differ more"
        ));
    }
    let mut calibration = Calibration { offset_s, scale, residual: 0.0, points: Vec::new() };
    calibration.points = points
        .iter()
        .map(|&(table_sum_s, measured_s)| CalibrationPoint { table_sum_s, predicted_s: calibration.to_measured(table_sum_s), measured_s })
        .collect();
    let errors: Vec<f64> = calibration.points.iter().map(|p| (p.predicted_s - p.measured_s).abs() / p.measured_s).collect();
    calibration.residual = median(&errors);
    Ok(calibration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wild_point_does_not_move_the_line() {
        let mut points: Vec<(f64, f64)> = (1..=9).map(|i| (f64::from(i), 0.2 + 0.8 * f64::from(i))).collect();
        points.push((5.0, 50.0));
        let c = fit(&points).unwrap();
        assert!((c.scale - 0.8).abs() < 1e-9 && (c.offset_s - 0.2).abs() < 1e-9, "{c:?}");
        assert_eq!(c.points.len(), 10);
        assert!(c.residual < 1e-9);
    }

    #[test]
    fn one_point_gives_a_scale() {
        let c = fit(&[(2.0, 3.0)]).unwrap();
        assert_eq!((c.offset_s, c.scale), (0.0, 1.5));
    }

    #[test]
    fn points_that_cannot_be_fitted_are_refused() {
        assert!(fit(&[]).unwrap_err().to_string().contains("at least one"));
        assert!(fit(&[(1.0, 2.0), (2.0, 1.0)]).unwrap_err().to_string().contains("noise"));
        assert!(fit(&[(1.0, f64::NAN)]).is_err());
    }

    proptest! {
        #[test]
        fn exact_lines_are_recovered_and_inverted(offset in 0.0f64..1.0, scale in 0.1f64..3.0, sums in prop::collection::vec(0.1f64..10.0, 2..12), x in 0.1f64..10.0) {
            let spread = sums.iter().copied().fold(0.0, f64::max) - sums.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assume!(spread > 0.01);
            let points: Vec<(f64, f64)> = sums.iter().map(|s| (*s, offset + scale * s)).collect();
            let c = fit(&points).unwrap();
            prop_assert!((c.scale - scale).abs() < 1e-6 && (c.offset_s - offset).abs() < 1e-5);
            prop_assert!((c.to_table(c.to_measured(x)) - x).abs() < 1e-9);
        }
    }
}
