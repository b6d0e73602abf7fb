//! Smaller problems: fewer options per variable, decided variables folded into their factors.

use crate::{Factor, Problem, Variable};

/// A problem over a subset of the options, and the way back.
#[derive(Debug)]
pub(crate) struct Reduced {
    pub problem: Problem,
    /// For every variable, the original index of each option left.
    pub options: Vec<Vec<usize>>,
}

/// Keeps only the given options (at least one per variable, ascending). A variable with one option
/// left stays as a variable but leaves its factors, so that it connects nothing any more.
pub(crate) fn restrict(problem: &Problem, options: Vec<Vec<usize>>) -> Reduced {
    let variables = problem
        .variables
        .iter()
        .zip(&options)
        .map(|(variable, left)| Variable { name: String::new(), values: left.iter().map(|&option| variable.values[option]).collect() })
        .collect();
    let mut constant = 0.0;
    let mut factors = Vec::with_capacity(problem.factors.len() + 1);
    for factor in &problem.factors {
        let mut positions = vec![0usize];
        let mut vars = Vec::with_capacity(factor.vars.len());
        for &var in &factor.vars {
            let size = problem.variables[var].values.len();
            positions = positions.iter().flat_map(|at| options[var].iter().map(move |option| at * size + option)).collect();
            if options[var].len() > 1 {
                vars.push(var);
            }
        }
        if vars.is_empty() {
            constant += factor.costs[positions[0]];
        } else {
            let costs = positions.iter().map(|&at| factor.costs[at]).collect();
            factors.push(Factor { name: String::new(), vars, costs });
        }
    }
    factors.push(Factor { name: String::new(), vars: Vec::new(), costs: vec![constant] });
    Reduced { problem: Problem { variables, factors }, options }
}

impl Reduced {
    /// Keeps only some of the options left (indices into those left).
    pub(crate) fn further(&self, left: Vec<Vec<usize>>) -> Self {
        let options = self.options.iter().zip(&left).map(|(options, left)| left.iter().map(|&o| options[o]).collect());
        let options = options.collect();
        Self { options, ..restrict(&self.problem, left) }
    }

    /// The same choice in the original problem's options.
    pub(crate) fn lift(&self, choice: &[usize]) -> Vec<usize> {
        self.options.iter().zip(choice).map(|(left, &option)| left[option]).collect()
    }
}
