//! The masked twin of a network with removed weights.

use std::collections::BTreeMap;

use super::mask::Mask;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::Model;
use crate::proto::NodeProto;

/// `model` with its weights as they are, multiplied by their masks where they are read. A network with the removed weights
/// stored as zeros must compute the same.
///
/// # Errors
/// A name that no stored tensor of floats has, or a mask of another size.
pub fn masked_weights(model: &Model, masks: &BTreeMap<String, Mask>) -> Result<Model> {
    let graph = Graph::new(model)?;
    let mut twin = model.clone();
    let mut first = Vec::new();
    for (name, mask) in masks {
        let fail = |reason: &str| Error::Tensor { tensor: name.clone(), reason: reason.into() };
        let tensor = model.tensor(name).ok_or_else(|| fail("it is not stored in the file"))??;
        let flags = mask.keep.iter().map(|k| f32::from(u8::from(*k))).collect();
        let flags = tensor.with_f32(flags).ok_or_else(|| fail("the mask does not fit it"))?;
        let unused = |base: String| {
            let mut free = base;
            while graph.find(&free).is_some() {
                free.push('_');
            }
            free
        };
        let (stored, masked) = (unused(format!("{name}/mask")), unused(format!("{name}/masked")));
        for node in &mut twin.graph_proto_mut().node {
            node.input.iter_mut().filter(|i| *i == name).for_each(|i| i.clone_from(&masked));
        }
        twin.add_initializer(&stored, &flags);
        first.push(NodeProto {
            name: Some(masked.clone()),
            op_type: Some("Mul".into()),
            input: vec![name.clone(), stored],
            output: vec![masked],
            ..Default::default()
        });
    }
    let nodes = &mut twin.graph_proto_mut().node;
    // Weights that are the output of a `Constant` come before what reads them.
    let (constants, others): (Vec<_>, Vec<_>) = std::mem::take(nodes).into_iter().partition(|n| n.op_type() == "Constant");
    nodes.extend(constants.into_iter().chain(first).chain(others));
    Ok(twin)
}
