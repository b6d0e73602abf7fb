//! Measuring on the target of a run: single layers into the table, whole networks against the dense one.

use std::path::{Path, PathBuf};

use graph::Model;
use latency::{
    Comparison, Measurement, ModelBytes, PROCESSES, ProcessRounds, Profiler, Protocol, Runtime, TableStore, TargetSpec, WorkerCommand,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::events::Unfit;
use crate::plan::file_hash;
use crate::run::{Journal, Run};
use crate::verify::model_bytes;

pub use latency::Probes;

/// Latency of a network, measured in the same rounds as the dense one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Relative {
    /// Median over rounds of time(network) / time(dense).
    pub ratio: f64,
    /// Interval of the ratio.
    pub ci: (f64, f64),
    /// The network's own median in these rounds, seconds.
    pub median_s: f64,
    /// The dense network's median in these rounds, seconds.
    pub dense_s: f64,
    /// Rounds used.
    pub rounds: usize,
}

impl Relative {
    fn of(comparison: &Comparison, k: usize) -> Self {
        let (pair, m) = (&comparison.pairs[k], &comparison.measurements[k + 1]);
        Self { ratio: pair.ratio, ci: pair.ci, median_s: m.median_s, dense_s: comparison.measurements[0].median_s, rounds: pair.rounds }
    }

    /// Half the interval's width as a share of the ratio.
    pub fn noise(&self) -> f64 {
        (self.ci.1 - self.ci.0) / 2.0 / self.ratio
    }
}

/// How many times as long as when the run began the dense network may take: well above the two speeds that a core of a shared
/// machine has, which a ratio cancels; beyond it the device does something else than it will.
const SLOW: f64 = 2.0;

/// Times that a ratio is measured that is noisy, or that no undisturbed run gave, before what there is is given back.
const TRIES: usize = 3;

/// Times that a ratio's interval may hold the limit it is compared with before it is given back all the same.
const LOOKS: usize = 3;

/// What the journal keeps of the beginning of a run.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    /// BLAKE3 of the dense network's file.
    model_hash: String,
    dense: Measurement,
}

/// The target of a run, its latency table, and the count of what was measured.
pub struct Bench {
    runtime: Box<dyn Runtime>,
    target: TargetSpec,
    worker: Option<WorkerCommand>,
    store: TableStore,
    batch: usize,
    probes: Probes,
    /// What the dense network takes at the pace of this run, seconds.
    usual_s: Option<f64>,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("runtime", &self.runtime.identity()).field("probes", &self.probes).finish_non_exhaustive()
    }
}

/// The table that is used where the user names none: `$SECATEUR_CACHE/latency.sqlite`, else in the user's cache folder.
pub fn default_table() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    variable("SECATEUR_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|c| c.join("secateur")))
        .or_else(|| variable("HOME").map(|h| h.join(".cache/secateur")))
        .unwrap_or_else(|| PathBuf::from(".secateur"))
        .join("latency.sqlite")
}

impl Bench {
    /// Opens the runtime of `target` and the latency table at `table`. Networks are measured at batch size `batch`; what
    /// decides, in processes started by `worker`.
    ///
    /// # Errors
    /// The runtime or its library is not there; the table cannot be opened.
    pub fn open(target: &TargetSpec, worker: Option<WorkerCommand>, table: &Path, batch: usize) -> Result<Self> {
        if let Some(folder) = table.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::File { path: folder.to_owned(), cause: e.to_string() })?;
        }
        Ok(Self {
            runtime: latency::runtime(target)?,
            target: target.clone(),
            worker,
            store: TableStore::open(table)?,
            batch,
            probes: Probes::default(),
            usual_s: None,
        })
    }

    /// The runtime.
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    /// Measurements made and found so far.
    pub fn probes(&self) -> Probes {
        self.probes
    }

    /// `model` as this target measures it.
    ///
    /// # Errors
    /// A dynamic dimension that the batch size does not bind.
    pub fn bytes(&self, name: &str, model: &Model) -> Result<ModelBytes> {
        model_bytes(name, model, self.batch)
    }

    /// Latencies of single layers by `protocol`, from the table where they are there as precisely; with the numbers measured
    /// and found. They say how the layers stand to the sentinel ([`latency::Pace`]), unless no run was undisturbed in three tries.
    ///
    /// # Errors
    /// The runtime refuses a model; the device is busy; the table cannot be written.
    pub fn layers(
        &mut self,
        models: &[ModelBytes],
        protocol: &Protocol,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(Vec<Measurement>, Probes)> {
        let mut profiler = Profiler::new(&*self.runtime, &mut self.store).with_progress(progress);
        let mut measured = profiler.measure_many(models, protocol)?;
        // On a busy machine no run may have been undisturbed. A command never says; then the table serves what is there.
        for _ in 1..TRIES {
            if measured.iter().all(|m| m.to_sentinel.is_some()) {
                break;
            }
            measured = profiler.measure_many(models, protocol)?;
        }
        let probes = profiler.probes();
        self.probes += probes;
        Ok((measured, probes))
    }

    /// Latency of the dense network, which is read from `path`: what everything that `run` measures refers to, measured when
    /// it begins.
    ///
    /// # Errors
    /// As [`Bench::absolute`]; the run began with another network, on another machine or runtime.
    pub(crate) fn begin(&mut self, run: &Run, path: &Path, dense: &Model) -> Result<Measurement> {
        let model_hash = file_hash(path)?;
        let begun = run.journal.step("dense latency", || Ok(Begun { model_hash: model_hash.clone(), dense: self.absolute(dense)? }))?;
        let (machine, runtime) = (latency::Machine::detect(), self.runtime.identity());
        let (before, measured_by) = (&begun.dense.machine, &begun.dense.runtime);
        let changed = if begun.model_hash != model_hash {
            format!("{} is not the file that this run began with", path.display())
        } else if before.identity() != machine.identity() {
            format!("this run began on another machine ({before}; this is {machine})")
        } else if *measured_by != runtime {
            format!("this run began with another runtime ({measured_by}; this is {runtime})")
        } else {
            self.usual_s = Some(begun.dense.median_s);
            return Ok(begun.dense);
        };
        let cause = format!("{changed}: what it measured does not hold here; start anew with another `--out`");
        Err(Error::File { path: run.directory().to_owned(), cause })
    }

    /// Latency of a network on its own, precisely.
    ///
    /// # Errors
    /// The runtime refuses it; the device is busy.
    pub fn absolute(&mut self, model: &Model) -> Result<Measurement> {
        let bytes = [self.bytes("dense", model)?];
        let mut c = latency::compare(&*self.runtime, &bytes, &Protocol::confirm())?;
        self.probes.measured += 1;
        c.measurements.pop().ok_or_else(|| Error::Setting("the runtime measured nothing".into()))
    }

    /// Why the device was not fit for these measurements, where they are to be known within ±`needed`.
    pub(crate) fn unfit(&self, measured: &[Relative], needed: f64) -> Option<Unfit> {
        let most = |of: &dyn Fn(&Relative) -> f64| measured.iter().map(of).fold(0.0, f64::max);
        let (noise, times) = (most(&Relative::noise), self.usual_s.map_or(0.0, |usual_s| most(&|r| r.dense_s / usual_s)));
        if noise > needed {
            return Some(Unfit::Noisy { noise, needed });
        }
        (times > SLOW).then_some(Unfit::Slow { times })
    }

    /// Takes the pace of these measurements as that of the device from here on.
    pub(crate) fn accept_pace(&mut self, measured: &[Relative]) {
        self.usual_s = measured.iter().map(|r| r.dense_s).max_by(f64::total_cmp).or(self.usual_s);
    }

    /// What the journal holds under `key`. Nothing is recorded but at a pace that the run accepted.
    fn recalled(&mut self, journal: &Journal, key: &str) -> Result<Option<Relative>> {
        let found: Option<Relative> = journal.recall(key)?;
        if let Some(r) = &found {
            self.probes.cached += 1;
            if matches!(self.unfit(std::slice::from_ref(r), f64::INFINITY), Some(Unfit::Slow { .. })) {
                self.accept_pace(std::slice::from_ref(r));
            }
        }
        Ok(found)
    }

    /// Latencies of networks against the dense one, all in the same rounds. What the journal holds under the same structure
    /// and precision is not measured again. A ratio that noise leaves wider than ±`steady` is measured up to three times; if
    /// it stays so, or the device is slow ([`Bench::unfit`]), it is returned all the same, but not recorded: another hour may do
    /// better.
    ///
    /// # Errors
    /// As [`Bench::absolute`].
    pub fn relative(
        &mut self,
        journal: &Journal,
        dense: &Model,
        models: &[Model],
        protocol: &Protocol,
        steady: f64,
    ) -> Result<Vec<Relative>> {
        let dense = self.bytes("dense", dense)?;
        let mut candidates = Vec::new();
        for (k, model) in models.iter().enumerate() {
            let b = self.bytes(&format!("candidate {k}"), model)?;
            let key = format!("latency {} within {} of {}", self.runtime.model_key(&b)?, protocol.precision, protocol.time_limit_s);
            let found = self.recalled(journal, &key)?;
            candidates.push((b, key, found));
        }
        for _ in 0..TRIES {
            let open: Vec<usize> = (0..candidates.len()).filter(|&k| candidates[k].2.as_ref().is_none_or(|r| r.noise() > steady)).collect();
            if open.is_empty() {
                break;
            }
            let bytes: Vec<ModelBytes> = std::iter::once(dense.clone()).chain(open.iter().map(|&k| candidates[k].0.clone())).collect();
            let c = latency::compare(&*self.runtime, &bytes, protocol)?;
            self.probes.measured += open.len();
            for (i, k) in open.into_iter().enumerate() {
                let r = Relative::of(&c, i);
                if self.unfit(std::slice::from_ref(&r), steady).is_none() {
                    journal.record(&candidates[k].1, &r, 0.0)?;
                }
                candidates[k].2 = Some(r);
            }
        }
        Ok(candidates.into_iter().filter_map(|(_, _, r)| r).collect())
    }

    /// Latency of one network against the dense one for a decision: from three separate processes, and from more of them
    /// while the interval holds `limit` (a share of the dense latency) or is wider than ±`steady`. All that was measured
    /// counts. Recorded under `name`, unless it stayed too wide.
    ///
    /// Where the program gave no way to start a worker, the networks are loaded anew in this process instead.
    ///
    /// # Errors
    /// As [`Bench::absolute`]; a process cannot be started.
    pub fn confirmed(&mut self, journal: &Journal, name: &str, dense: &Model, model: &Model, limit: f64, steady: f64) -> Result<Relative> {
        let models = [self.bytes("dense", dense)?, self.bytes("candidate", model)?];
        let key = format!("{name} {}", self.runtime.model_key(&models[1])?);
        if let Some(found) = self.recalled(journal, &key)? {
            return Ok(found);
        }
        let mut parts: Vec<ProcessRounds> = Vec::new();
        for look in 1..=LOOKS {
            let protocol = Protocol { seed: parts.len() as u64, ..decisive() };
            match &self.worker {
                Some(worker) => parts.extend(latency::rounds_in_processes(worker, PROCESSES, &self.target, &models, &protocol)?),
                None => {
                    for _ in 0..PROCESSES {
                        parts.push(latency::rounds_in_this_process(&*self.runtime, &models, &protocol)?);
                    }
                }
            }
            self.probes.measured += PROCESSES;
            let Some(merged) = Comparison::merge(&parts, &protocol) else { break };
            let r = Relative::of(&merged, 0);
            let open = (r.ci.0..=r.ci.1).contains(&limit) || r.noise() > steady;
            if !open || look == LOOKS {
                if self.unfit(std::slice::from_ref(&r), steady).is_none() {
                    journal.record(&key, &r, 0.0)?;
                }
                return Ok(r);
            }
        }
        Err(Error::Setting("the runtime measured nothing".into()))
    }
}

/// Precision of a latency that guides a choice.
pub(crate) fn guiding() -> Protocol {
    Protocol { precision: 0.006, time_limit_s: 3.0, min_rounds: 10, ..Protocol::default() }
}

/// Precision in each process of a latency that decides.
fn decisive() -> Protocol {
    Protocol { precision: 0.005, time_limit_s: 3.0, min_rounds: 20, ..Protocol::default() }
}
