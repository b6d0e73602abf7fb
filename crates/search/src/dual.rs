//! The Lagrangian dual on a bucket tree: `min_{λ ≥ 0} max_x value(x) − λ·(cost(x) − budget)`.
//!
//! The minimising multiplier is found by intersecting lines: the maximisers just above and just
//! below the budget define the next multiplier, and the search ends when no choice lies above the
//! line through them. Each step is one max-sum pass; about ten are needed.

use crate::Problem;
use crate::elimination::Tree;
use crate::joint::Rounding;
use crate::maxsum::{self, Upward, Weights};

/// What the dual search found.
#[derive(Debug)]
pub(crate) struct Dual {
    /// The multiplier with the least bound found.
    pub multiplier: f64,
    /// Upper bound on the value within the budget.
    pub bound: f64,
    /// Best choice within the budget met on the way, with its value and cost.
    pub best: (Vec<usize>, f64, f64),
    /// The maximisers just below and just above the budget (the same twice when nothing is above).
    pub around: [Vec<usize>; 2],
}

/// Searches the multiplier. `cheapest` must be within the budget.
pub(crate) fn search(problem: &Problem, tree: &Tree, budget: f64, cheapest: Vec<usize>, rounding: Rounding) -> Dual {
    let measured = |choice: Vec<usize>| {
        let (value, cost) = (problem.value(&choice), problem.cost(&choice));
        (choice, value, cost)
    };
    let mut below = measured(cheapest);
    let free = maxsum::upward(problem, tree, Weights::lagrangian(0.0));
    let mut dual = Dual {
        multiplier: 0.0,
        bound: free.best + rounding.of_bound(0.0),
        best: below.clone(),
        around: [below.0.clone(), below.0.clone()],
    };
    let Some(above) = maxsum::decode(problem, tree, &free) else { return dual };
    let mut above = measured(above);
    if above.2 <= budget {
        dual.around = [above.0.clone(), above.0.clone()];
        dual.best = above;
        return dual;
    }
    for _ in 0..64 {
        let multiplier = (above.1 - below.1) / (above.2 - below.2);
        if !(multiplier > 0.0 && multiplier.is_finite()) {
            break;
        }
        let upward = maxsum::upward(problem, tree, Weights::lagrangian(multiplier));
        let bound = upward.best + multiplier * budget + rounding.of_bound(multiplier);
        if bound < dual.bound {
            dual.bound = bound;
            dual.multiplier = multiplier;
        }
        let line = below.1 - multiplier * below.2;
        let Some(found) = maxsum::decode(problem, tree, &upward).map(measured) else { break };
        let rise = found.1 - multiplier * found.2 - line;
        if rise <= 1e-12 * (line.abs() + found.1.abs() + (multiplier * found.2).abs()) {
            break;
        }
        if found.2 <= budget {
            if found.1 > dual.best.1 {
                dual.best = found.clone();
            }
            below = found;
        } else {
            above = found;
        }
    }
    dual.around = [below.0, above.0];
    dual
}

/// Upward and downward messages at one setting of the weights: bounds on every completion.
#[derive(Debug)]
pub(crate) struct Completion {
    pub upward: Upward,
    pub downward: Vec<Vec<f64>>,
}

impl Completion {
    pub(crate) fn new(problem: &Problem, tree: &Tree, weights: Weights) -> Self {
        let upward = maxsum::upward(problem, tree, weights);
        let downward = maxsum::downward(problem, tree, &upward);
        Self { upward, downward }
    }
}

/// Options that some choice better than the incumbent and within the budget may still take, by the
/// bounds given. Empty for some variable when there is no such choice.
pub(crate) fn surviving_options(
    problem: &Problem,
    tree: &Tree,
    completions: &[Completion],
    needed: impl Fn(Weights) -> f64,
) -> Vec<Vec<usize>> {
    let mut alive: Vec<Vec<bool>> = problem.variables.iter().map(|v| vec![true; v.values.len()]).collect();
    let mut clique = Vec::new();
    for completion in completions {
        let weights = completion.upward.weights;
        let needed = needed(weights);
        for (at, bucket) in tree.buckets.iter().enumerate() {
            maxsum::gather(problem, tree, at, weights, &completion.upward.messages, &mut clique);
            let mut best = vec![f64::NEG_INFINITY; bucket.options];
            for (row, &above) in clique.chunks_exact(bucket.options).zip(&completion.downward[at]) {
                for (slot, &belief) in best.iter_mut().zip(row) {
                    *slot = slot.max(belief + above);
                }
            }
            for (option, &best) in best.iter().enumerate() {
                alive[bucket.var][option] &= best > needed;
            }
        }
    }
    alive.into_iter().map(|alive| (0..alive.len()).filter(|&option| alive[option]).collect()).collect()
}
