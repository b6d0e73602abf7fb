//! Keys: the operator graph without weights, shapes, types, machine, runtime, protocol, mode.

use std::collections::{HashMap, HashSet};

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, tensor_shape_proto::dimension, type_proto,
};

use crate::error::Error;
use crate::machine::Machine;
use crate::model::{InputSpec, ModelBytes};
use crate::protocol::Protocol;
use crate::runtime::RuntimeIdentity;

/// Version of the hash; a change of it makes old keys unreachable.
const KEY_VERSION: u32 = 1;

impl ModelBytes {
    /// [`structure_key`] of the file together with the input shapes and types.
    ///
    /// # Errors
    /// [`Error::NotOnnx`].
    pub fn structure_key(&self) -> Result<String, Error> {
        self.key(false)
    }

    /// [`ModelBytes::structure_key`] together with where weights are zero, for runtimes that gain time from that. Without zeros
    /// it is the same key.
    ///
    /// # Errors
    /// [`Error::NotOnnx`].
    pub fn sparsity_key(&self) -> Result<String, Error> {
        self.key(true)
    }

    fn key(&self, sparsity: bool) -> Result<String, Error> {
        let graph = structure(&self.onnx, sparsity).map_err(|cause| Error::NotOnnx { model: self.name.clone(), cause })?;
        let shapes: Vec<_> = self.inputs.iter().map(|i| (&i.shape, i.dtype)).collect();
        Ok(short(format!("{graph} {shapes:?}").as_bytes()))
    }
}

/// The inputs of an ONNX file that are not initializers, with free dimensions bound to `free`.
///
/// # Errors
/// [`Error::NotOnnx`], [`Error::InputMismatch`] for an input that is not a tensor of a type this
/// crate has, or has no shape.
pub fn read_inputs(name: &str, onnx: &[u8], free: usize) -> Result<Vec<InputSpec>, Error> {
    let model = ModelProto::decode(onnx).map_err(|e| Error::NotOnnx { model: name.to_string(), cause: e.to_string() })?;
    let graph = model.graph.ok_or_else(|| Error::NotOnnx { model: name.to_string(), cause: "it has no graph".into() })?;
    let constant: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph
        .input
        .iter()
        .filter(|input| !constant.contains(input.name.as_str()))
        .map(|input| {
            let mismatch = |cause: &str| Error::InputMismatch { model: name.to_string(), cause: format!("input `{}` {cause}", input.name) };
            let tensor = tensor_type(input.r#type.as_ref()).ok_or_else(|| mismatch("is no tensor"))?;
            let dtype = crate::model::ElementType::from_onnx(tensor.elem_type)
                .ok_or_else(|| mismatch("has an element type that cannot be measured"))?;
            let shape = tensor.shape.as_ref().ok_or_else(|| mismatch("has no shape"))?;
            let shape = shape
                .dim
                .iter()
                .map(|d| match &d.value {
                    Some(dimension::Value::DimValue(v)) if *v > 0 => usize::try_from(*v).unwrap_or(free),
                    _ => free,
                })
                .collect();
            Ok(InputSpec { name: input.name.clone(), shape, dtype })
        })
        .collect()
}

fn tensor_type(ty: Option<&TypeProto>) -> Option<&type_proto::Tensor> {
    match ty?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor),
    }
}

/// Hash of an ONNX file's operator graph: operators, attributes, connections, shapes and types of
/// weights and inputs, but neither the weights' values nor any name. Equal layers share a key.
///
/// Values that decide shapes or work (integers, `Resize` scales, `Clip` bounds …) do count. So does
/// whether weights hold denormal numbers or are mostly zero, because both can change the time.
///
/// # Errors
/// What the decoder says, as text.
pub fn structure_key(onnx: &[u8]) -> Result<String, String> {
    structure(onnx, false)
}

fn structure(onnx: &[u8], sparsity: bool) -> Result<String, String> {
    let model = ModelProto::decode(onnx).map_err(|e| e.to_string())?;
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let mut hash = Structure { out: Vec::new(), names: HashMap::new(), sparsity };
    hash.text(&format!("structure {KEY_VERSION}"));
    let mut opsets: Vec<_> = model.opset_import.iter().map(|o| (&o.domain, o.version)).collect();
    opsets.sort();
    hash.text(&format!("{opsets:?}"));
    hash.graph(graph);
    Ok(short(&hash.out))
}

/// The key of a measurement in a latency table.
pub fn table_key(structure: &str, machine: &Machine, runtime: &RuntimeIdentity, protocol: &Protocol) -> String {
    let parts = (structure, machine.identity(), runtime, protocol.version, protocol.mode, protocol.cache);
    short(serde_json::to_string(&parts).unwrap_or_default().as_bytes())
}

fn short(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..32].to_string()
}

/// Operators whose constant inputs decide shapes or the amount of work.
const VALUES_MATTER: [&str; 14] = [
    "Clip",
    "ConstantOfShape",
    "Expand",
    "NonMaxSuppression",
    "OneHot",
    "Pad",
    "Pow",
    "Range",
    "Resize",
    "Slice",
    "Split",
    "Tile",
    "TopK",
    "Upsample",
];

/// Operators whose 32-bit integer constants are weights.
const INTEGER_WEIGHTS: [&str; 4] = ["ConvInteger", "DequantizeLinear", "QLinearConv", "QLinearMatMul"];

struct Structure {
    out: Vec<u8>,
    /// Canonical numbers of value names, by first appearance.
    names: HashMap<String, usize>,
    /// Whether it counts which weights are zero.
    sparsity: bool,
}

impl Structure {
    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// The number of a value's name; true where it is new.
    fn value(&mut self, name: &str) -> bool {
        let next = self.names.len() + 1;
        let new = !name.is_empty() && !self.names.contains_key(name);
        let number = match name {
            "" => 0,
            name => *self.names.entry(name.to_string()).or_insert(next),
        };
        self.number(number as u64);
        new
    }

    fn graph(&mut self, graph: &GraphProto) {
        let constants: HashMap<&str, &TensorProto> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let mut consumers: HashMap<&str, Vec<&str>> = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                consumers.entry(input).or_default().push(&node.op_type);
            }
        }
        self.text("inputs");
        for input in graph.input.iter().filter(|i| !constants.contains_key(i.name.as_str())) {
            self.declaration(input);
        }
        for node in &graph.node {
            self.node(node, &constants, &consumers);
        }
        self.text("outputs");
        for output in &graph.output {
            self.value(&output.name);
        }
        for sparse in &graph.sparse_initializer {
            self.text(&format!("sparse {:?}", sparse.dims));
        }
    }

    fn declaration(&mut self, input: &ValueInfoProto) {
        self.value(&input.name);
        let Some(tensor) = tensor_type(input.r#type.as_ref()) else {
            return self.text("no tensor");
        };
        self.number(tensor.elem_type as u64);
        for dim in tensor.shape.iter().flat_map(|s| &s.dim) {
            match &dim.value {
                Some(dimension::Value::DimValue(v)) => self.number(*v as u64),
                _ => self.text("free"),
            }
        }
    }

    fn node(&mut self, node: &NodeProto, constants: &HashMap<&str, &TensorProto>, consumers: &HashMap<&str, Vec<&str>>) {
        self.text(&node.op_type);
        self.text(if node.domain == "ai.onnx" { "" } else { &node.domain });
        for input in &node.input {
            if self.value(input)
                && let Some(tensor) = constants.get(input.as_str())
            {
                self.tensor(tensor, consumers.get(input.as_str()).map_or(&[], Vec::as_slice));
            }
        }
        self.text("gives");
        for output in &node.output {
            self.value(output);
        }
        let users: Vec<&str> = match node.op_type.as_str() {
            "Constant" => node.output.first().and_then(|o| consumers.get(o.as_str()).cloned()).unwrap_or_default(),
            // A tensor in an attribute of any other operator is a parameter of that operator.
            _ => vec!["Clip"],
        };
        let mut attributes: Vec<&AttributeProto> = node.attribute.iter().collect();
        attributes.sort_by(|a, b| a.name.cmp(&b.name));
        for attribute in attributes {
            self.attribute(attribute, &users);
        }
    }

    fn attribute(&mut self, a: &AttributeProto, users: &[&str]) {
        self.text(&a.name);
        self.number(a.r#type as u64);
        self.number(u64::from(a.f.to_bits()));
        self.number(a.i as u64);
        self.out.extend_from_slice(&(a.s.len() as u64).to_le_bytes());
        self.out.extend_from_slice(&a.s);
        self.text(&format!("{:?} {:?} {:?}", a.floats, a.ints, a.strings));
        for tensor in a.t.iter().chain(&a.tensors) {
            self.tensor(tensor, users);
        }
        for graph in a.g.iter().chain(&a.graphs) {
            self.graph(graph);
        }
    }

    fn tensor(&mut self, tensor: &TensorProto, users: &[&str]) {
        self.text(&format!("tensor {} {:?}", tensor.data_type, tensor.dims));
        let is_weight = match tensor.data_type {
            // f32, u8, i8, f16, f64, bf16
            1 | 2 | 3 | 10 | 11 | 16 => !users.iter().any(|u| VALUES_MATTER.contains(u)),
            6 => users.iter().all(|u| INTEGER_WEIGHTS.contains(u)) && !users.is_empty(),
            _ => false,
        };
        if is_weight {
            let (denormal, zeros) = peculiarities(tensor);
            if denormal {
                self.text("denormals");
            }
            if zeros {
                self.text("mostly zero");
            }
            if self.sparsity
                && let Some(pattern) = zeros_of(tensor)
            {
                self.text(&pattern);
            }
            return;
        }
        self.out.extend_from_slice(&tensor.raw_data);
        self.text(&format!(
            "{:?} {:?} {:?} {:?} {:?}",
            tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data
        ));
    }
}

/// Hash of which weights are zero; `None` where none is, and for a few weights such as a bias.
fn zeros_of(tensor: &TensorProto) -> Option<String> {
    // f32, then u8 and i8, f16 and bf16, f64.
    let bytes = match tensor.data_type {
        1 => 4,
        2 | 3 => 1,
        10 | 16 => 2,
        11 => 8,
        _ => return None,
    };
    let raw = tensor
        .raw_data
        .chunks_exact(bytes)
        .map(|e| if bytes == 4 { e[..3] == [0; 3] && e[3] & 0x7f == 0 } else { e.iter().all(|&b| b == 0) });
    let float = tensor.float_data.iter().map(|&x| x == 0.0);
    let zeros: Vec<u8> = raw.chain(float).map(u8::from).chain(tensor.double_data.iter().map(|&x| u8::from(x == 0.0))).collect();
    (zeros.len() >= FEW && zeros.contains(&1)).then(|| format!("zeros {}", short(&zeros)))
}

/// Fewer weights than this, such as a bias of zeros, say nothing about the work.
const FEW: usize = 64;

/// Whether `f32` weights hold denormals, and whether more than half of them are zero.
fn peculiarities(tensor: &TensorProto) -> (bool, bool) {
    if tensor.data_type != 1 {
        return (false, false);
    }
    let raw = tensor.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (mut n, mut zeros, mut denormal) = (0usize, 0usize, false);
    for x in raw.chain(tensor.float_data.iter().copied()) {
        n += 1;
        zeros += usize::from(x == 0.0);
        denormal |= x.is_subnormal();
    }
    (denormal, n >= FEW && zeros * 2 > n)
}
