//! What zeros are worth: the time of a layer by structure and share of its zeros, against the same layer dense.
//!
//!     efficiency [CHANNELS FILTERS KERNEL SIZE]
//!
//! Layers are chains of six convolutions, there and back. Zeros are units of B filters × 1 channel × 1 kernel position at random,
//! in equal numbers per block of filters; and the patterns of 3×3 kernels (4 of 9 weights, one of eight patterns, with none or half
//! of the kernels gone as well).
//! Sparse and dense models run in turn; printed is the ratio of their least times, which other processes disturb least, and in
//! parentheses that ratio as a share of the limit 1/(1−s).

use std::time::Instant;

use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use graph::{InputShapes, Model, Tensor};
use secateur_engine::{Compiled, Engine};

/// Rounds per model, each with one run of both.
const ROUNDS: usize = 25;

/// A small generator of pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as usize % n
    }

    /// `n` of `0..all`.
    fn choose(&mut self, n: usize, all: usize) -> Vec<usize> {
        let mut items: Vec<usize> = (0..all).collect();
        for i in 0..n {
            let j = i + self.below(all - i);
            items.swap(i, j);
        }
        items.truncate(n);
        items
    }
}

#[derive(Clone, Copy)]
enum Zeros {
    /// A share of the units of as many filters.
    Block(usize, f64),
    /// 5 of 9 weights by pattern, and a share of the kernels.
    Pattern(f64),
}

impl Zeros {
    fn share(self) -> f64 {
        match self {
            Self::Block(_, s) => s,
            Self::Pattern(s) => 1.0 - 4.0 / 9.0 * (1.0 - s),
        }
    }

    fn apply(self, random: &mut Random, values: &mut [f32], filters: usize, units: usize) {
        match self {
            Self::Block(block, s) => {
                for first in (0..filters).step_by(block) {
                    for u in random.choose((s * units as f64).round() as usize, units) {
                        (first..(first + block).min(filters)).for_each(|f| values[f * units + u] = 0.0);
                    }
                }
            }
            Self::Pattern(gone) => {
                // The centre and three of its neighbours.
                let patterns: Vec<Vec<usize>> =
                    (0..8).map(|_| random.choose(3, 8).into_iter().map(|i| if i < 4 { i } else { i + 1 }).chain([4]).collect()).collect();
                for filter in values.chunks_mut(units) {
                    let kernels = units / 9;
                    let absent = random.choose((gone * kernels as f64).round() as usize, kernels);
                    for (k, kernel) in filter.chunks_mut(9).enumerate() {
                        let pattern = &patterns[random.below(8)];
                        let keep = |i: usize| !absent.contains(&k) && pattern.contains(&i);
                        kernel.iter_mut().enumerate().filter(|(i, _)| !keep(*i)).for_each(|(_, w)| *w = 0.0);
                    }
                }
            }
        }
    }
}

fn declare(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..Default::default() }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: Some(output.into()),
        op_type: Some(op.into()),
        input: inputs.iter().map(|i| (*i).to_owned()).collect(),
        output: vec![output.to_owned()],
        ..Default::default()
    }
}

/// The chain: convolutions of odd kernels with padding to keep the size, each with a ReLU, and a global mean. Only the convolutions are timed.
fn model(channels: usize, filters: usize, kernel: usize, size: usize, zeros: Zeros) -> Model {
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    let graph = GraphProto { name: Some("chain".into()), ..Default::default() };
    let proto = ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() };
    let mut m = Model::from_proto(proto);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    m.graph_proto_mut().input.push(declare("x0", &[1, channels, size, size]));
    for i in 0..6 {
        let (c, f) = if i % 2 == 0 { (channels, filters) } else { (filters, channels) };
        let units = c * kernel * kernel;
        let scale = (6.0 / units as f64).sqrt();
        let weight = |r: &mut Random| ((r.below(2001) as f64 / 1000.0 - 1.0) * scale) as f32;
        let mut values: Vec<f32> = (0..f * units).map(|_| weight(&mut random)).collect();
        zeros.apply(&mut random, &mut values, f, units);
        m.add_initializer(&format!("w{i}"), &Tensor::f32([f, c, kernel, kernel], values));
        let mut conv = node("Conv", &[&format!("x{i}"), &format!("w{i}")], &format!("y{i}"));
        conv.attribute.push(AttributeProto {
            name: Some("pads".into()),
            r#type: Some(AttributeType::Ints as i32),
            ints: vec![kernel as i64 / 2; 4],
            ..Default::default()
        });
        m.graph_proto_mut().node.push(conv);
        m.graph_proto_mut().node.push(node("Relu", &[&format!("y{i}")], &format!("x{}", i + 1)));
    }
    m.graph_proto_mut().node.push(node("GlobalAveragePool", &["x6"], "mean"));
    m.graph_proto_mut().output.push(declare("mean", &[1, channels, 1, 1]));
    m
}

/// Time of the convolutions alone: what copies the input and takes the mean is the same for all.
fn seconds(model: &mut Compiled) -> f64 {
    let is_convolution: Vec<bool> = model.layers().iter().map(|l| l.kept.is_some()).collect();
    let mut total = 0.0;
    for (i, counts) in is_convolution.into_iter().enumerate() {
        let start = Instant::now();
        model.run_step(i);
        total += if counts { start.elapsed().as_secs_f64() } else { 0.0 };
    }
    total
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|a| a.parse()).collect::<Result<_, _>>()?;
    let [channels, filters, kernel, size] = numbers[..] else { return Err("usage: efficiency CHANNELS FILTERS KERNEL SIZE".into()) };
    let compile = |zeros| -> Result<Compiled, Box<dyn std::error::Error>> {
        let mut c = Engine::new().compile(&model(channels, filters, kernel, size, zeros), &InputShapes::batch(1))?;
        let mut random = Random(7);
        let x: Vec<f32> = (0..channels * size * size).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
        c.set_input("x0", &x)?;
        Ok(c)
    };
    let mut dense = compile(Zeros::Block(1, 0.0))?;
    let mut least_dense = f64::INFINITY;
    let mut least = |zeros: Zeros| -> Result<(Zeros, f64), Box<dyn std::error::Error>> {
        let mut sparse = compile(zeros)?;
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            (least_dense, best) = (least_dense.min(seconds(&mut dense)), best.min(seconds(&mut sparse)));
        }
        Ok((zeros, best))
    };
    let mut rows = Vec::new();
    for s in [0.0, 0.5, 0.67, 0.75, 0.875, 0.9] {
        rows.push((s, [1, 4, 8, 16, 32].into_iter().map(|b| least(Zeros::Block(b, s))).collect::<Result<Vec<_>, _>>()?));
    }
    let gone: &[f64] = if kernel == 3 { &[0.0, 0.5] } else { &[] };
    let patterns = gone.iter().map(|&g| least(Zeros::Pattern(g))).collect::<Result<Vec<_>, _>>()?;
    let cell = |(zeros, time): &(Zeros, f64)| {
        let r = least_dense / time;
        format!("{r:.2} ({:.0} %)", 100.0 * r * (1.0 - zeros.share()))
    };
    println!("{channels} × {filters}, {kernel}×{kernel} at {size}×{size}, {} kernels", Engine::new().isa().name());
    println!("| s | 1 | 4 | 8 | 16 | 32 |\n|---|---|---|---|---|---|");
    for (s, cells) in &rows {
        println!("| {s} | {} |", cells.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    for (g, pattern) in gone.iter().zip(&patterns) {
        println!("pattern 4 of 9, {:.0} % of the kernels gone: {}", 100.0 * g, cell(pattern));
    }
    Ok(())
}
