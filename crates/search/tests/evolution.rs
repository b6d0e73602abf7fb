//! The operators of the evolution keep what they must, and the search finds optima that brute force knows.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use proptest::prelude::*;
use secateur_search::evolution::{Evolution, Genome, Settings};

/// Separable costs; the first gene at 0 switches all others of the first half off.
#[derive(Debug)]
struct Toy {
    arities: Vec<usize>,
    costs: Vec<f64>,
}

impl Genome for Toy {
    fn arities(&self) -> &[usize] {
        &self.arities
    }

    fn canonical(&self, genes: &mut [usize]) {
        if genes[0] == 0 {
            let half = genes.len() / 2;
            genes[1..half.max(1)].fill(0);
        }
    }

    fn cost(&self, genes: &[usize]) -> f64 {
        genes.iter().zip(&self.costs).map(|(&g, c)| g as f64 * c).sum()
    }
}

fn toy() -> impl Strategy<Value = Toy> {
    prop::collection::vec((1usize..6, 0.1f64..3.0), 2..9).prop_map(|v| {
        let (arities, costs) = v.into_iter().unzip();
        Toy { arities, costs }
    })
}

/// A fitness with interactions, so that it is not solved gene by gene; more is never worse, as the search assumes.
fn fitness(genes: &[usize]) -> f64 {
    let sum: f64 = genes.iter().enumerate().map(|(k, &g)| (1.0 + (k as f64).sin()) * (g as f64).sqrt()).sum();
    let pairs: f64 = genes.windows(2).map(|w| 0.4 * w[0].min(w[1]) as f64).sum();
    sum + pairs
}

fn all(arities: &[usize]) -> Vec<Vec<usize>> {
    arities
        .iter()
        .fold(vec![vec![]], |all, &a| all.into_iter().flat_map(|g| (0..a).map(move |x| g.iter().copied().chain([x]).collect())).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_candidate_is_feasible_canonical_and_new(toy in toy(), share in 0.05f64..1.0, seed in 0u64..1000) {
        let full: Vec<usize> = toy.arities.iter().map(|a| a - 1).collect();
        let budget = share * toy.cost(&full);
        let settings = Settings { population: 12, elite: 4, mutants: 5, crossovers: 5, seed, ..Settings::default() };
        let mut evolution = Evolution::new(settings);
        let mut seen = HashSet::new();
        for generation in 0..6 {
            let seeds = if generation == 0 { vec![full.clone(), vec![0; full.len()]] } else { vec![] };
            for genes in evolution.ask(&toy, budget, &seeds) {
                prop_assert!(toy.cost(&genes) <= budget, "{genes:?} costs {}", toy.cost(&genes));
                prop_assert!(genes.iter().zip(&toy.arities).all(|(g, a)| g < a));
                let mut canonical = genes.clone();
                toy.canonical(&mut canonical);
                prop_assert_eq!(&canonical, &genes);
                prop_assert!(seen.insert(genes.clone()), "asked twice: {:?}", genes);
                evolution.tell(genes.clone(), fitness(&genes));
            }
        }
        let elite = evolution.elite(4);
        prop_assert!(elite.windows(2).all(|w| w[0].fitness >= w[1].fitness));
    }

    #[test]
    fn small_spaces_are_solved(toy in toy(), share in 0.2f64..1.0) {
        prop_assume!(toy.arities.iter().product::<usize>() <= 400);
        let full: Vec<usize> = toy.arities.iter().map(|a| a - 1).collect();
        let budget = share * toy.cost(&full);
        let feasible = all(&toy.arities).into_iter().filter(|g| {
            let mut c = g.clone();
            toy.canonical(&mut c);
            c == *g && toy.cost(g) <= budget
        });
        let best = feasible.map(|g| fitness(&g)).fold(f64::NEG_INFINITY, f64::max);
        let mut evolution = Evolution::new(Settings { population: 40, ..Settings::default() });
        for _ in 0..25 {
            for genes in evolution.ask(&toy, budget, &[]) {
                let f = fitness(&genes);
                evolution.tell(genes, f);
            }
        }
        let found = evolution.elite(1)[0].fitness;
        prop_assert!(found >= best - 0.02 * best.abs(), "{found} of {best}");
    }
}

#[test]
fn the_same_answers_give_the_same_search() {
    let toy = Toy { arities: vec![4; 8], costs: vec![1.0; 8] };
    let run = || {
        let mut evolution = Evolution::new(Settings { seed: 5, ..Settings::default() });
        let mut all = Vec::new();
        for _ in 0..4 {
            for genes in evolution.ask(&toy, 12.0, &[]) {
                evolution.tell(genes.clone(), fitness(&genes));
                all.push(genes);
            }
        }
        all
    };
    assert_eq!(run(), run());
}

#[test]
fn a_rejected_candidate_is_no_parent_and_is_not_asked_again() {
    let toy = Toy { arities: vec![3; 4], costs: vec![1.0; 4] };
    let mut evolution = Evolution::new(Settings { population: 8, ..Settings::default() });
    let first = evolution.ask(&toy, 5.0, &[]);
    for genes in &first {
        evolution.tell(genes.clone(), fitness(genes));
    }
    let best = evolution.elite(1)[0].genes.clone();
    evolution.reject(&best);
    assert!(evolution.elite(8).iter().all(|s| s.genes != best));
    assert!(!evolution.ask(&toy, 5.0, std::slice::from_ref(&best)).contains(&best));
}
