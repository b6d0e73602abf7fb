//! The recurrent network of a policy, and its gradient.
//!
//! A gated recurrent unit (Cho et al., 2014; the candidate's reset gate after the product with the state, as in cuDNN) reads the
//! option taken at the step before, through an embedding of its own, and a softmax over the legal options of the step reads its
//! state:
//!
//! ```text
//! z = σ(W_z x + U_z h + b_z)    r = σ(W_r x + U_r h + b_r)    n = tanh(W_n x + b_n + r ∘ (U_n h + c_n))
//! h' = (1 − z) ∘ n + z ∘ h      π(a) = exp(v_a·h' + d_a) / Σ_legal exp(v_k·h' + d_k)
//! ```

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Bound of the uniform distribution that parameters start from. Small, so that the first choices are nearly uniform.
const START: f64 = 0.1;

/// The parameters, in one vector, and where each part of it begins.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub parameters: Vec<f64>,
    arities: Vec<usize>,
    embedding: usize,
    hidden: usize,
    /// Embedding read at the first step.
    start: usize,
    /// Embeddings of each step's options, read at the step after.
    options: Vec<usize>,
    update: Gate,
    reset: Gate,
    candidate: Gate,
    /// Bias of the candidate's recurrent product.
    recurrent_bias: usize,
    heads: Vec<Head>,
}

/// Offsets of `W` (hidden × embedding), `U` (hidden × hidden) and the bias.
#[derive(Debug, Clone, Copy)]
struct Gate {
    input: usize,
    state: usize,
    bias: usize,
}

/// Offsets of a step's softmax: weights (options × hidden) and biases.
#[derive(Debug, Clone, Copy)]
struct Head {
    weights: usize,
    biases: usize,
}

/// One step of a forward pass, with what the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Offset of the embedding read.
    x: usize,
    before: Vec<f64>,
    z: Vec<f64>,
    r: Vec<f64>,
    n: Vec<f64>,
    /// `U_n h + c_n`.
    product: Vec<f64>,
    /// State after the step.
    pub state: Vec<f64>,
    /// Probability of every option; 0 where it is not legal.
    pub probabilities: Vec<f64>,
}

impl Network {
    pub fn new(arities: &[usize], embedding: usize, hidden: usize, rng: &mut ChaCha8Rng) -> Self {
        let mut size = 0;
        let mut take = |n: usize| {
            size += n;
            size - n
        };
        let start = take(embedding);
        let options = arities.iter().map(|&a| take(a * embedding)).collect();
        let mut gate = || Gate { input: take(hidden * embedding), state: take(hidden * hidden), bias: take(hidden) };
        let (update, reset, candidate) = (gate(), gate(), gate());
        let recurrent_bias = take(hidden);
        let heads = arities.iter().map(|&a| Head { weights: take(a * hidden), biases: take(a) }).collect();
        let parameters = (0..size).map(|_| START * (2.0 * rng.random::<f64>() - 1.0)).collect();
        Self { parameters, arities: arities.to_vec(), embedding, hidden, start, options, update, reset, candidate, recurrent_bias, heads }
    }

    /// The state before the first step.
    pub fn beginning(&self) -> Vec<f64> {
        vec![0.0; self.hidden]
    }

    /// Step `t` from state `before`, after option `previous` of the step before it.
    pub fn step(&self, t: usize, previous: Option<usize>, before: &[f64], legal: &[bool]) -> Step {
        let x = match previous {
            Some(option) if t > 0 => self.options[t - 1] + option * self.embedding,
            _ => self.start,
        };
        let read = &self.parameters[x..x + self.embedding];
        let sums = |gate: Gate| {
            let input = product(&self.parameters[gate.input..], self.hidden, read);
            let state = product(&self.parameters[gate.state..], self.hidden, before);
            (input, state)
        };
        let gated = |gate: Gate| -> Vec<f64> {
            let (input, state) = sums(gate);
            (0..self.hidden).map(|k| sigmoid(input[k] + state[k] + self.parameters[gate.bias + k])).collect()
        };
        let (z, r) = (gated(self.update), gated(self.reset));
        let (input, mut product_n) = sums(self.candidate);
        let mut n = vec![0.0; self.hidden];
        for k in 0..self.hidden {
            product_n[k] += self.parameters[self.recurrent_bias + k];
            n[k] = (input[k] + self.parameters[self.candidate.bias + k] + r[k] * product_n[k]).tanh();
        }
        let state: Vec<f64> = (0..self.hidden).map(|k| (1.0 - z[k]) * n[k] + z[k] * before[k]).collect();
        let head = self.heads[t];
        let mut scores = product(&self.parameters[head.weights..], self.arities[t], &state);
        for (k, s) in scores.iter_mut().enumerate() {
            *s += self.parameters[head.biases + k];
        }
        let probabilities = softmax(&scores, legal);
        Step { x, before: before.to_vec(), z, r, n, product: product_n, state, probabilities }
    }

    /// All steps of an episode.
    pub fn forward(&self, actions: &[usize], legal: &[Vec<bool>]) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(actions.len());
        for (t, legal) in legal.iter().enumerate() {
            let previous = t.checked_sub(1).map(|p| actions[p]);
            let before = steps.last().map_or_else(|| self.beginning(), |s| s.state.clone());
            steps.push(self.step(t, previous, &before, legal));
        }
        steps
    }

    /// Adds the gradient of
    ///
    /// ```text
    /// −advantage · Σ_t ln π(a_t | a_<t) − entropy · Σ_t H(π_t)
    /// ```
    ///
    /// to `gradient`, backwards through time.
    pub fn backward(&self, actions: &[usize], steps: &[Step], advantage: f64, entropy: f64, gradient: &mut [f64]) {
        let h = self.hidden;
        let mut ahead = vec![0.0; h];
        for (t, step) in steps.iter().enumerate().rev() {
            let head = self.heads[t];
            let uncertainty = -step.probabilities.iter().map(|&p| plogp(p)).sum::<f64>();
            for (k, &p) in step.probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                let taken = if k == actions[t] { 1.0 } else { 0.0 };
                let d = advantage * (p - taken) + entropy * (plogp(p) + p * uncertainty);
                gradient[head.biases + k] += d;
                for j in 0..h {
                    gradient[head.weights + k * h + j] += d * step.state[j];
                    ahead[j] += d * self.parameters[head.weights + k * h + j];
                }
            }
            let mut behind = vec![0.0; h];
            // By the sums inside the nonlinearities: update, reset, candidate, and the candidate's recurrent product.
            let (mut dz, mut dr, mut dn, mut dp) = (vec![0.0; h], vec![0.0; h], vec![0.0; h], vec![0.0; h]);
            for k in 0..h {
                behind[k] += ahead[k] * step.z[k];
                dz[k] = ahead[k] * (step.before[k] - step.n[k]) * step.z[k] * (1.0 - step.z[k]);
                dn[k] = ahead[k] * (1.0 - step.z[k]) * (1.0 - step.n[k] * step.n[k]);
                dr[k] = dn[k] * step.product[k] * step.r[k] * (1.0 - step.r[k]);
                dp[k] = dn[k] * step.r[k];
                gradient[self.recurrent_bias + k] += dp[k];
            }
            for (gate, input, state) in [(self.update, &dz, &dz), (self.reset, &dr, &dr), (self.candidate, &dn, &dp)] {
                for k in 0..h {
                    gradient[gate.bias + k] += input[k];
                    for j in 0..self.embedding {
                        let weight = gate.input + k * self.embedding + j;
                        gradient[weight] += input[k] * self.parameters[step.x + j];
                        gradient[step.x + j] += input[k] * self.parameters[weight];
                    }
                    for (j, behind) in behind.iter_mut().enumerate() {
                        let weight = gate.state + k * h + j;
                        gradient[weight] += state[k] * step.before[j];
                        *behind += state[k] * self.parameters[weight];
                    }
                }
            }
            ahead = behind;
        }
    }
}

/// The first `rows` rows of a row-major matrix, times a vector.
fn product(matrix: &[f64], rows: usize, vector: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(vector.len()).take(rows).map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `p ln p`, 0 at 0.
pub(super) fn plogp(p: f64) -> f64 {
    if p > 0.0 { p * p.ln() } else { 0.0 }
}

fn softmax(scores: &[f64], legal: &[bool]) -> Vec<f64> {
    let allowed = || scores.iter().zip(legal).filter(|(_, l)| **l).map(|(s, _)| *s);
    let most = allowed().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = allowed().map(|s| (s - most).exp()).sum();
    scores.iter().zip(legal).map(|(s, l)| if *l { (s - most).exp() / sum } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;

    use super::*;

    /// The loss whose gradient [`Network::backward`] gives, from its formula.
    fn loss(network: &Network, actions: &[usize], legal: &[Vec<bool>], advantage: f64, entropy: f64) -> f64 {
        let steps = network.forward(actions, legal);
        let chosen: f64 = steps.iter().zip(actions).map(|(s, &a)| s.probabilities[a].ln()).sum();
        let uncertainty: f64 = steps.iter().flat_map(|s| &s.probabilities).map(|&p| -plogp(p)).sum();
        -advantage * chosen - entropy * uncertainty
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_gradient_is_that_of_finite_differences(
            arities in prop::collection::vec(1usize..5, 1..6), seed in 0u64..1000, advantage in -2.0f64..2.0, entropy in 0.0f64..0.5
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut network = Network::new(&arities, 3, 4, &mut rng);
            // Far from the start, where nothing is nearly linear.
            network.parameters.iter_mut().for_each(|p| *p *= 15.0);
            let actions: Vec<usize> = arities.iter().map(|&a| rng.random_range(0..a)).collect();
            let legal: Vec<Vec<bool>> =
                arities.iter().zip(&actions).map(|(&a, &taken)| (0..a).map(|k| k == taken || rng.random::<bool>()).collect()).collect();
            let mut gradient = vec![0.0; network.parameters.len()];
            network.backward(&actions, &network.forward(&actions, &legal), advantage, entropy, &mut gradient);
            let width = 1e-5;
            for (k, found) in gradient.iter().enumerate() {
                let at = |shift: f64| {
                    let mut moved = network.clone();
                    moved.parameters[k] += shift;
                    loss(&moved, &actions, &legal, advantage, entropy)
                };
                let expected = (at(width) - at(-width)) / (2.0 * width);
                prop_assert!((found - expected).abs() < 1e-6 * (1.0 + expected.abs()), "parameter {k}: {found} against {expected}");
            }
        }

        #[test]
        fn legal_options_share_all_probability(arity in 1usize..7, mask in 1u8..127, seed in 0u64..100) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let network = Network::new(&[arity], 3, 4, &mut rng);
            let mut legal: Vec<bool> = (0..arity).map(|k| mask >> k & 1 == 1).collect();
            legal[0] |= !legal.contains(&true);
            let step = network.step(0, None, &network.beginning(), &legal);
            prop_assert!((step.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(step.probabilities.iter().zip(&legal).all(|(p, l)| (*p > 0.0) == *l));
        }
    }
}
