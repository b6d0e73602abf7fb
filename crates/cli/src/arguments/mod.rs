//! The command line: every flag is defined once, here; parsing, help and the configuration file follow from it.

mod map;
mod prune;
mod schemes;
mod target;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgGroup, Args, Parser, Subcommand};
use train::data::{DataSpec, Normalization};

use crate::files::Shape;

pub use map::MapArgs;
pub use prune::{ParetoArgs, PruneArgs};
pub use schemes::SchemeArgs;
pub use target::{RuntimeArgs, TargetArgs};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 error, 2 usage, 3 budget not reached, 4 noise too high to say, 130 stopped by Ctrl-C.
Logs: SECATEUR_LOG=warn|info|debug. Latency tables are cached in $SECATEUR_CACHE, else in the user's cache folder.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default());

/// Prune a trained neural network to a latency budget, as measured on the device it will run on.
#[derive(Debug, Parser)]
#[command(name = "secateur", version, after_help = EXIT_CODES, styles = STYLES, args_override_self = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Shared {
    /// Print the answer as one JSON document (with schema_version) and nothing else on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// TOML file with flags under their own names (`budget = "50%"`), or under `[command]`; what is given here wins, lists as a whole.
    #[arg(long, global = true, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what of a network can be pruned: groups, constraints, what is frozen and why, parameters, MACs.
    Inspect(InspectArgs),
    /// Time a network's layers on a target and show where its latency goes.
    Profile(ProfileArgs),
    /// Measure networks against each other in interleaved rounds; every other one is compared with the first.
    Measure(MeasureArgs),
    /// Accuracy of a network on the test split of a data set.
    Eval(EvalArgs),
    /// Prune a network to a latency budget and fine-tune it. The main job.
    Prune(Box<PruneArgs>),
    /// Accuracy against latency over a range of budgets, before any fine-tuning: which budget is worth asking for. With
    /// `--method halp` from the joint solver's answers alone, else evolved from them.
    Pareto(Box<ParetoArgs>),
    /// Choose the pruning scheme that suits each layer: which weights are removed together, and how many; for `prune --mapping`.
    Map(Box<MapArgs>),
    /// Apply a plan.json to a network of the structure it was made for.
    Apply(ApplyArgs),
    /// Go on with a run of `prune` or `pareto` that was stopped or killed.
    Resume(ResumeArgs),
    /// The main job on a made-up problem, nothing to install: train a small network, prune it to half its latency.
    Demo(DemoArgs),
    /// What this machine offers: runtimes, providers, versions, and how finely it can measure.
    Doctor(DoctorArgs),
    /// Measure in a process of its own; reads a job from standard input.
    #[command(hide = true)]
    Worker,
}

impl Command {
    /// As it is called on the command line and in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Inspect(_) => "inspect",
            Self::Profile(_) => "profile",
            Self::Measure(_) => "measure",
            Self::Eval(_) => "eval",
            Self::Prune(_) => "prune",
            Self::Pareto(_) => "pareto",
            Self::Map(_) => "map",
            Self::Apply(_) => "apply",
            Self::Resume(_) => "resume",
            Self::Demo(_) => "demo",
            Self::Doctor(_) => "doctor",
            Self::Worker => "worker",
        }
    }
}

/// Sizes of inputs that the file leaves open.
#[derive(Debug, Args)]
pub struct ShapeArgs {
    /// Size of a dynamic batch dimension.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Shape of an input with other dynamic dimensions; may be repeated.
    #[arg(long, value_name = "NAME=D0,D1,…")]
    pub shape: Vec<Shape>,
}

/// How latencies are measured and remembered.
#[derive(Debug, Args)]
pub struct MeasuringArgs {
    /// Networks measured to calibrate the latency table.
    #[arg(long, value_name = "N", default_value_t = secateur::Settings::default().calibration_networks)]
    pub calibration_networks: usize,
    /// Latency table to read and add to; the user's cache where not given.
    #[arg(long, value_name = "FILE.sqlite")]
    pub table: Option<PathBuf>,
    /// Batch size the latency is meant for.
    #[arg(long, value_name = "N", default_value_t = secateur::Settings::default().latency_batch)]
    pub latency_batch: usize,
    /// Seconds to wait for a device that is too noisy, before giving up, or that turned slow, before going on at its pace.
    #[arg(long, value_name = "SECONDS", default_value_t = secateur::Settings::default().patience_s)]
    pub patience: f64,
}

/// Images and how the network wants them.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Data: cifar10:DIR (binary records), imagefolder:DIR (one folder per class, or a flat one with or without labels.csv), npz:FILE (x, and y where
    /// there are labels), synthetic[:TRAIN,TEST[,SEED]], drawn[:N[,SEED]] (random inputs, for --recover lsq).
    #[arg(long, value_name = "SPEC")]
    pub data: Option<DataSpec>,
    /// How pixels become inputs: imagenet ((x/255-mean)/std), raw255 (0…255), unit (0…1), bgr-unit, tf (-1…1), bgr-caffe (BGR minus 104, 117, 123).
    #[arg(long, value_name = "NAME", default_value_t = secateur::Settings::default().preprocess, value_parser = preprocess)]
    pub preprocess: String,
}

fn preprocess(name: &str) -> Result<String, train::Error> {
    name.parse::<Normalization>().map(|_| name.to_owned())
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The ONNX file.
    pub model: PathBuf,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    /// Show every group, branch and layer on a line of its own instead of summing up equal ones.
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("staircases_or_plot").args(["staircases", "plot"]).multiple(true)))]
pub struct ProfileArgs {
    /// The ONNX file.
    pub model: PathBuf,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Latency table to read and add to; the user's cache where not given.
    #[arg(long, value_name = "FILE.sqlite")]
    pub table: Option<PathBuf>,
    /// Batch size the latency is meant for.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub latency_batch: u32,
    /// Channels pruned together, which sets the widths that are timed; 0: by the width of the group.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub chunk: usize,
    /// Networks measured to calibrate the table.
    #[arg(long, value_name = "N", default_value_t = secateur::Settings::default().calibration_networks)]
    pub calibration_networks: usize,
    /// Seed of the networks measured for calibration.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Also find the staircases: which widths of each layer and group are worth keeping, edge by edge (a minute to many, by the
    /// number of different layers).
    #[arg(long)]
    pub staircases: bool,
    /// Also list all nodes with the runtime that runs them, for a target that passes some on to another runtime.
    #[arg(long)]
    pub layers: bool,
    /// Draw the staircases into one HTML page; implies --staircases. Must not exist.
    #[arg(long, value_name = "FILE.html")]
    pub plot: Option<PathBuf>,
    /// Multiprocessors of the GPU that the target runs on, to fit tiles and waves to the staircases (with --staircases or --plot).
    #[arg(long, value_name = "N", requires = "staircases_or_plot", value_parser = clap::value_parser!(u32).range(1..))]
    pub sms: Option<u32>,
    /// Add the measurements of an exported table first.
    #[arg(long, value_name = "FILE.json")]
    pub import: Option<PathBuf>,
    /// Write the whole table, with the measurements behind it, to a JSON file.
    #[arg(long, value_name = "FILE.json")]
    pub export: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// ONNX files; the first is what the others are compared with.
    #[arg(required = true, num_args = 1..)]
    pub models: Vec<PathBuf>,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    /// Relative half-width of each latency's interval at which measuring stops.
    #[arg(long, value_name = "N", default_value_t = 0.01)]
    pub precision: f64,
    /// Seconds of sampling per model at most.
    #[arg(long, value_name = "N", default_value_t = 8.0)]
    pub time_limit: f64,
    /// Fresh processes to measure in, for latencies that decide something; the spread between processes exceeds that within one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub processes: u32,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The ONNX file.
    pub model: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    /// Tell the agreement with this network, from which it was cut, instead of the accuracy; labels are not looked at.
    #[arg(long, value_name = "DENSE.onnx", conflicts_with = "runtime")]
    pub against: Option<PathBuf>,
    /// Runtime to run it on: engine, tract, ort. Without it, the interpreter that also trains; options of a runtime (--threads,
    /// --provider and the others below) say nothing to that.
    #[arg(long, value_name = "RUNTIME")]
    pub runtime: Option<latency::TargetSpec>,
    #[command(flatten)]
    pub options: RuntimeArgs,
    /// Images of the test split to use, from its beginning; all where not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub images: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// The plan.json of a run.
    pub plan: PathBuf,
    /// The dense network.
    pub model: PathBuf,
    /// The file to write; must not exist.
    #[arg(long, short, value_name = "FILE.onnx")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The directory that was given to `--out` of `prune` or `pareto`; of `demo`, the folder `run` in it. `map` and `profile` go on
    /// when the same command is given again; `prune --budget-params` starts anew.
    pub dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Directory to work in; must be new or empty.
    #[arg(long, value_name = "DIR", default_value = "secateur-demo")]
    pub out: PathBuf,
    /// Seed of images, weights and choices.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Also say which node of this network runs where, for a target that passes some on to another runtime.
    pub model: Option<PathBuf>,
    #[command(flatten)]
    pub shapes: ShapeArgs,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Relative difference that must be told apart; exit code 4 where this machine cannot.
    #[arg(long, value_name = "N", default_value_t = secateur::Settings::default().tolerance)]
    pub tolerance: f64,
    /// Times a small model is measured against itself.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub trials: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_is_explained() {
        for sub in Cli::command().get_subcommands() {
            for a in sub.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(a.get_help().is_some(), "{} {}", sub.get_name(), a.get_id());
            }
        }
    }
}
