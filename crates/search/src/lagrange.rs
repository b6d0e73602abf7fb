//! Dual bound and local refinement, for interaction graphs too wide to eliminate.
//!
//! The bound is the Lagrangian dual of the local linear-programming relaxation, minimised over the
//! budget's multiplier. The choice starts from the relaxation's decoded maximiser, made allowed and
//! cheap enough if need be, and is refined by exact re-optimisation of one neighbourhood of the
//! interaction graph after another, everything else held (each step is a small [`crate::joint`]
//! problem). It ends when no neighbourhood improves any more. [`crate::joint::solve`] comes here by
//! itself when the largest elimination table would exceed [`Limits::max_states`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use crate::joint::{self, Rounding};
use crate::maxsum::Weights;
use crate::reduce;
use crate::relaxation::Relaxation;
use crate::solution::{Floor, relative_gap};
use crate::{Error, Limits, Problem, Solution, Stop, elimination};

/// Relaxation sweeps for each multiplier tried, and at the end.
const SWEEPS: usize = 8;
const FINAL_SWEEPS: usize = 60;
/// Largest elimination table of a refinement step.
const NEIGHBOURHOOD: f64 = 4096.0;

/// A choice within the budget with a proven bound; not exact in general, whatever the width of the graph.
///
/// # Errors
/// The errors of [`Problem::validate`]; [`Error::Argument`] for a NaN budget or unusable limits;
/// [`Error::Undecided`] when no choice within the budget was found.
pub fn solve(problem: &Problem, budget: f64, limits: &Limits) -> Result<Solution, Error> {
    joint::check(problem, budget, limits)?;
    let deadline = limits.time.map(|time| Instant::now() + time);
    let search = Refinement::new(problem, limits, deadline);
    let rounding = Rounding::of(problem);
    let within = budget + rounding.cost;
    let (bound, starts) = bound(problem, within, deadline);
    // (An unlimited budget does not allow what is forbidden.)
    let allowed = |choice: &[usize]| problem.cost(choice) <= within.min(f64::MAX);
    let mut best: Option<Vec<usize>> = None;
    for start in starts.into_iter().filter(|start| allowed(start)) {
        if best.as_ref().is_none_or(|best| problem.value(&start) > problem.value(best)) {
            best = Some(start);
        }
    }
    let start = match best {
        Some(start) => start,
        None => {
            let floor = min_cost(problem, limits)?;
            if floor.cost > within {
                return Err(Error::Undecided { found: floor.cost, lower: floor.bound });
            }
            floor.choice
        }
    };
    let choice = search.improve(
        start,
        |choice| problem.value(choice),
        |part| joint::solve(part, within, &search.inner).ok().map(|solution| solution.choice),
    );
    let (value, cost) = (problem.value(&choice), problem.cost(&choice));
    let bound = bound.max(value);
    let gap = relative_gap(value, bound);
    let stop = if bound <= value + 100.0 * rounding.value { Stop::Optimal } else { Stop::Relaxed { gap } };
    Ok(Solution { choice, value, cost, bound, stop })
}

/// Cheapest choice found, with a lower bound.
pub(crate) fn min_cost(problem: &Problem, limits: &Limits) -> Result<Floor, Error> {
    let deadline = limits.time.map(|time| Instant::now() + time);
    let mut relaxation = Relaxation::new(problem);
    for _ in 0..FINAL_SWEEPS {
        relaxation.sweep(Weights::CHEAPEST);
    }
    let lower = -relaxation.bound(Weights::CHEAPEST);
    // Forbidden combinations become dear ones, so that there is always something to improve.
    let dear = 1e6 * (1.0 + Rounding::of(problem).cost * 1e12);
    let mut penalised = problem.clone();
    for cost in penalised.factors.iter_mut().flat_map(|factor| &mut factor.costs) {
        *cost = cost.min(dear);
    }
    let search = Refinement::new(&penalised, limits, deadline);
    let choice = search.improve(
        relaxation.decode(Weights::CHEAPEST),
        |choice| -penalised.cost(choice),
        |part| joint::min_cost(part, &search.inner).ok().map(|floor| floor.choice),
    );
    let (value, cost) = (problem.value(&choice), problem.cost(&choice));
    if cost == f64::INFINITY {
        return Err(Error::Undecided { found: cost, lower });
    }
    Ok(Floor { choice, value, cost, bound: lower.min(cost) })
}

/// Least Lagrangian bound over the multiplier, and the choices that were decoded on the way.
fn bound(problem: &Problem, budget: f64, deadline: Option<Instant>) -> (f64, Vec<Vec<usize>>) {
    let mut relaxation = Relaxation::new(problem);
    let mut choices = Vec::new();
    let mut best = f64::INFINITY;
    let rounding = Rounding::of(problem);
    let mut at = |multiplier: f64, sweeps: usize| {
        let weights = Weights::lagrangian(multiplier);
        let mut least = f64::INFINITY;
        for _ in 0..sweeps {
            relaxation.sweep(weights);
            least = least.min(relaxation.bound(weights));
        }
        choices.push(relaxation.decode(weights));
        let least = least + rounding.of_bound(multiplier);
        let bound = if multiplier == 0.0 { least } else { least + multiplier * budget };
        best = best.min(bound);
        bound
    };
    at(0.0, SWEEPS);
    if budget.is_finite() {
        let middle = (rounding.value.max(f64::MIN_POSITIVE) / rounding.cost.max(f64::MIN_POSITIVE)).ln();
        // The bound is convex in the multiplier, hence unimodal in its logarithm: golden sections.
        let golden = 0.5 * (5.0f64.sqrt() - 1.0);
        let (mut low, mut high) = (middle - 7.0, middle + 7.0);
        let inner = |low: f64, high: f64| (high - golden * (high - low), low + golden * (high - low));
        let (mut a, mut b) = inner(low, high);
        let (mut at_a, mut at_b) = (at(a.exp(), SWEEPS), at(b.exp(), SWEEPS));
        for _ in 0..18 {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            if at_a <= at_b {
                (high, b, at_b) = (b, a, at_a);
                a = inner(low, high).0;
                at_a = at(a.exp(), SWEEPS);
            } else {
                (low, a, at_a) = (a, b, at_b);
                b = inner(low, high).1;
                at_b = at(b.exp(), SWEEPS);
            }
        }
        at(if at_a <= at_b { a } else { b }.exp(), FINAL_SWEEPS);
    }
    (best, choices)
}

/// Exact re-optimisation of neighbourhoods.
struct Refinement<'a> {
    problem: &'a Problem,
    neighbours: Vec<BTreeSet<usize>>,
    inner: Limits,
    deadline: Option<Instant>,
}

impl<'a> Refinement<'a> {
    fn new(problem: &'a Problem, limits: &Limits, deadline: Option<Instant>) -> Self {
        let mut neighbours = vec![BTreeSet::new(); problem.variables.len()];
        for factor in &problem.factors {
            for &var in &factor.vars {
                neighbours[var].extend(factor.vars.iter().copied().filter(|&other| other != var));
            }
        }
        // At least one variable fits into every step.
        let widest = problem.variables.iter().map(|variable| variable.values.len()).max().unwrap_or(1);
        let max_states = limits.max_states.clamp(widest, 200_000.max(widest));
        let inner = Limits { max_states, tolerance: limits.tolerance, time: None };
        Self { problem, neighbours, inner, deadline }
    }

    /// Frees one neighbourhood after another until a whole round brings nothing.
    fn improve(
        &self,
        mut choice: Vec<usize>,
        score: impl Fn(&[usize]) -> f64,
        optimise: impl Fn(&Problem) -> Option<Vec<usize>>,
    ) -> Vec<usize> {
        let mut best = score(&choice);
        for round in 0..8 {
            let before = best;
            for seed in 0..self.problem.variables.len() {
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return choice;
                }
                let free = self.neighbourhood(seed, round);
                let options = |var: usize| {
                    if free.contains(&var) { (0..self.problem.variables[var].values.len()).collect() } else { vec![choice[var]] }
                };
                let part = reduce::restrict(self.problem, (0..choice.len()).map(options).collect());
                let Some(found) = optimise(&part.problem) else { continue };
                let found = part.lift(&found);
                let reached = score(&found);
                if reached > best {
                    (choice, best) = (found, reached);
                }
            }
            if best <= before {
                break;
            }
        }
        choice
    }

    /// A set of variables around `seed` whose elimination stays small. Odd rounds add variables from
    /// far away as well, so that cost can move between distant parts.
    fn neighbourhood(&self, seed: usize, round: usize) -> BTreeSet<usize> {
        let count = self.problem.variables.len();
        let limit = NEIGHBOURHOOD.min(self.inner.max_states as f64);
        let mut free = BTreeSet::from([seed]);
        let mut queue: VecDeque<usize> = self.neighbours[seed].iter().copied().collect();
        queue.extend((1..count).map(|step| (seed + step * (1 + 2 * round)) % count));
        let mut tried = BTreeSet::from([seed]);
        let mut refused = 0;
        while let Some(var) = queue.pop_front() {
            if !tried.insert(var) || refused > 12 {
                continue;
            }
            free.insert(var);
            if self.width(&free) > limit {
                free.remove(&var);
                refused += 1;
            } else if free.len() < 24 {
                let around: Vec<usize> = self.neighbours[var].iter().copied().collect();
                around.into_iter().rev().for_each(|other| queue.push_front(other));
            } else {
                break;
            }
        }
        free
    }

    /// Largest elimination table when only these variables are free.
    fn width(&self, free: &BTreeSet<usize>) -> f64 {
        let index: Vec<usize> = free.iter().copied().collect();
        let at = |var: &usize| index.binary_search(var).ok();
        let skeleton = Problem {
            variables: index.iter().map(|&var| self.problem.variables[var].clone()).collect(),
            factors: self
                .problem
                .factors
                .iter()
                .map(|factor| crate::Factor { name: String::new(), vars: factor.vars.iter().filter_map(at).collect(), costs: Vec::new() })
                .collect(),
        };
        elimination::order(&skeleton).largest
    }
}
