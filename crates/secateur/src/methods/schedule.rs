//! Budgets on the way.

/// `C_t = C_0·(C/C_0)^(t/k)` for t = 1..k (HALP, Shen et al., NeurIPS 2022, section 3.4): every step removes the same share.
pub fn geometric(dense: f64, budget: f64, steps: usize) -> Vec<f64> {
    (1..=steps).map(|t| if t == steps { budget } else { dense * (budget / dense).powf(t as f64 / steps as f64) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_steps_to_55_percent_as_published() {
        let c = geometric(1.0, 0.55, 30);
        assert_eq!(c.len(), 30);
        assert!((c[0] - 0.980).abs() < 5e-4 && (c[1] - 0.961).abs() < 5e-4 && c[29] == 0.55, "{c:?}");
        assert!(c.windows(2).all(|w| w[1] < w[0]));
    }
}
