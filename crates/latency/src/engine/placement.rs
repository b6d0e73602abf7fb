//! Which node of a network runs where: on our engine, or on tract where the engine has no kernel for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::Engine;
use graph::{Facts, Graph, InputShapes, Model, Node, NodeId, ValueId};
use serde::{Deserialize, Serialize};

use crate::model::{ElementType, ModelBytes};

/// What runs a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Our engine.
    Engine,
    /// tract.
    Tract,
    /// Nothing: its result is known before any input is, or nobody reads it.
    Folded,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Engine => "engine",
            Self::Tract => "tract",
            Self::Folded => "folded",
        })
    }
}

/// One node with where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedNode {
    /// Its name; that of its first output where the file gives none.
    pub name: String,
    /// Its operator.
    pub operator: String,
    /// What runs it.
    pub place: Place,
    /// Why our engine does not.
    pub reason: Option<String>,
}

/// Where every node of a network runs, in topological order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The nodes.
    pub nodes: Vec<PlacedNode>,
    /// Times that values pass from one runtime to the other within a run, plus one.
    pub parts: usize,
}

impl Placement {
    /// The nodes at `place`.
    pub fn at(&self, place: Place) -> impl Iterator<Item = &PlacedNode> {
        self.nodes.iter().filter(move |n| n.place == place)
    }

    /// What does not run on our engine, in a sentence; `None` where all does.
    pub fn note(&self) -> Option<String> {
        let mut operators: Vec<&str> = self.at(Place::Tract).map(|n| n.operator.as_str()).collect();
        let (elsewhere, running) = (operators.len(), operators.len() + self.at(Place::Engine).count());
        operators.sort_unstable();
        operators.dedup();
        let (shown, more) = operators.split_at(operators.len().min(6));
        let more = if more.is_empty() { "" } else { ", …" };
        (elsewhere > 0).then(|| format!("{elsewhere} of {running} nodes run on tract, not on our engine: {}{more}", shown.join(", ")))
    }
}

/// A network as it is about to be divided.
pub(super) struct Division<'a> {
    pub file: &'a Model,
    pub graph: Graph,
    /// At the shapes asked for.
    pub facts: Facts,
    /// The same for one image, where there are several.
    pub single: Option<Facts>,
    /// Images in a batch; our engine runs them one by one.
    pub images: usize,
    /// Why nodes do not run on our engine.
    pub reasons: BTreeMap<NodeId, String>,
}

/// Nodes that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub place: Place,
    /// In topological order.
    pub nodes: Vec<NodeId>,
}

/// The shapes `model` is to run with, the first axis of all of them `batch` where that is given.
pub(super) fn shapes(model: &ModelBytes, batch: Option<usize>) -> InputShapes {
    let shape = |i: &crate::model::InputSpec| {
        let mut shape = i.shape.clone();
        if let (Some(n), Some(first)) = (batch, shape.first_mut()) {
            *first = n;
        }
        (i.name.clone(), shape)
    };
    InputShapes { batch: None, shapes: model.inputs.iter().map(shape).collect() }
}

impl<'a> Division<'a> {
    /// Asks `engine` which nodes of `file` it runs; operators in `elsewhere` go to tract in any case.
    pub fn new(engine: &Engine, file: &'a Model, model: &ModelBytes, elsewhere: &BTreeSet<String>) -> graph::Result<Self> {
        let graph = Graph::new(file)?;
        let facts = Facts::infer(file, &graph, &shapes(model, None))?;
        let firsts: BTreeSet<usize> = model.inputs.iter().map(|i| i.shape.first().copied().unwrap_or(1)).collect();
        let images = if firsts.len() == 1 { firsts.into_iter().next().unwrap_or(1) } else { 1 };
        let mut d = Self { file, graph, facts, single: None, images, reasons: BTreeMap::new() };
        let wanted = shapes(model, (images > 1).then_some(1));
        if images > 1 {
            match Facts::infer(file, &d.graph, &wanted) {
                Ok(f) => d.single = Some(f),
                Err(e) => d.refuse_all(&format!("the network does not run on one image of the batch alone: {e}")),
            }
        }
        if d.reasons.is_empty() {
            match engine.refused(file, &wanted) {
                Ok(refused) => d.reasons.extend(refused.into_iter().map(|(n, e)| (n, reason(&e)))),
                Err(e) => d.refuse_all(&reason(&e)),
            }
        }
        let mixing: Vec<NodeId> = d.graph.nodes.iter().filter(|n| d.mixes_images(n)).map(|n| n.id).collect();
        for n in mixing {
            d.refuse(n, "it may mix the images of a batch, which the engine runs one by one");
        }
        let asked: Vec<NodeId> = d.graph.nodes.iter().filter(|n| elsewhere.contains(n.op.name())).map(|n| n.id).collect();
        for n in asked {
            d.refuse(n, "it was asked for elsewhere");
        }
        Ok(d)
    }

    /// Facts that hold where our engine runs.
    pub fn engine_facts(&self) -> &Facts {
        self.single.as_ref().unwrap_or(&self.facts)
    }

    /// Takes `node` from our engine.
    pub fn refuse(&mut self, node: NodeId, reason: &str) {
        self.reasons.entry(node).or_insert_with(|| reason.to_owned());
    }

    fn refuse_all(&mut self, reason: &str) {
        for i in 0..self.graph.nodes.len() {
            self.refuse(NodeId(i as u32), reason);
        }
    }

    /// Some activation of `node` is not, for a batch, what it is for one image with another first axis.
    fn mixes_images(&self, node: &Node) -> bool {
        let Some(single) = &self.single else { return false };
        let apart = |v: &ValueId| match (self.facts.get(*v), single.get(*v)) {
            (Some(all), Some(one)) if all.constant.is_some() && one.constant.is_some() => false,
            (Some(all), Some(one)) => {
                let same = all.shape.len() == one.shape.len() && all.shape.iter().skip(1).eq(one.shape.iter().skip(1));
                let first = all.shape.first() == Some(&self.images) && one.shape.first() == Some(&1);
                all.constant.is_some() != one.constant.is_some() || !same || !first
            }
            (all, one) => all.is_some() != one.is_some(),
        };
        node.inputs.iter().chain(&node.outputs).flatten().any(apart)
    }

    /// Nodes that are run for the outputs of the graph, and are not known beforehand.
    fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.graph.nodes.len()];
        let producer = |v: &ValueId| self.graph.producer(*v).map(|n| n.id.index());
        for n in self.graph.outputs.iter().filter_map(producer) {
            live[n] = true;
        }
        for node in self.graph.nodes.iter().rev() {
            if live[node.id.index()] && self.folded(node) {
                live[node.id.index()] = false;
            } else if live[node.id.index()] {
                node.inputs.iter().flatten().filter_map(producer).for_each(|n| live[n] = true);
            }
        }
        live
    }

    fn folded(&self, node: &Node) -> bool {
        node.outputs.iter().flatten().all(|&v| self.facts.constant(v).is_some() && self.engine_facts().constant(v).is_some())
    }

    fn place(&self, node: NodeId) -> Place {
        if self.reasons.contains_key(&node) { Place::Tract } else { Place::Engine }
    }

    /// Runs in the order in which they can be executed: as few as there are changes of place on any path.
    ///
    /// Nodes get levels, even on our engine and odd on tract: a node stands at its producers' highest level, or the next one
    /// that has its parity. All nodes of a level run together, and no level needs a later one.
    pub fn runs(&mut self) -> Vec<Run> {
        loop {
            let runs = self.levels();
            let Some(hidden) = self.hidden_between(&runs) else { return runs };
            let name = &self.graph.value(hidden).name;
            let reason = format!("`{name}`, of which type or shape are not known beforehand, would have to pass between runtimes");
            self.refuse_all(&reason);
        }
    }

    fn levels(&self) -> Vec<Run> {
        let live = self.live();
        let mut level: HashMap<NodeId, usize> = HashMap::new();
        let mut runs: BTreeMap<usize, Run> = BTreeMap::new();
        for node in self.graph.nodes.iter().filter(|n| live[n.id.index()]) {
            let place = self.place(node.id);
            let producers = node.inputs.iter().flatten().filter_map(|&v| self.graph.producer(v));
            let least = producers.filter_map(|p| level.get(&p.id)).max().copied().unwrap_or(0);
            let own = least + usize::from((least % 2 == 1) != (place == Place::Tract));
            level.insert(node.id, own);
            runs.entry(own).or_insert_with(|| Run { place, nodes: Vec::new() }).nodes.push(node.id);
        }
        runs.into_values().collect()
    }

    /// A value that passes between runs and of which too little is known.
    fn hidden_between(&self, runs: &[Run]) -> Option<ValueId> {
        let mut at: HashMap<NodeId, usize> = HashMap::new();
        for (i, run) in runs.iter().enumerate() {
            run.nodes.iter().for_each(|&n| _ = at.insert(n, i));
        }
        let known = |v: ValueId| self.facts.get(v).is_some_and(|f| ElementType::from_onnx(f.dtype as i32).is_some());
        let inputs = |&n: &NodeId| self.graph.node(n).inputs.iter().flatten().copied();
        let foreign = |n: &NodeId, v: ValueId| self.graph.producer(v).is_some_and(|p| at.get(&p.id).is_some_and(|i| *i != at[n]));
        runs.iter().flat_map(|r| &r.nodes).find_map(|n| inputs(n).find(|&v| foreign(n, v) && !known(v)))
    }

    /// For the user.
    pub fn placement(&self, runs: &[Run]) -> Placement {
        let running: BTreeMap<NodeId, Place> = runs.iter().flat_map(|r| r.nodes.iter().map(|&n| (n, r.place))).collect();
        let placed = |n: &Node| {
            let place = running.get(&n.id).copied().unwrap_or(Place::Folded);
            let reason = self.reasons.get(&n.id).filter(|_| place == Place::Tract).cloned();
            PlacedNode { name: n.name.clone(), operator: n.op.name().to_owned(), place, reason }
        };
        Placement { nodes: self.graph.nodes.iter().map(placed).collect(), parts: runs.len() }
    }
}

/// An error of the engine without what to do instead: here something is done.
pub(super) fn reason(e: &engine::Error) -> String {
    match e {
        engine::Error::Unsupported { reason, .. } => reason.clone(),
        engine::Error::Value { value, reason, .. } => format!("`{value}`: {reason}"),
        other => other.to_string(),
    }
}
