//! `DepthToSpace`, `SpaceToDepth` and `Tile`.

use crate::attributes::Attributes;
use crate::coupling::labels::{LONGEST, Label};
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs, elements};

/// Blocks of `block`×`block` positions become channels, or channels such blocks, of an operand `[N, C, H, W]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DepthSpace {
    /// Side of a block.
    pub block: usize,
    /// Channels become space (`DepthToSpace`).
    pub to_space: bool,
    /// The position within a block runs fastest (`mode` = `CRD`); otherwise the channel does.
    pub channel_first: bool,
}

impl DepthSpace {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        let block = a.int("blocksize").and_then(|b| usize::try_from(b).ok()).filter(|b| (1..=1 << 15).contains(b));
        Ok(Self {
            block: block.ok_or_else(|| a.error("blocksize is not positive"))?,
            to_space: a.0.op_type() == "DepthToSpace",
            channel_first: a.string("mode") == Some("CRD"),
        })
    }

    /// The operator's ONNX name.
    pub fn name(&self) -> &'static str {
        if self.to_space { "DepthToSpace" } else { "SpaceToDepth" }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let &[n, c, h, w] = x.shape.as_slice() else { return i.error(format!("input {:?} is not of rank 4", x.shape)) };
        let b = self.block;
        let fits = if self.to_space { c.is_multiple_of(b * b) } else { h.is_multiple_of(b) && w.is_multiple_of(b) };
        if !fits {
            return i.error(format!("input {:?} does not divide into blocks of {b}", x.shape));
        }
        i.one(x.dtype, if self.to_space { vec![n, c / (b * b), h * b, w * b] } else { vec![n, c * b * b, h / b, w / b] })
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        c.freeze(0, 2, "cuts it into blocks");
        c.freeze(0, 3, "cuts it into blocks");
        let Some(labels) = c.get(0, 1) else { return Ok(()) };
        let blocks = self.block * self.block;
        if labels.len() * blocks > LONGEST {
            c.freeze_labels(&labels, "makes more of it than any network has channels");
            return Ok(());
        }
        if !self.to_space {
            let all: Vec<Label> = (0..blocks).flat_map(|_| labels.iter().copied()).collect();
            c.set(0, 1, Some(all.into()));
            return Ok(());
        }
        let channels = labels.len() / blocks;
        let position = |k: usize, channel: usize| if self.channel_first { channel * blocks + k } else { k * channels + channel };
        for channel in 0..channels {
            let parts: Vec<Label> = (0..blocks).map(|k| labels[position(k, channel)]).collect();
            c.unify_all(&parts);
        }
        let out: Vec<Label> = (0..channels).map(|channel| labels[position(0, channel)]).collect();
        c.set(0, 1, Some(out.into()));
        Ok(())
    }
}

/// Larger results are not held in memory.
const LARGEST_FOLDED: usize = 1 << 16;

pub(super) fn infer_tile(i: &Inference) -> Result<Outputs> {
    let Some(x) = i.fact(0) else { return i.unknown() };
    let Some(repeats) = i.ints(1) else { return i.unknown() };
    if repeats.len() != x.shape.len() {
        return i.error(format!("repeats {repeats:?} do not fit {:?}", x.shape));
    }
    let shape: Option<Vec<usize>> =
        x.shape.iter().zip(&repeats).map(|(&d, &r)| usize::try_from(r).ok().and_then(|r| d.checked_mul(r))).collect();
    let Some(shape) = shape else { return i.error(format!("repeats {repeats:?} are negative or too many")) };
    match x.constant.as_deref().filter(|_| elements(&shape).is_some_and(|n| n <= LARGEST_FOLDED)) {
        Some(c) => {
            let strides = crate::movement::strides(&x.shape);
            let tiled = c.gather_flat(&shape, |at| at.iter().zip(&x.shape).zip(&strides).map(|((&k, &d), &s)| k % d * s).sum());
            Ok(vec![Some(Fact::constant(tiled))])
        }
        None => i.one(x.dtype, shape),
    }
}

pub(super) fn couple_tile(c: &mut Coupling) -> Result<()> {
    let (x, out) = (c.shape(0), c.output_shape(0));
    for axis in 0..x.len() {
        let Some(labels) = c.get(0, axis) else { continue };
        if out[axis] == x[axis] {
            c.set(0, axis, Some(labels));
        } else if out[axis] > LONGEST {
            c.freeze_labels(&labels, "repeats it more often than any network has channels");
        } else {
            let all: Vec<Label> = (0..out[axis]).map(|k| labels[k % x[axis]]).collect();
            c.set(0, axis, Some(all.into()));
        }
    }
    Ok(())
}
