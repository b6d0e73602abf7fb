//! `apply`: a plan onto a model.

use std::path::Path;

use latency::TargetSpec;
use secateur::{PLAN_VERSION, Plan, SchemePlan};
use serde::Serialize;

use crate::arguments::{ApplyArgs, Shared};
use crate::failure::{Failure, Result};
use crate::files::{checking_runtimes, load_model, must_be_new, shapes};
use crate::numbers::{count, operations, percent, thousands};
use crate::output;

#[derive(Serialize)]
struct Body<'a> {
    plan: &'a Path,
    model: &'a Path,
    out: &'a Path,
    /// The network that the plan was made for.
    plan_model: &'a str,
    same_weights: bool,
    /// The largest between what a step makes and its masked twin.
    relative_difference: f64,
    params_before: u64,
    params_after: u64,
    macs_before: u64,
    macs_after: u64,
}

/// Applies.
///
/// # Errors
/// The plan names what the network does not have; the output exists.
pub fn run(a: &ApplyArgs, shared: &Shared) -> Result<()> {
    must_be_new(&a.out, "--out")?;
    if !a.plan.is_file() {
        return Err(Failure::at(&a.plan, "there is no such file; name the plan.json in the directory of a run"));
    }
    if secateur::read_json::<SchemePlan>(&a.plan).is_ok() {
        return Err(Failure::at(
            &a.plan,
            "it is the plan of a job of schemes, which removes weights, not channels: give the network and the mapping to \
             `secateur prune --mapping FILE.toml`",
        ));
    }
    let plan: Plan = secateur::read_json(&a.plan)?;
    if plan.version > PLAN_VERSION {
        return Err(Failure::at(
            &a.plan,
            format!("it is a plan of version {}; this program knows up to {PLAN_VERSION}: update secateur", plan.version),
        ));
    }
    let dense = load_model(&a.model)?;
    let same_weights = secateur::file_hash(&a.model)? == plan.model_hash;
    let before = secateur::Analysis::new(dense.clone(), &shapes(1, &[]))?.costs();
    let runtimes = checking_runtimes(&dense, &TargetSpec::engine());
    let (smaller, checks) = secateur::apply(dense, &plan, &runtimes)?;
    smaller.save(&a.out)?;
    let relative_difference = checks.iter().map(|c| c.relative_difference).fold(0.0, f64::max);
    let after = secateur::Analysis::new(smaller, &shapes(1, &[]))?.costs();
    let (params_before, params_after) = (before.params, after.params);
    let (macs_before, macs_after) = (before.macs, after.macs);
    if shared.json {
        let body = Body {
            plan: &a.plan,
            model: &a.model,
            out: &a.out,
            plan_model: &plan.model,
            same_weights,
            relative_difference,
            params_before,
            params_after,
            macs_before,
            macs_after,
        };
        return output::json("apply", body);
    }
    let share = |a: u64, b: u64| percent(a as f64 / b.max(1) as f64);
    output::say(&format!(
        "{}: {} parameters ({}), {} MACs ({}), after {}",
        a.out.display(),
        thousands(params_after),
        share(params_after, params_before),
        operations(macs_after),
        share(macs_after, macs_before),
        count(plan.cut.steps.len(), "step"),
    ))?;
    output::say(&format!(
        "computes what the network computes with these channels silenced: relative difference {relative_difference:.1e}"
    ))?;
    if !same_weights {
        output::say(&format!("the plan was made for other weights ({}); the channels it names were removed from these", plan.model))?;
    }
    output::say("the weights are those of the model given, not fine-tuned: train it before judging its accuracy")
}
