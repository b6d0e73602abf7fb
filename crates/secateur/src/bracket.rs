//! The search for the inner budget: what a solver must be given for its answer to be measured at the target. What a prediction is
//! wrong by near the budget is learnt from every measurement; a bracket keeps the search from going round in circles.

/// By how much the inner budget grows while nothing is in reach.
const GROWTH: f64 = 1.1;

/// Inner budgets between which the wanted one lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bracket {
    inner: f64,
    below: Option<f64>,
    above: Option<f64>,
}

impl Bracket {
    /// A search that begins at `start`.
    pub fn new(start: f64) -> Self {
        Self { inner: start, below: None, above: None }
    }

    /// The inner budget to try next.
    pub fn inner(&self) -> f64 {
        self.inner
    }

    /// Nothing is in reach at the inner budget: the answer, if there is one, lies above.
    pub fn out_of_reach(&mut self) {
        self.too_little();
        self.inner = self.above.map_or(self.inner * GROWTH, |a| (a + self.inner) / 2.0);
    }

    /// The answer at the inner budget was measured at `measured` where `target` is wanted; `over` says that it was too much.
    pub fn measured(&mut self, measured: f64, target: f64, over: bool) {
        if over {
            self.above = Some(self.above.map_or(self.inner, |a| a.min(self.inner)));
        } else {
            self.too_little();
        }
        let wanted = self.inner * target / measured;
        self.inner = match (self.below, self.above) {
            // Inside the bracket; its middle where the guess falls on an end.
            (Some(b), Some(a)) if wanted <= b || wanted >= a => (a + b) / 2.0,
            _ => wanted,
        };
    }

    /// The answer at the inner budget, measured at the target, turned out to take `confirmed`: what was measured of the others is off by
    /// as much, and the bracket opens.
    pub fn corrected(&mut self, confirmed: f64, target: f64) {
        *self = Self::new(self.inner * target / confirmed);
    }

    fn too_little(&mut self) {
        self.below = Some(self.below.map_or(self.inner, |b| b.max(self.inner)));
    }

    /// Its width as a share of its upper end; infinite while an end is open.
    pub fn width(&self) -> f64 {
        match (self.below, self.above) {
            (Some(b), Some(a)) => (a - b) / a,
            _ => f64::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Brackets for `measured(inner)` until it is within 1 % below 1, and returns the steps it took.
    fn steps(start: f64, reach: f64, measured: impl Fn(f64) -> f64) -> Option<usize> {
        let mut bracket = Bracket::new(start);
        (0..30).find(|_| {
            if bracket.inner() < reach {
                bracket.out_of_reach();
                return false;
            }
            let m = measured(bracket.inner());
            let landed = (0.99..=1.0).contains(&m);
            if !landed {
                bracket.measured(m, 0.995, m > 1.0);
            }
            landed
        })
    }

    #[test]
    fn a_prediction_that_is_off_by_a_factor_takes_one_correction() {
        for factor in [0.5, 0.9, 1.3, 2.0] {
            assert_eq!(steps(1.0, 0.0, |inner| factor * inner), Some(1), "{factor}");
        }
    }

    #[test]
    fn what_is_off_by_a_constant_or_curved_is_found_in_a_few() {
        for f in [|x: f64| x + 0.4, |x: f64| 0.3 + 0.5 * x * x, |x: f64| x.sqrt() * 1.2] {
            assert!(steps(1.0, 0.0, f).is_some_and(|n| n <= 8), "{:?}", steps(1.0, 0.0, f));
        }
    }

    #[test]
    fn a_process_that_leans_one_way_costs_a_confirmation_or_two() {
        for bias in [0.94, 0.97, 1.03, 1.06] {
            let (mut bracket, mut lean, mut confirmed) = (Bracket::new(1.1), crate::lean::Lean::default(), 0);
            let landed = (0..14).find(|_| {
                let truth = 0.3 + 0.5 * bracket.inner() * bracket.inner();
                let told = truth * bias * lean.factor();
                if !(0.99..=0.9975).contains(&told) {
                    bracket.measured(told, 0.995, told > 0.9975);
                    return false;
                }
                confirmed += 1;
                lean.learn(truth * bias, truth);
                let lands = (0.99..=0.9975).contains(&truth);
                if !lands {
                    bracket.corrected(truth, 0.995);
                }
                lands
            });
            assert!(landed.is_some() && confirmed == 2, "{bias}: {landed:?} after {confirmed}");
        }
    }

    #[test]
    fn what_is_out_of_reach_is_left_upwards_and_never_gone_back_below() {
        assert!(steps(0.2, 0.7, |x| x).is_some_and(|n| n <= 16));
        let mut bracket = Bracket::new(1.0);
        bracket.measured(1.5, 1.0, true);
        bracket.out_of_reach();
        let low = bracket.below;
        for _ in 0..5 {
            bracket.out_of_reach();
            assert!(bracket.inner() > low.unwrap_or(0.0) && bracket.inner() < 1.0, "{bracket:?}");
        }
        assert!(bracket.width() < 0.05, "{bracket:?}");
    }
}
