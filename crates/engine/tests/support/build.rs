//! Models made node by node.

use graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use graph::{Facts, Graph, InputShapes, Model, Tensor};

use super::Random;

/// A model under construction; values are names.
pub struct Builder {
    pub model: Model,
    pub random: Random,
    names: usize,
}

impl Builder {
    pub fn new(seed: u64) -> Self {
        let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
        let graph = GraphProto { name: Some("test".into()), ..Default::default() };
        let model = ModelProto { ir_version: Some(8), opset_import: vec![opset], graph: Some(graph), ..Default::default() };
        Self { model: Model::from_proto(model), random: Random::new(seed), names: 0 }
    }

    pub fn input(&mut self, name: &str, shape: &[usize]) -> String {
        self.model.graph_proto_mut().input.push(declare(name, shape));
        name.to_owned()
    }

    pub fn output(&mut self, name: &str) {
        let tensor = type_proto::Tensor { elem_type: Some(1), shape: None };
        let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
        self.model.graph_proto_mut().output.push(ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..Default::default() });
    }

    /// Random inputs in the shapes of the model, by name.
    pub fn inputs(&mut self) -> Vec<(String, Vec<f32>)> {
        let graph = Graph::new(&self.model).unwrap();
        let names: Vec<String> = graph.inputs.iter().map(|&v| graph.value(v).name.clone()).collect();
        let sizes: Vec<usize> = names.iter().map(|n| self.shape(n).iter().product()).collect();
        names.into_iter().zip(sizes).map(|(n, len)| (n, self.random.floats(len))).collect()
    }

    pub fn shape(&self, value: &str) -> Vec<usize> {
        let graph = Graph::new(&self.model).unwrap();
        let facts = Facts::infer(&self.model, &graph, &InputShapes::batch(1)).unwrap();
        facts.shape(graph.find(value).unwrap()).unwrap().to_vec()
    }

    pub fn tensor(&mut self, shape: &[usize], center: f32, spread: f32) -> String {
        let values = self.random.floats(shape.iter().product()).into_iter().map(|v| center + spread * v).collect();
        self.stored(&Tensor::f32(shape, values))
    }

    pub fn stored(&mut self, tensor: &Tensor) -> String {
        let name = self.fresh("t");
        self.model.add_initializer(&name, tensor);
        name
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.nodes(op, inputs, attributes, 1).remove(0)
    }

    /// A node of several results.
    pub fn nodes(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, results: usize) -> Vec<String> {
        let name = self.fresh(&op.to_lowercase());
        let output: Vec<String> = (0..results).map(|k| if k == 0 { name.clone() } else { format!("{name}.{k}") }).collect();
        self.model.graph_proto_mut().node.push(NodeProto {
            name: Some(name),
            op_type: Some(op.into()),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: output.clone(),
            attribute: attributes,
            ..Default::default()
        });
        output
    }

    /// A convolution; `zeros` of 16 units of `block` filters × 1 channel × 1 position are zero.
    #[allow(clippy::too_many_arguments)]
    pub fn conv(
        &mut self,
        x: &str,
        filters: usize,
        k: usize,
        stride: usize,
        pad: usize,
        group: usize,
        zeros: usize,
        block: usize,
    ) -> String {
        let channels = self.shape(x)[1] / group;
        let bound = (3.0 / (channels * k * k) as f32).sqrt();
        let mut w: Vec<f32> = self.random.floats(filters * channels * k * k).into_iter().map(|v| v * bound).collect();
        for first in (0..filters).step_by(block) {
            for unit in 0..channels * k * k {
                if self.random.below(16) < zeros {
                    (first..(first + block).min(filters)).for_each(|f| w[f * channels * k * k + unit] = 0.0);
                }
            }
        }
        let w = self.stored(&Tensor::f32([filters, channels, k, k], w));
        let mut inputs = vec![x.to_owned(), w];
        if !self.random.one_in(4) {
            inputs.push(self.tensor(&[filters], 0.0, 0.5));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let (k, s, p) = (k as i64, stride as i64, pad as i64);
        self.node(
            "Conv",
            &inputs,
            vec![ints("kernel_shape", &[k, k]), ints("strides", &[s, s]), ints("pads", &[p; 4]), int("group", group as i64)],
        )
    }

    /// A convolution over rows and columns or a sequence, of odd kernels with `dilation`, that keeps the size.
    pub fn dilated(&mut self, x: &str, filters: usize, kernel: &[usize], dilation: usize) -> String {
        let shape = [&[filters, self.shape(x)[1]][..], kernel].concat();
        let w = self.tensor(&shape, 0.0, (3.0 / shape[1..].iter().product::<usize>() as f32).sqrt());
        let pads: Vec<i64> = kernel.iter().chain(kernel).map(|k| (dilation * (k - 1) / 2) as i64).collect();
        self.node("Conv", &[x, &w], vec![ints("dilations", &vec![dilation as i64; kernel.len()]), ints("pads", &pads)])
    }

    pub fn normalization(&mut self, x: &str) -> String {
        let c = self.shape(x)[1];
        let parts: Vec<String> = [1.0, 0.0, 0.0, 1.0].into_iter().map(|center| self.tensor(&[c], center, 0.5)).collect();
        self.node("BatchNormalization", &[x, &parts[0], &parts[1], &parts[2], &parts[3]], vec![])
    }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(i), ..Default::default() }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Float as i32), f: Some(f), ..Default::default() }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints: values.to_vec(), ..Default::default() }
}

pub fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::String as i32),
        s: Some(s.to_owned().into()),
        ..Default::default()
    }
}

fn declare(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }) };
    let r#type = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    ValueInfoProto { name: Some(name.into()), r#type: Some(r#type), ..Default::default() }
}
