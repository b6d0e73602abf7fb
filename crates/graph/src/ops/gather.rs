//! `Gather`.

use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::surgery::rewriter::Rewriter;

/// Entries of input 0 at the indices of input 1 along `axis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// Axis, possibly negative.
    pub axis: i64,
}

impl Gather {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self { axis: a.int("axis").unwrap_or(0) }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let (Some(x), Some(at)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
        let axis = resolve_axis(i.node, self.axis, x.shape.len())?;
        let mut shape = x.shape[..axis].to_vec();
        shape.extend(&at.shape);
        shape.extend(&x.shape[axis + 1..]);
        if let (Some(c), Some(indices)) = (x.constant.as_deref(), i.ints(1)) {
            let dim = x.shape[axis] as i64;
            let wrapped: Vec<i64> = indices.iter().map(|&k| if k < 0 { k + dim } else { k }).collect();
            if let Some(bad) = wrapped.iter().find(|k| !(0..dim).contains(*k)) {
                return i.error(format!("index {bad} is out of range for axis {axis} of {:?}", x.shape));
            }
            let keep: Vec<usize> = wrapped.into_iter().map(|k| k as usize).collect();
            if let Some(t) = c.select(axis, &keep).reshape(&shape) {
                return Ok(vec![Some(Fact::constant(t))]);
            }
        }
        i.one(x.dtype, shape)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let x = c.shape(0);
        let along = resolve_axis(c.node, self.axis, x.len())?;
        let index_rank = c.shape(1).len();
        for axis in (0..x.len()).filter(|&a| a != along) {
            let labels = c.get(0, axis);
            if labels.is_some() {
                c.role(0, axis, Role::Produced);
            }
            c.set(0, if axis < along { axis } else { axis + index_rank - 1 }, labels);
        }
        let Some(labels) = c.get(0, along) else { return Ok(()) };
        // Indices are checked here, since shapes do not depend on them.
        let indices = c.inference().ints(1);
        if let Some(bad) = indices.iter().flatten().find(|&&k| wrap(k, x[along]) >= x[along]) {
            return Err(c.node.error(format!("index {bad} is out of range for axis {along} of {x:?}")));
        }
        match indices {
            // One coordinate is taken out of the axis, and must stay; the others are free.
            Some(at) if index_rank == 0 => {
                let taken = labels[wrap(at[0], x[along])];
                c.freeze_labels(&[taken], "takes this coordinate alone");
            }
            Some(at) if index_rank == 1 => {
                let selected = at.iter().map(|&k| labels[wrap(k, x[along])]).collect();
                c.set(0, along, Some(selected));
            }
            Some(_) => c.freeze_labels(&labels, "selects from it with indices of more than one axis"),
            None => c.freeze_labels(&labels, "selects from it with indices that are computed"),
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let Some(x) = r.old_shape(0).map(<[usize]>::to_vec) else { return Ok(()) };
        let along = resolve_axis(r.node, self.axis, x.len())?;
        let (Some(kept), Some(at)) = (r.kept_input(0, along).map(<[usize]>::to_vec), r.old_ints(1)) else { return Ok(()) };
        // The position of each selected coordinate among those kept; removed ones are selected no more.
        let wanted = at.iter().filter_map(|&k| kept.binary_search(&wrap(k, x[along])).ok().map(|p| p as i64)).collect();
        r.want_ints(1, wanted)
    }
}

fn wrap(index: i64, dim: usize) -> usize {
    (if index < 0 { index + dim as i64 } else { index }) as usize
}
