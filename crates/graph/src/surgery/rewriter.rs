//! Walks the graph in order, slices stored tensors, lets each operator rewrite its node, and checks every new shape.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Elsewhere, Kept};
use crate::error::Result;
use crate::facts::{Fact, Facts, Inference};
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::model::Model;
use crate::ops::Op;
use crate::proto::{AttributeProto, NodeProto, attribute_proto::AttributeType, tensor_proto::DataType};
use crate::tensor::{Data, Tensor};

/// The model under change, seen from one node.
pub(crate) struct Rewriter<'a> {
    old: &'a Model,
    graph: &'a Graph,
    facts: &'a Facts,
    kept: &'a Kept,
    /// The node whose operator is asked.
    pub(crate) node: &'a Node,
    model: Model,
    new: Vec<Option<Fact>>,
    /// Operands of this node that were replaced.
    replaced: HashMap<usize, Fact>,
    names: HashSet<String>,
    /// Facts at other sizes of what the file leaves open.
    elsewhere: &'a Elsewhere,
    /// Large external tensors get their new shapes and no data: it is asked whether the decision can be carried out.
    pub(super) shapes_only: bool,
    /// A shape that was computed is joined from other parts or stored now.
    reshaped: bool,
    /// Nodes to go before the node at a position.
    inserted: BTreeMap<usize, Vec<NodeProto>>,
    /// Additions that are left out, and what their readers read instead.
    skipped: HashMap<NodeId, ValueId>,
    instead: HashMap<ValueId, ValueId>,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(old: &'a Model, graph: &'a Graph, facts: &'a Facts, kept: &'a Kept, elsewhere: &'a Elsewhere) -> Self {
        let new = (0..graph.values.len()).map(|v| facts.get(ValueId(v as u32)).cloned()).collect();
        Self {
            old,
            graph,
            facts,
            kept,
            node: &graph.nodes[0],
            model: old.clone(),
            new,
            replaced: HashMap::new(),
            names: graph.values.iter().map(|v| v.name.clone()).collect(),
            elsewhere,
            shapes_only: false,
            reshaped: false,
            inserted: BTreeMap::new(),
            skipped: HashMap::new(),
            instead: HashMap::new(),
        }
    }

    /// The readers of the addition `add` shall read `skip`.
    pub(super) fn leave_out(&mut self, add: NodeId, skip: ValueId) {
        self.skipped.insert(add, skip);
    }

    pub(super) fn run(mut self) -> Result<Model> {
        let graph = self.graph;
        for v in (0..graph.values.len() as u32).map(ValueId).filter(|&v| graph.is_stored(v)) {
            self.slice_stored(v)?;
        }
        let live = self.live();
        for node in graph.nodes.iter().filter(|n| live[n.id.index()]) {
            self.node = node;
            self.replaced.clear();
            for (slot, input) in node.inputs.iter().enumerate() {
                if let Some(&other) = input.as_ref().and_then(|v| self.instead.get(v)) {
                    self.proto().input[slot] = graph.value(other).name.clone();
                    if let Some(f) = self.new[other.index()].clone() {
                        self.replaced.insert(slot, f);
                    }
                }
            }
            if let (Some(&skip), Some(out)) = (self.skipped.get(&node.id), node.output(0)) {
                let skip = self.instead.get(&skip).copied().unwrap_or(skip);
                self.instead.insert(out, skip);
                self.new[out.index()] = self.new[skip.index()].clone();
                continue;
            }
            if matches!(node.op, Op::Constant) {
                continue;
            }
            node.op.rewrite(&mut self)?;
            self.infer()?;
        }
        for &o in &graph.outputs {
            let (before, after) = (self.facts.constant(o), self.new[o.index()].as_ref().and_then(|f| f.constant.as_deref()));
            if before.is_some() && before != after {
                return Err(crate::Error::Decision(format!(
                    "output `{}` is computed from channel counts and would change",
                    graph.value(o).name
                )));
            }
        }
        if !self.inserted.is_empty() {
            let graph = self.model.graph_proto_mut();
            for (position, node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
                graph.node.extend(self.inserted.remove(&position).unwrap_or_default());
                graph.node.push(node);
            }
        }
        self.check_other_sizes()?;
        Ok(self.model)
    }

    /// Nodes that outputs depend on, once the branches are gone.
    fn live(&self) -> Vec<bool> {
        let graph = self.graph;
        let mut live = vec![false; graph.nodes.len()];
        let mut wanted: Vec<ValueId> = graph.outputs.clone();
        while let Some(v) = wanted.pop() {
            let Some(n) = graph.producer(v).filter(|n| !live[n.id.index()]) else { continue };
            live[n.id.index()] = true;
            match self.skipped.get(&n.id) {
                Some(&skip) => wanted.push(skip),
                None => wanted.extend(n.inputs.iter().flatten()),
            }
        }
        live
    }

    fn slice_stored(&mut self, v: ValueId) -> Result<()> {
        let Some(fact) = self.facts.get(v) else { return Ok(()) };
        let rank = fact.shape.len();
        if (0..rank).all(|axis| self.kept.get(v, axis).is_none()) {
            return Ok(());
        }
        let name = &self.graph.value(v).name;
        if fact.constant.is_none() && self.shapes_only {
            let shape = self.kept.shape(self.facts, v).unwrap_or_default();
            self.model.reshape_only(name, &shape);
            self.new[v.index()] = Some(Fact::new(fact.dtype, shape));
            return Ok(());
        }
        // What is large and lies on the disk is read, sliced and dropped, one tensor after the other.
        let read = if fact.constant.is_none() { self.old.tensor(name).transpose()? } else { None };
        let Some(tensor) = fact.constant.as_deref().or(read.as_ref()) else { return Ok(()) };
        let mut small: Option<Tensor> = None;
        for axis in 0..rank {
            if let Some(keep) = self.kept.get(v, axis) {
                small = Some(small.as_ref().unwrap_or(tensor).select(axis, keep));
            }
        }
        if let Some(small) = small {
            self.model.set_tensor(name, &small)?;
            let known = fact.constant.is_some();
            self.new[v.index()] = Some(if known { Fact::constant(small) } else { Fact::new(fact.dtype, small.shape) });
        }
        Ok(())
    }

    /// Infers the outputs of the node as it is now, and compares them with what they must be.
    fn infer(&mut self) -> Result<()> {
        let node = self.node;
        let known = node.inputs.iter().flatten().all(|v| self.facts.get(*v).is_some());
        if matches!(node.op, Op::Opaque(_)) {
            // Its operands are frozen, but for numbers computed from shapes.
            return self.check_numbers(&[]);
        }
        if !known {
            return Ok(());
        }
        let op = Op::parse(&self.model.graph_proto().node[node.position], self.old.opset())?;
        let mut inputs = node.inputs.clone();
        for &slot in self.replaced.keys() {
            inputs.resize(inputs.len().max(slot + 1), None);
            inputs[slot] = inputs[slot].or(node.input(0));
        }
        let now = Node { op, inputs, ..node.clone() };
        let facts = (0..now.inputs.len()).map(|slot| self.new_fact(slot)).collect();
        let results = now.op.infer(&Inference { model: &self.model, node: &now, inputs: facts })?;
        self.check_numbers(&results)?;
        for (slot, fact) in results.into_iter().enumerate() {
            let Some(v) = node.output(slot) else { continue };
            let expected = self.kept.shape(self.facts, v);
            let found = fact.as_ref().map(|f| f.shape.clone());
            if let (Some(e), false) = (&expected, expected == found) {
                let found = found.map_or_else(|| "a shape that is not known".into(), |f| format!("{f:?}"));
                return Err(node.error(format!(
                    "`{}` would have {found} where {e:?} is right; its shape is computed in a way that does not follow the channels",
                    self.graph.value(v).name
                )));
            }
            self.new[v.index()] = fact;
        }
        Ok(())
    }

    /// Numbers computed from shapes may enter a computation on data only if pruning leaves them as they are.
    fn check_numbers(&mut self, results: &[Option<Fact>]) -> Result<()> {
        let constant = |f: &Option<Fact>| f.as_ref().is_none_or(|f| f.constant.is_some());
        if !results.is_empty() && results.iter().all(constant) {
            return Ok(());
        }
        let node = self.node;
        let shapes: &[usize] = match &node.op {
            Op::Reshape(_) | Op::Expand | Op::Squeeze(_) | Op::Unsqueeze(_) | Op::Split(_) | Op::Gather(_) => &[1],
            Op::Slice(_) | Op::Pad(_) | Op::Resize(_) => &[1, 2, 3, 4],
            Op::ConstantOfShape(_) => &[0],
            Op::Range => &[0, 1, 2],
            _ => &[],
        };
        for (slot, v) in node.inputs.iter().enumerate().filter_map(|(s, v)| Some((s, (*v)?))) {
            let sliced = self.facts.shape(v).is_some_and(|s| (0..s.len()).any(|a| self.kept.get(v, a).is_some()));
            if shapes.contains(&slot) || sliced || self.replaced.contains_key(&slot) {
                continue;
            }
            let after = self.new_fact(slot).and_then(|f| f.constant.as_deref());
            let Some(before) = self.facts.constant(v).filter(|&b| Some(b) != after) else { continue };
            let name = &self.graph.value(v).name;
            // What the network computes with stays the number it was, if it is that at every size of the inputs.
            if !self.is_read_inside(v) && self.holds_at_other_sizes(v) {
                let stored = self.unused_name(&format!("{name}_was"));
                self.model.add_initializer(&stored, before);
                self.set_input(slot, stored);
                self.replaced.insert(slot, Fact::constant(before.clone()));
                continue;
            }
            return Err(node.error(format!("it computes with `{name}` {:?}, which depends on channel counts", before.shape)));
        }
        Ok(())
    }

    /// The node may read `v` inside a sub-graph, where its name cannot be replaced.
    fn is_read_inside(&self, v: ValueId) -> bool {
        let own = &self.old.graph_proto().node[self.node.position].input;
        matches!(self.node.op, Op::Opaque(_)) && !own.contains(&self.graph.value(v).name)
    }

    /// The constant that `v` is does not depend on the sizes that the file leaves open, as far as the network has other sizes.
    fn holds_at_other_sizes(&self, v: ValueId) -> bool {
        let elsewhere = self.elsewhere.get(self.old, self.graph, self.facts);
        !elsewhere.is_empty() && elsewhere.iter().all(|(_, o)| o.constant(v) == self.facts.constant(v))
    }

    /// A shape that was computed for all sizes of the inputs must be right for others than those of the facts.
    fn check_other_sizes(&self) -> Result<()> {
        if !self.reshaped {
            return Ok(());
        }
        let Some((shapes, before)) = self.elsewhere.get(self.old, self.graph, self.facts).first() else { return Ok(()) };
        // What hangs on a branch that is left out was not rewritten, and goes.
        let mut live = self.model.clone();
        super::dead::remove(self.old, &mut live);
        let graph = Graph::new(&live)?;
        let after = Facts::infer(&live, &graph, shapes).map_err(|e| self.wrong_elsewhere(&e.to_string()))?;
        for &o in &self.graph.outputs {
            let name = &self.graph.value(o).name;
            let now = graph.find(name).and_then(|v| after.shape(v));
            if before.shape(o) != now {
                return Err(self.wrong_elsewhere(&format!("output `{name}` would be {now:?} instead of {:?}", before.shape(o))));
            }
        }
        Ok(())
    }

    fn wrong_elsewhere(&self, cause: &str) -> crate::Error {
        crate::Error::Decision(format!("a shape that the graph computes cannot be rewritten for all sizes of its inputs: {cause}"))
    }

    fn new_fact(&self, slot: usize) -> Option<&Fact> {
        self.replaced.get(&slot).or_else(|| self.node.input(slot).and_then(|v| self.new[v.index()].as_ref()))
    }

    fn proto(&mut self) -> &mut NodeProto {
        &mut self.model.graph_proto_mut().node[self.node.position]
    }

    /// Version of the default operator set.
    pub(crate) fn opset(&self) -> i64 {
        self.old.opset()
    }

    /// Shape of input `slot` before.
    pub(crate) fn old_shape(&self, slot: usize) -> Option<&'a [usize]> {
        self.node.input(slot).and_then(|v| self.facts.shape(v))
    }

    /// Shape of output `slot` before.
    pub(crate) fn old_output(&self, slot: usize) -> Option<&'a [usize]> {
        self.node.output(slot).and_then(|v| self.facts.shape(v))
    }

    /// Shape of input `slot` now.
    pub(crate) fn new_shape(&self, slot: usize) -> Option<Vec<usize>> {
        self.new_fact(slot).map(|f| f.shape.clone())
    }

    /// The shape output `slot` must have.
    pub(crate) fn expected_output(&self, slot: usize) -> Option<Vec<usize>> {
        self.node.output(slot).and_then(|v| self.kept.shape(self.facts, v))
    }

    /// Coordinates that stay along an axis of input `slot`; `None` where all do.
    pub(crate) fn kept_input(&self, slot: usize, axis: usize) -> Option<&'a [usize]> {
        self.node.input(slot).and_then(|v| self.kept.get(v, axis))
    }

    /// Coordinates that stay along an axis of output `slot`; `None` where all do.
    pub(crate) fn kept_output(&self, slot: usize, axis: usize) -> Option<&'a [usize]> {
        self.node.output(slot).and_then(|v| self.kept.get(v, axis))
    }

    /// Integers at input `slot` before.
    pub(crate) fn old_ints(&self, slot: usize) -> Option<Vec<i64>> {
        self.node.input(slot).and_then(|v| self.facts.constant(v)).and_then(Tensor::to_i64)
    }

    /// Integers at input `slot` now.
    pub(crate) fn new_ints(&self, slot: usize) -> Option<Vec<i64>> {
        self.new_fact(slot).and_then(|f| f.constant.as_deref()).and_then(Tensor::to_i64)
    }

    /// Input `slot` is stored in the file.
    pub(crate) fn is_stored(&self, slot: usize) -> bool {
        self.node.input(slot).is_some_and(|v| self.graph.is_stored(v))
    }

    /// What the shape rules saw before.
    pub(crate) fn old_inference(&self) -> Inference<'a> {
        let facts = self.facts;
        Inference { model: self.old, node: self.node, inputs: self.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect() }
    }

    /// What the shape rules see now.
    pub(crate) fn new_inference(&self) -> Inference<'_> {
        Inference { model: &self.model, node: self.node, inputs: (0..self.node.inputs.len()).map(|slot| self.new_fact(slot)).collect() }
    }

    /// Sets an integer attribute.
    pub(crate) fn set_int(&mut self, name: &str, value: i64) {
        self.set_attribute(AttributeProto {
            name: Some(name.into()),
            r#type: Some(AttributeType::Int as i32),
            i: Some(value),
            ..Default::default()
        });
    }

    /// Sets an attribute that is a list of integers.
    pub(crate) fn set_ints(&mut self, name: &str, value: Vec<i64>) {
        self.set_attribute(AttributeProto {
            name: Some(name.into()),
            r#type: Some(AttributeType::Ints as i32),
            ints: value,
            ..Default::default()
        });
    }

    fn set_attribute(&mut self, new: AttributeProto) {
        let attributes = &mut self.proto().attribute;
        match attributes.iter_mut().find(|a| a.name() == new.name()) {
            Some(a) => *a = AttributeProto { doc_string: a.doc_string.take(), ..new },
            None => attributes.push(new),
        }
    }

    /// The node has an attribute called `name`.
    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        self.old.graph_proto().node[self.node.position].attribute.iter().any(|a| a.name() == name)
    }

    /// Removes an attribute.
    pub(crate) fn remove_attribute(&mut self, name: &str) {
        self.proto().attribute.retain(|a| a.name() != name);
    }

    /// Input `slot` shall be these integers. Left alone where it is them already, whether stored or computed; otherwise the
    /// node gets an initializer of its own, since others may read the old one.
    pub(crate) fn want_ints(&mut self, slot: usize, values: Vec<i64>) -> Result<()> {
        let now = self.new_fact(slot);
        if now.and_then(|f| f.constant.as_deref()).and_then(Tensor::to_i64).as_ref() == Some(&values) {
            return Ok(());
        }
        let narrow = now.is_some_and(|f| f.dtype == DataType::Int32);
        let scalar = now.is_some_and(|f| f.shape.is_empty()) && values.len() == 1;
        let shape = if scalar { vec![] } else { vec![values.len()] };
        let data = if narrow { Data::I32(values.iter().map(|&v| v as i32).collect()) } else { Data::I64(values) };
        let tensor = Tensor::new(shape, data);
        self.reshaped |= !self.is_stored(slot) && self.node.input(slot).is_some();
        if let Some(name) = self.patched(slot, &tensor)? {
            self.set_input(slot, name);
            self.replaced.insert(slot, Fact::constant(tensor));
            return Ok(());
        }
        let base = match self.node.input(slot) {
            Some(v) => format!("{}_pruned", self.graph.value(v).name),
            None => format!("{}_input_{slot}", self.node.name),
        };
        let name = self.unused_name(&base);
        self.model.add_initializer(&name, &tensor);
        self.set_input(slot, name);
        self.replaced.insert(slot, Fact::constant(tensor));
        Ok(())
    }

    fn set_input(&mut self, slot: usize, name: String) {
        let inputs = &mut self.proto().input;
        if inputs.len() <= slot {
            inputs.resize(slot + 1, String::new());
        }
        inputs[slot] = name;
    }

    /// A shape that the graph joins from parts is joined again with the parts that changed replaced, so that what it computes
    /// from the sizes of its inputs stays computed. `None` where input `slot` is not joined, or nothing of it would remain.
    fn patched(&mut self, slot: usize, wanted: &Tensor) -> Result<Option<String>> {
        let Some(joined) = self.joined(slot) else { return Ok(None) };
        let mut start = 0;
        let mut parts: Vec<(Option<ValueId>, Tensor)> = Vec::new();
        for &part in joined.inputs.iter().flatten() {
            let Some(now) = self.new[part.index()].as_ref().and_then(|f| f.constant.clone()) else { return Ok(None) };
            if now.shape.len() != 1 || start + now.len() > wanted.len() || now.data.dtype() != wanted.data.dtype() {
                return Ok(None);
            }
            let piece = wanted.select(0, &(start..start + now.len()).collect::<Vec<_>>());
            start += now.len();
            parts.push(((*now == piece).then_some(part), piece));
        }
        let computed = |p: &(Option<ValueId>, Tensor)| p.0.is_some_and(|v| !self.graph.is_stored(v));
        if start != wanted.len() || !parts.iter().any(computed) {
            return Ok(None);
        }
        let mut proto = self.model.graph_proto().node[joined.position].clone();
        let base = format!("{}_pruned", joined.name);
        for (k, (kept, piece)) in parts.into_iter().enumerate() {
            if kept.is_none() {
                let name = self.unused_name(&format!("{base}_{k}"));
                self.model.add_initializer(&name, &piece);
                proto.input[k] = name;
            }
        }
        let name = self.unused_name(&base);
        proto.name = Some(name.clone());
        proto.output = vec![name.clone()];
        self.inserted.entry(self.node.position).or_default().push(proto);
        Ok(Some(name))
    }

    /// The target of a reshape to `expected` that keeps what the graph computes of it: parts joined by a `Concat` stay as they
    /// are where they give the right sizes, those that do not become numbers, or free (-1) where they follow the sizes of the
    /// inputs. `None` where input `slot` is not joined, or more than one size would be free.
    pub(crate) fn joined_target(&self, slot: usize, expected: &[usize], copies: impl Fn(usize) -> bool) -> Option<Vec<i64>> {
        let joined = self.joined(slot)?;
        let now = self.new_ints(slot).filter(|n| n.len() == expected.len())?;
        let right = |d: usize| now[d] == -1 || now[d] == expected[d] as i64 || (now[d] == 0 && copies(d));
        let mut wanted = now.clone();
        let mut start = 0;
        for &part in joined.inputs.iter().flatten() {
            let axes = start..start + self.facts.constant(part)?.len();
            start = axes.end;
            if axes.clone().all(right) {
                continue;
            }
            if self.graph.is_stored(part) || self.holds_at_other_sizes(part) {
                axes.filter(|&d| now[d] > 0).for_each(|d| wanted[d] = expected[d] as i64);
            } else if axes.len() == 1 && !wanted.contains(&-1) {
                wanted[axes.start] = -1;
            } else {
                return None;
            }
        }
        (start == now.len() && wanted.iter().filter(|&&w| w == -1).count() <= 1).then_some(wanted)
    }

    /// The `Concat` that computes input `slot`.
    fn joined(&self, slot: usize) -> Option<&'a Node> {
        let producer = self.node.input(slot).and_then(|v| self.graph.producer(v))?;
        (matches!(producer.op, Op::Concat(_)) && producer.inputs.iter().all(Option::is_some)).then_some(producer)
    }

    /// Input `slot` can be made other integers without storing what follows from the sizes of the graph's inputs.
    pub(crate) fn can_patch(&self, slot: usize) -> bool {
        self.is_stored(slot) || self.joined(slot).is_some()
    }

    fn unused_name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut n = 1;
        while !self.names.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        name
    }
}
