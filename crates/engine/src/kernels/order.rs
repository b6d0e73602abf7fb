//! In which order the work of a convolution is done, so that what is used again is still in cache.
//!
//! Outermost are *chunks* of filter blocks whose weights stay in the second-level cache, then tiles, then *passes* over channels:
//! where few weights per channel survive, the input of a tile would stream from the second-level cache for every filter block,
//! faster than that gives it. A pass takes as many channels as the first-level cache holds and leaves partial sums in the output.
//!
//! Tiles of few pixels use up weights faster than pixels. There it is the weights of a pass that the first-level cache holds, and a
//! *batch* of neighbouring tiles meets them before the next: [`Isa::panel_bytes`].

use super::convolve::Geometry;
use super::table::{Isa, Shape};
use super::tile::List;
use crate::layout::LANES;
use crate::survivors::Survivors;

/// Input of a tile that stays in the first-level cache beside weights and outputs, in bytes.
const INPUT_BYTES: usize = 24 << 10;

/// Steps of the kernel per cache line of input below which the line should come from the first-level cache: 16 pixels are a
/// step of eight cycles on a CPU that does two multiply-adds per cycle.
const STEPS_PER_LINE: f64 = 10.0;

/// Survivors per group and pass that are worth loading and storing the sums for.
const WORTH_A_PASS: usize = 24;

/// Filter blocks computed for all tiles before the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    /// First group of blocks.
    pub first: usize,
    /// One past the last.
    pub last: usize,
    /// Its first weight.
    pub start: usize,
    /// One past its last.
    pub end: usize,
    /// Survivors in it.
    pub survivors: usize,
}

/// The order of a convolution's work, with the weights in that order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    /// In turn.
    pub chunks: Vec<Chunk>,
    /// Passes over channels for each tile.
    pub passes: usize,
    /// Of all groups for the first pass, then for the second …
    pub lists: Vec<List>,
    /// As the lists say.
    pub weights: Vec<f32>,
}

impl Order {
    /// The order for tiles like `shape`; with `one_pass` every tile meets all channels at once.
    pub fn new(isa: Isa, survivors: &Survivors, geometry: &Geometry, shape: Option<Shape>, one_pass: bool) -> Self {
        let groups = survivors.lists.len();
        let span = LANES * survivors.blocks;
        let slices = slices(isa, survivors).filter(|_| shape.is_some());
        let per_pass = shape.filter(|_| !one_pass && slices.is_none()).and_then(|s| channel_blocks_per_pass(survivors, geometry, s));
        let per_pass = per_pass.unwrap_or(usize::MAX);
        let block_of = |offset: u32| offset as usize / size_of::<f32>() / geometry.input.block.max(1);
        let passes = match slices {
            _ if one_pass => 1,
            Some(slices) => slices,
            None if per_pass == usize::MAX => 1,
            None => geometry.input.blocks().div_ceil(per_pass),
        };
        let mut out = Self {
            chunks: Vec::new(),
            passes,
            lists: vec![List { offsets: 0, weights: 0, count: 0 }; groups * passes],
            weights: Vec::with_capacity(survivors.weights.len()),
        };
        let mut first = 0;
        while first < groups {
            let (mut last, mut bytes) = (first, 0);
            while last < groups {
                let size = survivors.lists[last].count as usize * span * size_of::<f32>();
                if last > first && bytes + size > isa.chunk_bytes() {
                    break;
                }
                bytes += size;
                last += 1;
            }
            let start = out.weights.len();
            for pass in 0..passes {
                for g in first..last {
                    let list = survivors.lists[g];
                    let offsets = &survivors.offsets[list.offsets as usize..(list.offsets + list.count) as usize];
                    // Offsets are sorted by block of channels.
                    let (from, to) = if passes == 1 || slices.is_some() {
                        (offsets.len() * pass / passes, offsets.len() * (pass + 1) / passes)
                    } else {
                        let at = |p: usize| offsets.partition_point(|&o| block_of(o) < p * per_pass);
                        (at(pass), at(pass + 1))
                    };
                    let weights = (out.weights.len() / span) as u32;
                    let begin = (list.weights as usize + from) * span;
                    out.weights.extend_from_slice(&survivors.weights[begin..begin + (to - from) * span]);
                    out.lists[pass * groups + g] = List { offsets: list.offsets + from as u32, weights, count: (to - from) as u32 };
                }
            }
            let survivors = (out.weights.len() - start) / span;
            out.chunks.push(Chunk { first, last, start, end: out.weights.len(), survivors });
            first = last;
        }
        out
    }
}

/// Weights of a panel; `None` where there are none: of single blocks few survive, and few of a pass would be worth less than the
/// partial sums cost.
pub(super) fn panel(isa: Isa, survivors: &Survivors) -> Option<usize> {
    isa.panel_bytes().filter(|_| survivors.blocks > 1).map(|bytes| bytes / size_of::<f32>())
}

/// Passes after which the weights of a group fit a panel; `None` where there are no panels.
fn slices(isa: Isa, survivors: &Survivors) -> Option<usize> {
    let longest = survivors.lists.iter().map(|l| l.count as usize).max()?;
    Some((longest * LANES * survivors.blocks).div_ceil(panel(isa, survivors)?).max(1))
}

/// Blocks of 16 channels per pass; `None` for all at once.
fn channel_blocks_per_pass(survivors: &Survivors, geometry: &Geometry, shape: Shape) -> Option<usize> {
    let input = &geometry.input;
    let groups = survivors.lists.len();
    if survivors.depthwise || input.lanes != LANES || groups < 4 {
        return None;
    }
    // How far the kernel reaches within a plane: its last row and column.
    let reach = survivors.offsets.iter().map(|&o| o as usize / size_of::<f32>() % input.block).max()?;
    let (rows, columns) = (reach / input.row, survivors.offsets.iter().map(|&o| o as usize / size_of::<f32>() % input.row).max()? / LANES);
    let touched = |tile: usize, stride: usize, kernel: usize| ((tile - 1) * stride + 1 + kernel).min(tile * (kernel + 1));
    let lines = touched(shape.rows, geometry.stride.0, rows) * touched(shape.columns, geometry.stride.1, columns);
    let per_group = survivors.lists.iter().map(|l| l.count as usize).sum::<usize>() / groups;
    let per_block = per_group as f64 / input.blocks() as f64;
    let steps = per_block * (shape.rows * shape.columns * shape.blocks) as f64 / lines as f64;
    let line_bytes = LANES * size_of::<f32>();
    if lines * input.blocks() * line_bytes <= INPUT_BYTES * 3 / 2 || steps > STEPS_PER_LINE {
        return None;
    }
    let fit = INPUT_BYTES / (lines * line_bytes);
    let worth = (WORTH_A_PASS as f64 / per_block.max(1e-6)).ceil() as usize;
    let blocks = fit.max(worth).max(1);
    // Passes of equal size.
    let passes = input.blocks().div_ceil(blocks);
    (passes > 1).then(|| input.blocks().div_ceil(passes))
}
