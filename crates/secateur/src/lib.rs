//! Prune a trained network to a latency budget, as measured on the device it will run on.
//!
//! The loop: groups and saliency make values, the latency table makes costs, a solver chooses, surgery cuts, fine-tuning
//! recovers, measuring decides. A *method* is a way to walk it; the boxes are shared by all.
//!
//! [`prune`] runs it from a [`Settings`] value and leaves everything in a run directory, from which [`resume`] goes on after
//! a kill. This crate prints nothing and parses no command lines; progress goes to an [`Observer`].

mod analysis;
mod bench;
mod bracket;
mod budget;
mod choice;
mod compare;
mod cost;
mod demo;
mod error;
mod evaluate;
mod evaluator;
mod events;
mod lean;
mod learning;
mod map;
mod meeting;
mod methods;
mod patience;
mod plan;
mod prune;
mod recovery;
mod report;
mod rounding;
mod run;
mod saliency;
mod schemes;
mod scope;
mod session;
mod settings;
mod size;
mod stage;
mod staircases;
mod tuning;
mod verify;
mod worth;

pub use analysis::Analysis;
pub use bench::{Bench, Probes, Relative, default_table};
pub use budget::{Budget, ParseBudgetError, format_seconds};
pub use choice::{GroupOptions, Space, Values, Widths, default_chunk, from_prefixes, joint_problem, linearised};
pub use compare::{SolverRow, compare_solvers};
pub use cost::{
    Calibration, Family, Features, Forecast, LatencyTable, LayerCosts, Macs, Measure, SchemeCurve, SchemeFamily, SchemeTable, StageCosts,
    WidthRange, dense_layer,
};
pub use demo::{DemoReport, demo, residual_network};
pub use error::{Error, Result};
pub use evaluate::{Engine, agreement, evaluate};
pub use evaluator::{Effort, Evaluator, Figure, Judge, LocalScorer, Score, Scorer};
pub use events::{Event, Observer, Silent, Unfit};
pub use learning::{Learning, Split};
pub use map::{EASY_CLASSES, MAP_VERSION, MapBy, MapReport, MapSettings, MappedLayer, Schemes, map};
pub use methods::{FRONT_VERSION, Front, FrontPoint, geometric, is_pareto_run, pareto, resume_pareto};
pub use plan::{Cut, LayerWidth, PLAN_VERSION, Plan, file_hash};
pub use prune::{Profile, apply, profile, prune, resume};
pub use recovery::{Recovered, Recovery, kept_outputs};
pub use report::{REPORT_VERSION, Report, Row};
pub use rounding::{Rounding, Widened};
pub use run::{Journal, Run, read_json, write_json};
pub use saliency::{Criterion, Saliency, Sources, TaylorAccumulator};
pub use schemes::{
    Assigned, Mapping, ReorderedRow, SCHEME_REPORT_VERSION, SchemeJob, SchemeLatency, SchemePlan, SchemeReport, SchemeRow, is_scheme_run,
    prune_to_schemes, resume_schemes,
};
pub use scope::{Keep, Scope};
pub use settings::{Grid, LossKind, Method, Recover, SchemeTraining, Settings, Solver};
pub use size::{GroupOutcome, ParseSizeError, SizeBudget, SizeCut, SizeReport, prune_to_size};
pub use stage::Stage;
pub use staircases::{Curve, GroupStaircase, MeasureWidths, Side, StaircaseOptions, Staircases, Timed, Width, single_layer};
pub use verify::{TwinCheck, check as check_twin, compare as compare_outputs, compare_at, model_bytes, open_axes};
