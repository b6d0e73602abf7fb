//! Targets as text: `ort`, `ort,threads=2,provider=cuda`, `command:trtexec --onnx={model}`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::command::{CommandRuntime, LatencyReading, Unit};
use crate::engine::EngineRuntime;
use crate::error::Error;
use crate::onnxruntime::OrtRuntime;
use crate::runtime::Runtime;
use crate::tract::TractRuntime;

/// A runtime and its options, as a value. Its text form round-trips through [`FromStr`].
///
/// The text is `KIND[,key=value…]`, and for commands `command[,key=value…]:TEMPLATE`. Keys are
/// `threads`, `affinity` (cores joined by `+`), `optimization`, `provider`, `library`,
/// `provider.NAME`, and for commands `latency` (a regular expression whose first group is the
/// number) and `unit`. In values `%`, `,` and `:` are written `%25`, `%2C` and `%3A`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TargetSpec {
    /// Which runtime.
    pub kind: TargetKind,
    /// How it is to run.
    pub options: TargetOptions,
}

/// The kinds of runtime there are adapters for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetKind {
    /// Our own engine, embedded.
    Engine,
    /// ONNX Runtime, loaded from a library at run time.
    Ort,
    /// tract, embedded.
    Tract,
    /// Any program that measures a model and prints a latency.
    Command {
        /// The command line; `{model}` and `{threads}` are replaced.
        template: String,
        /// Where in the output the latency is.
        latency: LatencyReading,
    },
}

/// How a runtime is to run a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetOptions {
    /// Threads within one operator; at least 1.
    pub threads: usize,
    /// Cores to pin the runtime's threads to while measuring.
    pub affinity: Option<Vec<usize>>,
    /// Graph optimisation level.
    pub optimization: Optimization,
    /// Execution provider; the CPU where `None`.
    pub provider: Option<String>,
    /// Options of the provider, by its own names.
    pub provider_options: BTreeMap<String, String>,
    /// The runtime's library file; searched for where `None`.
    pub library: Option<PathBuf>,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            affinity: None,
            optimization: Optimization::All,
            provider: None,
            provider_options: BTreeMap::new(),
            library: None,
        }
    }
}

impl TargetOptions {
    /// Checks that nothing is asked of an embedded runtime that only a library or a provider could give.
    ///
    /// # Errors
    /// [`Error::OptionUnsupported`].
    pub(crate) fn check_embedded(&self, runtime: &str) -> Result<(), Error> {
        let (option, remedy) = match (self.provider.as_deref(), &self.library) {
            (Some(provider), _) if provider != "cpu" => (format!("provider={provider}"), "use the runtime `ort`"),
            _ if !self.provider_options.is_empty() => ("provider options".into(), "use the runtime `ort`"),
            (_, Some(library)) => (format!("library={}", library.display()), "it is embedded; leave it out"),
            _ => return Ok(()),
        };
        Err(Error::OptionUnsupported { runtime: runtime.into(), option, remedy: remedy.into() })
    }
}

/// How much the runtime may rewrite the graph before running it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimization {
    /// Everything, layouts included: what is deployed.
    #[default]
    All,
    /// Fusions, no layout changes.
    Extended,
    /// Constant folding and redundant nodes only.
    Basic,
    /// Nothing.
    Disabled,
}

impl fmt::Display for Optimization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Extended => "extended",
            Self::Basic => "basic",
            Self::Disabled => "disabled",
        })
    }
}

impl FromStr for Optimization {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "all" => Self::All,
            "extended" => Self::Extended,
            "basic" => Self::Basic,
            "disabled" => Self::Disabled,
            other => {
                return Err(format!("optimization `{other}` is not one of all, extended, basic, disabled"));
            }
        })
    }
}

impl TargetSpec {
    /// ONNX Runtime with default options: CPU, one thread, all optimisations.
    pub fn ort() -> Self {
        Self { kind: TargetKind::Ort, options: TargetOptions::default() }
    }

    /// Our own engine with default options.
    pub fn engine() -> Self {
        Self { kind: TargetKind::Engine, options: TargetOptions::default() }
    }

    /// tract with default options.
    pub fn tract() -> Self {
        Self { kind: TargetKind::Tract, options: TargetOptions::default() }
    }

    /// A command that prints its latency; see [`LatencyReading`].
    pub fn command(template: impl Into<String>, latency: LatencyReading) -> Self {
        Self { kind: TargetKind::Command { template: template.into(), latency }, options: TargetOptions::default() }
    }
}

/// Starts the runtime that `spec` names.
///
/// # Errors
/// For `ort`: [`Error::LibraryNotFound`], [`Error::LibraryTooOld`], [`Error::LibraryUnusable`],
/// [`Error::ProviderUnknown`], [`Error::ProviderUnavailable`]. For `command`:
/// [`Error::CommandNotFound`], [`Error::PatternInvalid`]. For all: [`Error::OptionUnsupported`].
pub fn runtime(spec: &TargetSpec) -> Result<Box<dyn Runtime>, Error> {
    if spec.options.threads == 0 {
        return Err(Error::OptionUnsupported {
            runtime: spec.to_string(),
            option: "threads=0".into(),
            remedy: "give a number of threads of at least 1".into(),
        });
    }
    Ok(match &spec.kind {
        TargetKind::Engine => Box::new(EngineRuntime::new(&spec.options)?),
        TargetKind::Ort => Box::new(OrtRuntime::new(&spec.options)?),
        TargetKind::Tract => Box::new(TractRuntime::new(&spec.options)?),
        TargetKind::Command { template, latency } => Box::new(CommandRuntime::new(template, latency.clone(), &spec.options)?),
    })
}

fn escape(value: &str) -> String {
    value.replace('%', "%25").replace(',', "%2C").replace(':', "%3A")
}

fn unescape(value: &str) -> String {
    value.replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = TargetOptions::default();
        let o = &self.options;
        f.write_str(match &self.kind {
            TargetKind::Engine => "engine",
            TargetKind::Ort => "ort",
            TargetKind::Tract => "tract",
            TargetKind::Command { .. } => "command",
        })?;
        if o.threads != default.threads {
            write!(f, ",threads={}", o.threads)?;
        }
        if let Some(cores) = &o.affinity {
            let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
            write!(f, ",affinity={}", cores.join("+"))?;
        }
        if o.optimization != default.optimization {
            write!(f, ",optimization={}", o.optimization)?;
        }
        if let Some(provider) = &o.provider {
            write!(f, ",provider={}", escape(provider))?;
        }
        for (key, value) in &o.provider_options {
            write!(f, ",provider.{}={}", escape(key), escape(value))?;
        }
        if let Some(library) = &o.library {
            write!(f, ",library={}", escape(&library.to_string_lossy()))?;
        }
        if let TargetKind::Command { template, latency } = &self.kind {
            match latency {
                LatencyReading::LastNumber => {}
                LatencyReading::Pattern { regex, unit } => {
                    write!(f, ",latency={}", escape(regex))?;
                    if *unit != Unit::Milliseconds {
                        write!(f, ",unit={unit}")?;
                    }
                }
            }
            write!(f, ":{template}")?;
        }
        Ok(())
    }
}

impl FromStr for TargetSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |cause: String| Error::TargetSyntax { spec: text.to_string(), cause };
        let (head, template) = match text.split_once(':') {
            Some((head, template)) => (head, Some(template)),
            None => (text, None),
        };
        let mut parts = head.split(',');
        let kind = parts.next().unwrap_or_default().trim();
        let mut options = TargetOptions::default();
        let (mut regex, mut unit) = (None, None);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| wrong(format!("option `{part}` is not key=value")))?;
            let value = unescape(value);
            match key.trim() {
                "threads" => {
                    options.threads =
                        value.parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong(format!("threads=`{value}` is not a number ≥ 1")))?;
                }
                "affinity" => {
                    let cores: Result<Vec<usize>, _> = value.split('+').map(str::parse).collect();
                    options.affinity = Some(cores.map_err(|_| wrong(format!("affinity=`{value}` is not core numbers joined by +")))?);
                }
                "optimization" => options.optimization = value.parse().map_err(wrong)?,
                "provider" => options.provider = Some(value),
                "library" => options.library = Some(PathBuf::from(value)),
                "latency" => regex = Some(value),
                "unit" => unit = Some(value.parse::<Unit>().map_err(wrong)?),
                other => match other.strip_prefix("provider.") {
                    Some(name) => {
                        options.provider_options.insert(unescape(name), value);
                    }
                    None => return Err(wrong(format!("unknown option `{other}`"))),
                },
            }
        }
        let kind = match (kind, template) {
            ("engine", None) => TargetKind::Engine,
            ("ort", None) => TargetKind::Ort,
            ("tract", None) => TargetKind::Tract,
            ("command", Some(template)) if !template.trim().is_empty() => {
                let latency = match (regex.take(), unit.take()) {
                    (Some(regex), unit) => LatencyReading::Pattern { regex, unit: unit.unwrap_or(Unit::Milliseconds) },
                    (None, None) => LatencyReading::LastNumber,
                    (None, Some(_)) => {
                        return Err(wrong("unit= needs latency=REGEX beside it".into()));
                    }
                };
                TargetKind::Command { template: template.to_string(), latency }
            }
            ("command", _) => return Err(wrong("the command after the colon is missing".into())),
            ("engine" | "ort" | "tract", Some(_)) => {
                return Err(wrong("only `command` takes text after a colon".into()));
            }
            (other, _) => return Err(wrong(format!("unknown runtime `{other}`"))),
        };
        if regex.is_some() || unit.is_some() {
            return Err(wrong("latency= and unit= belong to `command` only".into()));
        }
        Ok(Self { kind, options })
    }
}

impl From<TargetSpec> for String {
    fn from(spec: TargetSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for TargetSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}
