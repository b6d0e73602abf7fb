//! Many models, each measured once: table lookup, then interleaved batches of what is missing.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::lock::{DeviceLock, LOCK_WAIT};
use crate::machine::Machine;
use crate::measurement::Measurement;
use crate::model::ModelBytes;
use crate::protocol::Protocol;
use crate::runtime::Runtime;
use crate::sampling::{Candidate, Rounds};
use crate::sentinel::sentinel_model;
use crate::table::{TableStore, table_key};

/// Models measured in the same rounds.
const BATCH: usize = 8;

/// Where measurements came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Probes {
    /// Measured now.
    pub measured: usize,
    /// Found in the table, or equal to a model measured now.
    pub cached: usize,
}

impl std::ops::AddAssign for Probes {
    fn add_assign(&mut self, more: Self) {
        self.measured += more.measured;
        self.cached += more.cached;
    }
}

/// Measures models on one runtime and keeps the results in a table.
pub struct Profiler<'a> {
    runtime: &'a dyn Runtime,
    store: &'a mut TableStore,
    probes: Probes,
    progress: Option<Box<dyn FnMut(usize, usize) + 'a>>,
}

impl<'a> Profiler<'a> {
    /// A profiler that keeps its measurements in `store`.
    pub fn new(runtime: &'a dyn Runtime, store: &'a mut TableStore) -> Self {
        Self { runtime, store, probes: Probes::default(), progress: None }
    }

    /// Calls `progress(done, missing)` whenever a missing measurement has been stored.
    #[must_use]
    pub fn with_progress(mut self, progress: impl FnMut(usize, usize) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Probes spent and saved so far.
    pub fn probes(&self) -> Probes {
        self.probes
    }

    /// The table.
    pub fn store(&self) -> &TableStore {
        self.store
    }

    /// One measurement per model, in order. Models with the same structure and shapes are measured
    /// once. Each measurement is stored as soon as it is finished, so an interrupted run loses only
    /// those in progress.
    ///
    /// A table entry serves where it is at least as precise as asked, or was given at least as much
    /// time, and says how the model stands to the sentinel ([`Measurement::to_sentinel`]): one that does not was disturbed
    /// throughout, and is made again.
    ///
    /// # Errors
    /// [`Error::DeviceBusy`], [`Error::Table`], [`Error::NotOnnx`], and the runtime's errors; what
    /// was measured before the error is in the table.
    pub fn measure_many(&mut self, models: &[ModelBytes], protocol: &Protocol) -> Result<Vec<Measurement>, Error> {
        protocol.check()?;
        let machine = Machine::detect();
        let identity = self.runtime.identity();
        let mut keys = Vec::with_capacity(models.len());
        let mut missing: Vec<(String, &ModelBytes)> = Vec::new();
        for model in models {
            let structure = self.runtime.model_key(model)?;
            let key = table_key(&structure, &machine, &identity, protocol);
            let known = self.lookup(&key, protocol)?.is_some();
            if !known && !missing.iter().any(|(k, _)| *k == key) {
                missing.push((key.clone(), model));
            } else {
                self.probes.cached += 1;
            }
            keys.push(key);
        }
        if !missing.is_empty() {
            self.measure_missing(&missing, protocol)?;
        }
        models
            .iter()
            .zip(&keys)
            .map(|(model, key)| {
                let mut measurement = self.store.get(key)?.ok_or_else(|| Error::Table {
                    path: self.store.path().to_path_buf(),
                    cause: "a measurement vanished while measuring".into(),
                    remedy: "let only this program change the table, and run again".into(),
                })?;
                measurement.model.clone_from(&model.name);
                Ok(measurement)
            })
            .collect()
    }

    fn lookup(&self, key: &str, protocol: &Protocol) -> Result<Option<Measurement>, Error> {
        let serves = |m: &Measurement| {
            let precise = m.relative_half_width() <= protocol.precision || m.protocol.time_limit_s >= protocol.time_limit_s;
            // A command is started anew for every sample: too few of them for a ratio, and nothing to be had by measuring again.
            precise && (m.to_sentinel.is_some() || m.runtime.name == "command")
        };
        Ok(self.store.get(key)?.filter(serves))
    }

    fn measure_missing(&mut self, missing: &[(String, &ModelBytes)], protocol: &Protocol) -> Result<(), Error> {
        let _lock = DeviceLock::acquire(LOCK_WAIT)?;
        let mut sentinel = Candidate::new(self.runtime, &sentinel_model())?;
        let mut done = 0;
        for batch in missing.chunks(BATCH) {
            let mut candidates = batch.iter().map(|(_, model)| Candidate::new(self.runtime, model)).collect::<Result<Vec<_>, _>>()?;
            let mut rounds = Rounds::start(&mut candidates, Some(&mut sentinel), protocol)?;
            let mut stored = vec![false; batch.len()];
            loop {
                let more = rounds.step()?;
                rounds.retire_resolved();
                for i in 0..batch.len() {
                    if !stored[i] && !rounds.is_active(i) {
                        self.store.put(&batch[i].0, &rounds.measurement(i))?;
                        stored[i] = true;
                        self.probes.measured += 1;
                        done += 1;
                        if let Some(progress) = &mut self.progress {
                            progress(done, missing.len());
                        }
                    }
                }
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }
}
