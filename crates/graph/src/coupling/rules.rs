//! What an operator's coupling rule can say.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::labels::{Axis, Label, Labels};
use super::{Contraction, Frozen, Role, Slabs, Statistic};
use crate::facts::{Facts, Inference, is_float};
use crate::graph::{Graph, Node, Source, ValueId};
use crate::model::Model;
use crate::ops::Op;

/// One axis of one value.
pub(crate) type Place = (ValueId, usize);

/// Labels under construction, seen from one node. Every rule reads the labels of the node's inputs, makes some of them
/// equal or frozen, and sets those of its outputs; an output axis that no rule sets is never pruned.
pub(crate) struct Coupling<'a> {
    pub(crate) model: &'a Model,
    pub(crate) graph: &'a Graph,
    pub(crate) facts: &'a Facts,
    pub(crate) node: &'a Node,
    pub(crate) labels: Labels,
    /// Labels per value and axis.
    pub(crate) axes: Vec<Vec<Axis>>,
    /// Parameter axes with a meaning.
    pub(crate) roles: BTreeMap<Place, Role>,
    /// What is removed where an axis is cut into parts.
    pub(crate) slabs: Slabs,
    /// Where coordinates are summed over.
    pub(crate) contractions: Vec<Contraction>,
    /// Where statistics over coordinates are taken.
    pub(crate) statistics: Vec<Statistic>,
}

impl<'a> Coupling<'a> {
    /// Runs every node's rule; graph outputs are frozen last, so that nearer reasons come first.
    pub(crate) fn run(model: &'a Model, graph: &'a Graph, facts: &'a Facts, slabs: Slabs) -> crate::Result<Option<Self>> {
        let Some(first) = graph.nodes.first() else { return Ok(None) };
        let axes =
            graph.values.iter().enumerate().map(|(v, _)| vec![None; facts.shape(ValueId(v as u32)).map_or(0, <[usize]>::len)]).collect();
        let mut c = Self {
            model,
            graph,
            facts,
            node: first,
            labels: Labels::default(),
            axes,
            roles: BTreeMap::new(),
            slabs,
            contractions: Vec::new(),
            statistics: Vec::new(),
        };
        for (v, value) in graph.values.iter().enumerate() {
            let id = ValueId(v as u32);
            if let Some(fact) = facts.get(id).filter(|f| graph.is_stored(id) && is_float(f.dtype)) {
                for (axis, &dim) in fact.shape.iter().enumerate() {
                    let new = c.labels.fresh(dim);
                    c.axes[v][axis] = Some(new);
                }
            }
            if value.is_output {
                for axis in 0..c.axes[v].len() {
                    c.freeze_at((id, axis), format!("`{}` is an output of the graph", value.name), value.name.clone());
                }
            }
        }
        for node in &graph.nodes {
            c.node = node;
            c.couple()?;
            for &output in node.outputs.iter().flatten().filter(|&&o| graph.value(o).is_output) {
                let name = &graph.value(output).name;
                for axis in 0..c.axes[output.index()].len() {
                    c.freeze_at((output, axis), format!("it reaches the graph output `{name}`"), name.clone());
                }
            }
        }
        c.name_the_stored_ones();
        Ok(Some(c))
    }

    /// A role belongs to what is stored: where a weight is computed from stored tensors (transposed, say), their axes with
    /// the same labels take it over.
    fn name_the_stored_ones(&mut self) {
        for node in self.graph.nodes.iter().rev() {
            let computed = node.outputs.iter().flatten().find(|&&o| !self.graph.is_stored(o) && self.is_parameter(o));
            let Some(&out) = computed else { continue };
            for axis in 0..self.axes[out.index()].len() {
                let (Some(&role), Some(labels)) = (self.roles.get(&(out, axis)), self.at(Some((out, axis)))) else { continue };
                let classes: std::collections::HashSet<Label> = labels.iter().map(|&l| self.labels.find(l)).collect();
                for &input in node.inputs.iter().flatten() {
                    for a in 0..self.axes[input.index()].len() {
                        let Some(own) = self.at(Some((input, a))) else { continue };
                        if own.iter().any(|&l| classes.contains(&self.labels.find(l))) {
                            self.roles.remove(&(out, axis));
                            self.roles.entry((input, a)).or_insert(role);
                        }
                    }
                }
            }
        }
    }

    fn couple(&mut self) -> crate::Result<()> {
        let node = self.node;
        // What nothing can read couples nothing.
        if node.outputs.iter().flatten().next().is_none() {
            return Ok(());
        }
        let unknown = |v: &ValueId| self.facts.get(*v).is_none();
        let used = |v: &ValueId| !self.graph.value(*v).consumers.is_empty() || self.graph.value(*v).is_output;
        let reason = if let Op::Opaque(op) = &node.op {
            Some(format!("node `{}` reads it, and there is no rule for the operator {op}", node.name))
        } else if let Some(v) = node.inputs.iter().flatten().find(|v| unknown(v)) {
            Some(format!(
                "node `{}` ({}) combines it with `{}`, of which the shape is not known",
                node.name,
                node.op.name(),
                self.graph.value(*v).name
            ))
        } else if node.outputs.iter().flatten().any(|v| used(v) && unknown(v)) {
            Some(format!("node `{}` ({}) reads it, and the shape it computes is not known", node.name, node.op.name()))
        } else {
            None
        };
        match reason {
            Some(reason) => {
                for slot in 0..node.inputs.len() {
                    self.freeze_input(slot, &reason);
                }
                Ok(())
            }
            None => node.op.couple(self),
        }
    }

    /// What the shape rules see, to read attributes that may be inputs.
    pub(crate) fn inference(&self) -> Inference<'a> {
        let facts = self.facts;
        Inference { model: self.model, node: self.node, inputs: self.node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect() }
    }

    /// Shape of input `slot`; empty where it is not connected.
    pub(crate) fn shape(&self, slot: usize) -> &'a [usize] {
        self.node.input(slot).and_then(|v| self.facts.shape(v)).unwrap_or_default()
    }

    /// Shape of output `slot`; empty where it is not connected.
    pub(crate) fn output_shape(&self, slot: usize) -> &'a [usize] {
        self.node.output(slot).and_then(|v| self.facts.shape(v)).unwrap_or_default()
    }

    /// An axis of input `slot`.
    pub(crate) fn input(&self, slot: usize, axis: usize) -> Option<Place> {
        self.node.input(slot).filter(|_| axis < self.shape(slot).len()).map(|v| (v, axis))
    }

    /// An axis of output `slot`.
    pub(crate) fn output(&self, slot: usize, axis: usize) -> Option<Place> {
        self.node.output(slot).filter(|_| axis < self.output_shape(slot).len()).map(|v| (v, axis))
    }

    /// Labels at a place.
    pub(crate) fn at(&self, place: Option<Place>) -> Axis {
        place.and_then(|(v, axis)| self.axes[v.index()].get(axis).cloned().flatten())
    }

    /// Labels of an axis of input `slot`.
    pub(crate) fn get(&self, slot: usize, axis: usize) -> Axis {
        self.at(self.input(slot, axis))
    }

    /// Sets the labels of an output axis.
    pub(crate) fn set(&mut self, slot: usize, axis: usize, labels: Axis) {
        if let Some((v, axis)) = self.output(slot, axis) {
            debug_assert!(labels.as_ref().is_none_or(|l| Some(l.len()) == self.facts.shape(v).map(|s| s[axis])));
            self.axes[v.index()][axis] = labels;
        }
    }

    /// Output 0 has the labels of input 0, axis by axis.
    pub(crate) fn carry(&mut self) {
        for axis in 0..self.output_shape(0).len() {
            let labels = self.get(0, axis);
            self.set(0, axis, labels);
        }
    }

    /// Makes the labels at all places equal, coordinate by coordinate. Where one of the axes is never pruned, none is.
    pub(crate) fn join(&mut self, places: &[Option<Place>]) -> Axis {
        let places: Vec<Place> = places.iter().flatten().copied().collect();
        let known: Vec<Rc<[Label]>> = places.iter().filter_map(|&p| self.at(Some(p))).collect();
        let first = known.first()?.clone();
        for other in &known[1..] {
            for (&a, &b) in first.iter().zip(other.iter()) {
                self.labels.unify(a, b);
            }
        }
        if let Some(&fixed) = places.iter().find(|&&p| self.at(Some(p)).is_none()) {
            let what = self.describe(fixed);
            let reason = format!("node `{}` ({}) combines it with {what}", self.node.name, self.node.op.name());
            self.labels.freeze(&first, Frozen { reason, at: self.node.name.clone() });
        }
        Some(first)
    }

    /// What is at a place that is never pruned, for messages.
    pub(crate) fn describe(&self, (v, axis): Place) -> String {
        let value = self.graph.value(v);
        match value.source {
            Source::Input => format!("the graph input `{}`", value.name),
            Source::Initializer => format!("axis {axis} of `{}`", value.name),
            Source::Node(n, _) => match &self.graph.node(n).op {
                Op::Opaque(op) => format!("`{}`, computed by an operator without a rule ({op})", value.name),
                _ => match self.input_behind(v) {
                    Some(input) => format!("`{}`, computed from the graph input `{input}`", value.name),
                    None => format!("axis {axis} of `{}`, which is no channel axis", value.name),
                },
            },
        }
    }

    /// The graph input that `v` is computed from without a layer in between.
    fn input_behind(&self, v: ValueId) -> Option<&'a str> {
        let mut at = v;
        loop {
            match self.graph.value(at).source {
                Source::Input => return Some(&self.graph.value(at).name),
                Source::Initializer => return None,
                Source::Node(n, _) => {
                    let node = self.graph.node(n);
                    at = node
                        .inputs
                        .iter()
                        .flatten()
                        .copied()
                        .find(|_| !node.op.is_layer() && !matches!(node.op, Op::Opaque(_) | Op::Shape))?;
                }
            }
        }
    }

    /// Makes all labels of one slice equal.
    pub(crate) fn unify_all(&mut self, labels: &[Label]) {
        for pair in labels.windows(2) {
            self.labels.unify(pair[0], pair[1]);
        }
    }

    /// Freezes `labels`: `reason` completes "node `x` (Op) …".
    pub(crate) fn freeze_labels(&mut self, labels: &[Label], reason: &str) {
        let reason = format!("node `{}` ({}) {reason}", self.node.name, self.node.op.name());
        self.labels.freeze(labels, Frozen { reason, at: self.node.name.clone() });
    }

    /// Freezes an axis of input `slot`; `reason` completes "node `x` (Op) …".
    pub(crate) fn freeze(&mut self, slot: usize, axis: usize, reason: &str) {
        if let Some(labels) = self.get(slot, axis) {
            self.freeze_labels(&labels, reason);
        }
    }

    /// Freezes all axes of input `slot`, for a reason that is a sentence.
    fn freeze_input(&mut self, slot: usize, reason: &str) {
        for axis in 0..self.shape(slot).len() {
            if let Some(place) = self.input(slot, axis) {
                self.freeze_at(place, reason.to_owned(), self.node.name.clone());
            }
        }
    }

    fn freeze_at(&mut self, place: Place, reason: String, at: String) {
        if let Some(labels) = self.at(Some(place)) {
            self.labels.freeze(&labels, Frozen { reason, at });
        }
    }

    /// Input `slot`, if stored in the file, has coordinates of the given role along `axis`.
    pub(crate) fn role(&mut self, slot: usize, axis: usize, role: Role) {
        if let Some(place) = self.input(slot, axis).filter(|p| self.is_parameter(p.0)) {
            self.roles.entry(place).or_insert(role);
        }
    }

    /// Stored in the file, or computed from stored tensors alone.
    pub(crate) fn is_parameter(&self, v: ValueId) -> bool {
        self.graph.is_parameter(v)
    }

    /// The node sums over `axis` of input `slot`.
    pub(crate) fn contract(&mut self, slot: usize, axis: usize) {
        self.contractions.push(Contraction { node: self.node.id, slot, axis });
    }

    /// The node takes a statistic over `axis` of input 0, if that is a channel axis; `parameters` (slot and axis) run along it, and
    /// `carried` says whether the output has it.
    pub(crate) fn statistic(&mut self, axis: usize, parameters: Vec<(usize, usize)>, carried: bool) {
        if self.get(0, axis).is_some() {
            self.statistics.push(Statistic { node: self.node.id, axis, parameters, carried });
        }
    }

    /// Elementwise with broadcasting over all inputs: equal coordinates are equal, a broadcast operand constrains nothing.
    pub(crate) fn broadcast(&mut self, slots: std::ops::Range<usize>) {
        let out = self.output_shape(0);
        for (axis, &dim) in out.iter().enumerate() {
            let mut places = Vec::new();
            for slot in slots.clone() {
                let shape = self.shape(slot);
                if let Some(own) = (axis + shape.len()).checked_sub(out.len()).filter(|&a| shape[a] == dim) {
                    places.push((slot, own));
                }
            }
            let at: Vec<Option<Place>> = places.iter().map(|&(slot, own)| self.input(slot, own)).collect();
            let labels = self.join(&at);
            // A parameter that runs along another operand's channels is one more tensor to slice.
            if at.iter().flatten().any(|p| !self.is_parameter(p.0)) && labels.is_some() {
                for (slot, own) in places {
                    self.role(slot, own, Role::Produced);
                }
            }
            self.set(0, axis, labels);
        }
    }
}
