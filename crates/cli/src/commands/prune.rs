//! `prune` and `resume`.

use crate::arguments::{PruneArgs, ResumeArgs, Shared};
use crate::commands::{pareto, report, schemes, size};
use crate::failure::Result;
use crate::progress::Progress;
use crate::{files, interrupt};

/// Prunes.
///
/// # Errors
/// As [`secateur::prune`].
pub fn run(a: &PruneArgs, shared: &Shared) -> Result<()> {
    if let Some(budget) = a.budget_params {
        return size::run(a, budget, shared);
    }
    if let Some((settings, job)) = a.scheme_job()? {
        return schemes::run(settings, job, &a.job.out, shared);
    }
    let settings = a.settings()?;
    // A mistyped name is found out before a run directory is made.
    files::load_model(&settings.model)?;
    interrupt::watch()?;
    let out = &a.job.out;
    let r = files::in_run(out, || secateur::prune(settings, out, &mut Progress::new(shared.quiet)))?;
    report::print("prune", &r, out, None, shared)
}

/// Goes on with a run.
///
/// # Errors
/// As [`secateur::resume`].
pub fn resume(a: &ResumeArgs, shared: &Shared) -> Result<()> {
    interrupt::watch()?;
    if secateur::is_scheme_run(&a.dir) {
        let r = secateur::resume_schemes(&a.dir, Some(files::worker()?), &mut Progress::new(shared.quiet))?;
        return schemes::print("resume", &r, &a.dir, shared);
    }
    if secateur::is_pareto_run(&a.dir) {
        let front = secateur::resume_pareto(&a.dir, Some(files::worker()?), &mut Progress::new(shared.quiet).without_outlook())?;
        return pareto::print("resume", &front, &a.dir, shared);
    }
    let r = secateur::resume(&a.dir, Some(files::worker()?), &mut Progress::new(shared.quiet))?;
    report::print("resume", &r, &a.dir, None, shared)
}
