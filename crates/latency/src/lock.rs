//! One measuring process per device at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Held while measuring; released when the last clone is dropped or the process ends.
#[derive(Debug, Clone)]
pub struct DeviceLock {
    _file: Arc<File>,
}

/// How long [`DeviceLock::acquire`] waits by default.
pub const LOCK_WAIT: Duration = Duration::from_secs(300);

static HELD: Mutex<Weak<File>> = Mutex::new(Weak::new());

impl DeviceLock {
    /// The lock of this machine; within one process it may be taken again while held.
    ///
    /// # Errors
    /// [`Error::DeviceBusy`] after `wait`, [`Error::Io`] where the lock file cannot be made.
    pub fn acquire(wait: Duration) -> Result<Self, Error> {
        Self::acquire_at(&Self::path(), &HELD, wait)
    }

    fn acquire_at(path: &Path, held: &Mutex<Weak<File>>, wait: Duration) -> Result<Self, Error> {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = held.upgrade() {
            return Ok(Self { _file: file });
        }
        let file = Arc::new(lock_file(path, wait)?);
        *held = Arc::downgrade(&file);
        Ok(Self { _file: file })
    }

    /// The lock's file.
    pub fn path() -> PathBuf {
        std::env::temp_dir().join("secateur-measuring.lock")
    }
}

fn lock_file(path: &Path, wait: Duration) -> Result<File, Error> {
    let io = |cause| Error::Io { path: path.to_path_buf(), cause };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        // Another user's file: reading is enough to lock.
        .or_else(|_| File::open(path))
        .map_err(io)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(Error::DeviceBusy { path: path.to_path_buf(), holder });
            }
            Err(TryLockError::Error(cause)) => return Err(io(cause)),
        }
    }
    // The holder's name is for messages only.
    let _ = file.set_len(0);
    let _ = file.rewind();
    let _ = write!(file, "process {}", std::process::id());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = lock_file(&path, Duration::ZERO).unwrap();
        let text = lock_file(&path, Duration::ZERO).unwrap_err().to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
        drop(first);
        lock_file(&path, Duration::ZERO).unwrap();
    }

    #[test]
    fn one_process_may_take_it_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (path, held) = (folder.path().join("lock"), Mutex::new(Weak::new()));
        let first = DeviceLock::acquire_at(&path, &held, Duration::ZERO).unwrap();
        let second = DeviceLock::acquire_at(&path, &held, Duration::ZERO).unwrap();
        drop(first);
        assert!(lock_file(&path, Duration::ZERO).is_err());
        drop(second);
        assert!(lock_file(&path, Duration::ZERO).is_ok());
    }
}
