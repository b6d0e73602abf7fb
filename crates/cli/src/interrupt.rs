//! Ctrl-C: the first press asks the work to stop at its next step, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Result, exit};

static STOP: AtomicBool = AtomicBool::new(false);

/// The user asked to stop.
pub fn asked() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Watches for Ctrl-C and SIGTERM; for commands that save what they did.
///
/// # Errors
/// The system has no signal handlers left.
pub fn watch() -> Result<()> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        eprintln!("stopping after the step in progress; press again to stop at once (what is recorded stays either way)");
    })
    .map_err(|e| Failure::Other(format!("cannot watch for Ctrl-C: {e}")))
}
