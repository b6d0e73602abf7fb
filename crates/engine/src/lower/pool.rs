//! Pooling and reductions over pixels.

use graph::Node;
use graph::ops::{Pool, Reduce, ReduceKind};

use super::Lowering;
use crate::error::Result;
use crate::network::Operation;

impl Lowering<'_> {
    pub(super) fn pool(&mut self, node: &Node, op: &Pool) -> Result<()> {
        let x = self.operand(node, 0)?;
        let Some([_, _, spatial @ ..]) = self.shape(node, 0) else { return self.unsupported(node, "its operand has no spatial axis") };
        let mut window = op.window.clone();
        let mut pads = window.resolve_pads(spatial, &window.kernel);
        if spatial.len() == 1 {
            pads.insert(0, (0, 0));
            window.kernel.insert(0, 1);
            window.strides = vec![1, op.window.stride(0)];
            window.dilations = vec![1, op.window.dilation(0)];
        }
        let operation = Operation::Pool { kind: op.kind, pad: (pads[0].0, pads[1].0), pad_end: (pads[0].1, pads[1].1), window };
        self.step(node, operation, vec![x])
    }

    pub(super) fn reduce(&mut self, node: &Node, op: &Reduce) -> Result<()> {
        let x = self.operand(node, 0)?;
        let rank = self.shape(node, 0).map_or(0, <[usize]>::len);
        let i = self.inference(node);
        let axes = op.resolve_axes(&i, rank)?;
        let spatial: Vec<usize> = (2..rank).collect();
        let maximum = match op.kind {
            ReduceKind::GlobalAveragePool => false,
            ReduceKind::GlobalMaxPool => true,
            ReduceKind::Mean if axes.as_ref() == Some(&spatial) => false,
            ReduceKind::Max if axes.as_ref() == Some(&spatial) => true,
            _ => return self.unsupported(node, "it does not reduce all pixels to their mean or maximum"),
        };
        self.step(node, Operation::GlobalPool { maximum }, vec![x])
    }
}
