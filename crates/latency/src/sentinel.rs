//! The fixed model that runs in every round.

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

use crate::model::{InputSpec, ModelBytes};

/// Two 3×3 convolutions of 32 channels on 16×16 pixels with a ReLU between: a few tenths of a
/// millisecond on one core, long enough to time and short enough to run in every round.
pub fn sentinel_model() -> ModelBytes {
    let (channels, side) = (32usize, 16usize);
    let shape = vec![1, channels, side, side];
    let graph = GraphProto {
        name: "sentinel".into(),
        node: vec![convolution("x", "w1", "a"), node("Relu", &["a"], "b", Vec::new()), convolution("b", "w2", "y")],
        initializer: vec![weights("w1", channels, 1), weights("w2", channels, 2)],
        input: vec![value("x", &shape)],
        output: vec![value("y", &shape)],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        producer_name: "secateur".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    ModelBytes::new("sentinel", model.encode_to_vec(), vec![InputSpec::f32("x", shape)])
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    }
}

fn convolution(x: &str, w: &str, y: &str) -> NodeProto {
    let ints = |name: &str, ints: Vec<i64>| AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints,
        ..AttributeProto::default()
    };
    node("Conv", &[x, w], y, vec![ints("kernel_shape", vec![3, 3]), ints("pads", vec![1; 4])])
}

/// Small, never denormal, alternating weights.
fn weights(name: &str, channels: usize, phase: usize) -> TensorProto {
    let n = channels * channels * 9;
    let value = |i: usize| (((i * 7 + phase) % 11) as f32 - 5.0) * 0.01 + 0.001;
    TensorProto {
        name: name.into(),
        data_type: 1,
        dims: vec![channels as i64, channels as i64, 3, 3],
        raw_data: (0..n).flat_map(|i| value(i).to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = shape.iter().map(|d| Dimension { value: Some(dimension::Value::DimValue(*d as i64)), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}
