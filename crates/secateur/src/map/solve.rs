//! The multiple-choice knapsack: one scheme per layer, so that what is kept is worth most at a cost.

use search::{Factor, Limits, Problem, Variable, joint};

use super::space::{Choice, Costs, DENSE, Space};
use crate::error::{Error, Result};

/// What choices are worth: by layer, the damage that losing a share of its squared weights does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worth {
    /// Per free layer.
    pub layers: Vec<Damage>,
}

/// Damage against the share of squared weights lost: straight between points, which begin at nothing, and beyond the last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Damage(Vec<(f64, f64)>);

impl Damage {
    /// The largest convex curve through nothing that is not above the points, ascending in what is lost. What is lost when the
    /// layer is broken already costs nothing more; a curve that says so would break layer after layer.
    pub fn convex(points: &[(f64, f64)]) -> Self {
        let mut hull: Vec<(f64, f64)> = vec![(0.0, 0.0)];
        for &(lost, damage) in points.iter().filter(|p| p.0 > 1e-9) {
            let damage = damage.max(hull[hull.len() - 1].1);
            while let [.., a, b] = hull[..]
                && (damage - b.1) * (b.0 - a.0) < (b.1 - a.1) * (lost - b.0)
            {
                hull.pop();
            }
            if hull[hull.len() - 1].0 < lost {
                hull.push((lost, damage));
            }
        }
        Self(hull)
    }

    pub fn at(&self, lost: f64) -> f64 {
        let k = self.0.partition_point(|p| p.0 < lost).clamp(1, self.0.len().saturating_sub(1).max(1));
        match (self.0.get(k - 1), self.0.get(k)) {
            (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (lost - a.0) / (b.0 - a.0),
            _ => 0.0,
        }
    }
}

impl Worth {
    /// All layers are worth the same, and damage grows with the square of what is lost (the prior of SPDY, Frantar and Alistarh,
    /// ICML 2022, in energy).
    pub fn equal(space: &Space) -> Self {
        let square: Vec<(f64, f64)> = (1..=20).map(|k| f64::from(k) / 20.0).map(|x| (x, x * x)).collect();
        Self { layers: vec![Damage::convex(&square); space.free.len()] }
    }

    /// What a choice of free layer `k` is worth; 0 where nothing is lost, negative else.
    pub fn choice(&self, k: usize, choice: &Choice) -> f64 {
        -self.layers[k].at(1.0 - choice.energy)
    }

    #[cfg(test)]
    pub fn of(&self, space: &Space, genes: &[usize]) -> f64 {
        space.chosen(genes).enumerate().map(|(k, (_, c))| c.map_or(0.0, |c| self.choice(k, c))).sum()
    }
}

/// The choice of greatest worth that costs at most `budget`, among regularities and rates that `allowed` lets a free layer have.
/// Exact.
///
/// # Errors
/// [`search::Error::Infeasible`] with the least cost there is, constants left out.
pub(crate) fn solve(
    space: &Space,
    worth: &Worth,
    costs: &Costs,
    budget: f64,
    allowed: &dyn Fn(usize, usize, usize) -> bool,
) -> Result<Vec<usize>> {
    let (mut problem, mut options) = (Problem::default(), Vec::new());
    for (k, f) in space.free.iter().enumerate() {
        let dense = (f.regularities.len() - 1, DENSE);
        let mut all: Vec<((usize, usize), f64, f64)> = Vec::new();
        for regularity in 0..f.regularities.len() {
            for rate in 0..=DENSE {
                let Some(choice) = f.choice(regularity, rate) else { continue };
                let wanted = if rate == DENSE { (regularity, rate) == dense } else { allowed(k, regularity, rate) };
                if wanted {
                    all.push(((regularity, rate), worth.choice(k, choice), costs.of[k][regularity][rate]));
                }
            }
        }
        problem.variables.push(Variable { name: space.layers[f.layer].name.clone(), values: all.iter().map(|o| o.1).collect() });
        problem.factors.push(Factor { name: space.layers[f.layer].name.clone(), vars: vec![k], costs: all.iter().map(|o| o.2).collect() });
        options.push(all);
    }
    let solution = joint::solve(&problem, budget - costs.constant, &Limits::default()).map_err(Error::from)?;
    Ok(solution.choice.iter().zip(&options).flat_map(|(&o, all)| [all[o].0.0, all[o].0.1]).collect())
}

/// A layer's step to another rate: worth per cost of it, free layer, regularity, rate.
type Step = (f64, usize, usize, usize);

/// Moves `genes` layer by layer until they cost at most `limit` and nothing more fits: down where it costs least worth per cost
/// saved, then up where it brings most. Regularities stay, but for layers that were dense. `None` where not even the cheapest
/// rates are enough.
pub(crate) fn fit(space: &Space, worth: &Worth, costs: &Costs, genes: &[usize], limit: f64) -> Option<Vec<usize>> {
    let mut genes = genes.to_vec();
    let steps = |genes: &[usize], up: bool| {
        let mut all: Vec<Step> = Vec::new();
        for (k, f) in space.free.iter().enumerate() {
            let (regularity, rate) = (genes[2 * k], genes[2 * k + 1]);
            let Some(now) = f.choice(regularity, rate) else { continue };
            let regularities = if rate == DENSE { 0..f.regularities.len() } else { regularity..regularity + 1 };
            let rates = if up { rate + 1..DENSE + 1 } else { 0..rate };
            for (r, to) in regularities.flat_map(|r| rates.clone().map(move |to| (r, to))) {
                let Some(choice) = f.choice(r, to) else { continue };
                let cost = costs.of[k][r][to] - costs.of[k][regularity][rate];
                let gain = worth.choice(k, choice) - worth.choice(k, now);
                match (up, cost > 0.0) {
                    (true, true) => all.push((gain / cost, k, r, to)),
                    // More for nothing.
                    (true, false) => all.push((f64::INFINITY, k, r, to)),
                    (false, _) if cost < 0.0 => all.push((gain / cost, k, r, to)),
                    _ => {}
                }
            }
        }
        // Down, the ratio is worth lost per cost saved.
        all.sort_by(|a, b| if up { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
        all
    };
    let moved = |genes: &[usize], &(_, k, regularity, rate): &Step| {
        let mut moved = genes.to_vec();
        (moved[2 * k], moved[2 * k + 1]) = (regularity, rate);
        moved
    };
    while costs.total(&genes) > limit {
        genes = moved(&genes, steps(&genes, false).first()?);
    }
    while let Some(more) = steps(&genes, true).iter().map(|s| moved(&genes, s)).find(|g| costs.total(g) <= limit) {
        genes = more;
    }
    Some(genes)
}
