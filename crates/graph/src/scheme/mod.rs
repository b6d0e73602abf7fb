//! Fine-grained structured pruning: which weights of a layer are removed together, as values.
//!
//! A [`Regularity`] divides the weight of a layer into [`Units`] (a whole filter, one kernel position in a block of kernels, a
//! single weight …); a [`Scheme`] is a regularity and how much is removed. [`Scheme::project`] finds the [`Mask`] that removes the
//! weakest units of a weight, [`Regularity::validate`] proves that a mask has the regularity it claims, and
//! [`SchemeLayer::legal`] says which regularities a layer of a network can have. Removed weights are zeros where they were; a
//! runtime that knows nothing of them computes the same.
//!
//! The family is that of Gong et al., *Automatic Mapping of the Best-Suited DNN Pruning Schemes for Real-Time Mobile
//! Acceleration* (2022).

mod global;
mod layer;
mod mask;
mod metadata;
mod pattern;
mod project;
mod regularity;
mod reorder;
mod shape;
mod twin;
mod units;
mod validate;

pub use global::{Threshold, Weighted, all_scores, global, valley};
pub use layer::{SchemeLayer, TINY};
pub use mask::Mask;
pub use metadata::{LayerScheme, clear_schemes, read_schemes, write_schemes};
pub use pattern::{KEPT_OF_KERNEL, LIBRARY, Pattern};
pub use project::{Balance, lowest};
pub use regularity::{Direction, Extent, Regularity, Scheme};
pub use reorder::{Reordered, reorder};
pub use shape::WeightShape;
pub use twin::masked_weights;
pub use units::Units;
pub use validate::Violation;
