//! `MaxPool` and `AveragePool`.

use super::window::Window;
use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};
use crate::proto::tensor_proto::DataType;

/// Which statistic of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolKind {
    /// Maximum; padding counts as −∞.
    Max,
    /// Mean; padding counts as 0 where `include_pad` is set and not at all otherwise.
    Average {
        /// Padding counts in the denominator.
        include_pad: bool,
    },
}

/// Local pooling of an operand `[N, C, …]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Kernel, strides, dilations, padding.
    pub window: Window,
    /// Which statistic.
    pub kind: PoolKind,
    /// Output sizes are rounded up.
    pub ceil: bool,
}

impl Pool {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let kind = match a.0.op_type() {
            "MaxPool" => PoolKind::Max,
            _ => PoolKind::Average { include_pad: a.int("count_include_pad").unwrap_or(0) != 0 },
        };
        Ok(Self { window: Window::parse(a)?, kind, ceil: a.int("ceil_mode").unwrap_or(0) != 0 })
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            PoolKind::Max => "MaxPool",
            PoolKind::Average { .. } => "AveragePool",
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        if x.shape.len() < 3 {
            return i.error(format!("input {:?} has no spatial axis", x.shape));
        }
        let mut shape = x.shape[..2].to_vec();
        shape.extend(self.window.output(i, &x.shape[2..], &self.window.kernel, self.ceil)?);
        let mut out = vec![Some(Fact::new(x.dtype, shape.clone()))];
        if i.node.outputs.len() > 1 {
            out.push(Some(Fact::new(DataType::Int64, shape)));
        }
        Ok(out)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        for axis in 2..c.shape(0).len() {
            c.freeze(0, axis, "slides over it");
        }
        let labels = c.get(0, 1);
        if let Some(labels) = labels
            .as_ref()
            .filter(|_| c.node.output(1).is_some_and(|v| !c.graph.value(v).consumers.is_empty() || c.graph.value(v).is_output))
        {
            c.freeze_labels(labels, "gives out positions that count channels");
        }
        c.set(0, 1, labels);
        Ok(())
    }
}
