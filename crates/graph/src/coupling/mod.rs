//! Which channels live and die together.
//!
//! Every coordinate of a prunable axis has a label; each operator says which labels must be equal (`couple` in its file
//! under [`crate::ops`]); union-find makes classes. A class is one *channel*: the smallest thing that can be removed.
//! Channels that occur at the same places make a [`Group`], and a decision says which channels of each group stay.

mod branch;
mod group;
pub(crate) mod labels;
pub(crate) mod rules;

use serde::{Deserialize, Serialize};

pub use branch::{Branch, BranchId};
pub(crate) use group::layer_axes;

use crate::error::Result;
use crate::facts::Facts;
use crate::graph::{Graph, NodeId, ValueId};
use crate::model::Model;

/// A [`Group`] of one model: its position in [`Groups::groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub u32);

impl GroupId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Which slabs go where an axis of channels is cut into parts, as attention cuts it into heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slabs {
    /// The same position of every part where parts are longer than they are many, whole parts otherwise: the finer choice. Of
    /// attention, the width of all heads.
    #[default]
    Finest,
    /// Whole parts, where they are not told apart by their number. Of attention, heads.
    Parts,
}

impl Slabs {
    /// It is what is done when nothing is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a group cannot be pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// One sentence.
    pub reason: String,
    /// Name of the node or value it happens at.
    pub at: String,
}

/// A normalisation or mean over channels, which removing channels changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approximation {
    /// One sentence.
    pub reason: String,
    /// Name of the node.
    pub at: String,
}

/// What the coordinates of a member are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Parameters that make the channel: the output axis of a weight, a bias, vectors of a normalisation, a slope.
    Produced,
    /// Parameters that read the channel: the input axis of a weight.
    Consumed,
    /// A value computed by the graph, in which the channel flows.
    Carried,
}

/// One axis of one value along which the channels of a group lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The tensor.
    pub value: ValueId,
    /// Its axis.
    pub axis: usize,
    /// For each channel of the group, the coordinates of this axis that vanish with it, ascending: one after a
    /// convolution, H·W after a flattening.
    pub coordinates: Vec<Vec<usize>>,
    /// What they are there for.
    pub role: Role,
}

/// Channels that occur at the same places; each can be removed on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its position in [`Groups::groups`].
    pub id: GroupId,
    /// Name of the first layer writing it (of the first tensor, where no layer does), unique in the model.
    pub name: String,
    /// Number of channels.
    pub size: usize,
    /// All places, parameters first, in the order of the graph.
    pub members: Vec<Member>,
    /// Layers whose output width these channels are part of.
    pub writers: Vec<NodeId>,
    /// Layers whose input width these channels are part of.
    pub readers: Vec<NodeId>,
    /// Fewest channels that may stay: 1, so that no axis becomes empty; `size` where frozen.
    pub min_keep: usize,
    /// Why no channel can go.
    pub frozen: Option<Frozen>,
    /// Statistics over the channels that change when some go: what remains is then not exactly the network with those
    /// channels silenced, but the one that computes these statistics over the channels that stay.
    pub approximations: Vec<Approximation>,
}

impl Group {
    /// The parameter tensor that names the group in a plan: the first produced, else the first consumed one.
    pub fn anchor(&self) -> Option<&Member> {
        self.members.iter().find(|m| m.role == Role::Produced).or_else(|| self.members.iter().find(|m| m.role == Role::Consumed))
    }

    /// Members that are parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.role != Role::Carried)
    }
}

/// A layer with a weight (`Conv`, `ConvTranspose`, `Gemm`, `MatMul`) and what its widths are made of.
///
/// Input width = `fixed_in` + Σ over `inputs` of kept channels × coordinates per channel; likewise the output width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The node.
    pub node: NodeId,
    /// Groups along the input width, with coordinates per channel.
    pub inputs: Vec<(GroupId, usize)>,
    /// Groups along the output width, with coordinates per channel.
    pub outputs: Vec<(GroupId, usize)>,
    /// Input coordinates that belong to no group.
    pub fixed_in: usize,
    /// Output coordinates that belong to no group.
    pub fixed_out: usize,
}

impl Layer {
    /// `(input width, output width)` where `kept` channels of each group stay.
    pub fn widths(&self, kept: impl Fn(GroupId) -> usize) -> (usize, usize) {
        let sum = |parts: &[(GroupId, usize)]| parts.iter().map(|&(g, n)| kept(g) * n).sum::<usize>();
        (self.fixed_in + sum(&self.inputs), self.fixed_out + sum(&self.outputs))
    }
}

/// A node that sums over an axis of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contraction {
    pub(crate) node: NodeId,
    pub(crate) slot: usize,
    pub(crate) axis: usize,
}

/// A node that computes a statistic over an axis of its first input. Its masked twin computes it over the channels that
/// stay: the node reads those alone, and they are put back in their places where the output has the axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statistic {
    pub(crate) node: NodeId,
    /// Axis of input 0.
    pub(crate) axis: usize,
    /// Parameters that run along it: input slot and axis.
    pub(crate) parameters: Vec<(usize, usize)>,
    /// The output has the axis, too.
    pub(crate) carried: bool,
}

/// What can be removed from a model: groups of channels, and residual branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// All groups, in the order of the graph; frozen ones too.
    pub groups: Vec<Group>,
    /// Residual branches that can be left out as a whole.
    pub branches: Vec<Branch>,
    /// What is removed where an axis is cut into parts.
    pub slabs: Slabs,
    layers: Vec<Layer>,
    attention: Vec<Layer>,
    pub(crate) contractions: Vec<Contraction>,
    pub(crate) statistics: Vec<Statistic>,
}

impl Groups {
    /// Finds all groups of `model`.
    ///
    /// # Errors
    /// Nodes whose inputs do not fit them.
    pub fn analyse(model: &Model, graph: &Graph, facts: &Facts) -> Result<Self> {
        Self::with_slabs(model, graph, facts, Slabs::default())
    }

    /// Finds all groups of `model`, with the given slabs where an axis is cut into parts.
    ///
    /// # Errors
    /// Nodes whose inputs do not fit them.
    pub fn with_slabs(model: &Model, graph: &Graph, facts: &Facts, slabs: Slabs) -> Result<Self> {
        let Some(coupling) = rules::Coupling::run(model, graph, facts, slabs)? else {
            return Ok(Self {
                groups: Vec::new(),
                branches: Vec::new(),
                slabs,
                layers: Vec::new(),
                attention: Vec::new(),
                contractions: Vec::new(),
                statistics: Vec::new(),
            });
        };
        let mut groups = group::collect(coupling);
        groups.branches = branch::find(graph, facts, &groups);
        crate::surgery::freeze_what_cannot_be_rewritten(model, graph, facts, &mut groups);
        Ok(groups)
    }

    /// A group.
    pub fn group(&self, id: GroupId) -> &Group {
        &self.groups[id.index()]
    }

    /// A branch.
    pub fn branch(&self, id: BranchId) -> &Branch {
        &self.branches[id.index()]
    }

    /// All layers with weights, in the order of the graph.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All attentions, in the order of the graph, each as a layer at the product of its queries and keys: the input width is the
    /// number of heads, the output width that of a head's queries and values together.
    pub fn attention(&self) -> &[Layer] {
        &self.attention
    }

    /// The layer at `node`, if it is one.
    pub fn layer(&self, node: NodeId) -> Option<&Layer> {
        self.layers.iter().find(|l| l.node == node)
    }

    /// The groups that can be pruned.
    pub fn prunable(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|g| g.frozen.is_none() && g.size > g.min_keep)
    }
}
