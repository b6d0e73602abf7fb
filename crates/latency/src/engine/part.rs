//! A part of a network as a model of its own.

use std::collections::{BTreeSet, HashSet};

use graph::proto::{
    GraphProto, ModelProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use graph::{Fact, Facts, Graph, Model, NodeId, Source, ValueId};

/// A part with what it takes and gives, by names that are those of the whole network.
pub(super) struct Part {
    pub model: Model,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// `nodes` (in topological order) of `file` as a model: what `facts` know beforehand is stored in it, and what any other node or
/// the graph's outputs take from it are its outputs.
pub(super) fn extract(file: &Model, graph: &Graph, facts: &Facts, nodes: &[NodeId]) -> Part {
    let inside: HashSet<NodeId> = nodes.iter().copied().collect();
    let made_inside = |v: ValueId| matches!(graph.value(v).source, Source::Node(n, _) if inside.contains(&n));
    let proto = file.graph_proto();
    let mut part = GraphProto { name: proto.name.clone(), ..GraphProto::default() };
    let mut seen = BTreeSet::new();
    let (mut inputs, mut outputs, mut stored) = (Vec::new(), Vec::new(), HashSet::new());
    for &n in nodes {
        let node = graph.node(n);
        part.node.push(proto.node[node.position].clone());
        for &v in node.inputs.iter().flatten().filter(|v| !made_inside(**v)) {
            if !seen.insert(v) {
                continue;
            }
            let name = graph.value(v).name.as_str();
            match (graph.value(v).source, facts.constant(v)) {
                (Source::Initializer, _) => _ = stored.insert(name),
                (_, Some(constant)) => part.initializer.push(constant.encode(name)),
                _ => {
                    part.input.push(declaration(name, facts.get(v)));
                    inputs.push(v);
                }
            }
        }
        for &v in node.outputs.iter().flatten() {
            let value = graph.value(v);
            if value.is_output || value.consumers.iter().any(|(c, _)| !inside.contains(c)) {
                part.output.push(declaration(&value.name, facts.get(v)));
                outputs.push(v);
            }
        }
    }
    part.initializer.extend(proto.initializer.iter().filter(|t| stored.contains(t.name())).cloned());
    let named = |t: &&graph::proto::SparseTensorProto| t.values.as_ref().is_some_and(|v| stored.contains(v.name()));
    part.sparse_initializer.extend(proto.sparse_initializer.iter().filter(named).cloned());
    let whole = file.proto();
    let message = ModelProto {
        ir_version: whole.ir_version,
        opset_import: whole.opset_import.clone(),
        functions: whole.functions.clone(),
        graph: Some(part),
        ..ModelProto::default()
    };
    Part { model: Model::from_proto(message), inputs, outputs }
}

fn declaration(name: &str, fact: Option<&Fact>) -> ValueInfoProto {
    let r#type = fact.map(|f| {
        let dim = f.shape.iter().map(|&d| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Dimension::default() });
        let tensor = type_proto::Tensor { elem_type: Some(f.dtype as i32), shape: Some(TensorShapeProto { dim: dim.collect() }) };
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }
    });
    ValueInfoProto { name: Some(name.to_owned()), r#type, ..ValueInfoProto::default() }
}
