//! Reductions over axes, global pooling among them.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, resolve_axis};
use crate::proto::tensor_proto::DataType;
use crate::tensor::Tensor;

/// Which reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ReduceKind {
    Mean,
    Sum,
    Max,
    Min,
    Prod,
    L2,
    ArgMax,
    /// Mean over all spatial axes of `[N, C, …]`.
    GlobalAveragePool,
    /// Maximum over all spatial axes of `[N, C, …]`.
    GlobalMaxPool,
}

/// A reduction; axes from the attribute or from input 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduce {
    /// Which reduction.
    pub kind: ReduceKind,
    /// Axes as an attribute.
    pub axes: Option<Vec<i64>>,
    /// Reduced axes stay with size 1.
    pub keep_dims: bool,
    /// With no axes given, nothing is reduced.
    pub noop_with_empty_axes: bool,
}

impl Reduce {
    pub(crate) fn parse(a: &Attributes) -> Result<Option<Self>> {
        let kind = match a.0.op_type() {
            "ReduceMean" => ReduceKind::Mean,
            "ReduceSum" => ReduceKind::Sum,
            "ReduceMax" => ReduceKind::Max,
            "ReduceMin" => ReduceKind::Min,
            "ReduceProd" => ReduceKind::Prod,
            "ReduceL2" => ReduceKind::L2,
            "ArgMax" => ReduceKind::ArgMax,
            "GlobalAveragePool" => ReduceKind::GlobalAveragePool,
            "GlobalMaxPool" => ReduceKind::GlobalMaxPool,
            _ => return Ok(None),
        };
        let axes = if kind == ReduceKind::ArgMax { Some(vec![a.int("axis").unwrap_or(0)]) } else { a.ints("axes") };
        Ok(Some(Self {
            kind,
            axes,
            keep_dims: a.int("keepdims").unwrap_or(1) != 0,
            noop_with_empty_axes: a.int("noop_with_empty_axes").unwrap_or(0) != 0,
        }))
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            ReduceKind::Mean => "ReduceMean",
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Max => "ReduceMax",
            ReduceKind::Min => "ReduceMin",
            ReduceKind::Prod => "ReduceProd",
            ReduceKind::L2 => "ReduceL2",
            ReduceKind::ArgMax => "ArgMax",
            ReduceKind::GlobalAveragePool => "GlobalAveragePool",
            ReduceKind::GlobalMaxPool => "GlobalMaxPool",
        }
    }

    /// The reduced axes of an operand of rank `rank`, ascending; `None` where they are not constants.
    ///
    /// # Errors
    /// An axis out of range.
    pub fn resolve_axes(&self, i: &Inference, rank: usize) -> Result<Option<Vec<usize>>> {
        if matches!(self.kind, ReduceKind::GlobalAveragePool | ReduceKind::GlobalMaxPool) {
            return Ok(Some((2..rank).collect()));
        }
        let given = match (&self.axes, i.has(1)) {
            (Some(a), _) => Some(a.clone()),
            (None, true) => match i.ints(1) {
                Some(a) => Some(a),
                None => return Ok(None),
            },
            (None, false) => None,
        };
        let mut axes = match given {
            Some(a) if !a.is_empty() => a.into_iter().map(|x| resolve_axis(i.node, x, rank)).collect::<Result<Vec<_>>>()?,
            _ if self.noop_with_empty_axes => Vec::new(),
            _ => (0..rank).collect(),
        };
        axes.sort_unstable();
        axes.dedup();
        Ok(Some(axes))
    }

    /// Whether reduced axes stay with size 1.
    pub fn keeps_dims(&self) -> bool {
        self.keep_dims || matches!(self.kind, ReduceKind::GlobalAveragePool | ReduceKind::GlobalMaxPool)
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let Some(axes) = self.resolve_axes(i, x.shape.len())? else { return i.unknown() };
        let shape: Vec<usize> = x
            .shape
            .iter()
            .enumerate()
            .filter_map(|(d, &n)| if !axes.contains(&d) { Some(n) } else { self.keeps_dims().then_some(1) })
            .collect();
        if let (Some(c), true) = (i.ints(0), axes.len() == x.shape.len()) {
            let value = match self.kind {
                ReduceKind::Sum => c.iter().try_fold(0i64, |a, &v| a.checked_add(v)),
                ReduceKind::Prod => c.iter().try_fold(1i64, |a, &v| a.checked_mul(v)),
                ReduceKind::Max => c.iter().copied().max(),
                ReduceKind::Min => c.iter().copied().min(),
                _ => None,
            };
            if let (Some(v), DataType::Int64) = (value, x.dtype) {
                return Ok(vec![Some(Fact::constant(Tensor::i64(shape, vec![v])))]);
            }
        }
        i.one(if self.kind == ReduceKind::ArgMax { DataType::Int64 } else { x.dtype }, shape)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let rank = c.shape(0).len();
        let Some(reduced) = self.resolve_axes(&c.inference(), rank)? else {
            (0..rank).for_each(|axis| c.freeze(0, axis, "reduces over axes that are computed"));
            return Ok(());
        };
        let mut to = 0;
        for axis in 0..rank {
            if !reduced.contains(&axis) {
                let labels = c.get(0, axis);
                c.set(0, to, labels);
                to += 1;
                continue;
            }
            if self.kind == ReduceKind::Mean {
                c.statistic(axis, Vec::new(), false);
            } else if matches!(self.kind, ReduceKind::Sum | ReduceKind::L2) {
                // A silenced channel adds nothing.
                c.contract(0, axis);
                if c.get(0, axis).is_some_and(|l| l.len() == 1) {
                    c.freeze(0, axis, "sums over it");
                }
            } else {
                c.freeze(0, axis, "reduces over it, so that removing a channel would change the result");
            }
            to += usize::from(self.keeps_dims());
        }
        Ok(())
    }
}
