//! What measuring in the run's own process says, against processes of their own.
//!
//! On a shared machine the two differ by up to four percent, and mostly one way for the whole of a run (of nine runs of resnet20 one
//! by −1.0 to −3.6 %, one by +0.5 to +1.9 %). A search that takes no notice lands as far beside its tolerance, however often it tries. Every
//! network that is confirmed in separate processes tells by how much; those that are not confirmed are set right by it.

use latency::statistics::median;

/// Ratios confirmed over ratios measured while searching, of the same networks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lean(Vec<f64>);

impl Lean {
    /// A network was measured at `guided` while searching, and then in separate processes at `confirmed`.
    pub fn learn(&mut self, guided: f64, confirmed: f64) {
        self.0.push(confirmed / guided);
    }

    /// What a ratio measured while searching is to be multiplied by; 1 while nothing was confirmed.
    pub fn factor(&self) -> f64 {
        if self.0.is_empty() { 1.0 } else { median(&self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_confirmation_that_went_wrong_does_not_decide() {
        let mut lean = Lean::default();
        assert_eq!(lean.factor(), 1.0);
        lean.learn(0.698, 0.673);
        assert!((lean.factor() - 0.673 / 0.698).abs() < 1e-12);
        lean.learn(0.7, 0.7 * 0.97);
        lean.learn(0.7, 0.7 * 1.4);
        assert!((lean.factor() - 0.97).abs() < 1e-12);
    }
}
