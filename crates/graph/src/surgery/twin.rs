//! The masked twin: the original that computes what the smaller model must compute.

use std::collections::{BTreeMap, HashMap};

use super::Kept;
use crate::coupling::{Groups, Statistic};
use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::graph::{Graph, NodeId, ValueId};
use crate::model::Model;
use crate::proto::{AttributeProto, NodeProto, attribute_proto::AttributeType, tensor_proto::DataType};
use crate::tensor::{Data, Tensor};

/// `model` with removed coordinates multiplied by 0 where they are *read*: before every node that sums over them. (At the
/// producer it would not be the same: an activation may map 0 to something else.) A branch that is left out is multiplied
/// by 0 before its addition. All shapes and outputs are those of `model`.
///
/// # Errors
/// A decision that does not fit `groups`, and values of an element type that cannot be masked.
pub fn masked_twin(model: &Model, graph: &Graph, facts: &Facts, groups: &Groups, decision: &Decision) -> Result<Model> {
    decision.check(groups)?;
    let kept = Kept::new(facts, groups, decision);
    let mut twin = Twin { graph, facts, model: model.clone(), masks: HashMap::new(), before: BTreeMap::new(), after: BTreeMap::new() };
    for c in &groups.contractions {
        let Some(value) = graph.node(c.node).input(c.slot) else { continue };
        if let Some(keep) = kept.get(value, c.axis) {
            twin.mask(c.node, c.slot, value, c.axis, keep)?;
        }
    }
    for s in &groups.statistics {
        let keep = graph.node(s.node).input(0).and_then(|v| kept.get(v, s.axis));
        if let Some(keep) = keep {
            twin.statistic(s, keep);
        }
    }
    for &b in &decision.removed_branches {
        let branch = groups.branch(b);
        let slot = graph.node(branch.add).inputs.iter().position(|&v| v == Some(branch.branch)).unwrap_or(1);
        let rank = facts.shape(branch.branch).map_or(0, <[usize]>::len);
        if rank > 0 {
            twin.mask(branch.add, slot, branch.branch, rank - 1, &[])?;
        }
    }
    Ok(twin.finish())
}

struct Twin<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    model: Model,
    /// Masked values by value and axis (and whether everything is masked).
    masks: HashMap<(ValueId, usize, bool), String>,
    /// New nodes by the position of the node they go before.
    before: BTreeMap<usize, Vec<NodeProto>>,
    /// New nodes by the position of the node they come after.
    after: BTreeMap<usize, Vec<NodeProto>>,
}

impl Twin<'_> {
    fn mask(&mut self, node: NodeId, slot: usize, value: ValueId, axis: usize, keep: &[usize]) -> Result<()> {
        let node = self.graph.node(node);
        let name = &self.graph.value(value).name;
        // The value may be masked along another axis of the same operand already: chain.
        let current = self.model.graph_proto().node[node.position].input[slot].clone();
        let key = (value, axis, keep.is_empty());
        if let Some(masked) = self.masks.get(&key).filter(|_| current == *name).cloned() {
            self.model.graph_proto_mut().node[node.position].input[slot] = masked;
            return Ok(());
        }
        let Some(fact) = self.facts.get(value) else { return Ok(()) };
        let flags: Vec<f32> = (0..fact.shape[axis]).map(|c| if keep.binary_search(&c).is_ok() { 1.0 } else { 0.0 }).collect();
        let data = match fact.dtype {
            DataType::Float => Data::F32(flags),
            DataType::Double => Data::F64(flags.into_iter().map(f64::from).collect()),
            DataType::Float16 => Data::F16(flags.into_iter().map(half::f16::from_f32).collect()),
            DataType::Bfloat16 => Data::BF16(flags.into_iter().map(half::bf16::from_f32).collect()),
            other => {
                return Err(Error::Tensor {
                    tensor: name.clone(),
                    reason: format!("values of type {} cannot be masked", other.as_str_name()),
                });
            }
        };
        // Before opset 7 an operand broadcasts along a named axis only.
        let old = self.model.opset() < 7;
        let mut shape = vec![1; if old { 1 } else { fact.shape.len() }];
        shape[if old { 0 } else { axis }] = fact.shape[axis];
        let base = format!("{}/masked_{slot}_{axis}", node.name);
        let (mask, output) = (self.unused(&format!("{base}/mask")), self.unused(&base));
        self.model.add_initializer(&mask, &Tensor::new(shape, data));
        let attribute = |name: &str, i: usize| AttributeProto {
            name: Some(name.into()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(i as i64),
            ..Default::default()
        };
        self.before.entry(node.position).or_default().push(NodeProto {
            name: Some(output.clone()),
            op_type: Some("Mul".into()),
            input: vec![current.clone(), mask],
            output: vec![output.clone()],
            attribute: if old { vec![attribute("broadcast", 1), attribute("axis", axis)] } else { Vec::new() },
            ..Default::default()
        });
        if current == *name {
            self.masks.insert(key, output.clone());
        }
        self.model.graph_proto_mut().node[node.position].input[slot] = output;
        Ok(())
    }

    /// The node reads the coordinates that stay, and they go back to their places. The others get any value: what reads them is
    /// masked.
    fn statistic(&mut self, s: &Statistic, keep: &[usize]) {
        let node = self.graph.node(s.node);
        let ints = |v: &[usize]| Tensor::vec_i64(v.iter().map(|&k| k as i64).collect());
        for &(slot, axis) in [(0, s.axis)].iter().chain(&s.parameters) {
            let current = self.model.graph_proto().node[node.position].input.get(slot).cloned().unwrap_or_default();
            if current.is_empty() {
                continue;
            }
            let gathered = self.gather(&format!("{}/kept_{slot}_{axis}", node.name), &current, &ints(keep), axis);
            let name = gathered.output[0].clone();
            self.before.entry(node.position).or_default().push(gathered);
            self.model.graph_proto_mut().node[node.position].input[slot] = name;
        }
        if s.carried {
            let dim = node.input(0).and_then(|v| self.facts.shape(v)).map_or(0, |d| d[s.axis]);
            let back: Vec<usize> = (0..dim).map(|c| keep.binary_search(&c).unwrap_or(0)).collect();
            let inner = self.unused(&format!("{}/of_kept_{}", node.name, s.axis));
            let output = std::mem::replace(&mut self.model.graph_proto_mut().node[node.position].output[0], inner.clone());
            let mut gathered = self.gather(&format!("{}/back_{}", node.name, s.axis), &inner, &ints(&back), s.axis);
            gathered.output = vec![output];
            self.after.entry(node.position).or_default().insert(0, gathered);
        }
    }

    fn gather(&mut self, base: &str, input: &str, indices: &Tensor, axis: usize) -> NodeProto {
        let (at, output) = (self.unused(&format!("{base}/at")), self.unused(base));
        self.model.add_initializer(&at, indices);
        NodeProto {
            name: Some(output.clone()),
            op_type: Some("Gather".into()),
            input: vec![input.to_owned(), at],
            output: vec![output],
            attribute: vec![AttributeProto {
                name: Some("axis".into()),
                r#type: Some(AttributeType::Int as i32),
                i: Some(axis as i64),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn unused(&self, base: &str) -> String {
        let mut name = base.to_owned();
        while self.graph.find(&name).is_some() || self.model.initializers().any(|t| t.name() == name) {
            name.push('_');
        }
        name
    }

    fn finish(mut self) -> Model {
        let graph = self.model.graph_proto_mut();
        let nodes = std::mem::take(&mut graph.node);
        for (position, node) in nodes.into_iter().enumerate() {
            graph.node.extend(self.before.remove(&position).unwrap_or_default());
            graph.node.push(node);
            graph.node.extend(self.after.remove(&position).unwrap_or_default());
        }
        self.model
    }
}
