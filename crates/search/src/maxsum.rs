//! Max-sum on the bucket tree: the Lagrangian `max_x value_weight·value(x) − multiplier·cost(x)`,
//! its maximiser, and what the best completion of every partial choice is worth.

use crate::Problem;
use crate::elimination::Tree;

/// Weights of the scalar objective `value_weight·value − multiplier·cost`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weights {
    pub value: f64,
    pub cost: f64,
}

impl Weights {
    /// The Lagrangian at a multiplier ≥ 0.
    pub(crate) fn lagrangian(multiplier: f64) -> Self {
        Self { value: 1.0, cost: multiplier }
    }

    /// Cost alone, to be minimised.
    pub(crate) const CHEAPEST: Self = Self { value: 0.0, cost: 1.0 };
}

/// Messages towards the root: for each bucket and scope entry, the best the subtree can do.
#[derive(Debug)]
pub(crate) struct Upward {
    pub weights: Weights,
    pub messages: Vec<Vec<f64>>,
    /// Maximum over all choices, `-∞` when all are forbidden.
    pub best: f64,
}

/// The scalar objective of one clique entry's own terms, before the children's messages.
#[inline]
pub(crate) fn own_term(weights: Weights, value: f64, cost: f64) -> f64 {
    // A forbidden combination stays forbidden even when costs do not count (0·∞ is NaN).
    if cost == f64::INFINITY { f64::NEG_INFINITY } else { weights.value * value - weights.cost * cost }
}

/// Clique beliefs without the part that comes from above.
pub(crate) fn gather(problem: &Problem, tree: &Tree, at: usize, weights: Weights, messages: &[Vec<f64>], into: &mut Vec<f64>) {
    let bucket = &tree.buckets[at];
    let values = &problem.variables[bucket.var].values;
    into.clear();
    for row in bucket.cost.chunks_exact(bucket.options) {
        into.extend(row.iter().zip(values).map(|(&cost, &value)| own_term(weights, value, cost)));
    }
    for (child, map) in &bucket.children {
        let message = &messages[*child];
        for (sum, &from) in into.iter_mut().zip(map) {
            *sum += message[from as usize];
        }
    }
}

/// One pass from the leaves to the root. `O(Σ clique sizes)`.
pub(crate) fn upward(problem: &Problem, tree: &Tree, weights: Weights) -> Upward {
    let mut messages: Vec<Vec<f64>> = Vec::with_capacity(tree.buckets.len());
    let mut clique = Vec::new();
    for (at, bucket) in tree.buckets.iter().enumerate() {
        gather(problem, tree, at, weights, &messages, &mut clique);
        let best = |row: &[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        messages.push(clique.chunks_exact(bucket.options).map(best).collect());
    }
    let best = messages.last().map_or(0.0, |root| root[0]);
    Upward { weights, messages, best }
}

/// A maximiser of the objective; the first option wins a tie. `None` when all are forbidden.
pub(crate) fn decode(problem: &Problem, tree: &Tree, upward: &Upward) -> Option<Vec<usize>> {
    let mut choice = vec![0usize; problem.variables.len()];
    if upward.best == f64::NEG_INFINITY {
        return None;
    }
    for bucket in tree.buckets.iter().rev() {
        let entry = bucket.scope.iter().fold(0, |entry, &var| entry * problem.variables[var].values.len() + choice[var]);
        let values = &problem.variables[bucket.var].values;
        let mut best = f64::NEG_INFINITY;
        for (option, &value) in values.iter().enumerate() {
            let clique = entry * bucket.options + option;
            let mut score = own_term(upward.weights, value, bucket.cost[clique]);
            for (child, map) in &bucket.children {
                score += upward.messages[*child][map[clique] as usize];
            }
            if score > best {
                best = score;
                choice[bucket.var] = option;
            }
        }
    }
    Some(choice)
}

/// Messages from the root: for each bucket and scope entry, the best that everything outside the
/// subtree can do. With the upward messages they bound every partial choice's completion.
pub(crate) fn downward(problem: &Problem, tree: &Tree, upward: &Upward) -> Vec<Vec<f64>> {
    let mut down: Vec<Vec<f64>> = tree.buckets.iter().map(|bucket| vec![f64::NEG_INFINITY; bucket.entries]).collect();
    if let Some(root) = down.last_mut() {
        root[0] = 0.0;
    }
    let mut clique = Vec::new();
    for (at, bucket) in tree.buckets.iter().enumerate().rev() {
        if bucket.children.is_empty() {
            continue;
        }
        gather(problem, tree, at, upward.weights, &upward.messages, &mut clique);
        for (row, &above) in clique.chunks_exact_mut(bucket.options).zip(&down[at]) {
            row.iter_mut().for_each(|belief| *belief += above);
        }
        for (child, map) in &bucket.children {
            let into = &mut down[*child];
            for (&belief, &to) in clique.iter().zip(map) {
                let slot = &mut into[to as usize];
                *slot = slot.max(belief);
            }
            for (slot, &own) in into.iter_mut().zip(&upward.messages[*child]) {
                if *slot != f64::NEG_INFINITY {
                    *slot -= own;
                }
            }
        }
    }
    down
}
