//! Nodes, parameters and declarations of a model made to be timed.

use crate::model::Model;
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use crate::tensor::Tensor;

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(i), ..Default::default() }
}

pub(super) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| v as i64).collect();
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints, ..Default::default() }
}

pub(super) fn declare(name: &str, dtype: DataType, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let tensor =
        type_proto::Tensor { elem_type: Some(dtype as i32), shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

pub(super) struct Builder {
    pub(super) graph: GraphProto,
    pub(super) dtype: DataType,
    pub(super) seed: u64,
    /// The value computed last.
    pub(super) last: String,
    /// Output width in the model, and here.
    pub(super) wide: usize,
    pub(super) narrow: usize,
    /// The output's channel axis.
    pub(super) axis: usize,
}

impl Builder {
    /// Uniform in [-bound, bound), from a fixed seed.
    pub(super) fn parameter(&mut self, name: &str, shape: Vec<usize>, bound: f32) {
        self.random(name, shape, 0.0, bound);
    }

    pub(super) fn random(&mut self, name: &str, shape: Vec<usize>, center: f32, bound: f32) {
        let mut values = Vec::with_capacity(shape.iter().product());
        for _ in 0..shape.iter().product::<usize>() {
            // SplitMix64.
            self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            values.push(center + bound * (((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0));
        }
        let data = match self.dtype {
            DataType::Float16 => crate::Data::F16(values.into_iter().map(half::f16::from_f32).collect()),
            DataType::Bfloat16 => crate::Data::BF16(values.into_iter().map(half::bf16::from_f32).collect()),
            DataType::Double => crate::Data::F64(values.into_iter().map(f64::from).collect()),
            _ => crate::Data::F32(values),
        };
        self.graph.initializer.push(Tensor::new(shape, data).encode(name));
    }

    pub(super) fn layer(&mut self, op: &str, bias: bool, attribute: Vec<AttributeProto>) {
        let mut input = vec!["input".to_owned(), "weight".to_owned()];
        if bias {
            self.parameter("bias", vec![self.narrow], 0.1);
            input.push("bias".into());
        }
        self.push(op, input, attribute);
    }

    pub(super) fn push(&mut self, op: &str, input: Vec<String>, attribute: Vec<AttributeProto>) {
        let output = format!("y{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            name: Some(format!("{op}{}", self.graph.node.len())),
            op_type: Some(op.into()),
            input,
            output: vec![output.clone()],
            attribute,
            ..Default::default()
        });
        self.last = output;
    }

    /// An initializer of the given value.
    pub(super) fn stored(&mut self, name: &str, tensor: &Tensor) {
        self.graph.initializer.push(tensor.encode(name));
    }

    /// The model, in the operator set of `of`, with `output` declared for what was computed last.
    pub(super) fn finish(mut self, of: &Model, name: &str, output: &[usize]) -> Model {
        self.graph.output.push(declare(&self.last, self.dtype, output));
        self.graph.name = Some(name.into());
        let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(of.opset()) };
        let ir = of.proto().ir_version().max(4);
        Model::from_proto(ModelProto { ir_version: Some(ir), opset_import: vec![opset], graph: Some(self.graph), ..Default::default() })
    }
}
