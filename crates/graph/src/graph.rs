//! The main graph, indexed: nodes in topological order, values with their producer and consumers.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::ops::Op;
use crate::proto::NodeProto;

/// A node of a [`Graph`]: its position in topological order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// A value (tensor) of a [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

impl NodeId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// As an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Position in topological order.
    pub id: NodeId,
    /// Its name; the name of its first output where the file gives none.
    pub name: String,
    /// What it computes, with typed attributes.
    pub op: Op,
    /// `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// `None` where an optional output is left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Position of the message in the file's node list.
    pub position: usize,
}

impl Node {
    /// Input `i`, if it is there.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Output `i`, if it is there.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }

    /// An error located at this node.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::Node { node: self.name.clone(), op: self.op.name().to_owned(), reason: reason.into() }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An input that the user feeds.
    Input,
    /// A tensor stored in the file.
    Initializer,
    /// Output `.1` of node `.0`.
    Node(NodeId, usize),
}

/// A tensor flowing through the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Its name, unique in the graph.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// The nodes reading it, with the input position; a node reading it twice is there twice.
    pub consumers: Vec<(NodeId, usize)>,
    /// It is an output of the graph.
    pub is_output: bool,
}

/// The indexed main graph of a [`Model`].
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// In topological order.
    pub nodes: Vec<Node>,
    /// All values.
    pub values: Vec<Value>,
    /// Inputs that the user feeds (initializers listed as inputs, as before IR 4, are not among them).
    pub inputs: Vec<ValueId>,
    /// Graph outputs, in the file's order.
    pub outputs: Vec<ValueId>,
    by_name: HashMap<String, ValueId>,
    /// By value: stored in the file, or computed from stored tensors alone.
    parameters: Vec<bool>,
}

impl Graph {
    /// Indexes the main graph of `model`.
    ///
    /// # Errors
    /// Inputs that nothing produces, names produced twice, cycles, and attributes an operator cannot have.
    pub fn new(model: &Model) -> Result<Self> {
        let proto = model.graph_proto();
        let mut g = Self {
            nodes: Vec::new(),
            values: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            by_name: HashMap::new(),
            parameters: Vec::new(),
        };
        for t in &proto.initializer {
            g.define(t.name(), Source::Initializer)?;
        }
        for t in &proto.sparse_initializer {
            g.define(t.values.as_ref().map_or("", |v| v.name()), Source::Initializer)?;
        }
        for i in &proto.input {
            if !g.by_name.contains_key(i.name()) {
                let id = g.define(i.name(), Source::Input)?;
                g.inputs.push(id);
            }
        }
        for (id, position) in topological(&proto.node, &g.by_name)?.into_iter().enumerate() {
            let node = &proto.node[position];
            let id = NodeId(id as u32);
            let mut inputs = Vec::with_capacity(node.input.len());
            for (slot, name) in node.input.iter().enumerate() {
                let value = if name.is_empty() { None } else { Some(g.by_name[name]) };
                if let Some(v) = value {
                    g.values[v.index()].consumers.push((id, slot));
                }
                inputs.push(value);
            }
            let mut outputs = Vec::with_capacity(node.output.len());
            for (slot, name) in node.output.iter().enumerate() {
                outputs.push(if name.is_empty() { None } else { Some(g.define(name, Source::Node(id, slot))?) });
            }
            let op = Op::parse(node, model.opset())?;
            // What a sub-graph reads from outside is read by the node that holds it.
            for name in captured(node) {
                if let Some(&v) = g.by_name.get(name) {
                    g.values[v.index()].consumers.push((id, inputs.len()));
                    inputs.push(Some(v));
                }
            }
            let stored = |v: &ValueId| g.parameters[v.index()];
            let computed = inputs.iter().flatten().next().is_some() && inputs.iter().flatten().all(stored);
            if matches!(op, Op::Constant) || computed {
                outputs.iter().flatten().for_each(|o: &ValueId| g.parameters[o.index()] = true);
            }
            g.nodes.push(Node { id, name: display_name(node), op, inputs, outputs, position });
        }
        for o in &proto.output {
            let id =
                g.by_name.get(o.name()).copied().ok_or_else(|| Error::Graph(format!("output `{}` is computed by no node", o.name())))?;
            g.values[id.index()].is_output = true;
            g.outputs.push(id);
        }
        Ok(g)
    }

    fn define(&mut self, name: &str, source: Source) -> Result<ValueId> {
        let id = ValueId(self.values.len() as u32);
        if self.by_name.insert(name.to_owned(), id).is_some() {
            return Err(Error::Graph(format!("the value `{name}` is defined twice")));
        }
        self.parameters.push(matches!(source, Source::Initializer));
        self.values.push(Value { name: name.to_owned(), source, consumers: Vec::new(), is_output: false });
        Ok(id)
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.by_name.get(name).copied()
    }

    /// The node computing `id`.
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        match self.value(id).source {
            Source::Node(n, _) => Some(self.node(n)),
            _ => None,
        }
    }

    /// `id` is stored in the file, or computed from stored tensors alone.
    pub fn is_parameter(&self, id: ValueId) -> bool {
        self.parameters[id.index()]
    }

    /// `id` is stored in the file: an initializer, or the output of a `Constant` node.
    pub fn is_stored(&self, id: ValueId) -> bool {
        match self.value(id).source {
            Source::Initializer => true,
            Source::Input => false,
            Source::Node(n, _) => matches!(self.node(n).op, Op::Constant),
        }
    }
}

/// The node's name, or that of its first output.
pub(crate) fn display_name(node: &NodeProto) -> String {
    if !node.name().is_empty() { node.name().to_owned() } else { node.output.first().cloned().unwrap_or_default() }
}

/// Names that the sub-graphs of `node` may take from outside.
pub(crate) fn captured(node: &NodeProto) -> Vec<&str> {
    let mut names = Vec::new();
    let graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
    for g in graphs {
        let mut defined: std::collections::HashSet<&str> =
            g.input.iter().map(|i| i.name()).chain(g.initializer.iter().map(|t| t.name())).collect();
        for n in &g.node {
            names.extend(n.input.iter().map(String::as_str).filter(|i| !i.is_empty() && !defined.contains(i)));
            names.extend(captured(n).into_iter().filter(|i| !defined.contains(i)));
            defined.extend(n.output.iter().map(String::as_str));
        }
        names.extend(g.output.iter().map(|o| o.name()).filter(|o| !defined.contains(o)));
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// Positions of the nodes in topological order; the file's own order where it is one.
fn topological(nodes: &[NodeProto], defined: &HashMap<String, ValueId>) -> Result<Vec<usize>> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (i, n) in nodes.iter().enumerate() {
        for o in n.output.iter().filter(|o| !o.is_empty()) {
            producer.insert(o, i);
        }
    }
    let mut waiting = vec![0usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, n) in nodes.iter().enumerate() {
        let captured = captured(n);
        let inputs = n.input.iter().map(String::as_str).filter(|name| !name.is_empty());
        for (name, must_exist) in inputs.map(|n| (n, true)).chain(captured.into_iter().map(|n| (n, false))) {
            match producer.get(name) {
                Some(&p) => {
                    waiting[i] += 1;
                    readers[p].push(i);
                }
                None if !must_exist || defined.contains_key(name) => {}
                None => {
                    return Err(Error::Node {
                        node: display_name(n),
                        op: n.op_type().to_owned(),
                        reason: format!("its input `{name}` is produced by no node and stored nowhere"),
                    });
                }
            }
        }
    }
    let mut ready: std::collections::BTreeSet<usize> = (0..nodes.len()).filter(|&i| waiting[i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for &r in &readers[i] {
            waiting[r] -= 1;
            if waiting[r] == 0 {
                ready.insert(r);
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = (0..nodes.len()).find(|&i| waiting[i] > 0).map(|i| display_name(&nodes[i])).unwrap_or_default();
        return Err(Error::Graph(format!("node `{stuck}` is part of a cycle")));
    }
    Ok(order)
}
