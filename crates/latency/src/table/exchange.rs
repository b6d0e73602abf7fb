//! Latency tables as JSON, to carry them between machines.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::TableStore;
use crate::error::Error;
use crate::measurement::Measurement;

/// Version of the JSON file's layout.
pub const EXCHANGE_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Exchange {
    schema: String,
    version: u32,
    measurements: Vec<Measurement>,
}

/// The name in the file that says what it is.
const SCHEMA: &str = "secateur latency table";

impl TableStore {
    /// Writes all measurements to a JSON file, by way of a temporary file beside it. Returns how
    /// many.
    ///
    /// # Errors
    /// [`Error::Table`] where this table cannot be read, [`Error::Io`] where the file cannot be
    /// written.
    pub fn export_json(&self, path: impl AsRef<Path>) -> Result<usize, Error> {
        let path = path.as_ref();
        let measurements: Vec<Measurement> = self.all()?.into_iter().map(|(_, m)| m).collect();
        let n = measurements.len();
        let exchange = Exchange { schema: SCHEMA.into(), version: EXCHANGE_VERSION, measurements };
        let text = serde_json::to_vec(&exchange).map_err(|e| self.corrupt(&e))?;
        let io = |cause| Error::Io { path: path.to_path_buf(), cause };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(n)
    }

    /// Adds the measurements of a JSON file. Returns how many were new; where a key is already
    /// here, the later measurement stays.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Table`] where the file is no exported table or of another
    /// version.
    pub fn import_json(&mut self, path: impl AsRef<Path>) -> Result<usize, Error> {
        let path = path.as_ref();
        let text = std::fs::read(path).map_err(|cause| Error::Io { path: path.to_path_buf(), cause })?;
        let refuse = |cause: String| Error::Table {
            path: path.to_path_buf(),
            cause,
            remedy: "export it again with this version of the program".into(),
        };
        let exchange: Exchange = serde_json::from_slice(&text).map_err(|e| refuse(format!("it is no exported latency table: {e}")))?;
        if exchange.schema != SCHEMA || exchange.version != EXCHANGE_VERSION {
            return Err(refuse(format!(
                "it is `{}` version {}, expected `{SCHEMA}` version {EXCHANGE_VERSION}",
                exchange.schema, exchange.version
            )));
        }
        let mut new = 0;
        for measurement in &exchange.measurements {
            let key = Self::key_of(measurement);
            match self.get(&key)? {
                Some(own) if own.taken_at >= measurement.taken_at => {}
                Some(_) => self.put(&key, measurement)?,
                None => {
                    self.put(&key, measurement)?;
                    new += 1;
                }
            }
        }
        Ok(new)
    }
}
