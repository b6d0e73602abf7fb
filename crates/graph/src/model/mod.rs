//! The decoded file. Saved, it differs from the input only where something was changed.

mod external;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, Result};
use crate::proto::{self, GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataType};
use crate::tensor::{Data, Tensor};
use external::{Naming, Place};

/// A decoded ONNX file: names, opsets, metadata, unknown attributes and external data survive a round trip.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    proto: ModelProto,
    /// Where it was read from; `None` for bytes in memory.
    path: Option<PathBuf>,
    /// Where the data of the external tensors are, by tensor name.
    external: HashMap<String, Place>,
}

impl Model {
    /// Reads a file. Its external data stay where they are: each tensor is read when it is asked for.
    ///
    /// # Errors
    /// Unreadable file, bytes that are not ONNX, a newer IR than the schema, external data that are missing, outside the
    /// model's folder, too short or not an initializer's, NaN or infinite weights.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let mut model = Self::decode(bytes.into(), &path.display().to_string())?;
        model.external = external::find(&model.proto, path)?;
        model.path = Some(path.to_owned());
        model.check_finite()?;
        Ok(model)
    }

    /// Reads a self-contained model from memory; `origin` stands for the file name in messages.
    ///
    /// # Errors
    /// As [`Model::load`]; external data are an error, since there is no folder to look in.
    pub fn from_bytes(bytes: impl Into<Bytes>, origin: &str) -> Result<Self> {
        let model = Self::decode(bytes.into(), origin)?;
        if let Some(t) = model.initializers().find(|t| external::is_external(t)).or_else(|| external::elsewhere(&model.proto)) {
            return Err(Error::ExternalData {
                origin: origin.to_owned(),
                tensor: t.name().to_owned(),
                reason: "a model in memory cannot refer to other files; load it from its folder".into(),
            });
        }
        model.check_finite()?;
        Ok(model)
    }

    /// Wraps a message built by a program.
    pub fn from_proto(proto: ModelProto) -> Self {
        Self { proto, path: None, external: HashMap::new() }
    }

    fn decode(bytes: Bytes, origin: &str) -> Result<Self> {
        let not_onnx = |reason: String| Error::NotOnnx { origin: origin.to_owned(), reason };
        if bytes.is_empty() {
            return Err(not_onnx("the file is empty".into()));
        }
        let proto = ModelProto::decode(bytes).map_err(|e| not_onnx(format!("the bytes do not decode, or end too early: {e}")))?;
        let ir = proto.ir_version();
        if ir > proto::NEWEST_IR_VERSION {
            return Err(Error::NewerIr { origin: origin.to_owned(), found: ir, newest: proto::NEWEST_IR_VERSION });
        }
        match &proto.graph {
            Some(g) if !g.node.is_empty() || !g.output.is_empty() => {}
            _ => return Err(not_onnx("there is no graph in it".into())),
        }
        if ir < 1 {
            return Err(not_onnx("it has no IR version".into()));
        }
        Ok(Self { proto, path: None, external: HashMap::new() })
    }

    fn check_finite(&self) -> Result<()> {
        for t in self.initializers() {
            let name = t.name();
            if !matches!(t.data_type, Some(1 | 10 | 11 | 16)) {
                continue;
            }
            let tensor = match self.decode_tensor(t) {
                Ok(tensor) => tensor,
                Err(e @ Error::ExternalData { .. }) => return Err(e),
                Err(_) => continue,
            };
            let bad = |finite: &mut dyn Iterator<Item = bool>| {
                finite.enumerate().filter(|(_, ok)| !ok).fold((0usize, None), |(n, first), (i, _)| (n + 1, first.or(Some(i))))
            };
            let (count, first) = match &tensor.data {
                Data::F32(v) => bad(&mut v.iter().map(|x| x.is_finite())),
                Data::F64(v) => bad(&mut v.iter().map(|x| x.is_finite())),
                Data::F16(v) => bad(&mut v.iter().map(|x| x.is_finite())),
                Data::BF16(v) => bad(&mut v.iter().map(|x| x.is_finite())),
                _ => (0, None),
            };
            // Single infinities are how exporters write open bounds (Clip, Where); a weight has more than one element.
            if let Some(index) = first.filter(|_| tensor.len() > 1) {
                return Err(Error::NotFinite { tensor: name.to_owned(), count, index });
            }
        }
        Ok(())
    }

    /// The file's name for messages.
    pub fn origin(&self) -> String {
        self.path.as_ref().map_or_else(|| "model in memory".into(), |p| p.display().to_string())
    }

    /// Where it was read from.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The message.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The message, to change it. External tensors keep their data by name.
    pub fn proto_mut(&mut self) -> &mut ModelProto {
        &mut self.proto
    }

    /// The main graph.
    pub fn graph_proto(&self) -> &GraphProto {
        static EMPTY: std::sync::OnceLock<GraphProto> = std::sync::OnceLock::new();
        self.proto.graph.as_ref().unwrap_or_else(|| EMPTY.get_or_init(GraphProto::default))
    }

    /// The main graph, to change it.
    pub fn graph_proto_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_default()
    }

    /// Version of the default operator set (1 where the file does not say).
    pub fn opset(&self) -> i64 {
        let default = |d: &str| d.is_empty() || d == "ai.onnx";
        self.proto.opset_import.iter().filter(|o| default(o.domain())).map(|o| o.version()).max().unwrap_or(1)
    }

    /// The initializers of the main graph.
    pub fn initializers(&self) -> impl Iterator<Item = &TensorProto> {
        self.graph_proto().initializer.iter()
    }

    /// The tensor called `name`: an initializer, or the value of a `Constant` node. `None` if there is none.
    ///
    /// # Errors
    /// A tensor that does not decode.
    pub fn tensor(&self, name: &str) -> Option<Result<Tensor>> {
        if let Some(t) = self.initializers().find(|t| t.name() == name) {
            return Some(self.decode_tensor(t));
        }
        let node = self.graph_proto().node.iter().find(|n| is_constant(n) && n.output.first().is_some_and(|o| o == name))?;
        Some(constant_value(node))
    }

    /// Decodes a tensor of this model, reading external data where it refers to them.
    pub(crate) fn decode_tensor(&self, t: &TensorProto) -> Result<Tensor> {
        if !external::is_external(t) {
            return Tensor::decode(t);
        }
        let raw = self.external_bytes(t)?;
        Tensor::decode(&TensorProto { raw_data: Some(raw), data_location: None, ..t.clone() })
    }

    fn external_bytes(&self, t: &TensorProto) -> Result<Bytes> {
        let fail = |reason: String| Error::ExternalData { origin: self.origin(), tensor: t.name().to_owned(), reason };
        let place = self.external.get(t.name()).ok_or_else(|| fail("it is not known where its data are".into()))?;
        place.read().map_err(|e| fail(format!("its data cannot be read: {e}")))
    }

    /// Some tensors' data lie in other files.
    pub fn has_external_data(&self) -> bool {
        self.initializers().any(external::is_external)
    }

    /// Type and shape of an external tensor that is so large that its value is not kept in memory.
    pub(crate) fn large_external(&self, t: &TensorProto) -> Option<(DataType, Vec<usize>)> {
        let dtype = DataType::try_from(t.data_type()).ok().filter(|_| external::is_external(t))?;
        let shape: Vec<usize> = t.dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<_>>()?;
        let bytes = shape.iter().try_fold(element_bytes(dtype)?, |a, &d| a.checked_mul(d as u64))?;
        let there = match self.external.get(t.name())? {
            Place::Nowhere => true,
            place => place.len() == bytes,
        };
        (there && bytes >= external::LARGE).then_some((dtype, shape))
    }

    /// Gives the external tensor called `name` another shape and no data: what is computed of it is of shapes alone.
    pub(crate) fn reshape_only(&mut self, name: &str, shape: &[usize]) {
        let graph = self.proto.graph.get_or_insert_default();
        if let Some(t) = graph.initializer.iter_mut().find(|t| t.name() == name) {
            t.dims = shape.iter().map(|&d| d as i64).collect();
            self.external.insert(name.to_owned(), Place::Nowhere);
        }
    }

    /// The same model with all data in the message.
    ///
    /// # Errors
    /// External data that cannot be read any more.
    pub fn with_data_inside(&self) -> Result<Self> {
        let mut inside = self.clone();
        inside.external.clear();
        for t in inside.proto.graph.iter_mut().flat_map(|g| &mut g.initializer).filter(|t| external::is_external(t)) {
            t.raw_data = Some(self.external_bytes(t)?);
            t.data_location = None;
            t.external_data.clear();
        }
        Ok(inside)
    }

    /// Replaces the initializer or `Constant` called `name`, in place and in the form the file had it.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn set_tensor(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let encoded = value.encode(name);
        let external = &mut self.external;
        let graph = self.proto.graph.get_or_insert_default();
        if let Some(t) = graph.initializer.iter_mut().find(|t| t.name() == name) {
            replace(t, encoded, external);
            for input in graph.input.iter_mut().filter(|i| i.name() == name) {
                set_declared_shape(input, &value.shape);
            }
            return Ok(());
        }
        let node = graph.node.iter_mut().find(|n| is_constant(n) && n.output.first().is_some_and(|o| o == name));
        let Some(node) = node else {
            return Err(Error::Tensor { tensor: name.to_owned(), reason: "there is no initializer or Constant of this name".into() });
        };
        let tensor_attribute = node.attribute.iter_mut().find(|a| a.name() == "value").and_then(|a| a.t.as_mut());
        match tensor_attribute {
            Some(t) => replace(t, encoded, external),
            None => {
                node.attribute = vec![proto::AttributeProto {
                    name: Some("value".into()),
                    r#type: Some(proto::attribute_proto::AttributeType::Tensor as i32),
                    t: Some(encoded),
                    ..Default::default()
                }];
            }
        }
        Ok(())
    }

    /// Adds an initializer; before IR version 4 it must be listed as an input too.
    pub fn add_initializer(&mut self, name: &str, value: &Tensor) {
        let listed = self.proto.ir_version() < 4;
        let graph = self.graph_proto_mut();
        graph.initializer.push(value.encode(name));
        if listed {
            let tensor =
                proto::type_proto::Tensor { elem_type: Some(value.data.dtype() as i32), shape: Some(proto::TensorShapeProto::default()) };
            let r#type = proto::TypeProto { value: Some(proto::type_proto::Value::TensorType(tensor)), ..Default::default() };
            let mut input = proto::ValueInfoProto { name: Some(name.to_owned()), r#type: Some(r#type), ..Default::default() };
            set_declared_shape(&mut input, &value.shape);
            graph.input.push(input);
        }
    }

    /// The self-contained bytes of the model: external data are taken into the file.
    ///
    /// # Errors
    /// A tensor that does not decode.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        if self.external.is_empty() {
            return Ok(self.proto.encode_to_vec());
        }
        Ok(self.with_data_inside()?.proto.encode_to_vec())
    }

    /// Writes the model, and its external data where it has them, through a temporary file and a rename, so that an
    /// interrupted write leaves what was there. External data keep the names of their files; where such a file is there, they go to
    /// `<path>.data`.
    ///
    /// # Errors
    /// A file to be written exists, or the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if path.exists() {
            return Err(already_exists(path));
        }
        self.write(path, Naming::Kept)
    }

    /// As [`Model::save`], replacing what is there; external data go to `<path>.data`, whatever their file was called.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn replace(&self, path: impl AsRef<Path>) -> Result<()> {
        self.write(path.as_ref(), Naming::Own)
    }

    fn write(&self, path: &Path, naming: Naming) -> Result<()> {
        let external =
            (!self.external.is_empty()).then(|| external::write(&self.proto, &self.external, self.path.as_deref(), path, naming));
        let proto = external.transpose()?;
        write_atomically(path, &proto.as_ref().unwrap_or(&self.proto).encode_to_vec())
    }
}

/// The error of a file that would be overwritten.
fn already_exists(path: &Path) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it exists already; choose another name or remove it");
    Error::Io { path: path.to_owned(), source }
}

/// Writes `bytes` to a temporary file beside `path`, flushes it, and renames it.
///
/// # Errors
/// The disk refuses; whatever `path` held is untouched then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_through(path, |file| std::io::Write::write_all(file, bytes))
}

/// As [`write_atomically`], of what `fill` writes.
fn write_through(path: &Path, fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>) -> Result<()> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".secateur-").tempfile_in(folder).map_err(io)?;
    fill(file.as_file_mut()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Bytes of an element, of the types that weights have.
fn element_bytes(dtype: DataType) -> Option<u64> {
    Some(match dtype {
        DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
        DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
        DataType::Int8 | DataType::Uint8 | DataType::Bool => 1,
        _ => return None,
    })
}

fn replace(t: &mut TensorProto, new: TensorProto, external: &mut HashMap<String, Place>) {
    if external::is_external(t) {
        external.insert(t.name().to_owned(), Place::Memory(new.raw_data.unwrap_or_default()));
        t.dims = new.dims;
        t.data_type = new.data_type;
    } else {
        *t = TensorProto {
            name: t.name.take(),
            doc_string: t.doc_string.take(),
            metadata_props: std::mem::take(&mut t.metadata_props),
            ..new
        };
    }
}

fn set_declared_shape(info: &mut proto::ValueInfoProto, shape: &[usize]) {
    use proto::{
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    };
    if let Some(type_proto::Value::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        let dim = |&d: &usize| Dimension { value: Some(dimension::Value::DimValue(d as i64)), ..Default::default() };
        t.shape = Some(proto::TensorShapeProto { dim: shape.iter().map(dim).collect() });
    }
}

pub(crate) fn is_constant(node: &NodeProto) -> bool {
    node.op_type() == "Constant" && matches!(node.domain(), "" | "ai.onnx")
}

/// The value of a `Constant` node.
pub(crate) fn constant_value(node: &NodeProto) -> Result<Tensor> {
    let fail = |reason: &str| Error::Node { node: crate::graph::display_name(node), op: "Constant".into(), reason: reason.into() };
    let attribute = node.attribute.iter().find(|a| a.name().starts_with("value")).ok_or_else(|| fail("it has no value"))?;
    Ok(match attribute.name() {
        "value" => Tensor::decode(attribute.t.as_ref().ok_or_else(|| fail("its value is not a tensor"))?)?,
        "value_int" => Tensor::i64([], vec![attribute.i()]),
        "value_ints" => Tensor::vec_i64(attribute.ints.clone()),
        "value_float" => Tensor::f32([], vec![attribute.f()]),
        "value_floats" => Tensor::f32([attribute.floats.len()], attribute.floats.clone()),
        other => return Err(fail(&format!("a constant given as `{other}` is not supported"))),
    })
}
