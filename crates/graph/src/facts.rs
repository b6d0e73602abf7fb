//! What is known of every value before running anything: element type, shape, and the value itself where it follows
//! from constants.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Source, ValueId};
use crate::model::Model;
use crate::ops::Op;
use crate::proto::{tensor_proto::DataType, tensor_shape_proto::dimension, type_proto};
use crate::tensor::Tensor;

/// What is known of one value.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Element type.
    pub dtype: DataType,
    /// Concrete dimensions.
    pub shape: Vec<usize>,
    /// The value, where it is stored in the file or follows from stored values and shapes. Large external tensors have none: they
    /// stay on the disk.
    pub constant: Option<Arc<Tensor>>,
}

impl Fact {
    /// A value known by type and shape only.
    pub fn new(dtype: DataType, shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype, shape: shape.into(), constant: None }
    }

    /// A value known completely.
    pub fn constant(tensor: Tensor) -> Self {
        Self { dtype: tensor.data.dtype(), shape: tensor.shape.clone(), constant: Some(Arc::new(tensor)) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Types that numbers to be learnt have.
pub fn is_float(dtype: DataType) -> bool {
    matches!(dtype, DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16)
}

/// Sizes for the dynamic dimensions of the graph's inputs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputShapes {
    /// Size of a dynamic first dimension; 1 where not given.
    pub batch: Option<usize>,
    /// Complete shapes by input name; they win over everything else.
    pub shapes: Vec<(String, Vec<usize>)>,
}

impl InputShapes {
    /// Every dynamic first dimension is `batch`.
    pub fn batch(batch: usize) -> Self {
        Self { batch: Some(batch), shapes: Vec::new() }
    }
}

/// Facts of every value of a graph, for concrete input shapes.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    facts: Vec<Option<Fact>>,
}

impl Facts {
    /// One pass over `graph`. Values behind operators that are not known to this program have no fact.
    ///
    /// # Errors
    /// A dynamic dimension without a size, shapes that do not fit their operator, tensors that do not decode.
    pub fn infer(model: &Model, graph: &Graph, inputs: &InputShapes) -> Result<Self> {
        let mut facts: Vec<Option<Fact>> = vec![None; graph.values.len()];
        for t in model.initializers() {
            if let Some(v) = graph.find(t.name()) {
                if let Some((dtype, shape)) = model.large_external(t) {
                    facts[v.index()] = Some(Fact::new(dtype, shape));
                    continue;
                }
                facts[v.index()] = match model.decode_tensor(t) {
                    Ok(tensor) => Some(Fact::constant(tensor)),
                    Err(e @ Error::ExternalData { .. }) => return Err(e),
                    // An element type that this program does not compute with (strings, 4-bit): frozen, not fatal.
                    Err(_) => None,
                };
            }
        }
        for &v in &graph.inputs {
            facts[v.index()] = input_fact(model, graph, v, inputs)?;
        }
        let declared = declared_types(model);
        let symbols = symbols(model, graph, &facts);
        for node in &graph.nodes {
            let known: Vec<Option<&Fact>> = node.inputs.iter().map(|v| v.and_then(|v| facts[v.index()].as_ref())).collect();
            let results = node.op.infer(&Inference { model, node, inputs: known })?;
            for (slot, fact) in results.into_iter().enumerate() {
                if let Some(f) = fact.as_ref().filter(|f| !addressable(&f.shape)) {
                    return Err(node.error(format!("its result {:?} has more elements than any machine holds", f.shape)));
                }
                if let Some(v) = node.output(slot) {
                    facts[v.index()] = fact;
                }
            }
            if matches!(node.op, Op::Opaque(_)) {
                for &v in node.outputs.iter().flatten() {
                    facts[v.index()] = declared.get(graph.value(v).name.as_str()).and_then(|t| declared_fact(t, &symbols));
                }
            }
        }
        Ok(Self { facts })
    }

    /// Of how many values the shape is known.
    pub(crate) fn known(&self) -> usize {
        self.facts.iter().flatten().count()
    }

    /// What is known of `value`.
    pub fn get(&self, value: ValueId) -> Option<&Fact> {
        self.facts[value.index()].as_ref()
    }

    /// The shape of `value`, if known.
    pub fn shape(&self, value: ValueId) -> Option<&[usize]> {
        self.get(value).map(|f| f.shape.as_slice())
    }

    /// The constant that `value` is, if it is one.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.get(value).and_then(|f| f.constant.as_deref())
    }

    /// What `node` reads at `slot` is learnt if it is stored: numbers, but not running statistics, nor single ones, which are bounds
    /// and factors of the architecture.
    pub(crate) fn is_learnt(&self, node: &Node, slot: usize) -> bool {
        let statistic = matches!(node.op, Op::BatchNormalization(_)) && slot > 2;
        let fact = node.input(slot).and_then(|v| self.get(v));
        !statistic && fact.is_some_and(|f| is_float(f.dtype) && (f.len() > 1 || node.op.is_layer()))
    }

    /// The shape of `value`.
    ///
    /// # Errors
    /// It is not known: an operator before it is not.
    pub fn need_shape(&self, graph: &Graph, value: ValueId) -> Result<&[usize]> {
        self.shape(value).ok_or_else(|| {
            let v = graph.value(value);
            match v.source {
                Source::Node(n, _) => graph.node(n).error(format!("the shape of `{}` is not known", v.name)),
                _ => Error::Graph(format!("the shape of `{}` is not known", v.name)),
            }
        })
    }
}

/// The tensor types that the file declares for computed values.
fn declared_types(model: &Model) -> HashMap<&str, &type_proto::Tensor> {
    let g = model.graph_proto();
    let mut all = HashMap::new();
    for i in g.value_info.iter().chain(&g.output) {
        if let Some(type_proto::Value::TensorType(t)) = i.r#type.as_ref().and_then(|t| t.value.as_ref()) {
            all.insert(i.name(), t);
        }
    }
    all
}

/// What the named dimensions of the inputs are here.
fn symbols<'m>(model: &'m Model, graph: &Graph, facts: &[Option<Fact>]) -> HashMap<&'m str, usize> {
    let mut all = HashMap::new();
    for i in &model.graph_proto().input {
        let fact = graph.find(i.name()).and_then(|v| facts[v.index()].as_ref());
        let Some(type_proto::Value::TensorType(t)) = i.r#type.as_ref().and_then(|t| t.value.as_ref()) else { continue };
        for (d, &n) in t.shape.iter().flat_map(|s| &s.dim).zip(fact.map_or(&[][..], |f| &f.shape)) {
            if let Some(dimension::Value::DimParam(p)) = &d.value {
                all.insert(p.as_str(), n);
            }
        }
    }
    all
}

/// The declared type of what an operator without a rule computes: its operands stay as they are, and so does this.
fn declared_fact(t: &type_proto::Tensor, symbols: &HashMap<&str, usize>) -> Option<Fact> {
    let dtype = DataType::try_from(t.elem_type()).ok().filter(|d| *d != DataType::Undefined)?;
    let dims = t.shape.as_ref()?.dim.iter().map(|d| match d.value.as_ref()? {
        dimension::Value::DimValue(n) => usize::try_from(*n).ok().filter(|&n| n > 0),
        dimension::Value::DimParam(p) => symbols.get(p.as_str()).copied(),
    });
    Some(Fact::new(dtype, dims.collect::<Option<Vec<_>>>().filter(|d| addressable(d))?))
}

fn input_fact(model: &Model, graph: &Graph, v: ValueId, inputs: &InputShapes) -> Result<Option<Fact>> {
    let name = &graph.value(v).name;
    let info = model.graph_proto().input.iter().find(|i| i.name() == name);
    let Some(type_proto::Value::TensorType(t)) = info.and_then(|i| i.r#type.as_ref()).and_then(|t| t.value.as_ref()) else {
        return Ok(None);
    };
    let dtype = DataType::try_from(t.elem_type()).unwrap_or(DataType::Undefined);
    if let Some((_, shape)) = inputs.shapes.iter().find(|(n, _)| n == name) {
        if !addressable(shape) {
            return Err(too_large(name, shape));
        }
        return Ok(Some(Fact::new(dtype, shape.clone())));
    }
    let Some(shape) = &t.shape else {
        return Err(Error::UnboundDimension { input: name.clone(), dim: "rank".into(), axis: 0 });
    };
    let mut dims = Vec::with_capacity(shape.dim.len());
    for (axis, d) in shape.dim.iter().enumerate() {
        let (fixed, symbol) = match &d.value {
            Some(dimension::Value::DimValue(n)) if *n > 0 => (usize::try_from(*n).ok(), String::new()),
            Some(dimension::Value::DimParam(p)) => (None, p.clone()),
            _ => (None, "?".into()),
        };
        let size = fixed.or((axis == 0).then(|| inputs.batch.unwrap_or(1)));
        dims.push(size.ok_or_else(|| Error::UnboundDimension { input: name.clone(), dim: symbol, axis })?);
    }
    if !addressable(&dims) {
        return Err(too_large(name, &dims));
    }
    Ok(Some(Fact::new(dtype, dims)))
}

/// Elements of a tensor of this shape; `None` where no number holds them.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d))
}

/// A tensor of this shape could be held by a machine.
pub(crate) fn addressable(shape: &[usize]) -> bool {
    elements(shape).is_some_and(|n| n <= 1 << 40)
}

fn too_large(name: &str, shape: &[usize]) -> Error {
    Error::Graph(format!("input `{name}` of shape {shape:?} has more elements than any machine holds"))
}

/// What an operator's shape rule sees.
pub struct Inference<'a> {
    /// The model, for the values of constants.
    pub model: &'a Model,
    /// The node.
    pub node: &'a Node,
    /// Facts of its inputs.
    pub inputs: Vec<Option<&'a Fact>>,
}

/// Facts of a node's outputs.
pub type Outputs = Vec<Option<Fact>>;

impl<'a> Inference<'a> {
    /// The fact of input `i`, if it is there and known.
    pub fn fact(&self, i: usize) -> Option<&'a Fact> {
        self.inputs.get(i).copied().flatten()
    }

    /// Input `i` is connected.
    pub fn has(&self, i: usize) -> bool {
        self.node.input(i).is_some()
    }

    /// The constant at input `i`.
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.fact(i).and_then(|f| f.constant.as_deref())
    }

    /// The integers at input `i`.
    pub fn ints(&self, i: usize) -> Option<Vec<i64>> {
        self.constant(i).and_then(Tensor::to_i64)
    }

    /// One output, known by type and shape.
    pub fn one(&self, dtype: DataType, shape: Vec<usize>) -> Result<Outputs> {
        Ok(vec![Some(Fact::new(dtype, shape))])
    }

    /// No output is known.
    pub fn unknown(&self) -> Result<Outputs> {
        Ok(vec![None; self.node.outputs.len()])
    }

    /// An error located at the node.
    pub fn error<T>(&self, reason: impl Into<String>) -> Result<T> {
        Err(self.node.error(reason))
    }
}

/// Resolves a possibly negative axis.
///
/// # Errors
/// Out of range.
pub(crate) fn resolve_axis(node: &Node, axis: i64, rank: usize) -> Result<usize> {
    let resolved = if axis < 0 { axis + rank as i64 } else { axis };
    if (0..rank as i64).contains(&resolved) {
        Ok(resolved as usize)
    } else {
        Err(node.error(format!("axis {axis} is out of range for rank {rank}")))
    }
}
