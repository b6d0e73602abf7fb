//! One file per command.

mod apply;
mod demo;
mod doctor;
mod eval;
mod inspect;
mod measure;
mod pareto;
mod placement;
mod profile;
mod prune;
mod report;
mod size;

use crate::arguments::{Cli, Command};
use crate::failure::Result;

/// Runs the command.
///
/// # Errors
/// What it could not do, with the exit code that belongs to it.
pub fn run(cli: &Cli) -> Result<()> {
    let shared = &cli.shared;
    match &cli.command {
        Command::Inspect(a) => inspect::run(a, shared),
        Command::Profile(a) => profile::run(a, shared),
        Command::Measure(a) => measure::run(a, shared),
        Command::Eval(a) => eval::run(a, shared),
        Command::Prune(a) => prune::run(a, shared),
        Command::Pareto(a) => pareto::run(a, shared),
        Command::Apply(a) => apply::run(a, shared),
        Command::Resume(a) => prune::resume(a, shared),
        Command::Demo(a) => demo::run(a, shared),
        Command::Doctor(a) => doctor::run(a, shared),
        Command::Worker => Ok(latency::worker_main(std::io::stdin().lock(), std::io::stdout().lock())?),
    }
}
