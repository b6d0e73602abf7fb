//! What the user wants left as it is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use graph::{BranchId, Frozen, Graph, Group, GroupId, Groups, NodeId, Slabs};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Something that is not pruned though it could be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Keep {
    /// The number of heads of every attention.
    Heads,
    /// The width of the heads of every attention.
    HeadWidth,
    /// The channels that the layer of this name writes.
    Layer(String),
}

impl FromStr for Keep {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(text.to_owned().into())
    }
}

impl From<String> for Keep {
    fn from(text: String) -> Self {
        match text.as_str() {
            "heads" => Self::Heads,
            "head-width" => Self::HeadWidth,
            _ => Self::Layer(text),
        }
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heads => f.write_str("heads"),
            Self::HeadWidth => f.write_str("head-width"),
            Self::Layer(name) => f.write_str(name),
        }
    }
}

/// What may be pruned of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// What goes where an axis is cut into parts.
    pub slabs: Slabs,
    /// What is left as it is.
    pub keep: Vec<Keep>,
}

impl Scope {
    /// All but `keep`; where the width of heads is kept and their number is not, whole heads go.
    pub fn but(keep: &[Keep]) -> Self {
        let parts = keep.contains(&Keep::HeadWidth) && !keep.contains(&Keep::Heads);
        Self { slabs: if parts { Slabs::Parts } else { Slabs::default() }, keep: keep.to_vec() }
    }

    /// Freezes in `groups` what is to be kept; branches that hold it stay, too.
    pub(crate) fn freeze(&self, graph: &Graph, groups: &mut Groups) {
        let mut staying: BTreeSet<NodeId> = BTreeSet::new();
        for keep in &self.keep {
            let kept: Vec<GroupId> = match keep {
                Keep::Heads => groups.attention().iter().flat_map(|a| &a.inputs).map(|p| p.0).collect(),
                Keep::HeadWidth => groups.attention().iter().flat_map(|a| &a.outputs).map(|p| p.0).collect(),
                Keep::Layer(name) => groups.groups.iter().filter(|g| named(g, name, graph)).map(|g| g.id).collect(),
            };
            match keep {
                Keep::Heads | Keep::HeadWidth => staying.extend(groups.attention().iter().map(|a| a.node)),
                // Of the layers that write a group, the one that is named; all of them where the name is the group's.
                Keep::Layer(name) => {
                    let writers = || kept.iter().flat_map(|&g| &groups.group(g).writers).copied();
                    let of_the_name: Vec<NodeId> = writers().filter(|&w| graph.node(w).name == *name).collect();
                    staying.extend(if of_the_name.is_empty() { writers().collect() } else { of_the_name });
                }
            }
            for id in kept {
                let g = &mut groups.groups[id.index()];
                if g.frozen.is_none() {
                    g.frozen = Some(Frozen { reason: format!("it is kept by --keep {keep}"), at: g.name.clone() });
                    g.min_keep = g.size;
                }
            }
        }
        groups.branches.retain(|b| !b.nodes.iter().any(|n| staying.contains(n)));
        for (k, b) in groups.branches.iter_mut().enumerate() {
            b.id = BranchId(k as u32);
        }
    }

    /// That the layers it names are there.
    ///
    /// # Errors
    /// One is not; the message names some that are.
    pub(crate) fn check(&self, graph: &Graph, groups: &Groups) -> Result<()> {
        for keep in &self.keep {
            let Keep::Layer(name) = keep else { continue };
            if !groups.groups.iter().any(|g| named(g, name, graph)) {
                let some: Vec<&str> = groups.groups.iter().filter(|g| !g.writers.is_empty()).map(|g| g.name.as_str()).take(8).collect();
                return Err(Error::Setting(format!(
                    "--keep {name}: no layer of this name writes channels; it takes `heads`, `head-width` or a name that `inspect` shows, such as {}",
                    some.join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// `name` is the group's, or that of a layer that writes it.
fn named(group: &Group, name: &str, graph: &Graph) -> bool {
    group.name == name || group.writers.iter().any(|&w| graph.node(w).name == name)
}
