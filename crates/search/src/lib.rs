//! Solvers that have never heard of networks.
//!
//! A [`Problem`] is a set of variables, each with a list of options, a value for every option, and
//! cost tables (*factors*) over small sets of variables. A solver chooses one option per variable
//! so that the total value is as large as possible while the total cost stays within a budget, and
//! returns a [`Solution`]: the choice, its value and cost, a proven upper bound on the value, and
//! why it stopped. What an option stands for is known to the caller only.
//!
//! | module | problem | guarantee |
//! |---|---|---|
//! | [`joint`] | any [`Problem`] | optimal; or feasible with a stated gap when a limit is hit |
//! | [`lagrange`] | any [`Problem`], however wide its interaction graph | feasible, with a proven bound |
//! | [`knapsack`] | ordered chunks per group, additive costs | optimal prefixes, or the published greedy programme |
//! | [`evolution`] | genomes with a cost limit and a fitness that only the caller can compute | none; deterministic for a seed |
//! | [`policy`] | genomes with legal options and a reward that only the caller can compute | none; deterministic for a seed |
//! | [`pareto`] | – | which points no other point beats |
//!
//! All solvers are deterministic: the same problem gives the same answer, bit for bit, unless a
//! wall-clock limit is set and reached.
//!
//! ```
//! use secateur_search::{joint, Factor, Limits, Problem, Variable};
//!
//! // Two variables with widths 0, 1, 2; one layer whose cost depends on both.
//! let problem = Problem {
//!     variables: vec![
//!         Variable { name: "a".into(), values: vec![0.0, 3.0, 4.0] },
//!         Variable { name: "b".into(), values: vec![0.0, 2.0, 5.0] },
//!     ],
//!     factors: vec![Factor {
//!         name: "layer".into(),
//!         vars: vec![0, 1],
//!         costs: vec![0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 2.0, 4.0],
//!     }],
//! };
//! let solution = joint::solve(&problem, 2.0, &Limits::default())?;
//! assert_eq!(solution.choice, [1, 2]);
//! assert_eq!((solution.value, solution.cost), (8.0, 2.0));
//! # Ok::<(), secateur_search::Error>(())
//! ```

mod dual;
mod elimination;
mod error;
mod front;
mod maxsum;
mod problem;
mod reduce;
mod relaxation;
mod solution;

pub mod evolution;
pub mod joint;
pub mod knapsack;
pub mod lagrange;
pub mod pareto;
pub mod policy;

pub use error::Error;
pub use problem::{Factor, Problem, Variable};
pub use solution::{Floor, Limits, Solution, Stop};
