//! `Squeeze` and `Unsqueeze`.

use super::reshape::couple_reshape;
use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::surgery::rewriter::Rewriter;

/// Axes of size 1 removed or inserted; axes from the attribute (opset < 13) or from input 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Squeeze {
    /// Axes as an attribute.
    pub axes: Option<Vec<i64>>,
}

impl Squeeze {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { axes: a.ints("axes") }
    }

    pub(super) fn infer_squeeze(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let axes = match self.axes.clone().or_else(|| i.ints(1)) {
            Some(a) => a.into_iter().map(|a| resolve_axis(i.node, a, x.shape.len())).collect::<Result<Vec<_>>>()?,
            None if i.has(1) => return i.unknown(),
            None => (0..x.shape.len()).filter(|&d| x.shape[d] == 1).collect(),
        };
        if let Some(&bad) = axes.iter().find(|&&d| x.shape[d] != 1) {
            return i.error(format!("axis {bad} of {:?} is not of size 1", x.shape));
        }
        let shape = x.shape.iter().enumerate().filter(|(d, _)| !axes.contains(d)).map(|(_, &n)| n).collect();
        same_elements(i, shape)
    }

    pub(super) fn infer_unsqueeze(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(axes) = self.axes.clone().or_else(|| i.ints(1)) else { return i.unknown() };
        let rank = x.shape.len() + axes.len();
        let axes = axes.into_iter().map(|a| resolve_axis(i.node, a, rank)).collect::<Result<Vec<_>>>()?;
        let mut old = x.shape.iter();
        let shape: Vec<usize> = (0..rank).filter_map(|d| if axes.contains(&d) { Some(1) } else { old.next().copied() }).collect();
        if shape.len() != rank {
            return i.error(format!("axes {axes:?} name one axis twice"));
        }
        same_elements(i, shape)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        couple_reshape(c);
        Ok(())
    }

    /// Without axes, `Squeeze` would take an axis pruned to 1 along: name them then.
    pub(super) fn rewrite_squeeze(&self, r: &mut Rewriter) -> Result<()> {
        let (Some(old), Some(new)) = (r.old_shape(0).map(<[usize]>::to_vec), r.new_shape(0)) else { return Ok(()) };
        if self.axes.is_some() || r.node.input(1).is_some() || old.iter().zip(&new).all(|(&o, &n)| o == 1 || n > 1) {
            return Ok(());
        }
        let axes = old.iter().enumerate().filter(|(_, d)| **d == 1).map(|(a, _)| a as i64).collect();
        if r.opset() < 13 {
            r.set_ints("axes", axes);
            return Ok(());
        }
        r.want_ints(1, axes)
    }
}

fn same_elements(i: &Inference, shape: Vec<usize>) -> Result<Outputs> {
    let Some(x) = i.fact(0) else { return i.unknown() };
    match x.constant.as_deref().and_then(|c| c.reshape(&shape)) {
        Some(t) => Ok(vec![Some(Fact::constant(t))]),
        None => i.one(x.dtype, shape),
    }
}
