//! Options, values and costs: what is to be chosen.

use serde::{Deserialize, Serialize};

use crate::Error;

/// Choose one option per variable:
/// maximise `Σ_i values_i[x_i]` subject to `Σ_f costs_f[x_f] ≤ budget`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// What is chosen.
    pub variables: Vec<Variable>,
    /// What the choices cost together.
    pub factors: Vec<Factor>,
}

/// One choice to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    /// Name used in messages.
    pub name: String,
    /// Value of each option, to be maximised; finite, any sign. What an option index means is
    /// known to the caller only.
    pub values: Vec<f64>,
}

/// A cost table over the options of a few variables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// Name used in messages.
    pub name: String,
    /// Indices of the variables, distinct, in the order of the table's axes. Empty: a constant cost.
    pub vars: Vec<usize>,
    /// Dense row-major table, the first variable slowest. Costs may be negative; `f64::INFINITY`
    /// forbids a combination (written as `null` in JSON).
    #[serde(with = "forbidden_as_null")]
    pub costs: Vec<f64>,
}

impl Factor {
    /// Row-major position of a full choice in this factor's table.
    ///
    /// # Panics
    /// When the factor or the choice does not fit the problem (see [`Problem::validate`]).
    pub fn position(&self, variables: &[Variable], choice: &[usize]) -> usize {
        self.vars.iter().fold(0, |at, &var| at * variables[var].values.len() + choice[var])
    }
}

impl Problem {
    /// Checks that every variable has options with finite values, that every factor names distinct
    /// existing variables and has one cost per combination, and that no cost is NaN or `-∞`.
    ///
    /// # Errors
    /// [`Error::Variable`] or [`Error::Factor`] for the first offender.
    pub fn validate(&self) -> Result<(), Error> {
        for (index, variable) in self.variables.iter().enumerate() {
            let refuse = |cause: String| Err(Error::Variable { index, name: variable.name.clone(), cause });
            if variable.values.is_empty() {
                return refuse("it has no options; give it at least one".into());
            }
            if let Some(option) = variable.values.iter().position(|value| !value.is_finite()) {
                let value = variable.values[option];
                return refuse(format!(
                    "option {option} has the value {value}; values must be finite (forbid an option by an infinite cost)"
                ));
            }
        }
        for (index, factor) in self.factors.iter().enumerate() {
            let refuse = |cause: String| Err(Error::Factor { index, name: factor.name.clone(), cause });
            let mut combinations = 1usize;
            for (axis, &var) in factor.vars.iter().enumerate() {
                let Some(variable) = self.variables.get(var) else {
                    return refuse(format!("axis {axis} is variable {var}, but there are only {} variables", self.variables.len()));
                };
                if factor.vars[..axis].contains(&var) {
                    return refuse(format!("variable {var} `{}` appears twice; take the diagonal first", variable.name));
                }
                combinations = combinations.saturating_mul(variable.values.len());
            }
            if factor.costs.len() != combinations {
                return refuse(format!("it has {} costs for {combinations} combinations of its variables' options", factor.costs.len()));
            }
            if let Some(at) = factor.costs.iter().position(|cost| cost.is_nan() || *cost == f64::NEG_INFINITY) {
                return refuse(format!("cost {at} is {}; costs are numbers or +infinity", factor.costs[at]));
            }
        }
        Ok(())
    }

    /// Total value of a choice.
    ///
    /// # Panics
    /// When the choice does not have one valid option per variable.
    pub fn value(&self, choice: &[usize]) -> f64 {
        assert_eq!(choice.len(), self.variables.len(), "one option per variable");
        self.variables.iter().zip(choice).map(|(variable, &option)| variable.values[option]).sum()
    }

    /// Total cost of a choice; infinite when it is forbidden.
    ///
    /// # Panics
    /// When the choice does not have one valid option per variable.
    pub fn cost(&self, choice: &[usize]) -> f64 {
        assert_eq!(choice.len(), self.variables.len(), "one option per variable");
        self.factors.iter().map(|factor| factor.costs[factor.position(&self.variables, choice)]).sum()
    }
}

/// JSON has no infinity: forbidden combinations travel as `null`.
mod forbidden_as_null {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(costs: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(costs.iter().map(|&cost| (cost != f64::INFINITY).then_some(cost)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let costs = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(costs.into_iter().map(|cost| cost.unwrap_or(f64::INFINITY)).collect())
    }
}
