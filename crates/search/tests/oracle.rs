//! Every solver against brute force on small random problems.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use secateur_search::knapsack::{self, Chunk, Group};
use secateur_search::{Error, Factor, Limits, Problem, Stop, Variable, joint, lagrange};

/// All choices, first variable slowest.
fn choices(problem: &Problem) -> Vec<Vec<usize>> {
    problem.variables.iter().fold(vec![Vec::new()], |choices, variable| {
        let longer = |choice: &Vec<usize>| {
            (0..variable.values.len()).map(|option| choice.iter().copied().chain([option]).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        choices.iter().flat_map(longer).collect()
    })
}

fn floor(problem: &Problem) -> f64 {
    choices(problem).iter().map(|choice| problem.cost(choice)).fold(f64::INFINITY, f64::min)
}

fn best(problem: &Problem, budget: f64) -> Option<f64> {
    choices(problem).iter().filter(|choice| problem.cost(choice) <= budget).map(|choice| problem.value(choice)).reduce(f64::max)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-8 * (1.0 + a.abs().max(b.abs()))
}

/// Whole numbers make ties and exact sums; thirds make rounding.
fn number(range: std::ops::Range<i32>) -> impl Strategy<Value = f64> {
    (range, prop_oneof![Just(1.0), Just(3.0)]).prop_map(|(number, unit)| f64::from(number) / unit)
}

fn cost() -> impl Strategy<Value = f64> {
    prop_oneof![8 => number(-6..20), 1 => Just(f64::INFINITY), 1 => Just(0.0)]
}

/// Up to six variables of up to four options, up to seven factors over up to four of them.
fn problems() -> impl Strategy<Value = Problem> {
    let sizes = prop::collection::vec(1usize..=4, 1..=6);
    sizes.prop_flat_map(|sizes| {
        let variables: Vec<_> = sizes
            .iter()
            .enumerate()
            .map(|(index, &size)| {
                prop::collection::vec(number(-4..12), size).prop_map(move |values| Variable { name: format!("x{index}"), values })
            })
            .collect();
        let all: Vec<usize> = (0..sizes.len()).collect();
        let factor = prop::sample::subsequence(all, 0..=sizes.len().min(4)).prop_shuffle().prop_flat_map(move |vars| {
            let entries = vars.iter().map(|&var| sizes[var]).product::<usize>();
            let finite = vars.is_empty();
            let costs = if finite {
                prop::collection::vec(number(-6..20), entries).boxed()
            } else {
                prop::collection::vec(cost(), entries).boxed()
            };
            costs.prop_map(move |costs| Factor { name: format!("f{vars:?}"), vars: vars.clone(), costs })
        });
        (variables, prop::collection::vec(factor, 0..=7)).prop_map(|(variables, factors)| Problem { variables, factors })
    })
}

fn groups() -> impl Strategy<Value = Vec<Group>> {
    let chunk = (0i32..20, -3i32..10).prop_map(|(value, cost)| Chunk { value: value.into(), cost: cost.into() });
    let group = (prop::collection::vec(chunk, 0..=4), 0usize..=2, any::<bool>()).prop_map(|(mut chunks, min, sorted)| {
        if sorted {
            chunks.sort_by(|a, b| b.value.total_cmp(&a.value));
        }
        Group { name: "g".into(), min_chunks: min.min(chunks.len()), chunks }
    });
    prop::collection::vec(group, 1..=4)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn joint_is_brute_force(problem in problems(), fraction in 0.0f64..1.1) {
        let floor = floor(&problem);
        let dearest = choices(&problem).iter().map(|c| problem.cost(c)).filter(|c| c.is_finite()).fold(floor, f64::max);
        if floor == f64::INFINITY {
            let refused = matches!(joint::solve(&problem, 1e9, &Limits::default()), Err(Error::Contradiction { .. }));
            prop_assert!(refused);
            return Ok(());
        }
        let cheapest = joint::min_cost(&problem, &Limits::default()).unwrap();
        prop_assert!(close(cheapest.cost, floor), "floor {} is not {floor}", cheapest.cost);
        let budget = floor + fraction * (dearest - floor);
        let solution = joint::solve(&problem, budget, &Limits::default()).unwrap();
        let best = best(&problem, budget + 1e-9).unwrap();
        prop_assert!(close(solution.value, best), "value {} is not {best}", solution.value);
        prop_assert!(solution.cost <= budget + 1e-9);
        prop_assert!(close(problem.cost(&solution.choice), solution.cost));
        prop_assert!(close(problem.value(&solution.choice), solution.value));
        prop_assert_eq!(solution.stop, Stop::Optimal);
        prop_assert!(solution.bound >= solution.value);
        prop_assert_eq!(solution.gap(), 0.0);
    }

    #[test]
    fn below_the_floor_the_floor_is_told(problem in problems(), short in 0.01f64..5.0) {
        let floor = floor(&problem);
        prop_assume!(floor.is_finite());
        match joint::solve(&problem, floor - short, &Limits::default()) {
            Err(Error::Infeasible { floor: told }) => prop_assert!(close(told, floor)),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn the_frontier_holds_every_optimum(problem in problems()) {
        prop_assume!(floor(&problem).is_finite());
        let front = joint::frontier(&problem, &Limits::default()).unwrap();
        for pair in front.windows(2) {
            prop_assert!(pair[0].cost < pair[1].cost && pair[0].value < pair[1].value, "{pair:?}");
        }
        for point in &front {
            prop_assert_eq!(point.stop, Stop::Optimal);
            prop_assert!(close(problem.cost(&point.choice), point.cost));
        }
        let mut budgets: Vec<f64> = choices(&problem).iter().map(|c| problem.cost(c)).filter(|c| c.is_finite()).collect();
        budgets.sort_by(f64::total_cmp);
        for budget in budgets {
            let at = front.iter().rfind(|point| point.cost <= budget + 1e-9).unwrap();
            prop_assert!(close(at.value, best(&problem, budget + 1e-9).unwrap()));
        }
    }

    #[test]
    fn thinned_answers_keep_their_promises(problem in problems(), fraction in 0.0f64..1.0) {
        // Tables of up to 4⁴ combinations pass, messages of more than a few states do not.
        let limits = Limits { max_states: 256, tolerance: 0.5, time: Some(std::time::Duration::ZERO) };
        let floor = floor(&problem);
        prop_assume!(floor.is_finite());
        let dearest = choices(&problem).iter().map(|c| problem.cost(c)).filter(|c| c.is_finite()).fold(floor, f64::max);
        let budget = floor + fraction * (dearest - floor);
        let best_value = best(&problem, budget + 1e-9).unwrap();
        match joint::solve(&problem, budget, &limits) {
            Ok(solution) => {
                prop_assert!(solution.cost <= budget + 1e-9 && solution.value <= best_value + 1e-9);
                prop_assert!(solution.bound >= best_value - 1e-8, "bound {} < {best_value}", solution.bound);
                if solution.stop == Stop::Optimal {
                    prop_assert!(close(solution.value, best_value));
                }
            }
            Err(error) => prop_assert!(matches!(error, Error::Undecided { .. }), "{error:?}"),
        }
        match joint::frontier(&problem, &Limits { max_states: 256, ..Limits::default() }) {
            Ok(front) => for point in front {
                let best = best(&problem, point.cost + 1e-9).unwrap();
                prop_assert!(point.value <= best + 1e-9 && best <= point.bound + 1e-8, "{point:?} {best}");
            },
            Err(error) => prop_assert!(matches!(error, Error::Undecided { .. }), "{error:?}"),
        }
    }

    #[test]
    fn lagrange_is_feasible_and_its_bound_is_valid(problem in problems(), fraction in 0.0f64..1.0) {
        let floor = floor(&problem);
        prop_assume!(floor.is_finite());
        let dearest = choices(&problem).iter().map(|c| problem.cost(c)).filter(|c| c.is_finite()).fold(floor, f64::max);
        let budget = floor + fraction * (dearest - floor);
        let best = best(&problem, budget + 1e-9).unwrap();
        match lagrange::solve(&problem, budget, &Limits::default()) {
            Ok(solution) => {
                prop_assert!(solution.cost <= budget + 1e-9 && solution.value <= best + 1e-9);
                prop_assert!(solution.bound >= best - 1e-8, "bound {} < {best}", solution.bound);
            }
            Err(Error::Undecided { found, lower }) => {
                prop_assert!(lower <= floor + 1e-8 && found > budget, "{lower} {floor} {found}");
            }
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }

    #[test]
    fn prefixes_are_exact_and_published_is_never_better(groups in groups(), budget in -10i32..60) {
        let budget = f64::from(budget);
        let problem = knapsack::problem(&groups);
        let floor = floor(&problem);
        if floor > budget {
            for answer in [knapsack::exact(&groups, budget, 60), knapsack::published(&groups, budget, 60), knapsack::exact_continuous(&groups, budget)] {
                prop_assert_eq!(answer, Err(Error::Infeasible { floor }));
            }
            return Ok(());
        }
        let best = best(&problem, budget).unwrap();
        let continuous = knapsack::exact_continuous(&groups, budget).unwrap();
        prop_assert!(close(continuous.value, best) && continuous.cost <= budget + 1e-9);
        // Whole costs on a grid of whole cells: no rounding, so exactly the optimum.
        let cells = (budget - floor).max(1.0) as usize;
        let exact = knapsack::exact(&groups, budget, cells).unwrap();
        prop_assert!(close(exact.value, best), "exact {} is not {best}", exact.value);
        for resolution in [cells, 7, 500] {
            let exact = knapsack::exact(&groups, budget, resolution).unwrap();
            let published = knapsack::published(&groups, budget, resolution).unwrap();
            prop_assert!(published.value <= exact.value + 1e-9, "{} > {}", published.value, exact.value);
            for prefixes in [&exact, &published] {
                prop_assert!(prefixes.cost <= budget + 1e-9 && prefixes.value <= best + 1e-9);
                for (group, &kept) in groups.iter().zip(&prefixes.kept) {
                    prop_assert!((group.min_chunks..=group.chunks.len()).contains(&kept));
                }
                let sum: f64 = groups.iter().zip(&prefixes.kept).flat_map(|(g, &k)| &g.chunks[..k]).map(|c| c.value).sum();
                prop_assert!(close(sum, prefixes.value));
            }
        }
    }

    #[test]
    fn forbidden_combinations_survive_json_shapes(problem in problems()) {
        prop_assert_eq!(problem.validate(), Ok(()));
    }
}
