//! What can be wrong with a problem, and what to do about it.

/// Why no solution was returned. Every message names the offender and the remedy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A variable of the problem is malformed.
    #[error("variable {index} `{name}`: {cause}")]
    Variable {
        /// Position in [`crate::Problem::variables`].
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        cause: String,
    },
    /// A factor of the problem is malformed.
    #[error("factor {index} `{name}`: {cause}")]
    Factor {
        /// Position in [`crate::Problem::factors`].
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        cause: String,
    },
    /// A knapsack group is malformed.
    #[error("group {index} `{name}`: {cause}")]
    Group {
        /// Position in the list of groups.
        index: usize,
        /// Its name.
        name: String,
        /// What is wrong and what to do.
        cause: String,
    },
    /// A number given beside the problem (budget, resolution, limit) cannot be used.
    #[error("{name} is {value}: {cause}")]
    Argument {
        /// Which one.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What is wrong and what to do.
        cause: &'static str,
    },
    /// No choice meets the budget; the least attainable cost is `floor`.
    #[error("no choice meets the budget: the least attainable cost is {floor}; raise the budget to at least that")]
    Infeasible {
        /// The least attainable cost, in the unit of the costs.
        floor: f64,
    },
    /// Every combination of options is forbidden, whatever the budget.
    #[error("every combination of options is forbidden by infinite costs; allow at least one (first dead end: {at})")]
    Contradiction {
        /// Where the contradiction shows.
        at: String,
    },
    /// The interaction graph is too wide for an exact answer and the search found nothing at the budget.
    #[error(
        "nothing was found at this budget: the cheapest choice found costs {found}, and no choice costs less than \
         {lower}; raise the budget to {found}, or raise `max_states` for an exact answer"
    )]
    Undecided {
        /// Cost of the cheapest choice found (infinite when none was).
        found: f64,
        /// Proven lower bound on every choice's cost.
        lower: f64,
    },
}

impl Error {
    /// Nothing was found at the budget, whether or not it is proven that there is nothing: a larger one may do.
    pub fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Infeasible { .. } | Self::Undecided { .. })
    }
}
