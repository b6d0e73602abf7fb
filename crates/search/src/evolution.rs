//! Evolutionary search over genomes with a cost limit, driven from outside: ask for candidates, score them, tell.
//!
//! A genome has one gene per position, an index below that position's arity; a larger index costs more and keeps more, which is
//! taken to be no worse: candidates fill their budget. What it stands for, what it costs and which genomes mean the same is the caller's [`Genome`]. Numbers of elite, mutants and
//! crossovers and the mutation rate follow MetaPruning's search (Liu et al., ICCV 2019).

use std::collections::HashSet;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What genomes mean.
pub trait Genome {
    /// Options at each position; at least 1.
    fn arities(&self) -> &[usize];

    /// Brings `genes` to the one form that stands for what they mean. Must be idempotent.
    fn canonical(&self, genes: &mut [usize]);

    /// What a canonical genome costs.
    fn cost(&self, genes: &[usize]) -> f64;

    /// Whether `option` may follow the genes `taken` before it. Every genome of legal options is canonical or has a canonical
    /// form; a search that walks the genes in order ([`crate::policy`]) takes no others.
    fn legal(&self, taken: &[usize], option: usize) -> bool {
        let _ = (taken, option);
        true
    }
}

/// How to evolve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Candidates per generation.
    pub population: usize,
    /// Best so far that parents are drawn from.
    pub elite: usize,
    /// Children of one parent, per generation.
    pub mutants: usize,
    /// Children of two parents, per generation; what is left of the population is random.
    pub crossovers: usize,
    /// Probability that a mutant's gene changes.
    pub rate: f64,
    /// Probability that a gene that changes moves by one step, up or down; else it is drawn anew.
    pub step: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { population: 50, elite: 10, mutants: 25, crossovers: 25, rate: 0.1, step: 0.8, seed: 0 }
    }
}

impl Settings {
    /// Nothing is inherited: every genome is drawn at random, within the budget and filling it. The control that a search has
    /// to beat.
    pub fn random(population: usize, seed: u64) -> Self {
        Self { population, elite: 0, mutants: 0, crossovers: 0, seed, ..Self::default() }
    }
}

/// A scored genome.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Genes.
    pub genes: Vec<usize>,
    /// The larger the better.
    pub fitness: f64,
}

/// A search in progress. The same calls with the same answers give the same genomes.
#[derive(Debug)]
pub struct Evolution {
    settings: Settings,
    rng: ChaCha8Rng,
    asked: HashSet<Vec<usize>>,
    scored: Vec<Scored>,
}

/// Attempts at a genome that was not asked before, per genome wanted.
const TRIES: usize = 60;

impl Evolution {
    /// Starts with nothing known.
    pub fn new(settings: Settings) -> Self {
        Self { settings, rng: ChaCha8Rng::seed_from_u64(settings.seed), asked: HashSet::new(), scored: Vec::new() }
    }

    /// The next generation: canonical genomes that cost at most `budget` and were never asked before. `seeds` come first.
    /// Fewer than the population where no others are found; none where the space is exhausted.
    pub fn ask(&mut self, genome: &dyn Genome, budget: f64, seeds: &[Vec<usize>]) -> Vec<Vec<usize>> {
        let mut generation: Vec<Vec<usize>> = Vec::new();
        for seed in seeds {
            let mut genes = seed.clone();
            genome.canonical(&mut genes);
            if genome.cost(&genes) <= budget && self.asked.insert(genes.clone()) {
                generation.push(genes);
            }
        }
        let Settings { population, elite, mutants, crossovers, .. } = self.settings;
        let parents: Vec<Vec<usize>> = self.elite(elite).iter().map(|s| s.genes.clone()).collect();
        let of_parents = if parents.is_empty() { 0 } else { mutants + crossovers };
        for k in generation.len()..population {
            for _ in 0..TRIES {
                let mut genes = match k {
                    k if k < of_parents.min(mutants) => self.mutant(genome, &parents),
                    k if k < of_parents => self.crossover(&parents),
                    _ => self.random(genome),
                };
                genome.canonical(&mut genes);
                if repair(genome, budget, &mut genes, &mut self.rng) && self.asked.insert(genes.clone()) {
                    generation.push(genes);
                    break;
                }
            }
        }
        generation
    }

    /// Takes the fitness of a genome that was asked for.
    pub fn tell(&mut self, genes: Vec<usize>, fitness: f64) {
        self.scored.push(Scored { genes, fitness });
    }

    /// The best `n` so far, best first; of equals the one told first. Genomes without a number for fitness are never among
    /// them.
    pub fn elite(&self, n: usize) -> Vec<&Scored> {
        let mut best: Vec<&Scored> = self.scored.iter().filter(|s| s.fitness > f64::NEG_INFINITY).collect();
        best.sort_by(|a, b| b.fitness.total_cmp(&a.fitness));
        best.truncate(n);
        best
    }

    /// Takes back what was told of `genes`: it turned out to be outside the budget.
    pub fn reject(&mut self, genes: &[usize]) {
        self.scored.retain(|s| s.genes != genes);
    }

    fn mutant(&mut self, genome: &dyn Genome, parents: &[Vec<usize>]) -> Vec<usize> {
        let Some(parent) = parents.choose(&mut self.rng) else { return self.random(genome) };
        let mut genes = parent.clone();
        for (gene, &arity) in genes.iter_mut().zip(genome.arities()) {
            if arity < 2 || self.rng.random::<f64>() >= self.settings.rate {
                continue;
            }
            *gene = if self.rng.random::<f64>() < self.settings.step {
                let up = self.rng.random::<bool>();
                if (up && *gene + 1 < arity) || *gene == 0 { *gene + 1 } else { *gene - 1 }
            } else {
                self.rng.random_range(0..arity)
            };
        }
        genes
    }

    /// Each gene from either of two parents.
    fn crossover(&mut self, parents: &[Vec<usize>]) -> Vec<usize> {
        let mut pick = || parents.choose(&mut self.rng).cloned().unwrap_or_default();
        let (a, b) = (pick(), pick());
        a.into_iter().zip(b).map(|(a, b)| if self.rng.random::<bool>() { a } else { b }).collect()
    }

    fn random(&mut self, genome: &dyn Genome) -> Vec<usize> {
        genome.arities().iter().map(|&a| self.rng.random_range(0..a.max(1))).collect()
    }
}

/// Steps random genes down until the cost is within `budget`, then up where that stays within it: an optimum uses its
/// budget. False where even the smallest genes cost too much.
pub fn repair(genome: &dyn Genome, budget: f64, genes: &mut [usize], rng: &mut impl Rng) -> bool {
    let n = genes.len();
    while genome.cost(genes) > budget {
        let large: Vec<usize> = (0..n).filter(|&k| genes[k] > 0).collect();
        let mut order = large;
        order.shuffle(rng);
        let before = genes.to_vec();
        let moved = order.into_iter().any(|k| {
            genes[k] -= 1;
            genome.canonical(genes);
            // A form that stands for the same, or for more, is no step down.
            let down = genes != before && genome.cost(genes) <= genome.cost(&before);
            if !down {
                genes.copy_from_slice(&before);
            }
            down
        });
        if !moved {
            return false;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    let arities = genome.arities().to_vec();
    for k in order {
        if genes[k] + 1 >= arities[k] {
            continue;
        }
        let before = genes.to_vec();
        genes[k] += 1;
        genome.canonical(genes);
        if genome.cost(genes) > budget {
            genes.copy_from_slice(&before);
        }
    }
    true
}
