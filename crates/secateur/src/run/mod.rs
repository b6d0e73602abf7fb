//! The run directory: configuration, journal, models, plan and report. What it holds is enough to go on after a kill.

mod journal;

use std::path::{Path, PathBuf};

pub use journal::Journal;
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::settings::Settings;

/// The directory of one run.
#[derive(Debug)]
pub struct Run {
    directory: PathBuf,
    /// Results of finished steps.
    pub journal: Journal,
}

impl Run {
    /// Makes the directory of a new run.
    ///
    /// # Errors
    /// It exists and is not empty, or cannot be written.
    pub fn create(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        Self::must_be_free(&directory)?;
        let cannot = |e: std::io::Error| Error::File { path: directory.clone(), cause: format!("it cannot be made: {e}") };
        std::fs::create_dir_all(&directory).map_err(cannot)?;
        let journal = Journal::open(directory.join("journal.sqlite"))?;
        Ok(Self { directory, journal })
    }

    /// That nothing is in the way of a new run in `directory`.
    ///
    /// # Errors
    /// It exists and is not empty.
    pub fn must_be_free(directory: &Path) -> Result<()> {
        if !std::fs::read_dir(directory).is_ok_and(|mut d| d.next().is_some()) {
            return Ok(());
        }
        let what = if directory.join("journal.sqlite").exists() {
            "holds another run, with settings of its own; continue it as it is with `secateur resume`, or"
        } else {
            "is not empty;"
        };
        Err(Error::File { path: directory.to_owned(), cause: format!("the run directory {what} choose another `--out`") })
    }

    /// Opens the directory of a run that was started before.
    ///
    /// # Errors
    /// There is no run in it.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref().to_owned();
        let path = directory.join("journal.sqlite");
        if !path.exists() {
            return Err(Error::File {
                path: directory,
                cause: "there is no run here (no journal.sqlite); name the directory given to `prune --out` or `pareto --out`".into(),
            });
        }
        Ok(Self { journal: Journal::open(path)?, directory })
    }

    /// What the run was asked to do, measuring in processes started by `worker`.
    ///
    /// # Errors
    /// It does not say; it is the work of a mapping.
    pub(crate) fn settings(&self, worker: Option<latency::WorkerCommand>) -> Result<Settings> {
        // A mapping keeps how it maps beside them.
        if self.read_json::<serde_json::Value>("config.json")?.is_array() {
            let cause = "it is the work of `map`: give the same command again, which goes on from here".into();
            return Err(Error::File { path: self.directory.clone(), cause });
        }
        Ok(Settings { worker, ..self.read_json("config.json")? })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of a file of the run; folders on the way are made.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::File { path: parent.to_owned(), cause: e.to_string() })?;
        }
        Ok(path)
    }

    /// As [`write_json`], into the run.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<PathBuf> {
        let path = self.file(name)?;
        write_json(&path, value)?;
        Ok(path)
    }

    /// Reads a JSON file of the run.
    ///
    /// # Errors
    /// It is not there or does not fit.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        read_json(&self.directory.join(name))
    }

    /// Writes a model of the run, replacing one of the same name (an interrupted step's); external data go beside it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write_model(&self, name: &str, model: &graph::Model) -> Result<PathBuf> {
        let path = self.file(name)?;
        model.replace(&path)?;
        Ok(path)
    }
}

/// Writes `value` as JSON through a temporary file and a rename.
///
/// # Errors
/// The disk refuses.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::File { path: path.to_owned(), cause: e.to_string() })?;
    text.push(b'\n');
    Ok(graph::write_atomically(path, &text)?)
}

/// Reads a JSON file.
///
/// # Errors
/// It is not there or does not fit.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let error = |cause: String| Error::File { path: path.to_owned(), cause };
    let text = std::fs::read_to_string(path).map_err(|e| error(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| error(format!("it does not read as expected: {e}")))
}
