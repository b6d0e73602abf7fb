//! What stays of a model, as a value.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::coupling::{BranchId, Group, GroupId, Groups, Slabs};
use crate::error::{Error, Result};
use crate::graph::Graph;

/// Which channels of which group stay, and which residual branches go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// Kept channels per group, ascending; a group that is absent keeps all.
    pub keep: BTreeMap<GroupId, Vec<usize>>,
    /// Branches left out.
    pub removed_branches: BTreeSet<BranchId>,
}

impl Decision {
    /// Everything stays.
    pub fn keep_all() -> Self {
        Self::default()
    }

    /// The channels of `group` that stay, ascending.
    pub fn kept(&self, group: &Group) -> Vec<usize> {
        self.keep.get(&group.id).cloned().unwrap_or_else(|| (0..group.size).collect())
    }

    /// How many channels of `group` stay.
    pub fn width(&self, group: &Group) -> usize {
        self.keep.get(&group.id).map_or(group.size, Vec::len)
    }

    /// The same decision without entries that keep everything.
    pub fn normalised(&self, groups: &Groups) -> Self {
        let keep = self.keep.iter().filter(|(id, k)| groups.groups.get(id.index()).is_none_or(|g| k.len() < g.size));
        Self { keep: keep.map(|(id, k)| (*id, k.clone())).collect(), removed_branches: self.removed_branches.clone() }
    }

    /// Checks the decision against the groups it is about.
    ///
    /// # Errors
    /// Unknown groups, branches or channels, channels out of order, fewer than the minimum, frozen groups.
    pub fn check(&self, groups: &Groups) -> Result<()> {
        for (id, keep) in &self.keep {
            let Some(g) = groups.groups.get(id.index()) else {
                return Err(Error::Decision(format!(
                    "it names group {}, the model has {}; it was made for another model",
                    id.0,
                    groups.groups.len()
                )));
            };
            if !keep.windows(2).all(|w| w[0] < w[1]) || keep.last().is_some_and(|&k| k >= g.size) {
                return Err(Error::Decision(format!("the channels kept of group `{}` are not ascending below {}", g.name, g.size)));
            }
            if let Some(why) = g.frozen.as_ref().filter(|_| keep.len() < g.size) {
                return Err(Error::Decision(format!("group `{}` cannot be pruned: {}", g.name, why.reason)));
            }
            if keep.len() < g.min_keep {
                return Err(Error::Decision(format!(
                    "group `{}` keeps {} channels, at least {} must stay",
                    g.name,
                    keep.len(),
                    g.min_keep
                )));
            }
        }
        match self.removed_branches.iter().find(|b| b.index() >= groups.branches.len()) {
            Some(b) => Err(Error::Decision(format!(
                "it names branch {}, the model has {}; it was made for another model",
                b.0,
                groups.branches.len()
            ))),
            None => Ok(()),
        }
    }

    /// This decision followed by `then`, which counts channels of the smaller model. The groups of both models must be the
    /// same but for their sizes. They are, unless this decision leaves out a branch or brings a grouped layer, a shuffle or
    /// a set of heads down to one partition, where the smaller model is coupled otherwise.
    ///
    /// # Errors
    /// This decision leaves out branches, or `then` keeps channels that are gone.
    pub fn compose(&self, then: &Self) -> Result<Self> {
        if !self.removed_branches.is_empty() {
            return Err(Error::Decision(
                "what follows the removal of a branch numbers groups anew; compose in the order channels, then branches".into(),
            ));
        }
        let mut keep = self.keep.clone();
        for (id, later) in &then.keep {
            let composed = match self.keep.get(id) {
                None => later.clone(),
                Some(first) => {
                    let at = |&k: &usize| {
                        first.get(k).copied().ok_or_else(|| Error::Decision(format!("channel {k} of group {} is gone already", id.0)))
                    };
                    later.iter().map(at).collect::<Result<_>>()?
                }
            };
            keep.insert(*id, composed);
        }
        Ok(Self { keep, removed_branches: then.removed_branches.clone() })
    }

    /// The form for files: by parameter and node names.
    pub fn to_named(&self, groups: &Groups, graph: &Graph) -> NamedDecision {
        let entries = self.keep.iter().filter_map(|(id, keep)| {
            let g = groups.groups.get(id.index())?;
            let anchor = g.anchor()?;
            let mut coordinates: Vec<usize> = keep.iter().flat_map(|&k| anchor.coordinates[k].iter().copied()).collect();
            coordinates.sort_unstable();
            Some(NamedGroup { tensor: graph.value(anchor.value).name.clone(), axis: anchor.axis, keep: coordinates, channels: g.size })
        });
        NamedDecision {
            groups: entries.collect(),
            slabs: groups.slabs,
            removed_branches: self.removed_branches.iter().filter_map(|b| groups.branches.get(b.index())).map(|b| b.name.clone()).collect(),
        }
    }

    /// Finds the groups and branches that `named` means.
    ///
    /// # Errors
    /// A tensor or branch that the model does not have, or coordinates that are not those of one group.
    pub fn from_named(named: &NamedDecision, groups: &Groups, graph: &Graph) -> Result<Self> {
        let mut decision = Self::default();
        for entry in &named.groups {
            let (tensor, axis) = (&entry.tensor, entry.axis);
            let member = |g: &Group| g.members.iter().position(|m| m.axis == axis && graph.value(m.value).name == *tensor);
            let of = |g: &Group, m: usize, c: usize| g.members[m].coordinates.iter().position(|all| all.contains(&c));
            let found = groups.groups.iter().find_map(|g| {
                let m = member(g)?;
                let first = *entry.keep.first()?;
                of(g, m, first).map(|_| (g, m))
            });
            let Some((g, m)) = found.filter(|(g, _)| g.size == entry.channels) else {
                return Err(Error::Decision(format!(
                    "there is no group of {} channels on axis {axis} of `{tensor}`; the plan was made for another model",
                    entry.channels
                )));
            };
            let mut channels = Vec::new();
            for &c in &entry.keep {
                channels.push(of(g, m, c).ok_or_else(|| {
                    Error::Decision(format!("coordinate {c} on axis {axis} of `{tensor}` belongs to another group than {}", entry.keep[0]))
                })?);
            }
            channels.sort_unstable();
            channels.dedup();
            decision.keep.insert(g.id, channels);
        }
        for name in &named.removed_branches {
            let branch = groups.branches.iter().find(|b| b.name == *name);
            let branch = branch
                .ok_or_else(|| Error::Decision(format!("there is no residual branch `{name}`; the plan was made for another model")))?;
            decision.removed_branches.insert(branch.id);
        }
        decision.check(groups)?;
        Ok(decision)
    }
}

/// A [`Decision`] by names, independent of how a program numbers groups.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NamedDecision {
    /// Groups with fewer channels.
    pub groups: Vec<NamedGroup>,
    /// Branches left out, by the name of their addition.
    pub removed_branches: Vec<String>,
    /// The slabs of the groups it is about, see [`Groups::with_slabs`].
    #[serde(default, skip_serializing_if = "Slabs::is_default")]
    pub slabs: Slabs,
}

/// What stays of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedGroup {
    /// The group's first parameter tensor.
    pub tensor: String,
    /// The axis of it that the group lies along.
    pub axis: usize,
    /// Coordinates of that axis that stay, ascending.
    pub keep: Vec<usize>,
    /// Channels of the group before.
    pub channels: usize,
}
