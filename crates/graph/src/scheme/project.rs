//! Removing the weakest units of a weight.

use super::mask::Mask;
use super::pattern::{self, KEPT_OF_KERNEL};
use super::regularity::{Regularity, Scheme};
use super::shape::WeightShape;
use super::units::Units;

/// Where in a layer units are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Wherever they are weakest.
    #[default]
    Layer,
    /// As much in every block row, so that threads that take block rows get equal work.
    BlockRow,
}

impl Scheme {
    /// The mask that removes the weakest units of `weights`, by [`Units::scores`], equal ones in the order they are stored. As
    /// many go as bring what is removed nearest to the rate; at least one stays (in every block row, where those are balanced).
    ///
    /// # Panics
    /// If `weights` are not those of `shape`, or patterns are asked for of kernels that are not 3×3 (see [`Regularity::fits`]).
    pub fn project(&self, weights: &[f32], shape: &WeightShape, balance: Balance) -> Mask {
        assert_eq!(weights.len(), shape.len(), "{} weights of shape {shape:?}", weights.len());
        if self.is_dense() {
            return Mask::all(weights.len());
        }
        let units = self.regularity.units(shape);
        if self.regularity != Regularity::Pattern {
            return units.lowest_removed(&units.scores(weights), self.rate, balance);
        }
        assert!(shape.positions() == pattern::KERNEL, "patterns of kernel {:?}", shape.kernel);
        let mut mask = pattern::patterned(weights, shape);
        let mut patterned = weights.to_vec();
        mask.apply(&mut patterned);
        // Connectivity: what is left of the rate once every kernel has its pattern.
        let rate = (self.rate * KEPT_OF_KERNEL as f64 / pattern::KERNEL as f64).max(1.0);
        let connected = units.lowest_removed(&units.scores(&patterned), rate, balance);
        mask.keep.iter_mut().zip(&connected.keep).for_each(|(k, c)| *k &= c);
        mask
    }
}

impl Units {
    /// The mask that removes the units of lowest score until as much of the weight is gone as `rate` says.
    pub fn lowest_removed(&self, scores: &[f64], rate: f64, balance: Balance) -> Mask {
        let rows: Vec<Vec<usize>> = match balance {
            Balance::Layer => vec![(0..self.len()).collect()],
            Balance::BlockRow => {
                let mut rows = vec![Vec::new(); self.row_count];
                (0..self.len()).for_each(|u| rows[self.rows[u] as usize].push(u));
                rows
            }
        };
        let mut gone = vec![false; self.len()];
        for row in rows {
            let sizes: Vec<f64> = row.iter().map(|&u| f64::from(self.sizes[u])).collect();
            let row_scores: Vec<f64> = row.iter().map(|&u| scores[u]).collect();
            for k in lowest(&row_scores, &sizes, 1.0 - 1.0 / rate) {
                gone[row[k]] = true;
            }
        }
        self.without(&gone)
    }

    /// The mask without the units that are `gone`.
    pub fn without(&self, gone: &[bool]) -> Mask {
        Mask { keep: self.of.iter().map(|&u| !gone[u as usize]).collect() }
    }
}

/// The units of lowest score, ascending, that together make up `share` of the sum of `sizes` as nearly as whole units can (half
/// a unit rounds to removal); never all. Units that are zero go in any case, so that choosing again from what is left chooses the
/// same. A larger share removes these and more.
pub fn lowest(scores: &[f64], sizes: &[f64], share: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order.pop();
    let wanted = share * sizes.iter().sum::<f64>();
    let mut removed = 0.0;
    // Sums of shares are not exact: a millionth of a weight decides nothing.
    let goes = |&&u: &&usize| {
        let goes = scores[u] == 0.0 || removed + sizes[u] / 2.0 <= wanted + 1e-6;
        removed += sizes[u];
        goes
    };
    let count = order.iter().take_while(goes).count();
    order.truncate(count);
    order
}
