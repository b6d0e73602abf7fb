//! `demo`: the main job on a made-up problem.

use crate::arguments::{DemoArgs, Shared};
use crate::commands::report;
use crate::failure::Result;
use crate::interrupt;
use crate::progress::Progress;

/// Runs the demonstration.
///
/// # Errors
/// As [`secateur::demo`].
pub fn run(a: &DemoArgs, shared: &Shared) -> Result<()> {
    interrupt::watch()?;
    let d = secateur::demo(&a.out, a.seed, Some(crate::files::worker()?), &mut Progress::new(shared.quiet))?;
    report::print("demo", &d.report, &d.out, Some(&d.model), shared)
}
