//! Which curves a network has.

use std::collections::HashMap;

use graph::GroupId;

use super::Side;
use crate::analysis::Analysis;
use crate::cost::{dense_layer, first_of_family};
use crate::error::Result;

/// A layer along a group's count: the first of those that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub layer: usize,
    /// The first layer that is equal to it but for its weights: what is measured.
    pub model: usize,
    pub group: GroupId,
    pub size: usize,
    pub side: Side,
    pub shared: usize,
}

impl Line {
    /// Input and output width at `count` channels of the group, the others full.
    pub fn widths(&self, analysis: &Analysis, count: usize) -> (usize, usize) {
        let size = |g: GroupId| analysis.groups.group(g).size;
        analysis.layers[self.layer].widths(|g| if g == self.group { count } else { size(g) })
    }

    /// Rows of the layer's matrix product: output elements per output channel.
    pub fn rows(&self, analysis: &Analysis) -> usize {
        let node = analysis.graph.node(analysis.layers[self.layer].node);
        let shape = node.output(0).and_then(|v| analysis.facts.shape(v)).unwrap_or(&[]);
        let outputs = dense_layer(&analysis.graph, &analysis.facts, node.id).1;
        shape.iter().product::<usize>() / outputs.max(1)
    }

    /// Whether the layer is several products, one per partition.
    pub fn grouped(&self, analysis: &Analysis) -> bool {
        graph::grouping(&analysis.graph, &analysis.facts, analysis.layers[self.layer].node).is_some()
    }
}

/// For each group, positions of its layers' curves.
pub(super) type Parts = Vec<(GroupId, Vec<usize>)>;

/// Layer, size of the group, widths at a count of 1, widths at the full count. Widths grow in proportion to the count: two of
/// them say all.
type Key = (usize, usize, (usize, usize), (usize, usize));

/// All curves, and for every group that can be pruned the positions of those of its layers.
pub(super) fn lines(analysis: &Analysis) -> Result<(Vec<Line>, Parts)> {
    let nodes: Vec<graph::NodeId> = analysis.layers.iter().map(|l| l.node).collect();
    let model_of = first_of_family(&analysis.model, &analysis.graph, &analysis.facts, &nodes)?;
    let mut lines: Vec<Line> = Vec::new();
    let mut known: HashMap<Key, usize> = HashMap::new();
    let mut groups = Vec::new();
    for g in analysis.groups.prunable() {
        let mut own = Vec::new();
        for (l, layer) in analysis.layers.iter().enumerate() {
            let has = |parts: &[(GroupId, usize)]| parts.iter().any(|(id, _)| *id == g.id);
            let side = match (has(&layer.inputs), has(&layer.outputs)) {
                (true, true) => Side::Both,
                (true, false) => Side::Input,
                (false, true) => Side::Output,
                (false, false) => continue,
            };
            let line = Line { layer: l, model: model_of[l], group: g.id, size: g.size, side, shared: 0 };
            let key = (model_of[l], g.size, line.widths(analysis, 1), line.widths(analysis, g.size));
            let at = *known.entry(key).or_insert(lines.len());
            if at == lines.len() {
                lines.push(line);
            }
            lines[at].shared += 1;
            own.push(at);
        }
        if !own.is_empty() {
            groups.push((g.id, own));
        }
    }
    Ok((lines, groups))
}
