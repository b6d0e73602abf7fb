//! Measuring in separate processes.
//!
//! The spread between processes (memory layout, which physical pages, which kernels were chosen)
//! exceeds the spread within one, so a value that decides something comes from at least three. The
//! program starts itself again with arguments that lead to [`worker_main`].

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::comparison::{Comparison, ProcessRounds, compare_rounds_of, nothing};
use crate::error::Error;
use crate::lock::{DeviceLock, LOCK_WAIT};
use crate::model::{InputSpec, ModelBytes};
use crate::protocol::Protocol;
use crate::sampling::Candidate;
use crate::sentinel::sentinel_model;
use crate::target::{TargetSpec, runtime};

/// Processes for a value that decides something.
pub const PROCESSES: usize = 3;

/// How to start a worker: a program and the arguments that make it call [`worker_main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program, usually [`std::env::current_exe`].
    pub program: PathBuf,
    /// Its arguments, usually one hidden subcommand.
    pub arguments: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Job {
    target: TargetSpec,
    protocol: Protocol,
    models: Vec<JobModel>,
}

#[derive(Serialize, Deserialize)]
struct JobModel {
    name: String,
    file: PathBuf,
    inputs: Vec<InputSpec>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Measured(ProcessRounds),
    Failed(String),
}

/// Reads a job from `input` (JSON), measures it and writes the answer to `output` (JSON). An error
/// while measuring is part of the answer. The starting process holds the device's lock.
///
/// # Errors
/// [`Error::WorkerFailed`] where the job cannot be read or the answer cannot be written.
pub fn worker_main(mut input: impl Read, mut output: impl Write) -> Result<(), Error> {
    let failed = |cause: String| Error::WorkerFailed { command: "worker".into(), cause };
    let mut text = String::new();
    input.read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    let job: Job = serde_json::from_str(&text).map_err(|e| failed(format!("job: {e}")))?;
    let answer = match measure(&job) {
        Ok(rounds) => Answer::Measured(rounds),
        Err(e) => Answer::Failed(e.to_string()),
    };
    serde_json::to_writer(&mut output, &answer).map_err(|e| failed(e.to_string()))?;
    output.flush().map_err(|e| failed(e.to_string()))
}

fn measure(job: &Job) -> Result<ProcessRounds, Error> {
    let runtime = runtime(&job.target)?;
    let mut candidates = Vec::with_capacity(job.models.len());
    for model in &job.models {
        let onnx = std::fs::read(&model.file).map_err(|cause| Error::Io { path: model.file.clone(), cause })?;
        let model = ModelBytes::new(&model.name, onnx, model.inputs.clone());
        candidates.push(Candidate::new(runtime.as_ref(), &model)?);
    }
    let mut sentinel = Candidate::new(runtime.as_ref(), &sentinel_model())?;
    compare_rounds_of(&mut candidates, Some(&mut sentinel), &job.protocol)
}

/// Measures `models` against the first of them in `processes` fresh processes, one after the other. What they found goes into
/// [`Comparison::merge`], perhaps with that of earlier calls (give another seed).
///
/// # Errors
/// [`Error::WorkerFailed`] where a process cannot be started or fails, [`Error::DeviceBusy`],
/// [`Error::Io`].
pub fn rounds_in_processes(
    worker: &WorkerCommand,
    processes: usize,
    target: &TargetSpec,
    models: &[ModelBytes],
    protocol: &Protocol,
) -> Result<Vec<ProcessRounds>, Error> {
    protocol.check()?;
    let _lock = DeviceLock::acquire(LOCK_WAIT)?;
    let folder = tempfile::tempdir().map_err(|cause| Error::Io { path: std::env::temp_dir(), cause })?;
    let mut jobs = Vec::with_capacity(models.len());
    for (i, model) in models.iter().enumerate() {
        let file = folder.path().join(format!("{i}.onnx"));
        std::fs::write(&file, &model.onnx).map_err(|cause| Error::Io { path: file.clone(), cause })?;
        jobs.push(JobModel { name: model.name.clone(), file, inputs: model.inputs.clone() });
    }
    let mut job = Job { target: target.clone(), protocol: protocol.clone(), models: jobs };
    let mut parts = Vec::with_capacity(processes);
    for process in 0..processes.max(1) {
        job.protocol.seed = protocol.seed.wrapping_add(process as u64);
        let found = start(worker, &job)?;
        if found.measurements.len() != models.len() {
            let cause = format!("it measured {} models of {}", found.measurements.len(), models.len());
            return Err(Error::WorkerFailed { command: display(&worker.program, &worker.arguments), cause });
        }
        parts.push(found);
    }
    Ok(parts)
}

/// [`rounds_in_processes`], put together.
///
/// # Errors
/// Those of [`rounds_in_processes`].
pub fn compare_in_processes(
    worker: &WorkerCommand,
    processes: usize,
    target: &TargetSpec,
    models: &[ModelBytes],
    protocol: &Protocol,
) -> Result<Comparison, Error> {
    let parts = rounds_in_processes(worker, processes, target, models, protocol)?;
    Comparison::merge(&parts, protocol).ok_or_else(nothing)
}

fn display(program: &Path, arguments: &[String]) -> String {
    format!("{} {}", program.display(), arguments.join(" ")).trim_end().to_string()
}

fn start(worker: &WorkerCommand, job: &Job) -> Result<ProcessRounds, Error> {
    let failed = |cause: String| Error::WorkerFailed { command: display(&worker.program, &worker.arguments), cause };
    let text = serde_json::to_vec(job).map_err(|e| failed(e.to_string()))?;
    let mut child = Command::new(&worker.program)
        .args(&worker.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A worker that ends early closes the pipe; its exit status says more than that.
        let _ = stdin.write_all(&text);
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(failed(format!("it ended with {}: {}", output.status, errors.trim())));
    }
    match serde_json::from_slice(&output.stdout) {
        Ok(Answer::Measured(rounds)) => Ok(rounds),
        Ok(Answer::Failed(cause)) => Err(failed(cause)),
        Err(e) => Err(failed(format!("its answer cannot be read: {e}"))),
    }
}
