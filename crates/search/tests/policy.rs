//! The policy learns optima that are known, with fewer evaluations than chance; it takes legal options only, and the same
//! answers give the same policy.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_search::evolution::{Evolution, Genome, Scored, Settings as Evolving};
use secateur_search::policy::{Policy, Settings};

/// Genes without meaning or cost; an option may not repeat the one before where `distinct`.
#[derive(Debug)]
struct Genes {
    arities: Vec<usize>,
    distinct: bool,
}

impl Genome for Genes {
    fn arities(&self) -> &[usize] {
        &self.arities
    }

    fn canonical(&self, _: &mut [usize]) {}

    fn cost(&self, _: &[usize]) -> f64 {
        0.0
    }

    fn legal(&self, taken: &[usize], option: usize) -> bool {
        !self.distinct || taken.last() != Some(&option)
    }
}

/// Every gene has one right option, whatever the others are.
fn separable(optimum: &[usize]) -> impl Fn(&[usize]) -> f64 {
    move |genes| genes.iter().zip(optimum).filter(|(g, o)| g == o).count() as f64 / genes.len() as f64
}

/// The right option of a gene depends on the one before it; only the last step of a right chain says which chain was meant.
fn coupled(genes: &[usize]) -> f64 {
    let right = genes.windows(2).filter(|w| w[1] == (w[0] + 1) % 4).count() as f64;
    let end = if genes.last() == Some(&2) { 1.0 } else { 0.0 };
    (right + end) / genes.len() as f64
}

const EVALUATIONS: usize = 1000;
const BATCH: usize = 10;

/// Reward of the policy's most likely genome after so many evaluations.
fn learnt(genes: &Genes, reward: &dyn Fn(&[usize]) -> f64, seed: u64) -> f64 {
    let mut policy = Policy::new(&genes.arities, Settings { seed, ..Settings::default() });
    for _ in 0..EVALUATIONS / BATCH {
        let scored: Vec<Scored> = policy.ask(genes, BATCH).into_iter().map(|g| Scored { fitness: reward(&g), genes: g }).collect();
        policy.tell(genes, &scored);
    }
    reward(&policy.mode(genes))
}

/// The best reward among as many random genomes.
fn by_chance(genes: &Genes, reward: &dyn Fn(&[usize]) -> f64, seed: u64) -> f64 {
    let mut random = Evolution::new(Evolving::random(EVALUATIONS, seed));
    random.ask(genes, 0.0, &[]).iter().map(|g| reward(g)).fold(0.0, f64::max)
}

#[test]
fn a_separable_optimum_is_learnt() {
    let genes = Genes { arities: vec![5; 16], distinct: false };
    for seed in 0..5 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let optimum: Vec<usize> = (0..16).map(|_| rng.random_range(0..5)).collect();
        let reward = separable(&optimum);
        let (found, chance) = (learnt(&genes, &reward, seed), by_chance(&genes, &reward, seed));
        assert!(found >= 0.9 && found > chance + 0.3, "seed {seed}: {found}, by chance {chance}");
    }
}

#[test]
fn a_coupled_optimum_is_learnt() {
    let genes = Genes { arities: vec![4; 12], distinct: false };
    for seed in 0..5 {
        let (found, chance) = (learnt(&genes, &coupled, seed), by_chance(&genes, &coupled, seed));
        assert!(found >= 0.75 && found > chance + 0.1, "seed {seed}: {found}, by chance {chance}");
    }
}

#[test]
fn the_same_answers_give_the_same_policy() {
    let genes = Genes { arities: vec![3, 5, 2, 4], distinct: true };
    let run = || {
        let mut policy = Policy::new(&genes.arities, Settings { seed: 3, ..Settings::default() });
        let mut asked = Vec::new();
        for _ in 0..6 {
            let batch = policy.ask(&genes, 4);
            let scored: Vec<Scored> = batch.iter().map(|g| Scored { genes: g.clone(), fitness: g.iter().sum::<usize>() as f64 }).collect();
            policy.tell(&genes, &scored);
            asked.extend(batch);
        }
        (asked, policy.mode(&genes))
    };
    assert_eq!(run(), run());
}

#[test]
fn what_is_no_number_teaches_nothing() {
    let genes = Genes { arities: vec![4; 3], distinct: false };
    let settings = Settings { seed: 1, ..Settings::default() };
    let (mut taught, mut fresh) = (Policy::new(&genes.arities, settings), Policy::new(&genes.arities, settings));
    taught.tell(&genes, &[Scored { genes: vec![0, 1, 2], fitness: f64::NEG_INFINITY }, Scored { genes: vec![3; 3], fitness: f64::NAN }]);
    assert_eq!(taught.ask(&genes, 20), fresh.ask(&genes, 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn only_legal_options_are_taken(arities in prop::collection::vec(2usize..6, 1..8), seed in 0u64..1000) {
        let genes = Genes { arities, distinct: true };
        let mut policy = Policy::new(&genes.arities, Settings { seed, ..Settings::default() });
        let asked = policy.ask(&genes, 30);
        for g in asked.iter().chain([&policy.mode(&genes)]) {
            prop_assert!(g.iter().zip(&genes.arities).all(|(g, a)| g < a));
            prop_assert!(g.windows(2).all(|w| w[0] != w[1]), "{g:?}");
        }
    }

    #[test]
    fn a_genome_replayed_is_what_the_policy_thinks_of_first(arities in prop::collection::vec(1usize..6, 1..12), seed in 0u64..1000) {
        let genes = Genes { arities, distinct: false };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let wanted: Vec<usize> = genes.arities.iter().map(|&a| rng.random_range(0..a)).collect();
        let mut policy = Policy::new(&genes.arities, Settings { seed, ..Settings::default() });
        // So high a mean that no single probability is below a half.
        policy.replay(&genes, std::slice::from_ref(&wanted), 0.96);
        prop_assert!(policy.probability(&genes, &wanted) >= 0.96);
        prop_assert_eq!(policy.mode(&genes), wanted);
    }

    #[test]
    fn genomes_replayed_share_the_policy(seed in 0u64..1000) {
        let genes = Genes { arities: vec![6; 8], distinct: false };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let two: Vec<Vec<usize>> = (0..2).map(|_| (0..8).map(|_| rng.random_range(0..6)).collect()).collect();
        let mut policy = Policy::new(&genes.arities, Settings { seed, ..Settings::default() });
        policy.replay(&genes, &two, 0.45);
        let of = two.iter().map(|g| policy.probability(&genes, g)).collect::<Vec<_>>();
        prop_assert!(of.iter().sum::<f64>() / 2.0 >= 0.45 && of.iter().all(|&p| p > 0.3), "{of:?}");
        // Nothing to replay changes nothing.
        let before = policy.mode(&genes);
        policy.replay(&genes, &[], 1.0);
        prop_assert_eq!(policy.mode(&genes), before);
    }
}
