//! Where a network is to run.

use std::path::PathBuf;

use clap::Args;
use latency::{Optimization, TargetSpec};

/// A target with its options.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// What the network is to run on: engine (ours, embedded), tract (embedded), ort (ONNX Runtime), `command[,latency=REGEX][,unit=ms]:PROGRAM ARGS {model}` (any program that prints a latency).
    #[arg(long, value_name = "TARGET", default_value_t = TargetSpec::engine())]
    pub target: TargetSpec,
    #[command(flatten)]
    pub options: RuntimeArgs,
}

/// Options of a runtime; also writable inside the target: `ort,threads=2,provider=cuda`.
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// Threads within one operator [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Execution provider of ONNX Runtime, such as cuda, tensorrt, openvino [default: cpu].
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Option of the provider by its own name; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub provider_option: Vec<(String, String)>,
    /// The runtime's library file; searched for where not given (ORT_DYLIB_PATH, the Python package, the system).
    #[arg(long, value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// Cores to pin the runtime to while measuring, such as 2,3.
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    pub affinity: Vec<usize>,
    /// How far the runtime may rewrite the graph: all, extended, basic, disabled [default: all].
    #[arg(long, value_name = "LEVEL")]
    pub optimization: Option<Optimization>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).ok_or_else(|| format!("`{text}` is not NAME=VALUE"))
}

impl RuntimeArgs {
    /// `spec` with the flags that were given; they win over what the text of the target says.
    pub fn apply(&self, spec: &TargetSpec) -> TargetSpec {
        let mut spec = spec.clone();
        let o = &mut spec.options;
        if let Some(n) = self.threads {
            o.threads = usize::from(n);
        }
        if let Some(p) = &self.provider {
            o.provider = Some(p.clone());
        }
        o.provider_options.extend(self.provider_option.iter().cloned());
        if let Some(l) = &self.library {
            o.library = Some(l.clone());
        }
        if !self.affinity.is_empty() {
            o.affinity = Some(self.affinity.clone());
        }
        if let Some(level) = self.optimization {
            o.optimization = level;
        }
        spec
    }
}

impl TargetArgs {
    /// The target with its options.
    pub fn spec(&self) -> TargetSpec {
        self.options.apply(&self.target)
    }
}
