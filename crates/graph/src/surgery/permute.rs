//! Another order of a group's channels, which changes nothing of what the network computes.

use std::collections::BTreeMap;

use crate::coupling::{Group, GroupId, Groups};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::graph::Graph;
use crate::model::Model;
use crate::ops::Op;

/// `model` with the channels of the groups in `orders` in another order: channel `order[k]` comes to place `k`, in every stored
/// tensor that has them. The next layers read them in that order, so the network computes what it computed.
///
/// # Errors
/// An order that is none of the group's channels, and a group of which the order matters ([`can_permute`]).
pub fn permute(model: &Model, graph: &Graph, facts: &Facts, groups: &Groups, orders: &BTreeMap<GroupId, Vec<usize>>) -> Result<Model> {
    let mut result = model.clone();
    for (id, order) in orders {
        let Some(group) = groups.groups.get(id.index()) else {
            return Err(Error::Decision(format!("an order for group {}, the model has {}", id.0, groups.groups.len())));
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted != (0..group.size).collect::<Vec<_>>() {
            return Err(Error::Decision(format!("the order for group `{}` is none of its {} channels", group.name, group.size)));
        }
        can_permute(graph, groups, group).map_err(|why| Error::Decision(format!("group `{}` keeps its order: {why}", group.name)))?;
        for m in group.members.iter().filter(|m| graph.is_stored(m.value)) {
            let name = &graph.value(m.value).name;
            let dim = facts.need_shape(graph, m.value)?[m.axis];
            let mut at: Vec<usize> = (0..dim).collect();
            for (k, &from) in order.iter().enumerate() {
                m.coordinates[k].iter().zip(&m.coordinates[from]).for_each(|(&to, &from)| at[to] = from);
            }
            let missing = || Error::Tensor { tensor: name.clone(), reason: "it is not stored in the file".into() };
            let tensor = result.tensor(name).ok_or_else(missing)??;
            result.set_tensor(name, &tensor.select(m.axis, &at))?;
        }
    }
    Ok(result)
}

/// Whether the channels of `group` may come in any order.
///
/// # Errors
/// Why not.
pub fn can_permute(graph: &Graph, groups: &Groups, group: &Group) -> Result<(), String> {
    if let Some(frozen) = &group.frozen {
        return Err(frozen.reason.clone());
    }
    let widths: Vec<usize> = group.members.iter().filter_map(|m| m.coordinates.first().map(Vec::len)).collect();
    if group.members.iter().zip(&widths).any(|(m, &w)| m.coordinates.iter().any(|c| c.len() != w)) {
        return Err("its channels are of different sizes".into());
    }
    // A window over neighbouring channels.
    let place = |s: &crate::coupling::Statistic| graph.node(s.node).input(0).map(|v| (v, s.axis));
    let windowed = groups
        .statistics
        .iter()
        .find(|s| matches!(graph.node(s.node).op, Op::Lrn(_)) && group.members.iter().any(|m| place(s) == Some((m.value, m.axis))));
    match windowed {
        Some(s) => Err(format!("node `{}` (LRN) looks at neighbouring channels", graph.node(s.node).name)),
        None => Ok(()),
    }
}
