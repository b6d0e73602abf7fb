//! Elimination orders and the bucket tree they induce.
//!
//! Eliminating a variable joins all tables that mention it into one *clique* table over the
//! variable and its remaining neighbours (the *scope*), and leaves a *message* over the scope for
//! the next of them to be eliminated. The largest clique table bounds the work of every solver.

use std::collections::BTreeSet;

use crate::Problem;

/// One eliminated variable. Clique tables are row-major over `scope`, then `var` fastest.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub var: usize,
    /// Neighbours eliminated later, in the order in which they are eliminated.
    pub scope: Vec<usize>,
    /// Number of options of `var`.
    pub options: usize,
    /// Number of combinations of the scope: entries of the message.
    pub entries: usize,
    /// Cost of the factors that end here, per clique entry.
    pub cost: Vec<f64>,
    /// Buckets whose messages end here, with the message entry that each clique entry meets.
    pub children: Vec<(usize, Vec<u32>)>,
}

/// Buckets in elimination order; every child precedes its parent and the last bucket is the only
/// root: unconnected parts of the interaction graph are chained, and constant costs counted there.
#[derive(Debug)]
pub(crate) struct Tree {
    pub buckets: Vec<Bucket>,
}

/// An elimination order and the size of the largest clique table it makes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub vars: Vec<usize>,
    pub largest: f64,
    total: f64,
}

/// Greedy order: the better of least clique weight and least fill-in.
pub(crate) fn order(problem: &Problem) -> Order {
    let by_weight = greedy(problem, |weight, fill| (weight, fill as f64));
    let by_fill = greedy(problem, |weight, fill| (fill as f64, weight));
    if by_fill.total < by_weight.total { by_fill } else { by_weight }
}

fn greedy(problem: &Problem, key: impl Fn(f64, usize) -> (f64, f64)) -> Order {
    let count = problem.variables.len();
    let size = |var: usize| problem.variables[var].values.len() as f64;
    let mut neighbours = vec![BTreeSet::new(); count];
    for factor in &problem.factors {
        for &a in &factor.vars {
            neighbours[a].extend(factor.vars.iter().copied().filter(|&b| b != a));
        }
    }
    let score = |var: usize, neighbours: &[BTreeSet<usize>]| {
        let around: Vec<usize> = neighbours[var].iter().copied().collect();
        let weight = around.iter().map(|&n| size(n)).product::<f64>() * size(var);
        let missing = around.iter().enumerate().map(|(i, a)| around[i + 1..].iter().filter(|b| !neighbours[*a].contains(b)).count()).sum();
        (key(weight, missing), weight)
    };
    let mut scores: Vec<_> = (0..count).map(|var| score(var, &neighbours)).collect();
    let mut left: BTreeSet<usize> = (0..count).collect();
    let mut found = Order { vars: Vec::with_capacity(count), largest: 1.0, total: 0.0 };
    while let Some(&next) = left.iter().min_by(|&&a, &&b| {
        let ((a1, a2), (b1, b2)) = (scores[a].0, scores[b].0);
        a1.total_cmp(&b1).then(a2.total_cmp(&b2)).then(a.cmp(&b))
    }) {
        left.remove(&next);
        found.vars.push(next);
        found.largest = found.largest.max(scores[next].1);
        found.total += scores[next].1;
        let around: Vec<usize> = std::mem::take(&mut neighbours[next]).into_iter().collect();
        let mut touched: BTreeSet<usize> = around.iter().copied().collect();
        for &a in &around {
            neighbours[a].remove(&next);
            neighbours[a].extend(around.iter().copied().filter(|&b| b != a));
        }
        for &a in &around {
            touched.extend(neighbours[a].iter().copied());
        }
        for var in touched {
            scores[var] = score(var, &neighbours);
        }
    }
    found
}

impl Tree {
    /// Builds the clique tables. The caller has checked that `order.largest` is affordable.
    pub(crate) fn new(problem: &Problem, order: &Order) -> Self {
        let count = problem.variables.len();
        let mut position = vec![0usize; count];
        for (at, &var) in order.vars.iter().enumerate() {
            position[var] = at;
        }
        let size = |var: usize| problem.variables[var].values.len();
        let mut constant = 0.0;
        let mut factors_at: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (index, factor) in problem.factors.iter().enumerate() {
            match factor.vars.iter().map(|&var| position[var]).min() {
                Some(first) => factors_at[first].push(index),
                None => constant += factor.costs[0],
            }
        }
        let mut children_at: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut buckets: Vec<Bucket> = Vec::with_capacity(count);
        for (at, &var) in order.vars.iter().enumerate() {
            let mut scope: BTreeSet<usize> = BTreeSet::new();
            for &factor in &factors_at[at] {
                scope.extend(problem.factors[factor].vars.iter().map(|&v| position[v]));
            }
            for &child in &children_at[at] {
                scope.extend(buckets[child].scope.iter().map(|&v| position[v]));
            }
            scope.remove(&at);
            let scope: Vec<usize> = scope.into_iter().map(|p| order.vars[p]).collect();
            if let Some(&first) = scope.first() {
                children_at[position[first]].push(at);
            }
            let clique: Vec<usize> = scope.iter().copied().chain([var]).collect();
            let sizes: Vec<usize> = clique.iter().map(|&v| size(v)).collect();
            let entries: usize = scope.iter().map(|&v| size(v)).product();
            let mut cost = vec![0.0; entries * size(var)];
            for &factor in &factors_at[at] {
                let factor = &problem.factors[factor];
                let map = positions(&clique, &sizes, &factor.vars, size);
                for (sum, from) in cost.iter_mut().zip(map) {
                    *sum += factor.costs[from as usize];
                }
            }
            let children = std::mem::take(&mut children_at[at])
                .into_iter()
                .map(|child| (child, positions(&clique, &sizes, &buckets[child].scope, size)))
                .collect();
            buckets.push(Bucket { var, scope, options: size(var), entries, cost, children });
        }
        let parts: Vec<usize> = (0..count).filter(|&at| buckets[at].scope.is_empty()).collect();
        for pair in parts.windows(2) {
            let map = vec![0; buckets[pair[1]].options];
            buckets[pair[1]].children.push((pair[0], map));
        }
        if let Some(root) = buckets.last_mut() {
            root.cost.iter_mut().for_each(|cost| *cost += constant);
        }
        Self { buckets }
    }
}

/// For every entry of the clique table, the row-major position in a table over `vars` (a subset).
fn positions(clique: &[usize], sizes: &[usize], vars: &[usize], size: impl Fn(usize) -> usize) -> Vec<u32> {
    let mut strides = vec![0usize; clique.len()];
    let mut stride = 1;
    for &var in vars.iter().rev() {
        if let Some(axis) = clique.iter().position(|&v| v == var) {
            strides[axis] = stride;
        }
        stride *= size(var);
    }
    let total = sizes.iter().product();
    let mut found = Vec::with_capacity(total);
    let mut digits = vec![0usize; clique.len()];
    let mut at = 0usize;
    for _ in 0..total {
        found.push(at as u32);
        for axis in (0..clique.len()).rev() {
            digits[axis] += 1;
            at += strides[axis];
            if digits[axis] < sizes[axis] {
                break;
            }
            at -= strides[axis] * sizes[axis];
            digits[axis] = 0;
        }
    }
    found
}
