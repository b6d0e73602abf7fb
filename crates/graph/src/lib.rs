//! The ONNX file as a graph: reading and writing without loss, facts about every value, what couples with what, and surgery.
//!
//! This crate runs nothing and measures nothing. It knows files, operators and channels; it does not know data sets,
//! runtimes, budgets or methods.
//!
//! In the order a newcomer meets them: [`Model`] is the decoded file, [`Graph`] its indexed main graph, [`Facts`] the
//! shapes and constants of all values.

mod attention;
mod attributes;
mod bindings;
mod cost;
pub mod coupling;
mod coverage;
mod decision;
mod error;
mod facts;
mod graph;
mod layer_model;
mod model;
mod movement;
pub mod ops;
pub mod proto;
pub mod scheme;
pub mod surgery;
mod tensor;

pub use attention::Attention;
pub use bindings::AssumedShape;
pub use cost::{Costs, NodeCost, cost};
pub use coupling::{Approximation, Branch, BranchId, Frozen, Group, GroupId, Groups, Layer, Member, Role, Slabs};
pub use coverage::{Coverage, coverage, parameters};
pub use decision::{Decision, NamedDecision, NamedGroup};
pub use error::{Error, Result};
pub use facts::{Fact, Facts, Inference, InputShapes, Outputs, is_float};
pub use graph::{Graph, Node, NodeId, Source, Value, ValueId};
pub use layer_model::{Grouping, grouping, layer_model};
pub use model::{Model, write_atomically};
pub use movement::{broadcast, for_each_index, strides};
pub use tensor::{Data, Tensor};
