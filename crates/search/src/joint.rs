//! Joint choice, exact by variable elimination with Pareto messages.
//!
//! Variables are eliminated one by one. What is left of an eliminated part is, for every assignment
//! of its neighbours, the list of non-dominated (cost, value) pairs; joining two parts is a
//! Minkowski sum. Alone that is exact but its lists grow without end, so three things keep them short:
//!
//! 1. **Completion bounds.** Max-sum passes on the same elimination tree give, at a handful of
//!    Lagrange multipliers `λ`, the best that the rest of the problem can add to any partial choice:
//!    `value − λ·cost + rest_λ + λ·budget` bounds its final value. What cannot beat the incumbent is dropped.
//! 2. **Fixing.** An option whose own bound does not beat the incumbent leaves the problem.
//! 3. **Narrow first passes**, with a few states per list, for an incumbent that is nearly optimal.
//!
//! Lists that still outgrow [`Limits`] are thinned; the bounds of what was thrown away are kept, so the
//! stated gap is proven. Graphs too wide to eliminate go to [`crate::lagrange`].

use std::time::Instant;

use crate::dual::{self, Completion, Dual};
use crate::elimination::{self, Tree};
use crate::front::Pass;
use crate::lagrange;
use crate::maxsum::{self, Weights};
use crate::reduce::{self, Reduced};
use crate::solution::{Floor, relative_gap};
use crate::{Error, Limits, Problem, Solution, Stop, Variable};

/// Values and costs closer than these are the same number, summed in another order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounding {
    pub value: f64,
    pub cost: f64,
}

impl Rounding {
    /// What summing in floating point may have taken from a Lagrangian bound at this multiplier.
    pub(crate) fn of_bound(self, multiplier: f64) -> f64 {
        1e-2 * (self.value + multiplier * self.cost)
    }
}

impl Rounding {
    pub(crate) fn of(problem: &Problem) -> Self {
        let largest =
            |numbers: &[f64]| numbers.iter().filter(|number| number.is_finite()).fold(0.0f64, |most, number| most.max(number.abs()));
        Self {
            value: 1e-12 * problem.variables.iter().map(|variable| largest(&variable.values)).sum::<f64>(),
            cost: 1e-12 * problem.factors.iter().map(|factor| largest(&factor.costs)).sum::<f64>(),
        }
    }
}

/// States per list, pass after pass: each finds a better incumbent, which makes the next one cheaper.
const STATES_PER_LIST: [usize; 3] = [4, 24, usize::MAX];
/// Variables with more factors than this are held when looking for the first incumbent.
const HUB: usize = 8;
/// Multipliers of the first and of the later completion bounds, relative to the dual's.
const FEW: [f64; 3] = [1.0, 0.85, 1.18];
const MANY: [f64; 9] = [1.0, 0.97, 1.03, 0.9, 1.11, 0.75, 1.33, 0.5, 2.0];

/// The choice of greatest value among those that cost at most `budget`.
///
/// # Errors
/// The errors of [`Problem::validate`]; [`Error::Argument`] for a NaN budget or unusable limits;
/// [`Error::Infeasible`] with the least attainable cost; [`Error::Contradiction`] when no
/// combination is allowed at all; [`Error::Undecided`] only when the graph is too wide to eliminate.
pub fn solve(problem: &Problem, budget: f64, limits: &Limits) -> Result<Solution, Error> {
    check(problem, budget, limits)?;
    let order = elimination::order(problem);
    if order.largest > limits.max_states as f64 {
        return lagrange::solve(problem, budget, limits);
    }
    let deadline = limits.time.map(|time| Instant::now() + time);
    let tree = Tree::new(problem, &order);
    let rounding = Rounding::of(problem);
    let cheapest = cheapest(problem, &tree)?;
    let within = budget + rounding.cost;
    if cheapest.cost > within {
        return Err(Error::Infeasible { floor: cheapest.cost });
    }
    let dual = dual::search(problem, &tree, within, cheapest.choice, rounding);
    let finish = |choice: Vec<usize>, bound: f64, stop: fn(f64) -> Stop| {
        let (value, cost) = (problem.value(&choice), problem.cost(&choice));
        let bound = bound.min(dual.bound).max(value);
        let gap = relative_gap(value, bound);
        let done = bound <= value + 100.0 * rounding.value;
        let (bound, stop) = if done { (value, Stop::Optimal) } else { (bound, stop(gap)) };
        Solution { choice, value, cost, bound, stop }
    };
    let within_gap: fn(f64) -> Stop = |gap| Stop::WithinGap { gap };
    let (mut best, mut best_value) = (dual.best.0.clone(), dual.best.1);
    if dual.bound <= best_value + rounding.value {
        return Ok(finish(best, best_value, within_gap));
    }

    for (choice, value) in anchored(problem, &dual, within, rounding) {
        if value > best_value {
            (best, best_value) = (choice, value);
        }
    }

    // Fix, find a better incumbent, fix again; the last pass proves.
    let Some(mut fixed) = fix(problem, &tree, dual.multiplier, within, best_value, rounding) else {
        return Ok(finish(best, best_value, within_gap));
    };
    let mut passes = STATES_PER_LIST.iter().copied().peekable();
    while let Some(states_per_entry) = passes.next() {
        let part = &fixed.problem;
        let tree = Tree::new(part, &elimination::order(part));
        let weights = MANY.iter().map(|factor| Weights::lagrangian(dual.multiplier * factor)).chain([Weights::CHEAPEST]);
        let completions: Vec<Completion> = weights.map(|weights| Completion::new(part, &tree, weights)).collect();
        let incumbent = best_value;
        let front = Pass {
            problem: part,
            tree: &tree,
            completions: &completions,
            needed: completions.iter().map(|bound| needed(bound.upward.weights, incumbent, within, rounding)).collect(),
            equal: rounding.value * 1e-2,
            states: limits.max_states,
            states_per_entry,
            bucket: limits.tolerance * budget.abs(),
            deadline,
        }
        .run();
        if let Some(state) = (0..front.states.len()).rfind(|&state| front.states[state].0 <= within) {
            let choice = fixed.lift(&front.choice(state));
            let value = problem.value(&choice);
            if value > best_value {
                (best, best_value) = (choice, value);
            }
        }
        if front.dropped == 0 {
            break;
        }
        if passes.peek().is_none() {
            let stop = if front.out_of_time { |gap| Stop::OutOfTime { gap } } else { within_gap };
            return Ok(finish(best, incumbent + front.dropped_excess.max(0.0) + rounding.value, stop));
        }
        let survivors = dual::surviving_options(part, &tree, &completions, |w| needed(w, best_value, within, rounding));
        if survivors.iter().any(Vec::is_empty) {
            break;
        }
        fixed = fixed.further(survivors);
    }
    Ok(finish(best, best_value, within_gap))
}

/// The Pareto front of cost and value: ascending in both, no point dominated by another.
///
/// The front is whole, and holds the optimum of every budget, as long as its elimination stays within
/// [`Limits::max_states`]. Fronts of large problems hold millions of points; then, and when the
/// interaction graph is too wide to eliminate, the optima at 65 budgets evenly spaced from the floor
/// to the cost of the most valuable choice are returned instead (see [`frontier_at`]).
///
/// # Errors
/// As [`solve`], without a budget to miss.
pub fn frontier(problem: &Problem, limits: &Limits) -> Result<Vec<Solution>, Error> {
    check(problem, 0.0, limits)?;
    if problem.variables.is_empty() {
        return Ok(vec![solve(problem, f64::INFINITY, limits)?]);
    }
    let order = elimination::order(problem);
    if order.largest <= limits.max_states as f64
        && let Some(front) = whole_frontier(problem, &Tree::new(problem, &order), limits)?
    {
        return Ok(front);
    }
    let floor = min_cost(problem, limits)?.cost;
    let range = (solve(problem, f64::INFINITY, limits)?.cost - floor).max(0.0);
    let budgets: Vec<f64> = (0..=64).map(|step| floor + range * f64::from(step) / 64.0).collect();
    frontier_at(problem, &budgets, limits)
}

/// The best choices at the given budgets ([`solve`]), ascending in cost and value, those that no
/// budget needs left out. Budgets that no choice meets are skipped.
///
/// # Errors
/// As [`solve`], without a budget to miss.
pub fn frontier_at(problem: &Problem, budgets: &[f64], limits: &Limits) -> Result<Vec<Solution>, Error> {
    let mut found = Vec::with_capacity(budgets.len());
    for &budget in budgets {
        match solve(problem, budget, limits) {
            Ok(solution) => found.push(solution),
            Err(Error::Infeasible { .. } | Error::Undecided { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(non_dominated(found, Rounding::of(problem)))
}

/// `None` when some list outgrows the limit.
fn whole_frontier(problem: &Problem, tree: &Tree, limits: &Limits) -> Result<Option<Vec<Solution>>, Error> {
    cheapest(problem, tree)?;
    let rounding = Rounding::of(problem);
    let pass = Pass {
        problem,
        tree,
        completions: &[],
        needed: Vec::new(),
        equal: rounding.value * 1e-2,
        states: limits.max_states,
        states_per_entry: usize::MAX,
        bucket: 0.0,
        deadline: limits.time.map(|time| Instant::now() + time),
    };
    let front = pass.run();
    if front.dropped > 0 {
        return Ok(None);
    }
    let point = |state| {
        let choice = front.choice(state);
        let (value, cost) = (problem.value(&choice), problem.cost(&choice));
        Solution { choice, value, cost, bound: value, stop: Stop::Optimal }
    };
    Ok(Some(non_dominated((0..front.states.len()).map(point).collect(), rounding)))
}

fn non_dominated(mut points: Vec<Solution>, rounding: Rounding) -> Vec<Solution> {
    points.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.value.total_cmp(&a.value)));
    let mut front: Vec<Solution> = Vec::with_capacity(points.len());
    for point in points {
        if front.last().is_some_and(|last| last.value >= point.value) {
            continue;
        }
        // Costs that differ by the rounding of their sums only are one cost: the better value stays.
        while front.last().is_some_and(|last| last.cost + rounding.cost >= point.cost) {
            front.pop();
        }
        front.push(point);
    }
    front
}

/// The cheapest choice: the least budget that [`solve`] can meet.
///
/// # Errors
/// As [`solve`], without a budget to miss.
pub fn min_cost(problem: &Problem, limits: &Limits) -> Result<Floor, Error> {
    check(problem, 0.0, limits)?;
    let order = elimination::order(problem);
    if order.largest > limits.max_states as f64 {
        return lagrange::min_cost(problem, limits);
    }
    cheapest(problem, &Tree::new(problem, &order))
}

pub(crate) fn check(problem: &Problem, budget: f64, limits: &Limits) -> Result<(), Error> {
    problem.validate()?;
    limits.validate()?;
    if budget.is_nan() {
        return Err(Error::Argument { name: "budget", value: budget, cause: "it must be a number" });
    }
    Ok(())
}

fn cheapest(problem: &Problem, tree: &Tree) -> Result<Floor, Error> {
    let constants = problem.factors.iter().filter(|factor| factor.vars.is_empty());
    if let Some(factor) = constants.into_iter().find(|factor| factor.costs[0] == f64::INFINITY) {
        return Err(Error::Contradiction { at: format!("factor `{}`", factor.name) });
    }
    let upward = maxsum::upward(problem, tree, Weights::CHEAPEST);
    let Some(choice) = maxsum::decode(problem, tree, &upward) else {
        let dead = (0..tree.buckets.len())
            .find(|&at| upward.messages[at].iter().all(|&best| best == f64::NEG_INFINITY))
            .map_or("the constant costs".to_owned(), |at| format!("variable `{}`", problem.variables[tree.buckets[at].var].name));
        return Err(Error::Contradiction { at: dead });
    };
    let (value, cost) = (problem.value(&choice), problem.cost(&choice));
    Ok(Floor { choice, value, cost, bound: cost })
}

/// What a weighted objective must exceed to beat the incumbent within the budget.
fn needed(weights: Weights, incumbent: f64, budget: f64, rounding: Rounding) -> f64 {
    if weights == Weights::CHEAPEST {
        return -budget - 1e-2 * rounding.cost - f64::MIN_POSITIVE;
    }
    incumbent + rounding.value - rounding.of_bound(weights.cost) - weights.cost * budget
}

/// Choices within the budget that agree with the dual's maximisers in the variables with many factors.
///
/// A few such hubs are what makes the dual's gap wide (its maximisers just above and just below the
/// budget disagree in them); with them held, the many small choices left fill the budget closely.
fn anchored(problem: &Problem, dual: &Dual, within: f64, rounding: Rounding) -> Vec<(Vec<usize>, f64)> {
    let mut mentions = vec![0; problem.variables.len()];
    problem.factors.iter().flat_map(|factor| &factor.vars).for_each(|&var| mentions[var] += 1);
    let mut found = Vec::new();
    for anchor in &dual.around {
        let held = |var: usize| mentions[var] > HUB;
        let options = |(var, variable): (usize, &Variable)| {
            if held(var) { vec![anchor[var]] } else { (0..variable.values.len()).collect() }
        };
        let part = reduce::restrict(problem, problem.variables.iter().enumerate().map(options).collect());
        let tree = Tree::new(&part.problem, &elimination::order(&part.problem));
        let Ok(cheapest) = cheapest(&part.problem, &tree) else { continue };
        if cheapest.cost <= within {
            let (choice, value, _) = dual::search(&part.problem, &tree, within, cheapest.choice, rounding).best;
            found.push((part.lift(&choice), value));
        }
    }
    found
}

/// Drops the options that no better choice takes; `None` when nothing better exists.
fn fix(problem: &Problem, tree: &Tree, multiplier: f64, budget: f64, incumbent: f64, rounding: Rounding) -> Option<Reduced> {
    let completions: Vec<Completion> =
        FEW.iter().map(|factor| Completion::new(problem, tree, Weights::lagrangian(multiplier * factor))).collect();
    let options = dual::surviving_options(problem, tree, &completions, |w| needed(w, incumbent, budget, rounding));
    if options.iter().any(Vec::is_empty) { None } else { Some(reduce::restrict(problem, options)) }
}
