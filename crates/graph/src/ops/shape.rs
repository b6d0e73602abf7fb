//! `Shape`.

use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};
use crate::tensor::Tensor;

pub(super) fn infer(i: &Inference) -> Result<Outputs> {
    let Some(x) = i.fact(0) else { return i.unknown() };
    let a = i.model.graph_proto().node.get(i.node.position).map(crate::attributes::Attributes);
    let rank = x.shape.len() as i64;
    let bound = |name: &str, default: i64| {
        let v = a.and_then(|a| a.int(name)).unwrap_or(default);
        (if v < 0 { v + rank } else { v }).clamp(0, rank) as usize
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    let dims = x.shape.get(start..end.max(start)).unwrap_or_default().iter().map(|&d| d as i64).collect();
    Ok(vec![Some(Fact::constant(Tensor::vec_i64(dims)))])
}

/// The shape of an operand follows it: a place that uses it for anything else than a shape is found when rewriting.
pub(super) fn couple(_: &mut Coupling) -> Result<()> {
    Ok(())
}
