//! Search by policy gradient, driven from outside: ask for candidates, score them, tell.
//!
//! A recurrent network walks the genes and gives each a distribution over its legal options, given those taken before it. It
//! learns by REINFORCE (Williams, 1992) against a moving average of the rewards, with an entropy bonus, as in neural
//! architecture search (Zoph and Le, 2017):
//!
//! ```text
//! ∇ = mean_k Σ_t [ ∇ ln π(a_t | a_<t) · (R_k − average) / spread + entropy · ∇ H(π_t) ]
//! ```
//!
//! The division by a moving spread of the rewards is ours: it makes the learning rate independent of the reward's unit.

mod network;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::evolution::{Genome, Scored};
use network::Network;

/// How a policy learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Length of the recurrent state.
    pub hidden: usize,
    /// Length of an option's embedding.
    pub embedding: usize,
    /// Step of Adam (Kingma and Ba, 2015).
    pub learning_rate: f64,
    /// Weight of the entropy bonus, against rewards of spread 1.
    pub entropy: f64,
    /// Weight of what is known in the moving averages of rewards and of their spread.
    pub memory: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { hidden: 24, embedding: 12, learning_rate: 0.01, entropy: 0.1, memory: 0.8, seed: 0 }
    }
}

/// A policy in training. The same calls with the same answers give the same genomes.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    network: Network,
    adam: Adam,
    rng: ChaCha8Rng,
    /// Moving average of rewards, and of their squared distance from it.
    rewards: Option<(f64, f64)>,
}

/// Largest norm of an update's gradient; longer ones are shortened to it.
const CLIP: f64 = 5.0;

/// Updates that a replay takes at most.
const LESSONS: usize = 400;

impl Policy {
    /// A policy over genes with these numbers of options, nearly uniform.
    ///
    /// # Panics
    /// An arity, or a length in `settings`, is 0.
    pub fn new(arities: &[usize], settings: Settings) -> Self {
        assert!(arities.iter().all(|&a| a > 0), "every gene has an option");
        assert!(settings.hidden > 0 && settings.embedding > 0, "states and embeddings have a length");
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let network = Network::new(arities, settings.embedding, settings.hidden, &mut rng);
        let adam = Adam::new(network.parameters.len());
        Self { settings, network, adam, rng, rewards: None }
    }

    /// `n` genomes drawn from the policy, each of legal options only. Equal ones are not left out: they are what the policy
    /// thinks of most.
    pub fn ask(&mut self, genome: &dyn Genome, n: usize) -> Vec<Vec<usize>> {
        (0..n)
            .map(|_| {
                let rng = &mut self.rng;
                walk(&self.network, genome, &mut |p| draw(p, rng.random::<f64>()))
            })
            .collect()
    }

    /// The most likely option of each gene after those before it.
    pub fn mode(&self, genome: &dyn Genome) -> Vec<usize> {
        walk(&self.network, genome, &mut |p| (0..p.len()).fold(0, |best, k| if p[k] > p[best] { k } else { best }))
    }

    /// Mean over the genes of the probability of the option that `genes` takes, after those before it.
    pub fn probability(&self, genome: &dyn Genome, genes: &[usize]) -> f64 {
        taken(&self.network.forward(genes, &masks(genome, genes)), genes)
    }

    /// Learns from the rewards (fitness) of genomes that were asked for, in one update. Rewards that are no finite numbers are
    /// left out.
    pub fn tell(&mut self, genome: &dyn Genome, scored: &[Scored]) {
        let known: Vec<&Scored> = scored.iter().filter(|s| s.fitness.is_finite()).collect();
        if known.is_empty() {
            return;
        }
        let count = known.len() as f64;
        let mean = known.iter().map(|s| s.fitness).sum::<f64>() / count;
        let memory = self.settings.memory;
        // The first batch is its own average: it says which of it is better, and nothing of what it is worth as a whole.
        let average = self.rewards.map_or(mean, |(a, _)| memory * a + (1.0 - memory) * mean);
        let square = known.iter().map(|s| (s.fitness - average).powi(2)).sum::<f64>() / count;
        let square = self.rewards.map_or(square, |(_, s)| memory * s + (1.0 - memory) * square);
        self.rewards = Some((average, square));
        let spread = square.sqrt().max(1e-12);
        let mut gradient = vec![0.0; self.network.parameters.len()];
        for s in known {
            let steps = self.network.forward(&s.genes, &masks(genome, &s.genes));
            let advantage = (s.fitness - average) / spread / count;
            self.network.backward(&s.genes, &steps, advantage, self.settings.entropy / count, &mut gradient);
        }
        self.adam.step(&mut self.network.parameters, &mut gradient, self.settings.learning_rate);
    }

    /// Moves the policy towards the best genomes known, each as much as the others, until the options they take have `probability`
    /// on average over genomes and genes: self-imitation (Oh et al., ICML 2018). What gave a reward once is not forgotten after
    /// one update, and what is asked for next lies around it.
    pub fn replay(&mut self, genome: &dyn Genome, best: &[Vec<usize>], probability: f64) {
        let legal: Vec<_> = best.iter().map(|genes| masks(genome, genes)).collect();
        let share = 1.0 / best.len().max(1) as f64;
        for _ in 0..LESSONS {
            let mut gradient = vec![0.0; self.network.parameters.len()];
            let mut mean = 0.0;
            for (genes, legal) in best.iter().zip(&legal) {
                let steps = self.network.forward(genes, legal);
                mean += share * taken(&steps, genes);
                self.network.backward(genes, &steps, share, 0.0, &mut gradient);
            }
            if best.is_empty() || mean >= probability {
                break;
            }
            self.adam.step(&mut self.network.parameters, &mut gradient, self.settings.learning_rate);
        }
    }
}

/// Mean over the genes of the probability of the option taken.
fn taken(steps: &[network::Step], genes: &[usize]) -> f64 {
    steps.iter().zip(genes).map(|(s, &a)| s.probabilities[a]).sum::<f64>() / genes.len().max(1) as f64
}

/// Walks the genes; `pick` chooses from the probabilities of a gene's options.
fn walk(network: &Network, genome: &dyn Genome, pick: &mut dyn FnMut(&[f64]) -> usize) -> Vec<usize> {
    let (mut genes, mut state) = (Vec::new(), network.beginning());
    for t in 0..genome.arities().len() {
        let step = network.step(t, genes.last().copied(), &state, &mask(genome, &genes));
        genes.push(pick(&step.probabilities));
        state = step.state;
    }
    genes
}

/// Which options may follow the genes `taken`; where none may, the genome contradicts itself and all may.
fn mask(genome: &dyn Genome, taken: &[usize]) -> Vec<bool> {
    let arity = genome.arities()[taken.len()];
    let legal: Vec<bool> = (0..arity).map(|option| genome.legal(taken, option)).collect();
    if legal.contains(&true) { legal } else { vec![true; arity] }
}

/// The masks along `genes`; what they took counts as legal, whatever the genome says.
fn masks(genome: &dyn Genome, genes: &[usize]) -> Vec<Vec<bool>> {
    let along = |t: usize| {
        let mut legal = mask(genome, &genes[..t]);
        legal[genes[t]] = true;
        legal
    };
    (0..genes.len()).map(along).collect()
}

/// The option at which the sum of probabilities passes `at`, in [0, 1).
fn draw(probabilities: &[f64], at: f64) -> usize {
    let mut sum = 0.0;
    let mut last = 0;
    for (k, &p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        sum += p;
        last = k;
        if at < sum {
            break;
        }
    }
    last
}

/// Adam (Kingma and Ba, 2015), with its usual constants.
#[derive(Debug)]
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn new(n: usize) -> Self {
        Self { first: vec![0.0; n], second: vec![0.0; n], steps: 0 }
    }

    fn step(&mut self, parameters: &mut [f64], gradient: &mut [f64], rate: f64) {
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        if norm > CLIP {
            gradient.iter_mut().for_each(|g| *g *= CLIP / norm);
        }
        self.steps += 1;
        let (b1, b2) = (0.9f64, 0.999f64);
        let (c1, c2) = (1.0 - b1.powi(self.steps), 1.0 - b2.powi(self.steps));
        for (k, p) in parameters.iter_mut().enumerate() {
            self.first[k] = b1 * self.first[k] + (1.0 - b1) * gradient[k];
            self.second[k] = b2 * self.second[k] + (1.0 - b2) * gradient[k] * gradient[k];
            *p -= rate * (self.first[k] / c1) / ((self.second[k] / c2).sqrt() + 1e-8);
        }
    }
}
