//! Limits, bounds and errors: what the solvers promise when they may not finish, and what they refuse.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use secateur_search::knapsack::{self, Chunk, Group};
use secateur_search::{Error, Factor, Limits, Problem, Stop, Variable, joint, lagrange};

/// A chain of variables with whole costs between neighbours: `values[i][x]`, `costs[i][x][y]`.
#[derive(Debug, Clone)]
struct Chain {
    values: Vec<Vec<i32>>,
    costs: Vec<Vec<Vec<i32>>>,
}

impl Chain {
    fn problem(&self) -> Problem {
        let variables = self
            .values
            .iter()
            .enumerate()
            .map(|(index, values)| Variable { name: format!("x{index}"), values: values.iter().map(|&value| value.into()).collect() });
        let factors = self.costs.iter().enumerate().map(|(index, table)| Factor {
            name: format!("x{index}-x{}", index + 1),
            vars: vec![index, index + 1],
            costs: table.iter().flatten().map(|&cost| cost.into()).collect(),
        });
        Problem { variables: variables.collect(), factors: factors.collect() }
    }

    /// Dynamic programming over whole costs: best value for every total cost up to `budget`.
    fn best(&self, budget: usize) -> Option<f64> {
        let mut table: Vec<Vec<Option<i32>>> =
            self.values[0].iter().map(|&v| std::iter::once(Some(v)).chain(vec![None; budget]).collect()).collect();
        for (step, costs) in self.costs.iter().enumerate() {
            let mut next = vec![vec![None; budget + 1]; self.values[step + 1].len()];
            for (x, from) in table.iter().enumerate() {
                for (spent, value) in from.iter().enumerate() {
                    let Some(value) = value else { continue };
                    for (y, into) in next.iter_mut().enumerate() {
                        let spent = spent + costs[x][y] as usize;
                        if spent <= budget {
                            into[spent] = into[spent].max(Some(value + self.values[step + 1][y]));
                        }
                    }
                }
            }
            table = next;
        }
        table.into_iter().flatten().flatten().max().map(f64::from)
    }
}

fn chains() -> impl Strategy<Value = Chain> {
    (4usize..=20, 2usize..=5).prop_flat_map(|(length, options)| {
        let values = prop::collection::vec(prop::collection::vec(0i32..1000, options), length);
        let table = prop::collection::vec(prop::collection::vec(0i32..60, options), options);
        (values, prop::collection::vec(table, length - 1)).prop_map(|(values, costs)| Chain { values, costs })
    })
}

/// Every variable meets every other: no elimination order is narrow.
fn webs() -> impl Strategy<Value = Problem> {
    (6usize..=11).prop_flat_map(|count| {
        let values = prop::collection::vec((0i32..100, 0i32..100), count);
        let pairs = prop::collection::vec(prop::array::uniform4(0i32..50), count * (count - 1) / 2);
        (values, pairs).prop_map(move |(values, pairs)| {
            let variables = values.iter().map(|&(a, b)| Variable { name: "x".into(), values: vec![a.into(), b.into()] });
            let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| vec![a, b]));
            let factors = all.zip(&pairs).map(|(vars, costs)| Factor {
                name: "pair".into(),
                vars,
                costs: costs.iter().map(|&cost| cost.into()).collect(),
            });
            Problem { variables: variables.collect(), factors: factors.collect() }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn long_chains_agree_with_dynamic_programming(chain in chains(), fraction in 0.0f64..1.0) {
        let problem = chain.problem();
        let floor = joint::min_cost(&problem, &Limits::default()).unwrap().cost;
        let budget = (floor + fraction * 40.0 * chain.costs.len() as f64).floor();
        let best = chain.best(budget as usize).unwrap();
        let solution = joint::solve(&problem, budget, &Limits::default()).unwrap();
        prop_assert_eq!((solution.value, solution.stop), (best, Stop::Optimal));
        prop_assert!(solution.cost <= budget);
        prop_assert_eq!(&solution, &joint::solve(&problem, budget, &Limits::default()).unwrap());
        if floor > 0.0 {
            let refused = joint::solve(&problem, floor - 1.0, &Limits::default());
            prop_assert_eq!(refused, Err(Error::Infeasible { floor }));
        }

        // Few states, or none of the time: the optimum lies between the value and the bound.
        for limits in [
            Limits { max_states: 125, tolerance: 0.1, time: None },
            Limits { time: Some(Duration::ZERO), ..Limits::default() },
        ] {
            let rough = joint::solve(&problem, budget, &limits).unwrap();
            prop_assert!(rough.cost <= budget && rough.value <= best && best <= rough.bound + 1e-6, "{rough:?} {best}");
            match rough.stop {
                Stop::Optimal => prop_assert_eq!(rough.value, best),
                Stop::WithinGap { gap } | Stop::OutOfTime { gap } => prop_assert!(gap > 0.0 && gap == rough.gap()),
                Stop::Relaxed { .. } => prop_assert!(false, "a chain is narrow"),
            }
        }
    }

    #[test]
    fn a_frontier_too_long_is_sampled(chain in chains()) {
        let problem = chain.problem();
        let limits = Limits { max_states: 125, ..Limits::default() };
        let front = joint::frontier(&problem, &limits).unwrap();
        prop_assert!(!front.is_empty());
        for pair in front.windows(2) {
            prop_assert!(pair[0].cost < pair[1].cost && pair[0].value < pair[1].value);
        }
        for point in front {
            let best = chain.best(point.cost as usize).unwrap();
            prop_assert!(point.value <= best && best <= point.bound + 1e-6, "{point:?} {best}");
            prop_assert_eq!(problem.cost(&point.choice), point.cost);
        }
    }

    #[test]
    fn wide_graphs_get_a_choice_and_a_bound(problem in webs(), fraction in 0.0f64..1.0) {
        let limits = Limits { max_states: 30, ..Limits::default() };
        let exact_floor = joint::min_cost(&problem, &Limits::default()).unwrap().cost;
        let floor = joint::min_cost(&problem, &limits).unwrap();
        prop_assert!(floor.bound <= exact_floor + 1e-6 && exact_floor <= floor.cost);
        let budget = floor.cost + fraction * 20.0 * problem.factors.len() as f64;
        let exact = joint::solve(&problem, budget, &Limits::default()).unwrap();
        prop_assert_eq!(exact.stop, Stop::Optimal);
        let rough = joint::solve(&problem, budget, &limits).unwrap();
        prop_assert!(matches!(rough.stop, Stop::Relaxed { .. } | Stop::Optimal), "{:?}", rough.stop);
        prop_assert!(rough.cost <= budget && rough.value <= exact.value && exact.value <= rough.bound + 1e-6);
        // How good the heuristic is on a single instance is no law; how far it may be from the best is what it has to say.
        if let Stop::Relaxed { gap } = rough.stop {
            prop_assert!(exact.value - rough.value <= gap * rough.bound.abs() + 1e-6, "{gap} of {} for {}", rough.value, exact.value);
        }
        prop_assert_eq!(&rough, &lagrange::solve(&problem, budget, &limits).unwrap());
    }
}

fn variable(name: &str, values: &[f64]) -> Variable {
    Variable { name: name.into(), values: values.to_vec() }
}

fn factor(name: &str, vars: &[usize], costs: &[f64]) -> Factor {
    Factor { name: name.into(), vars: vars.to_vec(), costs: costs.to_vec() }
}

#[test]
fn a_removed_block_takes_its_widths_with_it() {
    // present × width: removing costs nothing and forces width 0; staying costs 1 + width and forbids it.
    let inf = f64::INFINITY;
    let problem = Problem {
        variables: vec![variable("present", &[0.0, 0.0]), variable("width", &[0.0, 3.0, 5.0])],
        factors: vec![factor("block", &[0, 1], &[0.0, inf, inf, inf, 2.0, 3.0])],
    };
    let at = |budget: f64| joint::solve(&problem, budget, &Limits::default()).unwrap().choice;
    assert_eq!(at(1.9), [0, 0]);
    assert_eq!(at(2.0), [1, 1]);
    assert_eq!(at(3.0), [1, 2]);
    let front = joint::frontier(&problem, &Limits::default()).unwrap();
    let points: Vec<(f64, f64)> = front.iter().map(|point| (point.cost, point.value)).collect();
    assert_eq!(points, [(0.0, 0.0), (2.0, 3.0), (3.0, 5.0)]);
}

#[test]
fn the_published_programme_falls_into_its_trap() {
    // At the capacity where b's second chunk looks back, the table's optimum holds a instead of b's first.
    let group = |chunks: &[(f64, f64)]| Group {
        name: "g".into(),
        min_chunks: 0,
        chunks: chunks.iter().map(|&(value, cost)| Chunk { value, cost }).collect(),
    };
    let groups = [group(&[(10.0, 2.0)]), group(&[(9.0, 2.0), (8.0, 1.0)])];
    let published = knapsack::published(&groups, 3.0, 3).unwrap();
    let exact = knapsack::exact(&groups, 3.0, 3).unwrap();
    assert_eq!((published.kept, published.value), (vec![1, 0], 10.0));
    assert_eq!((exact.kept, exact.value), (vec![0, 2], 17.0));
}

#[test]
fn nothing_to_choose_is_a_choice() {
    let problem = Problem { variables: vec![], factors: vec![factor("stem", &[], &[2.0])] };
    let solution = joint::solve(&problem, 2.0, &Limits::default()).unwrap();
    assert_eq!((solution.choice.len(), solution.value, solution.cost, solution.stop), (0, 0.0, 2.0, Stop::Optimal));
    assert_eq!(joint::solve(&problem, 1.0, &Limits::default()), Err(Error::Infeasible { floor: 2.0 }));
    assert_eq!(joint::frontier(&problem, &Limits::default()).unwrap().len(), 1);
}

#[test]
fn bad_problems_are_refused_by_name_and_with_a_remedy() {
    let good = || Problem {
        variables: vec![variable("a", &[0.0, 1.0]), variable("b", &[0.0, 1.0])],
        factors: vec![factor("layer", &[0, 1], &[0.0; 4])],
    };
    let refused = |change: fn(&mut Problem), says: &[&str]| {
        let mut problem = good();
        change(&mut problem);
        let message = joint::solve(&problem, 1.0, &Limits::default()).unwrap_err().to_string();
        for part in says {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    };
    refused(|p| p.variables[1].values.clear(), &["`b`", "no options"]);
    refused(|p| p.variables[0].values[1] = f64::NAN, &["`a`", "option 1", "finite"]);
    refused(|p| p.factors[0].vars[1] = 7, &["`layer`", "variable 7", "only 2"]);
    refused(|p| p.factors[0].vars[1] = 0, &["`layer`", "`a`", "twice"]);
    refused(|p| p.factors[0].costs.truncate(3), &["`layer`", "3 costs for 4"]);
    refused(|p| p.factors[0].costs[2] = f64::NAN, &["`layer`", "cost 2", "NaN"]);
    refused(|p| p.factors[0].costs = vec![f64::INFINITY; 4], &["forbidden", "allow at least one"]);
    refused(|p| p.factors[0].costs = vec![5.0; 4], &["least attainable cost is 5", "raise the budget"]);

    let argument = |budget, limits: &Limits| joint::solve(&good(), budget, limits).unwrap_err().to_string();
    assert!(argument(f64::NAN, &Limits::default()).contains("budget is NaN"));
    assert!(argument(1.0, &Limits { max_states: 0, ..Limits::default() }).contains("max_states"));
    assert!(argument(1.0, &Limits { tolerance: 1.0, ..Limits::default() }).contains("tolerance"));

    let groups = [Group { name: "g".into(), min_chunks: 2, chunks: vec![Chunk { value: 1.0, cost: 1.0 }] }];
    let message = knapsack::exact(&groups, 1.0, 10).unwrap_err().to_string();
    assert!(message.contains("`g`") && message.contains("lower the minimum"), "{message}");
    let none: [Group; 0] = [];
    assert!(knapsack::published(&none, f64::INFINITY, 10).unwrap_err().to_string().contains("finite budget"));
    assert!(knapsack::published(&none, 1.0, 0).unwrap_err().to_string().contains("at least one cell"));
    assert_eq!(knapsack::published(&none, 1.0, 10).unwrap().kept, Vec::<usize>::new());
}
