//! Shapes the file declares for inner values.

use super::Kept;
use crate::facts::Facts;
use crate::graph::Graph;
use crate::model::Model;
use crate::proto::{tensor_shape_proto::dimension, type_proto};

/// Sets the new sizes in declared shapes of values that became smaller; a declaration that does not fit is dropped.
pub(super) fn update(graph: &Graph, facts: &Facts, kept: &Kept, model: &mut Model) {
    model.graph_proto_mut().value_info.retain_mut(|info| {
        let Some(v) = graph.find(info.name()) else { return true };
        let Some(old) = facts.shape(v) else { return true };
        if (0..old.len()).all(|axis| kept.get(v, axis).is_none()) {
            return true;
        }
        let Some(type_proto::Value::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) else { return false };
        let Some(shape) = t.shape.as_mut().filter(|s| s.dim.len() == old.len()) else { return false };
        for (axis, dim) in shape.dim.iter_mut().enumerate() {
            if let Some(keep) = kept.get(v, axis) {
                dim.value = Some(dimension::Value::DimValue(keep.len() as i64));
            }
        }
        true
    });
}
