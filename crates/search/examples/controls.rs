//! The policy against its controls on made-up mappings, at equal evaluations: `controls [EVALUATIONS [PROBLEMS]]`.
//!
//! A mapping has two genes per layer, a regularity and a rate. Damages of layers add up and each pair of neighbours adds some more; all
//! searches start from the optimum of an estimate of the damages that is off by a factor of up to three per layer, as the
//! knapsack's answer is in `secateur map`. Prints the damage of the best candidate (mean over problems; the smaller the better), as a
//! share of the start's.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_search::evolution::{Evolution, Genome, Scored, Settings, repair};
use secateur_search::policy::{self, Policy};

const REGULARITIES: usize = 5;
const RATES: usize = 9;
const BATCH: usize = 10;
/// As in the search for mappings.
const REPLAYED: usize = 3;
const DIFFERENT: f64 = 4.0;

struct Mapping {
    arities: Vec<usize>,
    /// By layer, regularity and rate.
    costs: Vec<Vec<Vec<f64>>>,
    damages: Vec<Vec<Vec<f64>>>,
    estimates: Vec<f64>,
    pairs: Vec<f64>,
}

impl Mapping {
    fn random(layers: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kept = [1.0 / 16.0, 0.1, 0.125, 1.0 / 6.0, 0.25, 1.0 / 3.0, 0.5, 2.0 / 3.0, 1.0];
        let mut made =
            Self { arities: [REGULARITIES, RATES].repeat(layers), costs: vec![], damages: vec![], estimates: vec![], pairs: vec![] };
        for _ in 0..layers {
            let (size, worth) = ((3.0 * rng.random::<f64>()).exp(), (3.0 * rng.random::<f64>()).exp());
            let slower: Vec<f64> = (0..REGULARITIES).map(|r| 1.0 + 0.1 * r as f64 + 0.1 * rng.random::<f64>()).collect();
            let better: Vec<f64> = (0..REGULARITIES).map(|r| 1.0 - 0.15 * r as f64 + 0.1 * rng.random::<f64>()).collect();
            made.costs.push(slower.iter().map(|s| kept.iter().map(|k| size * k * if *k < 1.0 { *s } else { 1.0 }).collect()).collect());
            made.damages.push(better.iter().map(|b| kept.iter().map(|k| worth * b * (1.0 - k).powi(2)).collect()).collect());
            made.estimates.push((3f64.ln() * (2.0 * rng.random::<f64>() - 1.0)).exp());
            made.pairs.push(rng.random::<f64>());
        }
        made
    }

    fn damage(&self, genes: &[usize]) -> f64 {
        let own: Vec<f64> = genes.chunks(2).zip(&self.damages).map(|(g, d)| d[g[0]][g[1]]).collect();
        own.iter().sum::<f64>() + own.windows(2).zip(&self.pairs).map(|(w, p)| p * (w[0] * w[1]).sqrt()).sum::<f64>()
    }

    /// The best by the estimate, one step at a time.
    fn start(&self, budget: f64) -> Vec<usize> {
        let mut genes = [REGULARITIES - 1, RATES - 1].repeat(self.costs.len());
        while self.cost(&genes) > budget {
            let mut best = (f64::INFINITY, genes.clone());
            for l in 0..self.costs.len() {
                let (r, k) = (genes[2 * l], genes[2 * l + 1]);
                for regularity in 0..REGULARITIES {
                    for rate in 0..k {
                        let saved = self.costs[l][r][k] - self.costs[l][regularity][rate];
                        let lost = (self.damages[l][regularity][rate] - self.damages[l][r][k]) * self.estimates[l];
                        if saved > 0.0 && lost / saved < best.0 {
                            let mut moved = genes.clone();
                            (moved[2 * l], moved[2 * l + 1]) = (regularity, rate);
                            best = (lost / saved, moved);
                        }
                    }
                }
            }
            genes = best.1;
        }
        self.canonical(&mut genes);
        genes
    }
}

impl Genome for Mapping {
    fn arities(&self) -> &[usize] {
        &self.arities
    }

    fn canonical(&self, genes: &mut [usize]) {
        for g in genes.chunks_mut(2).filter(|g| g[1] == RATES - 1) {
            g[0] = REGULARITIES - 1;
        }
    }

    fn cost(&self, genes: &[usize]) -> f64 {
        genes.chunks(2).zip(&self.costs).map(|(g, c)| c[g[0]][g[1]]).sum()
    }
}

fn evolved(m: &Mapping, budget: f64, evaluations: usize, settings: Settings) -> f64 {
    let mut evolution = Evolution::new(settings);
    let (mut spent, mut best) = (0, f64::INFINITY);
    while spent < evaluations {
        let seeds = if spent == 0 { vec![m.start(budget)] } else { Vec::new() };
        let mut asked = evolution.ask(m, budget, &seeds);
        asked.truncate(evaluations - spent);
        if asked.is_empty() {
            break;
        }
        spent += asked.len();
        for genes in asked {
            let damage = m.damage(&genes);
            best = best.min(damage);
            evolution.tell(genes, -damage);
        }
    }
    best
}

fn learnt(m: &Mapping, budget: f64, evaluations: usize, seed: u64) -> f64 {
    let mut policy = Policy::new(m.arities(), policy::Settings { seed, ..policy::Settings::default() });
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = m.start(budget);
    let mut found = vec![Scored { fitness: -m.damage(&start), genes: start }];
    let probability = 1.0 - DIFFERENT / m.arities().len() as f64;
    while found.len() < evaluations {
        found.sort_by(|a, b| b.fitness.total_cmp(&a.fitness));
        let best: Vec<Vec<usize>> = found.iter().take(REPLAYED).map(|s| s.genes.clone()).collect();
        policy.replay(m, &best, probability);
        let (mut told, mut new) = (Vec::new(), 0);
        for _ in 0..BATCH * 60 {
            let asked = policy.ask(m, 1).remove(0);
            let mut genes = asked.clone();
            m.canonical(&mut genes);
            let over = (m.cost(&genes) / budget - 1.0).max(0.0);
            if !repair(m, budget, &mut genes, &mut rng) {
                continue;
            }
            let fitness = -m.damage(&genes);
            told.push(Scored { genes: asked, fitness: fitness * (1.0 + over) });
            if found.iter().all(|s| s.genes != genes) {
                found.push(Scored { genes, fitness });
                new += 1;
            }
            if new == BATCH || found.len() == evaluations {
                break;
            }
        }
        policy.tell(m, &told);
        if new == 0 {
            break;
        }
    }
    -found.iter().map(|s| s.fitness).fold(f64::NEG_INFINITY, f64::max)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let evaluations = arguments.next().unwrap_or(Ok(60))?;
    let problems = arguments.next().unwrap_or(Ok(20))? as u64;
    let mut names: Vec<String> = Vec::new();
    let mut sums: Vec<f64> = Vec::new();
    for p in 0..problems {
        let m = Mapping::random(20, p);
        let budget = 0.35 * m.cost(&[REGULARITIES - 1, RATES - 1].repeat(20));
        let start = m.damage(&m.start(budget));
        let mut row: Vec<(String, f64)> = vec![("start".into(), start)];
        row.push(("random".into(), evolved(&m, budget, evaluations, Settings::random(BATCH, p))));
        let evolving = Settings { population: BATCH, elite: 6, mutants: 5, crossovers: 4, seed: p, ..Settings::default() };
        row.push(("evolution".into(), evolved(&m, budget, evaluations, evolving)));
        row.push(("policy".into(), learnt(&m, budget, evaluations, p)));
        names = row.iter().map(|r| r.0.clone()).collect();
        sums.resize(row.len(), 0.0);
        for (s, r) in sums.iter_mut().zip(&row) {
            *s += r.1 / start / problems as f64;
        }
    }
    for (n, s) in names.iter().zip(&sums) {
        println!("{s:.4}  {n}");
    }
    Ok(())
}
