//! Laws of the space, the rules and the solvers, on a small residual network.

use graph::InputShapes;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use search::evolution::Genome;

use super::rules::rules;
use super::solve::{Damage, Worth, fit, solve};
use super::space::{Costs, DENSE, Priced, RATES, Space};
use crate::Analysis;
use graph::scheme::Regularity;

fn space() -> Space {
    let model = crate::residual_network(&[12, 24], 1, 10, 3);
    Space::new(&Analysis::new(model, &InputShapes::batch(1)).expect("analyses")).expect("a space")
}

/// Costs in which coarse blocks are faster, by a random amount.
fn seconds(space: &Space, rng: &mut ChaCha8Rng) -> Costs {
    let mut costs = Costs::weights(space);
    for of in &mut costs.of {
        for (k, by_rate) in of.iter_mut().enumerate() {
            let slower = 1.0 + 0.1 * k as f64 * rng.random::<f64>();
            by_rate[..DENSE].iter_mut().for_each(|c| *c *= slower);
        }
    }
    costs
}

fn random(space: &Space, costs: &Costs, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let genome = Priced { space, costs };
    let mut genes: Vec<usize> = genome.arities().iter().map(|&a| rng.random_range(0..a)).collect();
    genome.canonical(&mut genes);
    genes
}

#[test]
fn the_space_holds_what_is_worth_a_scheme() {
    let s = space();
    assert!(!s.free.is_empty() && !s.dense.is_empty());
    for f in &s.free {
        let layer = &s.layers[f.layer];
        assert!(!layer.is_tiny() && layer.only_dense.is_none());
        assert!(f.regularities.contains(&Regularity::columns()) && f.regularities.contains(&Regularity::Pattern));
        for by_rate in &f.choices {
            let there: Vec<_> = by_rate.iter().flatten().collect();
            // Less is removed from the largest rate to none, and what is kept grows with it.
            assert!(there.windows(2).all(|w| w[0].kept <= w[1].kept && w[0].energy <= w[1].energy + 1e-12));
            let dense = by_rate[DENSE].expect("every layer can stay dense");
            assert_eq!((dense.kept, dense.energy), (layer.weights(), 1.0));
        }
        // A pattern keeps 4 of 9 at most: the rate 2 stands for 2.25, and there is none below but 1.
        let pattern = f.regularities.iter().position(|r| *r == Regularity::Pattern).expect("has patterns");
        let rate = |r: f64| RATES.iter().position(|&x| x == r).and_then(|k| f.choice(pattern, k));
        assert_eq!((rate(2.0).map(|c| c.scheme.rate), rate(1.5)), (Some(2.25), None));
    }
}

#[test]
fn a_genome_and_its_schemes_weigh_the_same() {
    let (s, mut rng) = (space(), ChaCha8Rng::seed_from_u64(1));
    let costs = Costs::weights(&s);
    let all = costs.total(&s.all_dense());
    assert!(s.schemes(&s.all_dense()).is_empty() && s.compression(&s.all_dense()) == 1.0);
    for _ in 0..50 {
        let genes = random(&s, &costs, &mut rng);
        assert!((s.compression(&genes) - all / costs.total(&genes)).abs() < 1e-9);
    }
}

proptest! {
    #[test]
    fn damage_is_convex_from_nothing_and_not_above_what_was_measured(
        mut points in prop::collection::vec((0.01f64..1.0, 0.0f64..5.0), 0..5), x in 0.0f64..1.0, y in 0.0f64..1.0
    ) {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let damage = Damage::convex(&points);
        prop_assert_eq!(damage.at(0.0), 0.0);
        prop_assert!(damage.at(0.5 * (x + y)) <= 0.5 * (damage.at(x) + damage.at(y)) + 1e-9);
        prop_assert!(damage.at(x.min(y)) <= damage.at(x.max(y)) + 1e-12);
        // What did more damage before does as much after.
        for (k, p) in points.iter().enumerate() {
            let most = points[..=k].iter().map(|p| p.1).fold(0.0, f64::max);
            prop_assert!(damage.at(p.0) <= most + 1e-9);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn canonical_genomes_are_legal_and_stay_as_they_are(seed in 0u64..1000) {
        let (s, mut rng) = (space(), ChaCha8Rng::seed_from_u64(seed));
        let costs = Costs::weights(&s);
        let genome = Priced { space: &s, costs: &costs };
        let genes = random(&s, &costs, &mut rng);
        let mut again = genes.clone();
        genome.canonical(&mut again);
        prop_assert_eq!(&again, &genes);
        prop_assert!((0..genes.len()).all(|k| genome.legal(&genes[..k], genes[k])));
        prop_assert!(genome.cost(&genes).is_finite());
    }

    #[test]
    fn the_rules_take_the_smallest_block_that_is_fast_enough(seed in 0u64..1000, beta in 0.0f64..0.4) {
        let (s, mut rng) = (space(), ChaCha8Rng::seed_from_u64(seed));
        let costs = seconds(&s, &mut rng);
        for (k, rule) in rules(&s, &costs, false, beta).iter().enumerate() {
            let f = &s.free[k];
            for rate in 0..DENSE {
                let blocks: Vec<usize> = (0..f.regularities.len())
                    .filter(|&r| f.regularities[r] != Regularity::Pattern && f.choice(r, rate).is_some())
                    .collect();
                let fast = |r: usize| costs.of[k][r][rate] <= (1.0 + beta) * costs.of[k][blocks[0]][rate];
                let taken = rule.at_rate[rate].expect("a block");
                prop_assert!(fast(taken));
                prop_assert!(blocks.iter().all(|&r| r <= taken || !fast(r)));
            }
        }
    }

    #[test]
    fn hard_sets_get_patterns_where_the_target_is_fast_with_them(seed in 0u64..1000) {
        let (s, mut rng) = (space(), ChaCha8Rng::seed_from_u64(seed));
        let mut costs = seconds(&s, &mut rng);
        let is_pattern = |k: usize, r: usize| s.free[k].regularities[r] == Regularity::Pattern;
        let patterns = |costs: &Costs| rules(&s, costs, true, 0.15).iter().enumerate()
            .filter(|(k, rule)| rule.at_rate.iter().flatten().any(|&r| is_pattern(*k, r))).count();
        for (k, of) in costs.of.iter_mut().enumerate() {
            (0..of.len()).filter(|&r| is_pattern(k, r)).for_each(|r| of[r].iter_mut().for_each(|c| *c *= 0.5));
        }
        prop_assert_eq!(patterns(&costs), s.free.len());
        for (k, of) in costs.of.iter_mut().enumerate() {
            (0..of.len()).filter(|&r| is_pattern(k, r)).for_each(|r| of[r].iter_mut().for_each(|c| *c *= 20.0));
        }
        prop_assert_eq!(patterns(&costs), 0);
    }

    #[test]
    fn no_genome_within_the_budget_is_worth_more_than_the_knapsacks(seed in 0u64..1000, share in 0.25f64..1.0) {
        let (s, mut rng) = (space(), ChaCha8Rng::seed_from_u64(seed));
        let costs = seconds(&s, &mut rng);
        let mut damage = || Damage::convex(&[(0.4, rng.random_range(0.0..1.0)), (0.8, rng.random_range(0.0..3.0))]);
        let worth = Worth { layers: s.free.iter().map(|_| damage()).collect() };
        let budget = share * costs.total(&s.all_dense());
        let best = solve(&s, &worth, &costs, budget, &|_, _, _| true).expect("feasible");
        prop_assert!(costs.total(&best) <= budget * (1.0 + 1e-9));
        for _ in 0..100 {
            let Some(other) = fit(&s, &worth, &costs, &random(&s, &costs, &mut rng), budget) else { continue };
            prop_assert!(costs.total(&other) <= budget);
            prop_assert!(worth.of(&s, &other) <= worth.of(&s, &best) + 1e-9);
        }
    }

    #[test]
    fn what_is_brought_to_a_budget_uses_it(seed in 0u64..1000, share in 0.25f64..1.0) {
        let (s, mut rng) = (space(), ChaCha8Rng::seed_from_u64(seed));
        let costs = seconds(&s, &mut rng);
        let limit = share * costs.total(&s.all_dense());
        let start = random(&s, &costs, &mut rng);
        let genes = fit(&s, &Worth::equal(&s), &costs, &start, limit).expect("feasible");
        prop_assert!(costs.total(&genes) <= limit);
        for (k, f) in s.free.iter().enumerate() {
            for rate in (genes[2 * k + 1] + 1..=DENSE).filter(|&r| f.choice(genes[2 * k], r).is_some()) {
                let mut more = genes.clone();
                more[2 * k + 1] = rate;
                prop_assert!(costs.total(&more) > limit, "{genes:?} has room for {more:?}");
            }
        }
    }
}
