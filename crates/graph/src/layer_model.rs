//! One layer as a model of its own, to measure what it costs at other widths.

use crate::coupling::layer_axes;
use crate::error::Result;
use crate::facts::Facts;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::model::Model;
use crate::ops::{Binary, Conv, Op, Unary, Window};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use crate::tensor::Tensor;

/// The layer at `node` with `in_width` input and `out_width` output channels, as a self-contained model: the spatial shape
/// and the batch of the facts, seeded random weights, names and attributes in one canonical form, so that layers of equal
/// shape give equal bytes.
///
/// With `epilogue`, what a runtime fuses into the layer comes along: `BatchNormalization`, per-channel scales and shifts, an
/// activation, and the residual addition (as a second input) where this layer is the later of its operands, with the
/// activation after it.
///
/// Widths of a grouped convolution scale the number of partitions where those are pruned (depthwise: both widths go
/// together), and the partitions themselves otherwise.
///
/// # Errors
/// `node` is no layer with a stored weight, its shapes are not known, a width is 0, or the widths do not fit its groups.
pub fn layer_model(
    model: &Model,
    graph: &Graph,
    facts: &Facts,
    node: NodeId,
    in_width: usize,
    out_width: usize,
    epilogue: bool,
) -> Result<Model> {
    let node = graph.node(node);
    let rank = |v: ValueId| facts.shape(v).map_or(0, <[usize]>::len);
    let Some(((x, x_axis), (y, y_axis))) = layer_axes(graph, node.id, rank) else {
        return Err(node.error("it is no layer with a stored weight"));
    };
    let weight = node.input(1).ok_or_else(|| node.error("it has no weight"))?;
    let (Some(input), Some(output), Some(w)) = (facts.get(x), facts.get(y), facts.shape(weight)) else {
        return Err(node.error("its shapes are not known"));
    };
    if in_width == 0 || out_width == 0 {
        return Err(node.error("a layer of width 0"));
    }
    let mut shape = input.shape.clone();
    shape[x_axis] = in_width;
    let mut b = Builder {
        graph: GraphProto::default(),
        dtype: input.dtype,
        seed: 0,
        last: String::new(),
        wide: output.shape[y_axis],
        narrow: out_width,
        axis: y_axis,
    };
    let bias = node.input(2).is_some();
    match &node.op {
        Op::Conv(conv) => {
            let (inputs, outputs) = (w[1], w[0] / conv.group);
            let group = groups(node, conv.group, inputs, outputs, in_width, out_width)?;
            b.parameter("weight", [&[out_width, in_width / group], &w[2..]].concat(), fan(in_width / group, &w[2..]));
            let pads = conv.window.resolve_pads(&input.shape[2..], &w[2..]);
            b.layer("Conv", bias, window(&conv.window, group, &w[2..], &pads));
        }
        Op::ConvTranspose(conv) => {
            let group = groups(node, conv.group, w[0] / conv.group, w[1], in_width, out_width)?;
            b.parameter("weight", [&[in_width, out_width / group], &w[2..]].concat(), fan(in_width / group, &w[2..]));
            let pads: Vec<(usize, usize)> = (0..w.len() - 2).map(|d| conv.axis(d, input.shape[d + 2], w[d + 2]).1).collect();
            let mut attributes = window(&conv.window, group, &w[2..], &pads);
            if !conv.output_padding.is_empty() {
                attributes.push(ints("output_padding", &conv.output_padding));
            }
            b.layer("ConvTranspose", bias, attributes);
        }
        Op::Gemm(_) => {
            // However the file stores it: one row per output.
            shape = vec![input.shape[1 - x_axis], in_width];
            b.parameter("weight", vec![out_width, in_width], fan(in_width, &[]));
            b.layer("Gemm", bias, vec![int("transB", 1)]);
        }
        _ => {
            b.parameter("weight", vec![in_width, out_width], fan(in_width, &[]));
            b.layer("MatMul", false, Vec::new());
        }
    }
    b.graph.input.push(declare("input", b.dtype, &shape));
    let last = if epilogue { b.epilogue(model, graph, facts, y)? } else { y };
    let shape = b.resize(facts.shape(last).unwrap_or(&output.shape));
    b.graph.output.push(declare(&b.last, b.dtype, &shape));
    b.graph.name = Some("layer".into());
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(model.opset()) };
    let ir = model.proto().ir_version().max(4);
    Ok(Model::from_proto(ModelProto { ir_version: Some(ir), opset_import: vec![opset], graph: Some(b.graph), ..Default::default() }))
}

/// The number of partitions at these widths.
fn groups(node: &Node, group: usize, inputs: usize, outputs: usize, in_width: usize, out_width: usize) -> Result<usize> {
    let wrong =
        || node.error(format!("widths {in_width} and {out_width} do not fit its {group} groups of {inputs} inputs and {outputs} outputs"));
    if Conv::by_partition(group, inputs, outputs) {
        let partitions = in_width / inputs;
        return if partitions * inputs == in_width && partitions * outputs == out_width { Ok(partitions) } else { Err(wrong()) };
    }
    if in_width.is_multiple_of(group) && out_width.is_multiple_of(group) { Ok(group) } else { Err(wrong()) }
}

fn fan(channels: usize, kernel: &[usize]) -> f32 {
    (3.0 / (channels * kernel.iter().product::<usize>()).max(1) as f32).sqrt()
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(i), ..Default::default() }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| v as i64).collect();
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints, ..Default::default() }
}

/// A window's attributes, every default written out.
fn window(w: &Window, group: usize, kernel: &[usize], pads: &[(usize, usize)]) -> Vec<AttributeProto> {
    let axes = 0..kernel.len();
    let starts_then_ends: Vec<usize> = pads.iter().map(|p| p.0).chain(pads.iter().map(|p| p.1)).collect();
    vec![
        ints("dilations", &axes.clone().map(|d| w.dilation(d)).collect::<Vec<_>>()),
        int("group", group as i64),
        ints("kernel_shape", kernel),
        ints("pads", &starts_then_ends),
        ints("strides", &axes.map(|d| w.stride(d)).collect::<Vec<_>>()),
    ]
}

fn declare(name: &str, dtype: DataType, shape: &[usize]) -> ValueInfoProto {
    let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
    let tensor =
        type_proto::Tensor { elem_type: Some(dtype as i32), shape: Some(TensorShapeProto { dim: shape.iter().map(dim).collect() }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

struct Builder {
    graph: GraphProto,
    dtype: DataType,
    seed: u64,
    /// The value computed last.
    last: String,
    /// Output width in the model, and here.
    wide: usize,
    narrow: usize,
    /// The output's channel axis.
    axis: usize,
}

impl Builder {
    /// Uniform in [-bound, bound), from a fixed seed.
    fn parameter(&mut self, name: &str, shape: Vec<usize>, bound: f32) {
        self.random(name, shape, 0.0, bound);
    }

    fn random(&mut self, name: &str, shape: Vec<usize>, center: f32, bound: f32) {
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

    fn layer(&mut self, op: &str, bias: bool, attribute: Vec<AttributeProto>) {
        let mut input = vec!["input".to_owned(), "weight".to_owned()];
        if bias {
            self.parameter("bias", vec![self.narrow], 0.1);
            input.push("bias".into());
        }
        self.push(op, input, attribute);
    }

    fn push(&mut self, op: &str, input: Vec<String>, attribute: Vec<AttributeProto>) {
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

    /// A shape of the model with this layer's width.
    fn resize(&self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if shape.get(self.axis) == Some(&self.wide) {
            shape[self.axis] = self.narrow;
        }
        shape
    }

    /// Follows the readers of `value` as long as a runtime would fuse them; returns the value computed last.
    fn epilogue(&mut self, model: &Model, graph: &Graph, facts: &Facts, mut value: ValueId) -> Result<ValueId> {
        let mut added = false;
        loop {
            let v = graph.value(value);
            let readers = v.consumers.as_slice();
            if v.is_output {
                return Ok(value);
            }
            let (node, slot) = match readers {
                [one] => *one,
                // x·sigmoid(x) reads x twice.
                [a, b] => match gate(graph, value, a.0, b.0) {
                    Some(product) => {
                        let x = self.last.clone();
                        self.push("Sigmoid", vec![x.clone()], Vec::new());
                        let s = self.last.clone();
                        self.push("Mul", vec![x, s], Vec::new());
                        return Ok(product);
                    }
                    None => return Ok(value),
                },
                _ => return Ok(value),
            };
            let node = graph.node(node);
            let Some(out) = node.output(0).filter(|&o| facts.shape(o) == facts.shape(value)) else { return Ok(value) };
            let here = self.last.clone();
            let attributes = || model.graph_proto().node[node.position].attribute.clone();
            match &node.op {
                Op::BatchNormalization(bn) if slot == 0 => {
                    let mut input = vec![here];
                    for (name, center) in [("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("var", 1.0)] {
                        let name = format!("{name}{}", self.graph.node.len());
                        self.random(&name, vec![self.narrow], center, 0.5);
                        input.push(name);
                    }
                    let epsilon = AttributeProto {
                        name: Some("epsilon".into()),
                        r#type: Some(AttributeType::Float as i32),
                        f: Some(bn.epsilon),
                        ..Default::default()
                    };
                    self.push("BatchNormalization", input, vec![epsilon]);
                }
                Op::Unary(u) if !matches!(u, Unary::Cast { .. } | Unary::Dropout { .. }) => {
                    let mut input = vec![here];
                    for other in node.inputs.iter().skip(1) {
                        let Some(tensor) = other.and_then(|o| facts.constant(o)) else {
                            if other.is_some() {
                                return Ok(value);
                            }
                            input.push(String::new());
                            continue;
                        };
                        let name = format!("bound{}_{}", self.graph.node.len(), input.len());
                        self.graph.initializer.push(tensor.encode(&name));
                        input.push(name);
                    }
                    self.push(u.name(), input, attributes());
                }
                Op::Binary(op @ (Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::PRelu | Binary::Sum))
                    if node.inputs.len() == 2 =>
                {
                    let Some(other) = node.input(1 - slot) else { return Ok(value) };
                    let name = format!("operand{}", self.graph.node.len());
                    if let Some(constant) = facts.constant(other).filter(|_| graph.is_stored(other)) {
                        let skip = facts.shape(value).map_or(0, <[usize]>::len).saturating_sub(constant.shape.len());
                        let mut shape = constant.shape.clone();
                        if let Some(own) = self.axis.checked_sub(skip).filter(|&o| shape.get(o) == Some(&self.wide)) {
                            shape[own] = self.narrow;
                        }
                        self.random(&name, shape, 1.0, 0.5);
                    } else {
                        // A residual belongs to the layer that runs last.
                        let earlier = graph.producer(other).is_none_or(|p| graph.producer(value).is_some_and(|own| p.id < own.id));
                        let same = facts.shape(other) == facts.shape(value);
                        if added || !earlier || !same || !matches!(op, Binary::Add | Binary::Sum) {
                            return Ok(value);
                        }
                        added = true;
                        let shape = self.resize(facts.shape(other).unwrap_or_default());
                        let declared = declare(&name, self.dtype, &shape);
                        self.graph.input.push(declared);
                    }
                    let input = if slot == 0 { vec![here, name] } else { vec![name, here] };
                    self.push(op.name(), input, attributes());
                }
                _ => return Ok(value),
            }
            value = out;
        }
    }
}

/// The product of `value` with its own sigmoid, where `a` and `b` are the sigmoid and the multiplication.
fn gate(graph: &Graph, value: ValueId, a: NodeId, b: NodeId) -> Option<ValueId> {
    let (sigmoid, product) = (graph.node(a.min(b)), graph.node(a.max(b)));
    let s = sigmoid.output(0).filter(|_| matches!(sigmoid.op, Op::Unary(Unary::Sigmoid)))?;
    let multiplies =
        matches!(product.op, Op::Binary(Binary::Mul)) && product.inputs.contains(&Some(s)) && product.inputs.contains(&Some(value));
    (multiplies && graph.value(s).consumers.len() == 1).then(|| product.output(0)).flatten()
}
