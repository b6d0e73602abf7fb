//! Tensors whose data lie in files beside the model. Nothing is held that the disk has: data are read where they are asked for, and
//! copied in pieces.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{already_exists, write_through};
use crate::error::{Error, Result};
use crate::proto::{GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation};

/// External tensors of fewer bytes are known to the facts by value, others by type and shape.
pub(super) const LARGE: u64 = 1 << 16;

/// Where the data of an external tensor are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// In a file, as they were found.
    File { path: Arc<Path>, offset: u64, length: u64 },
    /// In memory: they were changed.
    Memory(Bytes),
    /// Nowhere: a tensor of which only the shape is asked.
    Nowhere,
}

impl Place {
    fn reader(&self) -> std::io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Self::File { path, offset, length } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                Box::new(file.take(*length))
            }
            Self::Memory(bytes) => Box::new(&bytes[..]),
            Self::Nowhere => return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the tensor has a shape only")),
        })
    }

    /// The data.
    pub(super) fn read(&self) -> std::io::Result<Bytes> {
        if let Self::Memory(bytes) = self {
            return Ok(bytes.clone());
        }
        let mut data = Vec::with_capacity(self.len() as usize);
        self.reader()?.read_to_end(&mut data)?;
        if data.len() as u64 != self.len() {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file has become shorter since it was opened"));
        }
        Ok(data.into())
    }

    /// Bytes of the data.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File { length, .. } => *length,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Nowhere => 0,
        }
    }
}

pub(super) fn is_external(t: &TensorProto) -> bool {
    t.data_location == Some(DataLocation::External as i32)
}

fn entry<'t>(t: &'t TensorProto, key: &str) -> Option<&'t str> {
    t.external_data.iter().find(|e| e.key() == key).map(|e| e.value())
}

/// An external tensor that is no initializer of the main graph: in a node, a sub-graph or a function.
pub(super) fn elsewhere(proto: &ModelProto) -> Option<&TensorProto> {
    fn in_nodes(nodes: &[NodeProto]) -> Option<&TensorProto> {
        nodes.iter().flat_map(|n| &n.attribute).find_map(|a| {
            let own = a.t.iter().chain(&a.tensors).find(|t| is_external(t));
            own.or_else(|| a.g.iter().chain(&a.graphs).find_map(in_graph))
        })
    }
    fn in_graph(graph: &GraphProto) -> Option<&TensorProto> {
        graph.initializer.iter().find(|t| is_external(t)).or_else(|| in_nodes(&graph.node))
    }
    proto.graph.iter().map(|g| &g.node).chain(proto.functions.iter().map(|f| &f.node)).find_map(|nodes| in_nodes(nodes))
}

/// Finds the data of every external initializer.
pub(super) fn find(proto: &ModelProto, model_path: &Path) -> Result<HashMap<String, Place>> {
    if let Some(t) = elsewhere(proto) {
        return Err(Error::ExternalData {
            origin: model_path.display().to_string(),
            tensor: t.name().to_owned(),
            reason: "it is in a node, a sub-graph or a function, where data must be in the model's own file; save it with \
                     `onnx.save_model(onnx.load(path), path, save_as_external_data=False)`"
                .into(),
        });
    }
    let folder = model_path.parent().unwrap_or(Path::new(""));
    let mut all = HashMap::new();
    let mut paths: HashMap<PathBuf, (Arc<Path>, u64)> = HashMap::new();
    for t in proto.graph.iter().flat_map(|g| &g.initializer).filter(|t| is_external(t)) {
        let fail = |reason: String| Error::ExternalData { origin: model_path.display().to_string(), tensor: t.name().to_owned(), reason };
        let location = entry(t, "location").ok_or_else(|| fail("it names no file".into()))?;
        let outside = Path::new(location).components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir));
        if outside {
            return Err(fail(format!("`{location}` is outside the model's folder; move the data beside the model and export again")));
        }
        let number =
            |key: &str| entry(t, key).map(|v| v.parse::<u64>().map_err(|_| fail(format!("its {key} `{v}` is not a number")))).transpose();
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let file = folder.join(location);
        let (path, size) = match paths.get(&file) {
            Some(known) => known.clone(),
            None => {
                let cannot = |e: std::io::Error| fail(format!("`{}` cannot be opened ({e}); put it beside the model", file.display()));
                let size = File::open(&file).and_then(|f| f.metadata()).map_err(cannot)?.len();
                paths.entry(file.clone()).or_insert((file.as_path().into(), size)).clone()
            }
        };
        let length = length.unwrap_or_else(|| size.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(fail(format!("`{}` is too short: {size} bytes, needed {length} from {offset}; copy it again", file.display())));
        }
        all.insert(t.name().to_owned(), Place::File { path, offset, length });
    }
    Ok(all)
}

/// Names for the files of external data of a saved model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// As in the source, unless it would overwrite a file; never one that is there.
    Kept,
    /// `<model>.data`, whatever is there.
    Own,
}

/// What goes into a file.
#[derive(Default)]
struct Layout<'d> {
    /// Its length so far.
    end: u64,
    /// Tensors with their offsets, ascending.
    parts: Vec<(u64, &'d Place)>,
}

/// Writes the external data for a model saved at `target` and returns the message that refers to them.
///
/// Locations keep their names where `naming` says so. In another folder the files are written anew with the tensors at their
/// old offsets where they fit; where a file of such a name is there (in the source's own folder, always) the tensors go to
/// `<target>.data`, so that it stays whole.
///
/// # Errors
/// The disk refuses; with names kept, `<target>.data` is wanted and exists.
pub(super) fn write(
    proto: &ModelProto,
    data: &HashMap<String, Place>,
    source: Option<&Path>,
    target: &Path,
    naming: Naming,
) -> Result<ModelProto> {
    let folder = |p: &Path| p.parent().map(Path::to_owned).unwrap_or_default();
    let canonical = |p: &Path| std::fs::canonicalize(if p.as_os_str().is_empty() { Path::new(".") } else { p }).ok();
    let same_folder = source.is_some_and(|s| canonical(&folder(s)) == canonical(&folder(target)));
    let own = format!("{}.data", target.file_name().unwrap_or_default().to_string_lossy());
    let there = |location: &str| folder(target).join(location).exists();
    let mut locations = proto.graph.iter().flat_map(|g| &g.initializer).filter(|t| is_external(t)).filter_map(|t| entry(t, "location"));
    let anew = same_folder || naming == Naming::Own || locations.any(there);
    if anew && naming == Naming::Kept && there(&own) {
        return Err(already_exists(&folder(target).join(own)));
    }
    let mut proto = proto.clone();
    let mut files: BTreeMap<String, Layout> = BTreeMap::new();
    for t in proto.graph.iter_mut().flat_map(|g| &mut g.initializer).filter(|t| is_external(t)) {
        let Some(place) = data.get(t.name()) else { continue };
        let location = if anew { own.clone() } else { entry(t, "location").unwrap_or(&own).to_owned() };
        let Layout { end, parts } = files.entry(location.clone()).or_default();
        let wanted: Option<u64> = entry(t, "offset").and_then(|o| o.parse().ok());
        let offset = match wanted {
            Some(o) if !anew && o >= *end => o,
            None if *end == 0 => 0,
            _ => end.next_multiple_of(64),
        };
        *end = offset + place.len();
        parts.push((offset, place));
        set(t, "location", location);
        if wanted.is_some() || offset != 0 {
            set(t, "offset", offset.to_string());
        }
        if entry(t, "length").is_some() || wanted.is_some() || offset != 0 {
            set(t, "length", place.len().to_string());
        }
    }
    for (location, Layout { parts, .. }) in files {
        let path = folder(target).join(&location);
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|source| Error::Io { path: parent.to_owned(), source })?;
        }
        write_through(&path, |file| {
            let mut out = BufWriter::new(file);
            let mut at = 0;
            for (offset, place) in &parts {
                std::io::copy(&mut std::io::repeat(0).take(offset - at), &mut out)?;
                let written = std::io::copy(&mut place.reader()?, &mut out)?;
                if written != place.len() {
                    return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "a source file has become shorter"));
                }
                at = offset + written;
            }
            out.flush()
        })?;
    }
    Ok(proto)
}

fn set(t: &mut TensorProto, key: &str, value: String) {
    match t.external_data.iter_mut().find(|e| e.key() == key) {
        Some(e) => e.value = Some(value),
        None => t.external_data.push(StringStringEntryProto { key: Some(key.into()), value: Some(value) }),
    }
}
