//! Pinning the calling thread to cores, for as long as a guard lives.

use crate::error::Error;

/// The calling thread runs on the given cores until this is dropped; threads it starts meanwhile
/// inherit them.
#[derive(Debug)]
pub struct Pinned {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    before: nix::sched::CpuSet,
}

fn refused(cores: &[usize], remedy: impl Into<String>) -> Error {
    Error::OptionUnsupported { runtime: "this machine".into(), option: format!("affinity to cores {cores:?}"), remedy: remedy.into() }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Pinned {
    /// Pins the calling thread.
    ///
    /// # Errors
    /// [`Error::OptionUnsupported`] where a core does not exist or may not be used.
    pub fn to(cores: &[usize]) -> Result<Self, Error> {
        use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
        use nix::unistd::Pid;

        let me = Pid::from_raw(0);
        let system = |e: nix::Error| refused(cores, format!("the system says: {e}"));
        let before = sched_getaffinity(me).map_err(system)?;
        let mut wanted = CpuSet::new();
        for &core in cores {
            if !before.is_set(core).unwrap_or(false) {
                let allowed = allowed_cores();
                return Err(refused(cores, format!("this process may use cores {allowed:?}")));
            }
            wanted.set(core).map_err(system)?;
        }
        if cores.is_empty() {
            return Err(refused(cores, "name at least one core"));
        }
        sched_setaffinity(me, &wanted).map_err(system)?;
        Ok(Self { before })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(e) = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &self.before) {
            tracing::warn!("the thread's cores could not be restored: {e}");
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Pinned {
    /// Not available on this system.
    ///
    /// # Errors
    /// Always [`Error::OptionUnsupported`].
    pub fn to(cores: &[usize]) -> Result<Self, Error> {
        Err(refused(cores, "pinning is only available on Linux; leave affinity out"))
    }
}

/// The cores the calling thread may use; empty where the system does not say.
pub fn allowed_cores() -> Vec<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) {
        return (0..nix::sched::CpuSet::count()).filter(|c| set.is_set(*c).unwrap_or(false)).collect();
    }
    Vec::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn pinning_ends_with_the_guard() {
        let before = allowed_cores();
        {
            let _pinned = Pinned::to(&before[..1]).unwrap();
            assert_eq!(allowed_cores(), before[..1]);
        }
        assert_eq!(allowed_cores(), before);
    }

    #[test]
    fn a_core_that_is_not_there_is_refused_by_name() {
        let text = Pinned::to(&[100_000]).unwrap_err().to_string();
        assert!(text.contains("100000"), "{text}");
    }
}
