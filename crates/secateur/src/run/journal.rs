//! Results of finished steps, by name. A step that is in the journal is not done again.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// The journal of a run: an SQLite file, one row per finished step.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    db: Connection,
}

impl Journal {
    /// Opens or makes the journal at `path`.
    ///
    /// # Errors
    /// It cannot be opened, or is not a journal.
    pub fn open(path: PathBuf) -> Result<Self> {
        let made = Connection::open(&path).and_then(|db| {
            db.pragma_update(None, "journal_mode", "WAL")?;
            // FULL: a step reported as done survives a power cut, too.
            db.pragma_update(None, "synchronous", "FULL")?;
            db.execute_batch(
                "CREATE TABLE IF NOT EXISTS steps (name TEXT PRIMARY KEY, value TEXT NOT NULL, seconds REAL NOT NULL, finished_at INTEGER NOT NULL)",
            )?;
            Ok(db)
        });
        match made {
            Ok(db) => Ok(Self { path, db }),
            Err(source) => Err(Error::Journal { path, source }),
        }
    }

    fn wrap<T>(&self, r: rusqlite::Result<T>) -> Result<T> {
        r.map_err(|source| Error::Journal { path: self.path.clone(), source })
    }

    /// The recorded result of step `name`.
    ///
    /// # Errors
    /// The journal cannot be read, or the record does not fit this program's version.
    pub fn recall<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let text: Option<String> =
            self.wrap(self.db.query_row("SELECT value FROM steps WHERE name = ?1", [name], |r| r.get(0)).optional())?;
        text.map(|t| {
            serde_json::from_str(&t)
                .map_err(|e| Error::File { path: self.path.clone(), cause: format!("step `{name}` was recorded by another version: {e}") })
        })
        .transpose()
    }

    /// Records the result of step `name`.
    ///
    /// # Errors
    /// The disk refuses; the result cannot be read back, as numbers that are not finite cannot.
    pub fn record<T: Serialize + DeserializeOwned>(&self, name: &str, value: &T, seconds: f64) -> Result<()> {
        let failed = |cause: String| Error::File { path: self.path.clone(), cause: format!("step `{name}`: {cause}") };
        let text = serde_json::to_string(value).map_err(|e| failed(e.to_string()))?;
        serde_json::from_str::<T>(&text).map_err(|e| failed(format!("its result cannot be kept, a number in it is not finite: {e}")))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        self.wrap(self.db.execute("INSERT OR REPLACE INTO steps VALUES (?1, ?2, ?3, ?4)", params![name, text, seconds, now]))?;
        Ok(())
    }

    /// The recorded result of step `name`, or that of `work`, recorded when it is done.
    ///
    /// # Errors
    /// Those of `work` and of the journal.
    pub fn step<T: Serialize + DeserializeOwned>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(done) = self.recall(name)? {
            return Ok(done);
        }
        let start = Instant::now();
        let value = work()?;
        self.record(name, &value, start.elapsed().as_secs_f64())?;
        // What was recorded is what a resumed run will read: go on from the same.
        Ok(self.recall(name)?.unwrap_or(value))
    }

    /// Names of the finished steps with their seconds, in the order they finished.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn finished(&self) -> Result<Vec<(String, f64)>> {
        let read = || {
            let mut q = self.db.prepare("SELECT name, seconds FROM steps ORDER BY rowid")?;
            q.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
        };
        self.wrap(read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_step_is_not_done_again() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal.sqlite");
        let first = Journal::open(path.clone()).expect("open").step("a", || Ok(vec![0.1f64, 1.0 / 3.0])).expect("step");
        let again: Vec<f64> = Journal::open(path).expect("open").step("a", || panic!("done twice")).expect("step");
        assert_eq!(first, again);
    }

    #[test]
    fn what_could_not_be_read_back_is_not_recorded() {
        let folder = tempfile::tempdir().expect("folder");
        let journal = Journal::open(folder.path().join("journal.sqlite")).expect("open");
        let refused = journal.record("a", &f64::NAN, 0.0).expect_err("refused").to_string();
        assert!(refused.contains("not finite"), "{refused}");
        assert_eq!(journal.recall::<f64>("a").expect("recall"), None);
    }

    #[test]
    fn a_failed_step_leaves_no_record() {
        let folder = tempfile::tempdir().expect("folder");
        let journal = Journal::open(folder.path().join("journal.sqlite")).expect("open");
        assert!(journal.step::<u32>("a", || Err(Error::Setting("no".into()))).is_err());
        assert_eq!(journal.step("a", || Ok(3)).expect("step"), 3);
    }
}
