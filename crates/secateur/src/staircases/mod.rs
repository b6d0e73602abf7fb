//! Staircases of a network on a target: which widths of each layer and of each group are worth keeping.
//!
//! For every group and every layer that it widens there is a curve: the layer alone, as a function of the group's count, all
//! other groups full. Layers that are equal but for their weights share curves, so each is measured once. The staircase of a
//! group is the sum over its layers: a width of the group is worth keeping where the *sum* has a right edge.

mod group;
mod lines;
mod measure;
mod plot;

use graph::GroupId;
use latency::{Staircase, TileModel, Tiling, fit_tiles, staircase::Kept};
use serde::{Deserialize, Serialize};

pub use measure::{LEAST_DELTA, MeasureWidths, StaircaseOptions, Timed, Width, single_layer};

/// Which widths of a layer change with a group's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The input width, at full output.
    Input,
    /// The output width, at full input.
    Output,
    /// Both together: a depthwise layer, or one that reads and writes the same group.
    Both,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Both => "both",
        })
    }
}

/// Latency of one layer (of all that are equal to it) along one side, against the count of the group that widens it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Name of the first layer.
    pub layer: String,
    /// Number of layers, and groups, that share the curve.
    pub shared: usize,
    /// Which widths change.
    pub side: Side,
    /// Input and output width at a count of 1, and at the full count.
    pub widths: [(usize, usize); 2],
    /// Latency against the count.
    pub staircase: Staircase,
    /// Rows of the layer's matrix product, where the side is its columns.
    pub rows: Option<usize>,
    /// Tiles, where they explain it.
    pub fit: Option<TileModel>,
}

impl Curve {
    /// Input and output width of the layer at a count of the group.
    pub fn widths_at(&self, count: usize) -> (usize, usize) {
        let [first, last] = self.widths;
        let steps = self.staircase.channels.saturating_sub(1).max(1);
        let at = |a: usize, b: usize| a + (b - a) * count.saturating_sub(1) / steps;
        (at(first.0, last.0), at(first.1, last.1))
    }
}

/// Latency of all layers of one group, summed, against the group's count; all other groups full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupStaircase {
    /// The group.
    pub group: GroupId,
    /// Its name.
    pub name: String,
    /// Its channels.
    pub size: usize,
    /// Positions in [`Staircases::curves`] of its layers' curves; one that several of its layers share is there several times.
    pub curves: Vec<usize>,
    /// Sum over the layers at counts 1 to `size`, seconds.
    pub latency_s: Vec<f64>,
    /// Counts worth keeping, ascending; the last is `size`.
    pub edges: Vec<Kept>,
    /// The same, counts only.
    pub kept: Vec<usize>,
}

/// What was found for a network on a target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Staircases {
    /// Relative difference that counts, from the measured noise.
    pub delta: f64,
    /// Median half-width of the intervals, relative.
    pub noise: f64,
    /// Curves of the layers.
    pub curves: Vec<Curve>,
    /// Groups that can be pruned.
    pub groups: Vec<GroupStaircase>,
    /// Measurements asked for, repeats included; each distinct model and effort once.
    pub probes: usize,
    /// Of these, those that the latency table held.
    pub cached: usize,
    /// Single-layer models that an exhaustive sweep of the same curves would measure.
    pub exhaustive: usize,
    /// Time of the sentinel that all latencies are relative to, seconds.
    pub sentinel_s: f64,
}

impl Staircases {
    /// The staircase of a group; `None` where the group is frozen.
    pub fn group(&self, group: GroupId) -> Option<&GroupStaircase> {
        self.groups.iter().find(|g| g.group == group)
    }

    /// Fits tiles and waves of a GPU of `sms` multiprocessors to the curves along output channels.
    pub fn fit_waves(&mut self, sms: usize) {
        for curve in &mut self.curves {
            if let Some(rows) = curve.rows {
                curve.fit = fit_tiles(&curve.staircase, Tiling::Waves { sms, rows });
            }
        }
    }

    /// Counts of a group that are worth keeping, ascending, the full one last; empty where the group is frozen.
    pub fn kept(&self, group: GroupId) -> &[usize] {
        self.group(group).map_or(&[], |g| &g.kept)
    }

    /// The largest count of a group that costs what `count` does, within δ; `count` itself on a slope or for a frozen group.
    pub fn right_edge(&self, group: GroupId, count: usize) -> usize {
        self.group(group).map_or(count, |g| g.right_edge(count, self.delta))
    }
}
