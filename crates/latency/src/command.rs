//! Any program as a runtime: it is given the model's file and prints a latency.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::model::ModelBytes;
use crate::runtime::{Prepared, Runtime, RuntimeIdentity};
use crate::target::{Optimization, TargetOptions};
use crate::tensor::Tensor;

/// Where in a command's output (standard output and error) its latency is.
///
/// | program | pattern |
/// |---|---|
/// | `trtexec --onnx={model} --useSpinWait --useCudaGraph --noDataTransfers` | `GPU Compute Time:.*median = ([0-9.]+) (ms)` |
/// | OpenVINO `benchmark_app -m {model} -hint latency -nthreads {threads}` | `Median:\s+([0-9.]+) (ms)` |
/// | a script that ends with `latency: 1.93 ms` | none needed |
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LatencyReading {
    /// The last number followed by `s`, `ms`, `us`, `µs` or `ns`.
    LastNumber,
    /// Every match is one latency. The first group is the number, a second group its unit.
    Pattern {
        /// The regular expression.
        regex: String,
        /// The number's unit where the pattern has no second group.
        unit: Unit,
    },
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl Unit {
    /// Seconds in one of this unit.
    pub fn in_seconds(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Milliseconds => 1e-3,
            Self::Microseconds => 1e-6,
            Self::Nanoseconds => 1e-9,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        })
    }
}

impl FromStr for Unit {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "s" => Self::Seconds,
            "ms" => Self::Milliseconds,
            "us" | "µs" | "μs" => Self::Microseconds,
            "ns" => Self::Nanoseconds,
            other => return Err(format!("unit `{other}` is not one of s, ms, us, ns")),
        })
    }
}

/// The `command` runtime. The template is split into words like a shell would (quotes, no
/// expansion) and started directly; each call of the program gives one or more samples.
#[derive(Debug, Clone)]
pub struct CommandRuntime {
    template: String,
    words: Vec<String>,
    reader: Reader,
    options: TargetOptions,
}

impl CommandRuntime {
    /// Checks the template, the pattern and that the program exists.
    ///
    /// # Errors
    /// [`Error::TargetSyntax`], [`Error::PatternInvalid`], [`Error::CommandNotFound`],
    /// [`Error::OptionUnsupported`] for options that belong into the template.
    pub fn new(template: &str, latency: LatencyReading, options: &TargetOptions) -> Result<Self, Error> {
        let wrong = |cause: &str| Error::TargetSyntax { spec: format!("command:{template}"), cause: cause.to_string() };
        let words = split_words(template).ok_or_else(|| wrong("a quote is not closed"))?;
        let program = words.first().ok_or_else(|| wrong("the command is empty"))?;
        if !words.iter().any(|w| w.contains("{model}")) {
            return Err(wrong("{model} does not occur in the command"));
        }
        let unsupported = [
            ("provider", options.provider.is_some() || !options.provider_options.is_empty()),
            ("library", options.library.is_some()),
            ("optimization", options.optimization != Optimization::All),
        ];
        if let Some((option, _)) = unsupported.iter().find(|(_, given)| *given) {
            return Err(Error::OptionUnsupported {
                runtime: "command".into(),
                option: (*option).into(),
                remedy: "write it into the command itself".into(),
            });
        }
        if options.threads != 1 && !template.contains("{threads}") {
            return Err(Error::OptionUnsupported {
                runtime: "command".into(),
                option: format!("threads={}", options.threads),
                remedy: "put {threads} into the command".into(),
            });
        }
        if !program_exists(program) {
            return Err(Error::CommandNotFound { program: program.clone(), command: template.to_string() });
        }
        let reader = Reader::new(latency)?;
        Ok(Self { template: template.to_string(), words, reader, options: options.clone() })
    }
}

impl Runtime for CommandRuntime {
    fn name(&self) -> &str {
        "command"
    }

    fn identity(&self) -> RuntimeIdentity {
        let mut options = BTreeMap::from([
            ("command".to_string(), self.template.clone()),
            ("latency".to_string(), self.reader.to_string()),
            ("threads".to_string(), self.options.threads.to_string()),
        ]);
        if let Some(cores) = &self.options.affinity {
            options.insert("affinity".into(), format!("{cores:?}"));
        }
        RuntimeIdentity { name: "command".into(), version: program_fingerprint(&self.words[0]), provider: "command".into(), options }
    }

    /// Whether the program gains time by weights that are zero is not known, so where they are is part of the key.
    fn model_key(&self, model: &ModelBytes) -> Result<String, Error> {
        model.sparsity_key()
    }

    fn prepare(&self, model: &ModelBytes) -> Result<Box<dyn Prepared>, Error> {
        let start = Instant::now();
        let mut file = tempfile::Builder::new()
            .prefix("secateur-")
            .suffix(".onnx")
            .tempfile()
            .map_err(|cause| Error::Io { path: std::env::temp_dir(), cause })?;
        file.write_all(&model.onnx).and_then(|()| file.flush()).map_err(|cause| Error::Io { path: file.path().to_path_buf(), cause })?;
        let path = file.path().to_string_lossy().into_owned();
        let threads = self.options.threads.to_string();
        let words: Vec<String> = self.words.iter().map(|w| w.replace("{model}", &path).replace("{threads}", &threads)).collect();
        let mut prepared =
            CommandPrepared { words, reader: self.reader.clone(), affinity: self.options.affinity.clone(), setup_s: 0.0, _file: file };
        prepared.call()?;
        prepared.setup_s = start.elapsed().as_secs_f64();
        Ok(Box::new(prepared))
    }
}

struct CommandPrepared {
    words: Vec<String>,
    reader: Reader,
    affinity: Option<Vec<usize>>,
    setup_s: f64,
    _file: tempfile::NamedTempFile,
}

impl CommandPrepared {
    fn call(&mut self) -> Result<Vec<f64>, Error> {
        let line = self.words.join(" ");
        let output = Command::new(&self.words[0]).args(&self.words[1..]).output().map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::CommandNotFound { program: self.words[0].clone(), command: line.clone() },
            _ => Error::CommandFailed { command: line.clone(), status: e.to_string(), tail: String::new() },
        })?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(Error::CommandFailed { command: line, status: output.status.to_string(), tail: tail(&text) });
        }
        let seconds = self.reader.read(&text);
        if seconds.is_empty() {
            return Err(Error::CommandNoLatency { command: line, reading: self.reader.to_string(), tail: tail(&text) });
        }
        Ok(seconds)
    }
}

impl Prepared for CommandPrepared {
    fn run(&mut self) -> Result<(), Error> {
        self.call().map(|_| ())
    }

    fn measure_external(&mut self) -> Option<Result<Vec<f64>, Error>> {
        Some(self.call())
    }

    fn run_with(&mut self, _inputs: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        Err(Error::OperationUnsupported {
            runtime: "command".into(),
            operation: "return outputs".into(),
            remedy: "evaluate and verify with `ort` or `tract`, measure with the command".into(),
        })
    }

    fn setup_s(&self) -> f64 {
        self.setup_s
    }

    fn affinity(&self) -> Option<&[usize]> {
        self.affinity.as_deref()
    }
}

/// A compiled [`LatencyReading`].
#[derive(Debug, Clone)]
struct Reader {
    reading: LatencyReading,
    regex: Regex,
}

impl Reader {
    fn new(reading: LatencyReading) -> Result<Self, Error> {
        let source = match &reading {
            LatencyReading::LastNumber => r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*(ms|us|µs|μs|ns|s|msec|usec|sec)\b",
            LatencyReading::Pattern { regex, .. } => regex,
        };
        let invalid = |cause: String| Error::PatternInvalid { pattern: source.to_string(), cause };
        let regex = Regex::new(source).map_err(|e| invalid(e.to_string()))?;
        if regex.captures_len() < 2 {
            return Err(invalid("it has no group; put the number in parentheses: ([0-9.]+)".into()));
        }
        Ok(Self { regex, reading })
    }

    /// The latencies in `text`, in seconds; only finite positive ones.
    fn read(&self, text: &str) -> Vec<f64> {
        let default = match &self.reading {
            LatencyReading::LastNumber => Unit::Milliseconds,
            LatencyReading::Pattern { unit, .. } => *unit,
        };
        let mut all: Vec<f64> = self
            .regex
            .captures_iter(text)
            .filter_map(|groups| {
                let number: f64 = groups.get(1)?.as_str().parse().ok()?;
                let unit = match groups.get(2) {
                    Some(unit) => unit.as_str().trim_end_matches("ec").parse().ok()?,
                    None => default,
                };
                let seconds = number * unit.in_seconds();
                (seconds.is_finite() && seconds > 0.0).then_some(seconds)
            })
            .collect();
        if self.reading == LatencyReading::LastNumber {
            all.drain(..all.len().saturating_sub(1));
        }
        all
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reading {
            LatencyReading::LastNumber => f.write_str("the last number with a unit of time"),
            LatencyReading::Pattern { regex, unit } => write!(f, "pattern `{regex}` in {unit}"),
        }
    }
}

/// Splits a command line into words: blanks separate, single and double quotes group.
fn split_words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut started, mut quote) = (Vec::new(), String::new(), false, None);
    for c in line.chars() {
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => word.push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                started = true;
            }
            None if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            None => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    quote.is_none().then_some(words)
}

fn program_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::path::Path::new(program);
    if path.components().count() > 1 {
        return path.is_file().then(|| path.to_path_buf());
    }
    let candidates = std::env::var_os("PATH")?;
    std::env::split_paths(&candidates)
        .flat_map(|folder| [folder.join(program), folder.join(format!("{program}.exe"))])
        .find(|p| p.is_file())
}

fn program_exists(program: &str) -> bool {
    program_path(program).is_some()
}

/// A program has no version that can be asked for in general; its file's size and time of change
/// stand in, so that an upgraded program does not reuse old numbers.
fn program_fingerprint(program: &str) -> String {
    let about = program_path(program).and_then(|p| std::fs::metadata(p).ok());
    let changed = about
        .as_ref()
        .and_then(|m| m.modified().ok())
        .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |d| d.as_secs());
    format!("{} bytes, changed {changed}", about.map_or(0, |m| m.len()))
}

/// The last lines of a program's output.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(12);
    lines[from..].iter().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reading: LatencyReading, text: &str) -> Vec<f64> {
        Reader::new(reading).unwrap().read(text)
    }

    #[test]
    fn the_last_number_with_a_unit() {
        let last = |text: &str| read(LatencyReading::LastNumber, text);
        assert_eq!(last("warm-up 3 s\nlatency: 1.5 ms (64 images)"), vec![1.5e-3]);
        assert_eq!(last("took 250us"), vec![250.0 * 1e-6]);
        assert_eq!(last("2e-3 s"), vec![2e-3]);
        assert_eq!(last("3 msec"), vec![3e-3]);
        assert!(last("no time here, 42 images").is_empty());
        assert!(last("0 ms").is_empty());
    }

    #[test]
    fn trtexec_and_benchmark_app() {
        let trtexec = "[I] GPU Compute Time: min = 0.41 ms, max = 0.60 ms, mean = 0.43 ms, median = 0.42 ms, percentile(99%) = 0.5 ms";
        let pattern = |regex: &str| LatencyReading::Pattern { regex: regex.into(), unit: Unit::Milliseconds };
        assert_eq!(read(pattern(r"GPU Compute Time:.*median = ([0-9.]+) (ms)"), trtexec), vec![0.42e-3]);
        let openvino = "[ INFO ] Latency:\n[ INFO ]    Median:        1.93 ms\n[ INFO ]    Average:       2.00 ms";
        assert_eq!(read(pattern(r"Median:\s+([0-9.]+) (ms)"), openvino), vec![1.93e-3]);
        assert_eq!(read(pattern(r"Median:\s+([0-9.]+)"), openvino), vec![1.93e-3]);
    }

    #[test]
    fn every_match_of_a_pattern_is_a_sample() {
        let reading = LatencyReading::Pattern { regex: r"t=(\d+)".into(), unit: Unit::Microseconds };
        let micros: Vec<f64> = read(reading, "t=10 t=12 t=11").iter().map(|s| (s * 1e6).round()).collect();
        assert_eq!(micros, [10.0, 12.0, 11.0]);
    }

    #[test]
    fn words() {
        assert_eq!(split_words("a  'b c' d\"e f\"").unwrap(), ["a", "b c", "de f"]);
        assert_eq!(split_words("sh -c ''").unwrap(), ["sh", "-c", ""]);
        assert!(split_words("a 'b").is_none());
    }

    #[test]
    fn a_pattern_without_a_group_is_refused_with_the_remedy() {
        let reading = LatencyReading::Pattern { regex: "ms".into(), unit: Unit::Milliseconds };
        let text = Reader::new(reading).unwrap_err().to_string();
        assert!(text.contains("parentheses"), "{text}");
    }
}
