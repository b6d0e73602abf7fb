//! A residual network for 32×32 colour images, as an exporter would write it, with random weights.

use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use graph::{Model, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Stages of `blocks` basic blocks at the given widths, the resolution halved between stages; shortcuts of a new width are
/// strided 1×1 convolutions. He initialisation from `seed`.
pub fn residual_network(widths: &[usize], blocks: usize, classes: usize, seed: u64) -> Model {
    let mut b = Builder { graph: GraphProto { name: Some("residual".into()), ..Default::default() }, rng: ChaCha8Rng::seed_from_u64(seed) };
    b.graph.input = vec![info("input", &[None, Some(3), Some(32), Some(32)])];
    b.graph.output = vec![info("logits", &[None, Some(classes)])];
    let mut width = widths[0];
    let stem = b.conv_bn("stem", "input", 3, width, 3, 1);
    let mut x = b.node("Relu", "stem/relu", &[&stem], vec![]);
    for (s, &w) in widths.iter().enumerate() {
        for k in 0..blocks {
            let name = format!("stage{}.{k}", s + 1);
            let stride = if s > 0 && k == 0 { 2 } else { 1 };
            let first = b.conv_bn(&format!("{name}/conv1"), &x, width, w, 3, stride);
            let active = b.node("Relu", &format!("{name}/relu1"), &[&first], vec![]);
            let second = b.conv_bn(&format!("{name}/conv2"), &active, w, w, 3, 1);
            let shortcut =
                if stride == 1 && width == w { x.clone() } else { b.conv_bn(&format!("{name}/shortcut"), &x, width, w, 1, stride) };
            let sum = b.node("Add", &format!("{name}/add"), &[&second, &shortcut], vec![]);
            x = b.node("Relu", &format!("{name}/relu2"), &[&sum], vec![]);
            width = w;
        }
    }
    let pooled = b.node("GlobalAveragePool", "pool", &[&x], vec![]);
    let flat = b.node("Flatten", "flatten", &[&pooled], vec![int("axis", 1)]);
    b.weight("classifier.weight", vec![classes, width], width);
    b.parameter("classifier.bias", vec![0.0; classes]);
    b.push("Gemm", "classifier", &[&flat, "classifier.weight", "classifier.bias"], "logits", vec![int("transB", 1)]);
    Model::from_proto(ModelProto {
        ir_version: Some(8),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(17) }],
        producer_name: Some("secateur".into()),
        graph: Some(b.graph),
        ..Default::default()
    })
}

struct Builder {
    graph: GraphProto,
    rng: ChaCha8Rng,
}

impl Builder {
    fn push(&mut self, op: &str, name: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.graph.node.push(NodeProto {
            op_type: Some(op.into()),
            name: Some(name.into()),
            input: inputs.iter().map(|s| (*s).to_owned()).collect(),
            output: vec![output.into()],
            attribute,
            ..Default::default()
        });
    }

    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        let output = format!("{name}_output");
        self.push(op, name, inputs, &output, attribute);
        output
    }

    fn parameter(&mut self, name: &str, values: Vec<f32>) {
        self.graph.initializer.push(Tensor::f32([values.len()], values).encode(name));
    }

    /// Normal numbers of variance 2 / fan-in.
    fn weight(&mut self, name: &str, shape: Vec<usize>, fan_in: usize) {
        let deviation = (2.0 / fan_in as f32).sqrt();
        let count = shape.iter().product();
        let mut normal = || {
            let (u, v): (f32, f32) = (self.rng.random_range(1e-7..1.0), self.rng.random());
            (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
        };
        let values: Vec<f32> = (0..count).map(|_| deviation * normal()).collect();
        self.graph.initializer.push(Tensor::f32(shape, values).encode(name));
    }

    fn conv_bn(&mut self, name: &str, input: &str, from: usize, to: usize, kernel: usize, stride: usize) -> String {
        let (weight, pad) = (format!("{name}.weight"), (kernel / 2) as i64);
        self.weight(&weight, vec![to, from, kernel, kernel], from * kernel * kernel);
        let (k, s) = (kernel as i64, stride as i64);
        let attributes = vec![ints("kernel_shape", vec![k, k]), ints("pads", vec![pad; 4]), ints("strides", vec![s, s])];
        let y = self.node("Conv", name, &[input, &weight], attributes);
        for (part, value) in [("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)] {
            self.parameter(&format!("{name}.bn.{part}"), vec![value; to]);
        }
        let vectors = ["scale", "shift", "mean", "variance"].map(|p| format!("{name}.bn.{p}"));
        self.node("BatchNormalization", &format!("{name}/bn"), &[&y, &vectors[0], &vectors[1], &vectors[2], &vectors[3]], vec![])
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(value), ..Default::default() }
}

fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints: values, ..Default::default() }
}

fn info(name: &str, shape: &[Option<usize>]) -> ValueInfoProto {
    let dim = |d: &Option<usize>| Dimension {
        value: Some(match d {
            Some(n) => dimension::Value::DimValue(*n as i64),
            None => dimension::Value::DimParam("batch".into()),
        }),
        ..Default::default()
    };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}
