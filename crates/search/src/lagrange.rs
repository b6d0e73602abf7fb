//! Dual bound and local refinement.

use crate::{Error, Limits, Problem, Solution};

/// Feasible choice with a dual bound.
///
/// # Errors
/// [`Error::Infeasible`] with the floor.
pub fn solve(problem: &Problem, budget: f64, limits: &Limits) -> Result<Solution, Error> {
    let _ = (problem, budget, limits);
    todo!()
}
