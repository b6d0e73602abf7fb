//! Removing what nothing reads any more.

use std::collections::HashSet;

use crate::graph::captured;
use crate::model::Model;
use crate::proto::GraphProto;

/// Removes from `small` nodes and initializers that outputs of `before` depended on and those of `small` do not. What was
/// dead before stays as it was.
pub(super) fn remove(before: &Model, small: &mut Model) {
    let (nodes_before, names_before) = live(before.graph_proto());
    let (nodes_now, gone) = {
        let (nodes, names) = live(small.graph_proto());
        (nodes, names_before.difference(&names).map(|n| (*n).to_owned()).collect::<HashSet<String>>())
    };
    // Nodes are told by their outputs: rewriting adds some.
    let was_live: HashSet<&str> = before
        .graph_proto()
        .node
        .iter()
        .zip(nodes_before)
        .filter(|(_, live)| *live)
        .flat_map(|(n, _)| n.output.iter().map(String::as_str))
        .collect();
    let graph = small.graph_proto_mut();
    let mut removed: HashSet<String> = HashSet::new();
    let mut position = 0;
    graph.node.retain(|n| {
        let dead = !nodes_now[position] && n.output.iter().any(|o| was_live.contains(o.as_str()));
        position += 1;
        if dead {
            removed.extend(n.output.iter().cloned());
        }
        !dead
    });
    graph.initializer.retain(|t| !gone.contains(t.name()));
    let initializers: HashSet<&str> = before.initializers().map(|t| t.name()).collect();
    graph.input.retain(|i| !(initializers.contains(i.name()) && gone.contains(i.name())));
    graph.value_info.retain(|v| !removed.contains(v.name()) && !gone.contains(v.name()));
}

/// Which nodes the outputs depend on, and every name they read.
fn live(graph: &GraphProto) -> (Vec<bool>, HashSet<&str>) {
    let mut producer = std::collections::HashMap::new();
    for (i, n) in graph.node.iter().enumerate() {
        producer.extend(n.output.iter().filter(|o| !o.is_empty()).map(|o| (o.as_str(), i)));
    }
    let mut nodes = vec![false; graph.node.len()];
    let mut names: HashSet<&str> = HashSet::new();
    let mut wanted: Vec<&str> = graph.output.iter().map(|o| o.name()).collect();
    while let Some(name) = wanted.pop() {
        if !names.insert(name) {
            continue;
        }
        let Some(&i) = producer.get(name) else { continue };
        nodes[i] = true;
        wanted.extend(graph.node[i].input.iter().map(String::as_str).filter(|n| !n.is_empty()));
        wanted.extend(captured(&graph.node[i]));
    }
    (nodes, names)
}
