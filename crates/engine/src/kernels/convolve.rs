//! Convolutions that were checked once, so that running them needs no bounds.

use super::buffer::Buffer;
use super::table::{Access, Isa, kernel};
use super::tile::{Groups, Layer, List, TileKernel};
use super::vector::vector_kernel;
use crate::layout::{LANES, View};
use crate::survivors::Survivors;
use crate::tiling::Tile;

/// What happens to a result before it is stored: `min(high, max(low, v))`, negative `v` times `slope` first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clamp {
    /// At least this.
    pub low: f32,
    /// At most this.
    pub high: f32,
    /// Factor of negative results.
    pub slope: f32,
}

impl Clamp {
    /// The identity.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY, slope: 1.0 };
}

/// Where a convolution reads and writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Geometry {
    /// Operand; its halo covers the padding.
    pub input: View,
    /// Rows and columns of padding before the first.
    pub pad: (usize, usize),
    /// Steps of rows and columns.
    pub stride: (usize, usize),
    /// Result.
    pub output: View,
    /// Added to the result before the clamp.
    pub residual: Option<View>,
}

/// Weights of the filter blocks that are computed before the next tile: what stays in the second-level cache.
const CHUNK_BYTES: usize = 512 << 10;

#[derive(Debug, Clone, Copy)]
struct Placed {
    kernel: TileKernel,
    input: usize,
    output: usize,
    residual: usize,
}

#[derive(Debug, Clone)]
enum Plan {
    Tiles {
        tiles: Vec<Placed>,
        chunks: Vec<(usize, usize)>,
    },
    /// One output pixel.
    Vector {
        kernel: TileKernel,
        input: usize,
        output: usize,
        residual: usize,
    },
}

/// A convolution ready to run on buffers of the sizes it was made for.
#[derive(Debug, Clone)]
pub(crate) struct Convolution {
    plan: Plan,
    survivors_lists: Vec<List>,
    offsets: Vec<u32>,
    weights: Buffer,
    bias: Buffer,
    groups: usize,
    /// Weights per survivor.
    span: usize,
    input_row: usize,
    input_step: usize,
    input_len: usize,
    output: View,
    residual: Option<View>,
    clamp: Clamp,
}

impl Convolution {
    /// Fixes kernels, tiles and the order of the work. `None` where some access would leave its buffer, or there is no kernel for
    /// a tile: the caller's arithmetic is wrong then.
    pub fn new(isa: Isa, geometry: &Geometry, survivors: &Survivors, bias: &[f32], tiles: &[Tile], clamp: Clamp) -> Option<Self> {
        if !isa.is_available() {
            return None;
        }
        let Geometry { input, pad, stride, output, residual } = *geometry;
        let vector = vector_access(survivors, geometry);
        let access = Access { step: stride.1 * input.lanes, vector };
        let groups = survivors.lists.len();
        let blocks = groups * survivors.blocks;
        if output.lanes != LANES || output.blocks() != blocks {
            return None;
        }
        let base = input.base.checked_sub(pad.0 * input.row + pad.1 * input.lanes)?;
        let reach = survivors.offsets.iter().map(|&o| o as usize / size_of::<f32>()).max().unwrap_or(0);
        let wide = if vector { LANES - 1 } else { 0 };
        let fits = |v: &View, y: usize, x: usize| v.base + (blocks - 1) * v.block + y * v.row + x * v.lanes + LANES <= v.len;
        let (bottom, right) = (output.extent.height - 1, output.extent.width - 1);
        let last_input = base + bottom * stride.0 * input.row + right * stride.1 * input.lanes + reach + wide;
        let lists_fit = survivors.lists.iter().all(|l| {
            (l.offsets + l.count) as usize <= survivors.offsets.len()
                && (l.weights + l.count) as usize * LANES * survivors.blocks <= survivors.weights.len()
        });
        let residual_fits = residual.is_none_or(|r| r.lanes == LANES && fits(&r, bottom, right));
        if last_input >= input.len || !fits(&output, bottom, right) || !residual_fits || !lists_fit {
            return None;
        }
        let plan = if output.extent.is_vector() && survivors.blocks == 1 && !vector {
            let at = |v: &View| v.base;
            Plan::Vector { kernel: vector_kernel(isa)?, input: base, output: at(&output), residual: residual.as_ref().map_or(0, at) }
        } else {
            let place = |t: &Tile| {
                let inside = t.shape.blocks == survivors.blocks && t.y + t.shape.rows <= bottom + 1 && t.x + t.shape.columns <= right + 1;
                let at = |v: &View| v.base + t.y * v.row + t.x * v.lanes;
                inside.then_some(Placed {
                    kernel: kernel(isa, access, t.shape)?,
                    input: base + t.y * stride.0 * input.row + t.x * access.step,
                    output: at(&output),
                    residual: residual.as_ref().map_or(0, at),
                })
            };
            Plan::Tiles { tiles: tiles.iter().map(place).collect::<Option<_>>()?, chunks: chunks(survivors) }
        };
        let mut padded = bias.to_vec();
        padded.resize(blocks * LANES, 0.0);
        Some(Self {
            plan,
            survivors_lists: survivors.lists.clone(),
            offsets: survivors.offsets.clone(),
            weights: Buffer::from_slice(&survivors.weights),
            bias: Buffer::from_slice(&padded),
            groups,
            span: LANES * survivors.blocks,
            input_row: stride.0 * input.row,
            input_step: access.step,
            input_len: input.len,
            output,
            residual,
            clamp,
        })
    }

    /// Computes the result. Meanwhile the first weights of the `next` convolution are asked for.
    ///
    /// # Panics
    /// Buffers shorter than those it was made for; a residual where it was made without, or the other way round.
    pub fn run(&self, input: &[f32], output: &mut [f32], residual: Option<&[f32]>, next: Option<&Self>) {
        assert!(input.len() >= self.input_len && output.len() >= self.output.len);
        assert_eq!(residual.is_some(), self.residual.is_some());
        assert!(residual.zip(self.residual).is_none_or(|(r, v)| r.len() >= v.len));
        let layer = |next_step| Layer {
            input_row: self.input_row,
            input_step: self.input_step,
            lists: self.survivors_lists.as_ptr(),
            offsets: self.offsets.as_ptr(),
            weights: self.weights.as_slice().as_ptr(),
            bias: self.bias.as_slice().as_ptr(),
            output_row: self.output.row,
            output_block: self.output.block,
            residual_row: self.residual.map_or(0, |r| r.row),
            residual_block: self.residual.map_or(0, |r| r.block),
            low: self.clamp.low,
            high: self.clamp.high,
            slope: self.clamp.slope,
            next_step,
        };
        let (input, output) = (input.as_ptr(), output.as_mut_ptr());
        let added = |at: usize| residual.map_or(std::ptr::null(), |r| r.as_ptr().wrapping_add(at));
        let part = |first: usize, last: usize| Groups { first: first as u32, last: last as u32 };
        match &self.plan {
            Plan::Tiles { tiles, chunks } => {
                for (c, &(first, last)) in chunks.iter().enumerate() {
                    let survivors: usize = self.survivors_lists[first..last].iter().map(|l| l.count as usize).sum();
                    let wanted = match chunks.get(c + 1) {
                        Some(&(from, to)) => self.weights_of(from, to),
                        None => next.map_or(&[][..], Self::first_weights),
                    };
                    let next_step = size_of_val(wanted).div_ceil((survivors * tiles.len()).max(1)).min(128);
                    // Of nothing wanted, a place that is there: asking for pages that are not costs time.
                    let from = if wanted.is_empty() { self.weights.as_slice().as_ptr() } else { wanted.as_ptr() };
                    let layer = layer(next_step);
                    for (i, t) in tiles.iter().enumerate() {
                        let ahead = from.wrapping_byte_add(i * survivors * next_step);
                        let (x, y) = (input.wrapping_add(t.input), output.wrapping_add(t.output));
                        // SAFETY: the CPU has the instruction set and the largest input, output and residual element of any tile
                        // lies in its buffer: `new` checked both, and the lengths of the buffers were checked above. The lists lie
                        // within offsets and weights, and `bias` was filled up to whole groups.
                        unsafe { (t.kernel)(&layer, x, y, added(t.residual), part(first, last), ahead) }
                    }
                }
            }
            Plan::Vector { kernel, input: from, output: to, residual } => {
                let (x, y) = (input.wrapping_add(*from), output.wrapping_add(*to));
                // SAFETY: as above, for the one output pixel there is.
                unsafe { kernel(&layer(0), x, y, added(*residual), part(0, self.groups), std::ptr::null()) }
            }
        }
    }
}

impl Convolution {
    /// Weights of the groups `first..last`.
    fn weights_of(&self, first: usize, last: usize) -> &[f32] {
        let start = self.survivors_lists[first].weights as usize;
        let end = self.survivors_lists[last - 1];
        &self.weights.as_slice()[start * self.span..(end.weights + end.count) as usize * self.span]
    }

    /// Those that are needed first.
    fn first_weights(&self) -> &[f32] {
        match &self.plan {
            Plan::Tiles { chunks, .. } => chunks.first().map_or(&[], |&(first, last)| self.weights_of(first, last)),
            Plan::Vector { .. } => &[],
        }
    }
}

/// Whether the survivors are of a depthwise convolution, whose 16 weights meet 16 channels.
fn vector_access(survivors: &Survivors, geometry: &Geometry) -> bool {
    survivors.depthwise && geometry.input.lanes == LANES
}

/// Ranges of block groups of which the weights stay in cache.
fn chunks(survivors: &Survivors) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (g, l) in survivors.lists.iter().enumerate() {
        let size = l.count as usize * LANES * survivors.blocks * size_of::<f32>();
        if bytes > 0 && bytes + size > CHUNK_BYTES {
            out.push((first, g));
            (first, bytes) = (g, 0);
        }
        bytes += size;
    }
    out.push((first, survivors.lists.len()));
    out
}
