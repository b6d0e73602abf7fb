//! What the tests of this crate share: running a model with tract, and comparing two models on random inputs.
#![allow(dead_code)]

pub mod text;

use secateur_graph::{Decision, Facts, Graph, Groups, InputShapes, Model, Slabs};
use tract_onnx::prelude::*;

/// A small generator of pseudo-random numbers (xorshift64*), so that tests depend on nothing else.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }
}

/// Model with everything the analyses need.
pub struct Analysed {
    pub model: Model,
    pub graph: Graph,
    pub facts: Facts,
    pub groups: Groups,
}

impl Analysed {
    pub fn new(model: Model, batch: usize) -> secateur_graph::Result<Self> {
        Self::with(model, &InputShapes::batch(batch))
    }

    pub fn with(model: Model, shapes: &InputShapes) -> secateur_graph::Result<Self> {
        Self::with_slabs(model, shapes, Slabs::default())
    }

    pub fn with_slabs(model: Model, shapes: &InputShapes, slabs: Slabs) -> secateur_graph::Result<Self> {
        let graph = Graph::new(&model)?;
        let facts = Facts::infer(&model, &graph, shapes)?;
        let groups = Groups::with_slabs(&model, &graph, &facts, slabs)?;
        Ok(Self { model, graph, facts, groups })
    }

    pub fn apply(&self, d: &Decision) -> secateur_graph::Result<Model> {
        secateur_graph::surgery::apply(&self.model, &self.graph, &self.facts, &self.groups, d)
    }

    pub fn twin(&self, d: &Decision) -> secateur_graph::Result<Model> {
        secateur_graph::surgery::masked_twin(&self.model, &self.graph, &self.facts, &self.groups, d)
    }

    /// Removes about `share` of the channels of every group that allows it, and each branch with probability `branches`.
    pub fn random_decision(&self, share: f64, branches: f64, random: &mut Random) -> Decision {
        let mut d = Decision::keep_all();
        for g in self.groups.prunable() {
            let mut keep: Vec<usize> = (0..g.size).filter(|_| (random.below(1000) as f64) >= share * 1000.0).collect();
            if keep.len() < g.min_keep {
                keep = vec![random.below(g.size)];
            }
            d.keep.insert(g.id, keep);
        }
        for b in &self.groups.branches {
            if (random.below(1000) as f64) < branches * 1000.0 {
                d.removed_branches.insert(b.id);
            }
        }
        d
    }

    /// Random inputs of the shapes of the facts.
    pub fn inputs(&self, random: &mut Random) -> Vec<(Vec<usize>, Vec<f32>)> {
        let shapes = self.graph.inputs.iter().map(|&v| self.facts.shape(v).unwrap().to_vec());
        shapes.map(|s| (s.clone(), random.floats(s.iter().product()))).collect()
    }
}

/// Outputs of `model` computed by tract.
pub fn run(model: &Model, inputs: &[(Vec<usize>, Vec<f32>)]) -> TractResult<Vec<(Vec<usize>, Vec<f32>)>> {
    // Declared shapes name the batch; tract would not unify the name with the number given here.
    let mut model = model.clone();
    let graph = model.graph_proto_mut();
    graph.value_info.clear();
    graph.output.iter_mut().for_each(|o| o.r#type = None);
    let mut m = tract_onnx::onnx().model_for_read(&mut std::io::Cursor::new(model.to_bytes()?))?;
    for (i, (shape, _)) in inputs.iter().enumerate() {
        m.set_input_fact(i, f32::fact(shape.as_slice()).into())?;
    }
    let plan = m.into_typed()?.into_runnable()?;
    let feed: TVec<TValue> = inputs.iter().map(|(s, d)| Tensor::from_shape(s, d).map(Into::into)).collect::<TractResult<_>>()?;
    plan.run(feed)?
        .iter()
        .map(|t| {
            let t = t.cast_to::<f32>()?;
            Ok((t.shape().to_vec(), t.to_plain_array_view::<f32>()?.iter().copied().collect()))
        })
        .collect()
}

/// Largest difference relative to the largest absolute value of each output; `Err` where shapes differ.
pub fn difference(a: &[(Vec<usize>, Vec<f32>)], b: &[(Vec<usize>, Vec<f32>)]) -> Result<f32, String> {
    if a.len() != b.len() {
        return Err(format!("{} outputs against {}", a.len(), b.len()));
    }
    let mut worst = 0f32;
    for ((sa, x), (sb, y)) in a.iter().zip(b) {
        if sa != sb {
            return Err(format!("shape {sa:?} against {sb:?}"));
        }
        let scale = x.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        for (p, q) in x.iter().zip(y) {
            let same = p == q || (p.is_nan() && q.is_nan());
            if !same && !(p - q).is_finite() {
                return Err(format!("{p} against {q}"));
            }
            if !same {
                worst = worst.max((p - q).abs() / scale);
            }
        }
    }
    Ok(worst)
}

/// The smaller model computes what its masked twin computes.
pub fn assert_twins(a: &Analysed, d: &Decision, random: &mut Random) {
    let inputs = a.inputs(random);
    let small = a.apply(d).unwrap_or_else(|e| panic!("surgery: {e}\n{d:?}"));
    let twin = a.twin(d).unwrap_or_else(|e| panic!("twin: {e}\n{d:?}"));
    let expected = run(&twin, &inputs).unwrap_or_else(|e| panic!("twin does not run: {e:?}"));
    let found = run(&small, &inputs).unwrap_or_else(|e| panic!("smaller model does not run: {e:?}"));
    match difference(&expected, &found) {
        Ok(worst) => assert!(worst < 1e-4, "the smaller model differs from its masked twin by {worst}\n{d:?}"),
        Err(e) => panic!("{e}\n{d:?}"),
    }
}
