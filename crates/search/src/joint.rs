//! Joint choice, exact by variable elimination.

use crate::{Error, Floor, Limits, Problem, Solution};

/// Best choice within the budget.
///
/// # Errors
/// [`Error::Infeasible`] with the floor.
pub fn solve(problem: &Problem, budget: f64, limits: &Limits) -> Result<Solution, Error> {
    let _ = (problem, budget, limits);
    todo!()
}

/// Whole Pareto front, ascending cost.
///
/// # Errors
/// As [`solve`].
pub fn frontier(problem: &Problem, limits: &Limits) -> Result<Vec<Solution>, Error> {
    let _ = (problem, limits);
    todo!()
}

/// The cheapest choice.
///
/// # Errors
/// As [`solve`].
pub fn min_cost(problem: &Problem, limits: &Limits) -> Result<Floor, Error> {
    let _ = (problem, limits);
    todo!()
}
