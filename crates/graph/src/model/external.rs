//! Tensors whose data lie in files beside the model.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path};

use bytes::Bytes;

use super::write_atomically;
use crate::error::{Error, Result};
use crate::proto::{ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation};

pub(super) fn is_external(t: &TensorProto) -> bool {
    t.data_location == Some(DataLocation::External as i32)
}

fn entry<'t>(t: &'t TensorProto, key: &str) -> Option<&'t str> {
    t.external_data.iter().find(|e| e.key() == key).map(|e| e.value())
}

/// Reads the data of every external initializer.
pub(super) fn read(proto: &ModelProto, model_path: &Path) -> Result<HashMap<String, Bytes>> {
    let folder = model_path.parent().unwrap_or(Path::new(""));
    let mut all = HashMap::new();
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
        let size = std::fs::metadata(&file)
            .map_err(|e| fail(format!("`{}` cannot be opened ({e}); put it beside the model", file.display())))?
            .len();
        let length = length.unwrap_or_else(|| size.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(fail(format!("`{}` is too short: {} bytes, needed {length} from {offset}; copy it again", file.display(), size)));
        }
        let io = |e: std::io::Error| fail(format!("`{}`: {e}", file.display()));
        let mut f = File::open(&file).map_err(io)?;
        f.seek(SeekFrom::Start(offset)).map_err(io)?;
        let mut data = Vec::new();
        f.take(length).read_to_end(&mut data).map_err(io)?;
        all.insert(t.name().to_owned(), Bytes::from(data));
    }
    Ok(all)
}

/// Writes the external data for a model saved at `target` and returns the message that refers to them.
///
/// Locations keep their names. In another folder the files are written anew with the tensors at their old offsets where
/// they fit; in the source's own folder the tensors go to `<target>.data`, so that the source stays whole.
pub(super) fn write(proto: &ModelProto, data: &HashMap<String, Bytes>, source: Option<&Path>, target: &Path) -> Result<ModelProto> {
    let folder = |p: &Path| p.parent().map(Path::to_owned).unwrap_or_default();
    let canonical = |p: &Path| std::fs::canonicalize(if p.as_os_str().is_empty() { Path::new(".") } else { p }).ok();
    let same_folder = source.is_some_and(|s| canonical(&folder(s)) == canonical(&folder(target)));
    let own = format!("{}.data", target.file_name().unwrap_or_default().to_string_lossy());
    let mut proto = proto.clone();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for t in proto.graph.iter_mut().flat_map(|g| &mut g.initializer).filter(|t| is_external(t)) {
        let Some(bytes) = data.get(t.name()) else { continue };
        let location = if same_folder { own.clone() } else { entry(t, "location").unwrap_or(&own).to_owned() };
        let file = files.entry(location.clone()).or_default();
        let wanted: Option<usize> = entry(t, "offset").and_then(|o| o.parse().ok());
        let offset = match wanted {
            Some(o) if !same_folder && o >= file.len() => o,
            None if file.is_empty() => 0,
            _ => file.len().next_multiple_of(64),
        };
        file.resize(offset, 0);
        file.extend_from_slice(bytes);
        set(t, "location", location);
        if wanted.is_some() || offset != 0 {
            set(t, "offset", offset.to_string());
        }
        if entry(t, "length").is_some() || wanted.is_some() || offset != 0 {
            set(t, "length", bytes.len().to_string());
        }
    }
    for (location, bytes) in files {
        let path = folder(target).join(&location);
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|source| Error::Io { path: parent.to_owned(), source })?;
        }
        write_atomically(&path, &bytes)?;
    }
    Ok(proto)
}

fn set(t: &mut TensorProto, key: &str, value: String) {
    match t.external_data.iter_mut().find(|e| e.key() == key) {
        Some(e) => e.value = Some(value),
        None => t.external_data.push(StringStringEntryProto { key: Some(key.into()), value: Some(value) }),
    }
}
