//! A model with everything that is known of it without running it.

use graph::{Costs, Decision, Facts, Graph, Groups, InputShapes, Layer, Model, Slabs, ops::Op};

use crate::error::{Error, Result};
use crate::scope::Scope;

/// A model, its graph, facts, groups and layers.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The file.
    pub model: Model,
    /// Its main graph.
    pub graph: Graph,
    /// Shapes and constants.
    pub facts: Facts,
    /// What can be removed.
    pub groups: Groups,
    /// The layers whose widths the groups make up.
    pub layers: Vec<Layer>,
    /// What the latency is made of: the layers, then the attentions, whose widths are heads and their width.
    pub priced: Vec<Layer>,
    /// What may be pruned.
    pub scope: Scope,
}

impl Analysis {
    /// Analyses `model` for inputs of the given shapes.
    ///
    /// # Errors
    /// As [`Graph::new`], [`Facts::infer`] and [`Groups::analyse`].
    pub fn new(model: Model, shapes: &InputShapes) -> Result<Self> {
        Self::within(model, shapes, Scope::default())
    }

    /// As [`Analysis::new`], with a say in what may be pruned.
    ///
    /// # Errors
    /// As [`Analysis::new`].
    pub fn within(model: Model, shapes: &InputShapes, scope: Scope) -> Result<Self> {
        let graph = Graph::new(&model)?;
        let facts = Facts::infer(&model, &graph, shapes)?;
        let mut groups = Groups::with_slabs(&model, &graph, &facts, scope.slabs)?;
        scope.freeze(&graph, &mut groups);
        let layers = groups.layers().to_vec();
        let priced = [&layers, groups.attention()].concat();
        Ok(Self { model, graph, facts, groups, layers, priced, scope })
    }

    /// The same model with other slabs.
    ///
    /// # Errors
    /// As [`Analysis::new`].
    pub fn with_slabs(mut self, slabs: Slabs) -> Result<Self> {
        if self.scope.slabs != slabs {
            self.scope.slabs = slabs;
            self.groups = Groups::with_slabs(&self.model, &self.graph, &self.facts, slabs)?;
            self.scope.freeze(&self.graph, &mut self.groups);
            self.layers = self.groups.layers().to_vec();
            self.priced = [&self.layers, self.groups.attention()].concat();
        }
        Ok(self)
    }

    /// What another model is at batch size `batch`, with the same say in what may be pruned.
    ///
    /// # Errors
    /// As [`Analysis::new`].
    pub fn with_model(&self, model: Model, batch: usize) -> Result<Self> {
        Self::within(model, &InputShapes::batch(batch), self.scope.clone())
    }

    /// As [`Analysis::new`], with a common size for what the file leaves open and `shapes` does not tell; what was taken is
    /// told.
    ///
    /// # Errors
    /// As [`Analysis::new`]; no common size fits.
    pub fn completed(model: Model, shapes: &InputShapes, scope: Scope) -> Result<(Self, Vec<graph::AssumedShape>)> {
        let graph = Graph::new(&model)?;
        let (shapes, assumed) = shapes.completed(&model, &graph)?;
        Ok((Self::within(model, &shapes, scope)?, assumed))
    }

    /// The smaller model under `decision`.
    ///
    /// # Errors
    /// The decision does not fit.
    pub fn apply(&self, decision: &Decision) -> Result<Model> {
        Ok(graph::surgery::apply(&self.model, &self.graph, &self.facts, &self.groups, decision)?)
    }

    /// The model of the same size with what `decision` removes zeroed where it is consumed.
    ///
    /// # Errors
    /// The decision does not fit.
    pub fn masked_twin(&self, decision: &Decision) -> Result<Model> {
        Ok(graph::surgery::masked_twin(&self.model, &self.graph, &self.facts, &self.groups, decision)?)
    }

    /// Parameters and multiply-accumulates.
    pub fn costs(&self) -> Costs {
        graph::cost(&self.graph, &self.facts)
    }

    /// The nodes that hold sub-graphs, inside which nothing is pruned.
    fn subgraphs(&self) -> Vec<String> {
        let holds = |n: &&graph::Node| matches!(&n.op, Op::Opaque(name) if matches!(name.as_str(), "If" | "Loop" | "Scan"));
        self.graph.nodes.iter().filter(holds).map(|n| format!("`{}` ({})", n.name, n.op.name())).collect()
    }

    /// That there is something to prune.
    ///
    /// # Errors
    /// Every group is frozen; the message tells why for each.
    pub fn need_prunable(&self) -> Result<()> {
        if self.groups.prunable().next().is_some() {
            return Ok(());
        }
        let line = |g: &graph::Group| {
            let reason = g.frozen.as_ref().map_or("its last channel has to stay", |f| f.reason.as_str());
            format!("  {} ({} channels): {reason}", g.name, g.size)
        };
        let reasons: Vec<String> = self.groups.groups.iter().map(line).collect();
        let held = self.subgraphs();
        let reasons = match (reasons.is_empty(), held.is_empty()) {
            (false, _) => reasons.join("\n"),
            (true, true) => "  the network has no layer with channels (Conv, Gemm, MatMul with stored weights)".into(),
            (true, false) => format!("  its layers are inside the sub-graphs of {}, in which nothing is pruned", held.join(", ")),
        };
        Err(Error::NothingToPrune { model: self.model.origin(), reasons })
    }
}
