//! The linearised problem of HALP (Shen et al., NeurIPS 2022): ordered chunks per group, additive costs.

use serde::{Deserialize, Serialize};

use crate::Error;

/// A run of a group's items, taken or left together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// What keeping it is worth.
    pub value: f64,
    /// What keeping it costs on top of the chunks before it; negative when the table is not monotone.
    pub cost: f64,
}

/// Chunks in the order in which they are kept, most salient first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Name used in messages.
    pub name: String,
    /// How many chunks are always kept.
    pub min_chunks: usize,
    /// The chunks, most salient first.
    pub chunks: Vec<Chunk>,
}

/// How many chunks each group keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prefixes {
    /// Chunks kept, per group.
    pub kept: Vec<usize>,
    /// Total value of the kept chunks.
    pub value: f64,
    /// Total true (not discretised) cost of the kept chunks.
    pub cost: f64,
    /// The budget it was solved for.
    pub budget: f64,
}

/// The published greedy programme.
///
/// # Errors
/// [`Error::Infeasible`] with the floor.
pub fn published(groups: &[Group], budget: f64, resolution: usize) -> Result<Prefixes, Error> {
    let _ = (groups, budget, resolution);
    todo!()
}

/// Exact prefix choice on a cost grid.
///
/// # Errors
/// [`Error::Infeasible`] with the floor.
pub fn exact(groups: &[Group], budget: f64, resolution: usize) -> Result<Prefixes, Error> {
    let _ = (groups, budget, resolution);
    todo!()
}

/// Exact prefix choice without a cost grid.
///
/// # Errors
/// [`Error::Infeasible`] with the floor.
pub fn exact_continuous(groups: &[Group], budget: f64) -> Result<Prefixes, Error> {
    let _ = (groups, budget);
    todo!()
}
