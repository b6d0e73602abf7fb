//! From labels to groups.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::labels::{Axis, Label};
use super::rules::{Coupling, Place};
use super::{Approximation, Frozen, Group, GroupId, Groups, Layer, Member, Role};
use crate::attention::Attention;
use crate::graph::{Graph, NodeId, ValueId};
use crate::ops::Op;

/// The channel axis of the input and of the output of a layer: `((slot, axis), axis)`; `None` for other nodes.
pub(crate) fn layer_axes(graph: &Graph, node: NodeId, rank: impl Fn(ValueId) -> usize) -> Option<(Place, Place)> {
    let n = graph.node(node);
    let output = n.output(0)?;
    let stored = |slot: usize| n.input(slot).is_some_and(|v| graph.is_parameter(v));
    match &n.op {
        Op::Conv(_) | Op::ConvTranspose(_) => Some(((n.input(0)?, 1), (output, 1))),
        Op::Gemm(g) => {
            let x = n.input(0).filter(|_| !stored(0) && stored(1))?;
            Some(((x, usize::from(!g.trans_a)), (output, 1)))
        }
        Op::MatMul => {
            let x = n.input(0).filter(|_| !stored(0) && stored(1))?;
            let weight = n.input(1)?;
            (rank(weight) >= 2).then(|| ((x, rank(x).saturating_sub(1)), (output, rank(output).saturating_sub(1))))
        }
        _ => None,
    }
}

/// Everything that says where a channel occurs: places with their number of coordinates, and what froze it.
type Signature = (Vec<(ValueId, usize, usize)>, Option<Frozen>);

struct Channel {
    places: Vec<(ValueId, usize, Vec<usize>)>,
    frozen: Option<Frozen>,
}

pub(super) fn collect(mut c: Coupling) -> Groups {
    let graph = c.graph;
    let order = reading_order(graph);
    let mut values: Vec<usize> = (0..graph.values.len()).collect();
    values.sort_by_key(|&v| (order[v], v));

    // Classes in order of first appearance.
    let mut channels: Vec<Channel> = Vec::new();
    let mut class: HashMap<Label, usize> = HashMap::new();
    for &v in &values {
        for axis in 0..c.axes[v].len() {
            let Some(labels) = c.axes[v][axis].clone() else { continue };
            for (coordinate, &label) in labels.iter().enumerate() {
                let root = c.labels.find(label);
                let at = *class.entry(root).or_insert_with(|| {
                    channels.push(Channel { places: Vec::new(), frozen: None });
                    channels.len() - 1
                });
                let places = &mut channels[at].places;
                match places.last_mut() {
                    Some((value, a, coordinates)) if value.index() == v && *a == axis => coordinates.push(coordinate),
                    _ => places.push((ValueId(v as u32), axis, vec![coordinate])),
                }
            }
        }
    }
    for (&root, &at) in &class {
        channels[at].frozen = c.labels.frozen(root).cloned();
    }

    // Channels at the same places make a group. A class that no layer or parameter has a part in is no channel.
    let mut groups: Vec<(Signature, Vec<Channel>)> = Vec::new();
    let mut index: HashMap<Vec<(ValueId, usize, usize)>, Vec<usize>> = HashMap::new();
    for channel in channels {
        if !channel.places.iter().any(|&(v, axis, _)| c.roles.contains_key(&(v, axis))) {
            continue;
        }
        let places: Vec<_> = channel.places.iter().map(|(v, axis, at)| (*v, *axis, at.len())).collect();
        let same = index.entry(places.clone()).or_default();
        match same.iter().find(|&&g| groups[g].0.1 == channel.frozen) {
            Some(&g) => groups[g].1.push(channel),
            None => {
                same.push(groups.len());
                groups.push(((places, channel.frozen.clone()), vec![channel]));
            }
        }
    }

    let mut result: Vec<Group> = Vec::with_capacity(groups.len());
    for ((places, frozen), mut channels) in groups {
        let anchor = places.iter().position(|&(v, axis, _)| c.roles.get(&(v, axis)) == Some(&Role::Produced)).unwrap_or(0);
        channels.sort_by(|a, b| a.places[anchor].2.cmp(&b.places[anchor].2));
        let mut members: Vec<Member> = places
            .iter()
            .enumerate()
            .map(|(p, &(value, axis, _))| {
                let coordinates = channels.iter().map(|ch| ch.places[p].2.clone()).collect();
                Member { value, axis, coordinates, role: c.roles.get(&(value, axis)).copied().unwrap_or(Role::Carried) }
            })
            .collect();
        members.sort_by_key(|m| m.role == Role::Carried);
        let size = channels.len();
        result.push(Group {
            id: GroupId(0),
            name: String::new(),
            size,
            members,
            writers: Vec::new(),
            readers: Vec::new(),
            min_keep: if frozen.is_some() { size } else { 1 },
            frozen,
            approximations: Vec::new(),
        });
    }
    let (layers, attention) = number_and_connect(&c, &mut result);
    Groups {
        groups: result,
        branches: Vec::new(),
        slabs: c.slabs,
        layers,
        attention,
        contractions: std::mem::take(&mut c.contractions),
        statistics: std::mem::take(&mut c.statistics),
    }
}

/// For every value, the first node that reads or writes it.
fn reading_order(graph: &Graph) -> Vec<u32> {
    let mut order = vec![u32::MAX; graph.values.len()];
    for node in &graph.nodes {
        for v in node.inputs.iter().chain(&node.outputs).flatten() {
            order[v.index()] = order[v.index()].min(node.id.0);
        }
    }
    order
}

/// A layer with the channel axis of its input and of its output.
type End = (NodeId, Place, Place);

/// Names the groups, in order of the layers that write them, and says what the widths of layers and attentions are made of.
fn number_and_connect(c: &Coupling, groups: &mut [Group]) -> (Vec<Layer>, Vec<Layer>) {
    let graph = c.graph;
    let rank = |v: ValueId| c.axes[v.index()].len();
    let ends: Vec<End> = graph.nodes.iter().filter_map(|n| layer_axes(graph, n.id, rank).map(|(i, o)| (n.id, i, o))).collect();
    connect(graph, &ends, groups);
    declare_approximations(c, groups);
    number(graph, groups);
    widths(c, &ends, groups)
}

/// Which layers write and read the channels of every group.
fn connect(graph: &Graph, ends: &[End], groups: &mut [Group]) {
    for g in groups {
        let places: HashSet<Place> = g.members.iter().map(|m| (m.value, m.axis)).collect();
        g.writers = ends.iter().filter(|(_, _, o)| places.contains(o)).map(|e| e.0).collect();
        g.readers = ends.iter().filter(|(_, i, _)| places.contains(i)).map(|e| e.0).collect();
        // The first layer's input is a place of no group's when the graph input is not labelled: take the weight's word.
        for m in g.members.iter().filter(|m| m.role == Role::Consumed) {
            for &(node, _) in &graph.value(m.value).consumers {
                if ends.iter().any(|e| e.0 == node) && !g.readers.contains(&node) {
                    g.readers.push(node);
                }
            }
        }
        g.readers.sort_unstable();
    }
}

/// What changes besides what is removed: statistics over the channels of a group.
fn declare_approximations(c: &Coupling, groups: &mut [Group]) {
    for s in &c.statistics {
        let node = c.graph.node(s.node);
        let place = node.input(0).map(|v| (v, s.axis));
        for g in
            groups.iter_mut().filter(|g| g.size > 1 && g.frozen.is_none() && g.members.iter().any(|m| Some((m.value, m.axis)) == place))
        {
            let reason =
                format!("node `{}` ({}) takes a statistic over them, from then on over those that stay", node.name, node.op.name());
            g.approximations.push(Approximation { reason, at: node.name.clone() });
        }
    }
}

/// Orders the groups by the first layer that writes them, and names them after it.
fn number(graph: &Graph, groups: &mut [Group]) {
    let order = reading_order(graph);
    groups.sort_by_key(|g| {
        let first = g.members.iter().map(|m| order[m.value.index()]).min().unwrap_or(u32::MAX);
        // A frozen input group comes before the layer's own channels.
        (g.writers.first().map_or(first, |w| w.0), g.writers.len().min(1))
    });
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (i, g) in groups.iter_mut().enumerate() {
        g.id = GroupId(i as u32);
        let base = match (g.writers.first(), g.anchor()) {
            (Some(&w), _) => graph.node(w).name.clone(),
            (None, Some(m)) => graph.value(m.value).name.clone(),
            (None, None) => String::new(),
        };
        let count = seen.entry(base.clone()).or_default();
        *count += 1;
        g.name = if *count == 1 { base } else { format!("{base}#{count}") };
    }
}

/// Of which groups the widths of layers are made, and those of attentions.
fn widths(c: &Coupling, ends: &[End], groups: &[Group]) -> (Vec<Layer>, Vec<Layer>) {
    let graph = c.graph;
    let mut at: HashMap<Place, Vec<(GroupId, usize)>> = HashMap::new();
    for g in groups {
        for m in &g.members {
            at.entry((m.value, m.axis)).or_default().push((g.id, m.coordinates.first().map_or(0, Vec::len)));
        }
    }
    let size = |g: GroupId| groups[g.index()].size;
    let side = |place: Place, labels: &Axis| {
        let total = c.facts.shape(place.0).map_or(0, |s| s[place.1]);
        let parts = if labels.is_some() { at.get(&place).cloned().unwrap_or_default() } else { Vec::new() };
        let covered: usize = parts.iter().map(|&(g, n)| size(g) * n).sum();
        (parts, total - covered)
    };
    let known = |p: Place| c.facts.shape(p.0).is_some();
    let layer = |&(node, i, o): &End| {
        let (inputs, fixed_in) = side(i, &c.at(Some(i)));
        let (outputs, fixed_out) = side(o, &c.at(Some(o)));
        Layer { node, inputs, outputs, fixed_in, fixed_out }
    };
    let layers = ends.iter().filter(|(_, i, o)| known(*i) && known(*o)).map(layer).collect();
    let attention = |a: &Attention| {
        let (scores, mix) = (graph.node(a.scores), graph.node(a.mix));
        let rank = scores.output(0).map(|v| c.axes[v.index()].len())?;
        let (inputs, fixed_in) = scores.output(0).map(|v| side((v, rank - 3), &c.at(Some((v, rank - 3)))))?;
        let last = |v: ValueId| side((v, rank - 1), &c.at(Some((v, rank - 1))));
        let (mut outputs, queries) = scores.input(0).map(last)?;
        let (values, fixed) = mix.input(1).map(last)?;
        outputs.extend(values);
        Some(Layer { node: a.scores, inputs, outputs, fixed_in, fixed_out: queries + fixed })
    };
    let attention = Attention::find(graph, c.facts).iter().filter_map(attention).collect();
    (layers, attention)
}
