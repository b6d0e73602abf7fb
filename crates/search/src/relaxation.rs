//! Bounds for graphs too wide to eliminate: block-coordinate descent on the dual of the local
//! linear-programming relaxation (max-product linear programming, Globerson and Jaakkola, NIPS 2007).
//!
//! Every factor hands each of its variables a message; the maximum of a sum is at most the sum of
//! the maxima of the reparametrised parts, whatever the messages are, so every state is a valid bound.

use crate::Problem;
use crate::maxsum::{Weights, own_term};

/// The reparametrisation of a problem's scalar objective.
#[derive(Debug)]
pub(crate) struct Relaxation<'a> {
    problem: &'a Problem,
    /// `messages[factor][axis][option]`
    messages: Vec<Vec<Vec<f64>>>,
    /// For each variable, the factors (and axes) that mention it.
    mentions: Vec<Vec<(usize, usize)>>,
}

impl<'a> Relaxation<'a> {
    pub(crate) fn new(problem: &'a Problem) -> Self {
        let mut mentions = vec![Vec::new(); problem.variables.len()];
        for (index, factor) in problem.factors.iter().enumerate() {
            for (axis, &var) in factor.vars.iter().enumerate() {
                mentions[var].push((index, axis));
            }
        }
        let zeros = |var: &usize| vec![0.0; problem.variables[*var].values.len()];
        let messages = problem.factors.iter().map(|factor| factor.vars.iter().map(zeros).collect()).collect();
        Self { problem, messages, mentions }
    }

    /// A finite stand-in for `-∞`, below which no allowed choice can fall. It only ever raises a bound.
    fn forbidden(&self, weights: Weights) -> f64 {
        let spread =
            |numbers: &[f64]| numbers.iter().filter(|number| number.is_finite()).fold(0.0f64, |most, number| most.max(number.abs()));
        let values: f64 = self.problem.variables.iter().map(|variable| spread(&variable.values)).sum();
        let costs: f64 = self.problem.factors.iter().map(|factor| spread(&factor.costs)).sum();
        -1e4 * (weights.value * values + weights.cost * costs + 1e-300)
    }

    /// Value and incoming messages of one variable.
    fn belief(&self, var: usize, weights: Weights) -> Vec<f64> {
        let mut sum: Vec<f64> = self.problem.variables[var].values.iter().map(|value| weights.value * value).collect();
        for &(factor, axis) in &self.mentions[var] {
            sum.iter_mut().zip(&self.messages[factor][axis]).for_each(|(sum, message)| *sum += message);
        }
        sum
    }

    /// One sweep over all factors.
    pub(crate) fn sweep(&mut self, weights: Weights) {
        let forbidden = self.forbidden(weights);
        for index in 0..self.problem.factors.len() {
            let factor = &self.problem.factors[index];
            if factor.vars.is_empty() {
                continue;
            }
            let without: Vec<Vec<f64>> = factor
                .vars
                .iter()
                .enumerate()
                .map(|(axis, &var)| {
                    let belief = self.belief(var, weights);
                    belief.iter().zip(&self.messages[index][axis]).map(|(belief, own)| belief - own).collect()
                })
                .collect();
            let mut best: Vec<Vec<f64>> = without.iter().map(|own| vec![f64::NEG_INFINITY; own.len()]).collect();
            self.each(index, |digits, cost| {
                let own = own_term(weights, 0.0, cost).max(forbidden);
                let sum = own + digits.iter().zip(&without).map(|(&digit, without)| without[digit]).sum::<f64>();
                for (&digit, best) in digits.iter().zip(&mut best) {
                    best[digit] = best[digit].max(sum);
                }
            });
            let share = 1.0 / factor.vars.len() as f64;
            for ((message, best), without) in self.messages[index].iter_mut().zip(&best).zip(&without) {
                for ((slot, best), without) in message.iter_mut().zip(best).zip(without) {
                    *slot = share * best - without;
                }
            }
        }
    }

    /// Upper bound on the objective of every choice, at the present messages.
    pub(crate) fn bound(&self, weights: Weights) -> f64 {
        let forbidden = self.forbidden(weights);
        let largest = |numbers: Vec<f64>| numbers.into_iter().fold(f64::NEG_INFINITY, f64::max);
        let variables: f64 = (0..self.problem.variables.len()).map(|var| largest(self.belief(var, weights))).sum();
        let factors: f64 = (0..self.problem.factors.len())
            .map(|index| {
                let mut best = f64::NEG_INFINITY;
                let messages = &self.messages[index];
                self.each(index, |digits, cost| {
                    let own = own_term(weights, 0.0, cost).max(forbidden);
                    let given: f64 = digits.iter().zip(messages).map(|(&digit, message)| message[digit]).sum();
                    best = best.max(own - given);
                });
                best
            })
            .sum();
        variables + factors
    }

    /// The best option of every variable by itself.
    pub(crate) fn decode(&self, weights: Weights) -> Vec<usize> {
        (0..self.problem.variables.len())
            .map(|var| {
                let belief = self.belief(var, weights);
                (0..belief.len()).fold(0, |best, option| if belief[option] > belief[best] { option } else { best })
            })
            .collect()
    }

    fn each(&self, index: usize, mut visit: impl FnMut(&[usize], f64)) {
        let factor = &self.problem.factors[index];
        let mut digits = vec![0usize; factor.vars.len()];
        for &cost in &factor.costs {
            visit(&digits, cost);
            for axis in (0..digits.len()).rev() {
                digits[axis] += 1;
                if digits[axis] < self.problem.variables[factor.vars[axis]].values.len() {
                    break;
                }
                digits[axis] = 0;
            }
        }
    }
}
