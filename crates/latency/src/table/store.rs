//! The table's file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::error::Error;
use crate::measurement::Measurement;
use crate::table::table_key;

/// Version of the database's layout.
const SCHEMA_VERSION: i64 = 1;

/// A latency table in a SQLite file. Readers do not wait for a writer (WAL); a measurement is on
/// disk when [`TableStore::put`] returns.
#[derive(Debug)]
pub struct TableStore {
    connection: Connection,
    path: PathBuf,
}

impl TableStore {
    /// Opens or creates the table at `path`.
    ///
    /// # Errors
    /// [`Error::Table`] where the file is no latency table, of a newer version, or not writable.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_path_buf();
        let connection = Connection::open(&path).map_err(|e| broken(&path, &e))?;
        Self::with(connection, path)
    }

    /// A table that lives only in memory.
    ///
    /// # Errors
    /// [`Error::Table`] where memory is short.
    pub fn in_memory() -> Result<Self, Error> {
        let path = PathBuf::from("(memory)");
        let connection = Connection::open_in_memory().map_err(|e| broken(&path, &e))?;
        Self::with(connection, path)
    }

    fn with(connection: Connection, path: PathBuf) -> Result<Self, Error> {
        let store = Self { connection, path };
        store.prepare().map_err(|e| broken(&store.path, &e))?;
        let version: i64 =
            store.connection.query_row("SELECT version FROM schema", [], |row| row.get(0)).map_err(|e| broken(&store.path, &e))?;
        if version != SCHEMA_VERSION {
            return Err(Error::Table {
                path: store.path,
                cause: format!("it has layout {version}, this program reads {SCHEMA_VERSION}"),
                remedy: "use the program that made it, or another file".into(),
            });
        }
        Ok(store)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(Duration::from_secs(10))?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS schema (version INTEGER NOT NULL);
             INSERT INTO schema SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM schema);
             CREATE TABLE IF NOT EXISTS measurements (
                 key TEXT PRIMARY KEY,
                 model_key TEXT NOT NULL,
                 model TEXT NOT NULL,
                 median_s REAL NOT NULL,
                 taken_at INTEGER NOT NULL,
                 measurement TEXT NOT NULL
             );",
        )
    }

    /// The table's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The measurement with this key.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn get(&self, key: &str) -> Result<Option<Measurement>, Error> {
        let text: Option<String> = self
            .connection
            .query_row("SELECT measurement FROM measurements WHERE key = ?1", [key], |r| r.get(0))
            .optional()
            .map_err(|e| broken(&self.path, &e))?;
        text.map(|t| self.parse(&t)).transpose()
    }

    /// Keeps a measurement, replacing an older one with the same key.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn put(&mut self, key: &str, measurement: &Measurement) -> Result<(), Error> {
        let text = serde_json::to_string(measurement).map_err(|e| self.corrupt(&e))?;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO measurements VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    key,
                    measurement.model_key,
                    measurement.model,
                    measurement.median_s,
                    i64::try_from(measurement.taken_at).unwrap_or(i64::MAX),
                    text
                ],
            )
            .map(|_| ())
            .map_err(|e| broken(&self.path, &e))
    }

    /// All measurements, by key.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn all(&self) -> Result<Vec<(String, Measurement)>, Error> {
        let mut statement =
            self.connection.prepare("SELECT key, measurement FROM measurements ORDER BY key").map_err(|e| broken(&self.path, &e))?;
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).map_err(|e| broken(&self.path, &e))?;
        rows.map(|row| {
            let (key, text) = row.map_err(|e| broken(&self.path, &e))?;
            Ok((key, self.parse(&text)?))
        })
        .collect()
    }

    /// Number of measurements.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn len(&self) -> Result<usize, Error> {
        self.connection
            .query_row("SELECT COUNT(*) FROM measurements", [], |row| row.get::<_, i64>(0))
            .map(|n| usize::try_from(n).unwrap_or(0))
            .map_err(|e| broken(&self.path, &e))
    }

    /// Whether the table has no measurement.
    ///
    /// # Errors
    /// [`Error::Table`].
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// The key under which a measurement belongs, from what it says about itself.
    pub fn key_of(measurement: &Measurement) -> String {
        let m = measurement;
        table_key(&m.model_key, &m.machine, &m.runtime, &m.protocol)
    }

    fn parse(&self, text: &str) -> Result<Measurement, Error> {
        serde_json::from_str(text).map_err(|e| self.corrupt(&e))
    }

    pub(super) fn corrupt(&self, e: &serde_json::Error) -> Error {
        Error::Table {
            path: self.path.clone(),
            cause: format!("a measurement in it cannot be read or written: {e}"),
            remedy: "use another file, or delete this one and measure again".into(),
        }
    }
}

fn broken(path: &Path, e: &rusqlite::Error) -> Error {
    let remedy = match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => "this is no latency table; name another file",
        Some(rusqlite::ErrorCode::DiskFull) => "the disk is full; free some space and run again",
        Some(rusqlite::ErrorCode::DatabaseBusy) => "another process writes to it; try again",
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::CannotOpen) => "check that the folder exists and can be written",
        _ => "name another file",
    };
    Error::Table { path: path.to_path_buf(), cause: e.to_string(), remedy: remedy.into() }
}
