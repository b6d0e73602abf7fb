//! What can go wrong between a model and a number, each with its remedy.

use std::path::PathBuf;

/// An error of this crate. Every variant names the thing that failed (library, provider, model,
/// command, file), the cause, and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No ONNX Runtime library was found.
    #[error(
        "ONNX Runtime library not found; tried:\n{}\ninstall it (`pip install onnxruntime`), or name the file with --library or ORT_DYLIB_PATH, or use an embedded runtime (`engine`, `tract`)",
        tried.iter().map(|t| format!("  {t}")).collect::<Vec<_>>().join("\n")
    )]
    LibraryNotFound {
        /// Every place that was looked at, with what was found there.
        tried: Vec<String>,
    },
    /// The library was found but speaks an older API.
    #[error(
        "ONNX Runtime {version} at {} is too old: {minimum} or newer is needed; upgrade it (`pip install -U onnxruntime`) or name another file with --library",
        path.display()
    )]
    LibraryTooOld {
        /// The library file.
        path: PathBuf,
        /// The version it reports.
        version: String,
        /// The oldest version that works.
        minimum: String,
    },
    /// The file exists but cannot be loaded as ONNX Runtime.
    #[error(
        "{} cannot be loaded as ONNX Runtime: {cause}; name a working libonnxruntime with --library or ORT_DYLIB_PATH",
        path.display()
    )]
    LibraryUnusable {
        /// The library file.
        path: PathBuf,
        /// What the loader said.
        cause: String,
    },
    /// A process can hold one ONNX Runtime library only.
    #[error(
        "this process already loaded ONNX Runtime from {}, so it cannot also load {}; measure with one library per process",
        loaded.display(), asked.display()
    )]
    LibraryAlreadyLoaded {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// The provider's name is not known to this program.
    #[error("execution provider `{provider}` is unknown; known: {}", known.join(", "))]
    ProviderUnknown {
        /// The name asked for.
        provider: String,
        /// The names this program can register.
        known: Vec<String>,
    },
    /// The library was built without the provider.
    #[error(
        "execution provider `{provider}` is not in the ONNX Runtime library {}, which has: {}; install a library built with it (for example `onnxruntime-gpu`, `onnxruntime-openvino`) or choose one of these",
        library.display(), available.join(", ")
    )]
    ProviderUnavailable {
        /// The provider asked for.
        provider: String,
        /// The providers the library has.
        available: Vec<String>,
        /// The library file.
        library: PathBuf,
    },
    /// The provider is in the library but could not start, or would leave nodes to the CPU.
    #[error(
        "execution provider `{provider}` failed for model `{model}`: {cause}; it is never replaced by the CPU silently: install what it needs, or allow nodes on the CPU with the provider option cpu_nodes=allow"
    )]
    ProviderFailed {
        /// The provider asked for.
        provider: String,
        /// The model's name.
        model: String,
        /// What the runtime said.
        cause: String,
    },
    /// The runtime refuses the model.
    #[error("runtime `{runtime}` rejects model `{model}`: {cause}; check the file with another runtime, or choose another --target")]
    ModelRejected {
        /// The runtime's name.
        runtime: String,
        /// The model's name.
        model: String,
        /// What the runtime said.
        cause: String,
    },
    /// Inputs do not fit the model.
    #[error("inputs do not fit model `{model}`: {cause}")]
    InputMismatch {
        /// The model's name.
        model: String,
        /// What differs, with names and shapes.
        cause: String,
    },
    /// The runtime failed while running.
    #[error("runtime `{runtime}` failed while running model `{model}`: {cause}")]
    RunFailed {
        /// The runtime's name.
        runtime: String,
        /// The model's name.
        model: String,
        /// What the runtime said.
        cause: String,
    },
    /// The runtime cannot honour an option; nothing is ignored silently.
    #[error("runtime `{runtime}` does not support {option}: {remedy}")]
    OptionUnsupported {
        /// The runtime's name.
        runtime: String,
        /// The option and its value.
        option: String,
        /// What to do instead.
        remedy: String,
    },
    /// The runtime cannot do this at all.
    #[error("runtime `{runtime}` cannot {operation}; {remedy}")]
    OperationUnsupported {
        /// The runtime's name.
        runtime: String,
        /// The operation.
        operation: String,
        /// What to do instead.
        remedy: String,
    },
    /// A target could not be parsed.
    #[error(
        "target `{spec}`: {cause}; a target is `engine`, `tract`, `ort` or `command:PROGRAM ARGS {{model}}`, options before the colon or at the end: `ort,threads=2,provider=cuda`"
    )]
    TargetSyntax {
        /// The text.
        spec: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The command's program does not exist.
    #[error("program `{program}` of the target command `{command}` was not found; install it or give its full path")]
    CommandNotFound {
        /// The program.
        program: String,
        /// The whole command.
        command: String,
    },
    /// The command ended with an error.
    #[error("command `{command}` ended with {status}; the end of its output:\n{tail}")]
    CommandFailed {
        /// The whole command.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of its output.
        tail: String,
    },
    /// The command ran, but no latency was found in its output.
    #[error(
        "no latency in the output of `{command}` ({reading}); give a pattern with latency=REGEX whose first group is the number; the end of the output:\n{tail}"
    )]
    CommandNoLatency {
        /// The whole command.
        command: String,
        /// How the latency was looked for.
        reading: String,
        /// The end of its output.
        tail: String,
    },
    /// The latency pattern is not a regular expression with a group.
    #[error("latency pattern `{pattern}`: {cause}")]
    PatternInvalid {
        /// The pattern.
        pattern: String,
        /// What is wrong.
        cause: String,
    },
    /// A protocol that cannot be followed.
    #[error("measuring protocol: {cause}")]
    ProtocolInvalid {
        /// What is wrong.
        cause: String,
    },
    /// The noise does not allow the decision.
    #[error(
        "the noise of this machine is too high to decide: {what} is known to ±{:.1} %, ±{:.1} % is needed; stop other work, pin the process to a core (affinity), raise the time limit, or ask for less",
        100.0 * noise, 100.0 * needed
    )]
    TooNoisy {
        /// What was to be decided.
        what: String,
        /// Relative half-width of the noise.
        noise: f64,
        /// Relative half-width needed.
        needed: f64,
    },
    /// Another process measures on this device.
    #[error("another process ({holder}) is measuring on this device (lock {}); wait for it or stop it", path.display())]
    DeviceBusy {
        /// The lock file.
        path: PathBuf,
        /// Process id of the holder, as it wrote it.
        holder: String,
    },
    /// The model's bytes are not an ONNX file.
    #[error("model `{model}` is not a readable ONNX file: {cause}")]
    NotOnnx {
        /// The model's name.
        model: String,
        /// What the decoder said.
        cause: String,
    },
    /// A latency table could not be read or written.
    #[error("latency table {}: {cause}; {remedy}", path.display())]
    Table {
        /// The table's file.
        path: PathBuf,
        /// What failed.
        cause: String,
        /// What to do.
        remedy: String,
    },

    /// A separate measuring process failed.
    #[error("measuring process `{command}` failed: {cause}")]
    WorkerFailed {
        /// The program started.
        command: String,
        /// What happened.
        cause: String,
    },
    /// A file operation failed.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
}
