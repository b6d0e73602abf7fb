//! Schemes in a file: one entry of `metadata_props` per layer.

use super::regularity::Scheme;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::proto::StringStringEntryProto;

/// Key of an entry: this and the name of the weight tensor.
const KEY: &str = "secateur.scheme:";

/// A layer's weight and the scheme that a file says it has.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerScheme {
    /// Name of the weight tensor.
    pub tensor: String,
    /// What it has.
    pub scheme: Scheme,
}

/// The schemes that `model` says its layers have; empty for a file that this program did not prune to schemes.
///
/// # Errors
/// An entry that cannot be read.
pub fn read_schemes(model: &Model) -> Result<Vec<LayerScheme>> {
    let entries = model.proto().metadata_props.iter();
    let ours = entries.filter_map(|p| p.key().strip_prefix(KEY).map(|tensor| (tensor.to_owned(), p.value().to_owned())));
    ours.map(|(tensor, text)| match text.parse() {
        Ok(scheme) => Ok(LayerScheme { tensor, scheme }),
        Err(e) => Err(Error::Tensor { tensor, reason: format!("the file's metadata say it has scheme `{text}`: {e}") }),
    })
    .collect()
}

/// Writes the schemes into the metadata of `model`, in place of those it has.
pub fn write_schemes(model: &mut Model, schemes: &[LayerScheme]) {
    clear_schemes(model);
    model.proto_mut().metadata_props.extend(
        schemes.iter().map(|s| StringStringEntryProto { key: Some(format!("{KEY}{}", s.tensor)), value: Some(s.scheme.to_string()) }),
    );
}

/// Removes what the metadata of `model` say of schemes.
pub fn clear_schemes(model: &mut Model) {
    model.proto_mut().metadata_props.retain(|p| !p.key().starts_with(KEY));
}
