//! A small residual network as a model: Conv, BatchNormalization, Relu, Add, GlobalAveragePool,
//! Gemm, with weights from a seed.
#![allow(dead_code)]

use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use graph::{Model, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub struct Builder {
    graph: GraphProto,
    rng: ChaCha8Rng,
    count: usize,
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints: values.to_vec(), ..Default::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(value), ..Default::default() }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    let s = Some(value.to_owned().into_bytes().into());
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::String as i32), s, ..Default::default() }
}

pub fn value(name: &str, shape: &[i64]) -> ValueInfoProto {
    let dim = |d: &i64| Dimension {
        value: Some(if *d < 0 { dimension::Value::DimParam("batch".into()) } else { dimension::Value::DimValue(*d) }),
        ..Default::default()
    };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

impl Builder {
    pub fn new(seed: u64) -> Self {
        Self { graph: GraphProto::default(), rng: ChaCha8Rng::seed_from_u64(seed), count: 0 }
    }

    pub fn input(&mut self, name: &str, shape: &[i64]) {
        self.graph.input.push(value(name, shape));
    }

    pub fn output(&mut self, name: &str, shape: &[i64]) {
        self.graph.output.push(value(name, shape));
    }

    pub fn finish(mut self, name: &str) -> Model {
        self.graph.name = Some(name.into());
        Model::from_proto(ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { version: Some(17), ..Default::default() }],
            graph: Some(self.graph),
            ..Default::default()
        })
    }

    pub fn tensor(&mut self, name: &str, shape: &[usize], mut f: impl FnMut(&mut ChaCha8Rng) -> f32) {
        let values = (0..shape.iter().product()).map(|_| f(&mut self.rng)).collect();
        self.graph.initializer.push(Tensor::f32(shape.to_vec(), values).encode(name));
    }

    /// Stores what is not drawn.
    pub fn stored(&mut self, name: &str, tensor: &Tensor) {
        self.graph.initializer.push(tensor.encode(name));
    }

    /// Stores small numbers by their bits in half precision.
    pub fn half(&mut self, name: &str, shape: &[usize], bits: &[u16]) {
        let raw: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            dims: shape.iter().map(|d| *d as i64).collect(),
            data_type: Some(DataType::Float16 as i32),
            raw_data: Some(raw.into()),
            ..Default::default()
        });
    }

    pub fn node(&mut self, op: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let out = format!("v{}", self.count + 1);
        self.node_to(op, inputs, &[&out], attribute);
        out
    }

    /// A node with outputs of given names; an empty one is left out.
    pub fn node_to(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        self.count += 1;
        let names = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        self.graph.node.push(NodeProto {
            op_type: Some(op.into()),
            name: Some(format!("{op}_{}", self.count)),
            input: names(inputs),
            output: names(outputs),
            attribute,
            ..Default::default()
        });
    }

    pub fn conv_bn(&mut self, x: &str, [i, o]: [usize; 2], kernel: usize, stride: i64) -> String {
        let n = self.count;
        let std = (2.0 / (i * kernel * kernel) as f32).sqrt() * 1.7;
        self.tensor(&format!("w{n}"), &[o, i, kernel, kernel], |r| r.random_range(-std..std));
        let pad = kernel as i64 / 2;
        let y = self.node("Conv", &[x, &format!("w{n}")], vec![ints("pads", &[pad; 4]), ints("strides", &[stride; 2])]);
        for (name, v) in [("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("var", 1.0)] {
            self.tensor(&format!("{name}{n}"), &[o], |_| v);
        }
        let names: Vec<String> = ["scale", "shift", "mean", "var"].iter().map(|p| format!("{p}{n}")).collect();
        self.node("BatchNormalization", &[&y, &names[0], &names[1], &names[2], &names[3]], vec![])
    }
}

/// `widths.len()` stages of one block each, halving the image from stage to stage.
pub fn residual(widths: &[usize], side: usize, classes: usize, seed: u64) -> Model {
    let mut b = Builder::new(seed);
    b.input("input", &[-1, 3, side as i64, side as i64]);
    let first = b.conv_bn("input", [3, widths[0]], 3, 1);
    let mut x = b.node("Relu", &[&first], vec![]);
    let mut width = widths[0];
    for (stage, w) in widths.iter().enumerate() {
        let stride = if stage == 0 { 1 } else { 2 };
        let y = b.conv_bn(&x, [width, *w], 3, stride);
        let y = b.node("Relu", &[&y], vec![]);
        let y = b.conv_bn(&y, [*w, *w], 3, 1);
        let short = if stage == 0 { x.clone() } else { b.conv_bn(&x, [width, *w], 1, stride) };
        let sum = b.node("Add", &[&y, &short], vec![]);
        x = b.node("Relu", &[&sum], vec![]);
        width = *w;
    }
    let pooled = b.node("GlobalAveragePool", &[&x], vec![]);
    let flat = b.node("Flatten", &[&pooled], vec![]);
    let std = 1.0 / (width as f32).sqrt();
    b.tensor("fc.weight", &[classes, width], |r| r.random_range(-std..std));
    b.tensor("fc.bias", &[classes], |_| 0.0);
    let logits = b.node("Gemm", &[&flat, "fc.weight", "fc.bias"], vec![int("transB", 1)]);
    b.output(&logits, &[-1, classes as i64]);
    b.finish("residual")
}
