//! Convolutions that were checked once, so that running them needs no bounds.

use std::ops::Range;

use super::buffer::Buffer;
use super::order::{Order, panel};
use super::shares::{Operands, Share, Whole, divide};
use super::table::{Access, Isa, kernel};
use super::team::Team;
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

/// Tiles that meet the weights of a panel before the next: these come from the second-level cache once for all of them.
const BATCH: usize = 16;

/// A tile with its kernel and places.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    kernel: TileKernel,
    /// Rows of the result.
    pub rows: Range<usize>,
    columns: usize,
    input: usize,
    output: usize,
    residual: usize,
}

#[derive(Debug, Clone)]
enum Plan {
    Tiles {
        tiles: Vec<Placed>,
        passes: usize,
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
    /// One per thread.
    shares: Vec<Share>,
    /// Weights per survivor.
    span: usize,
    lists: Vec<List>,
    offsets: Vec<u32>,
    weights: Buffer,
    bias: Buffer,
    groups: usize,
    /// Weights of a panel, which a batch of tiles meets before the next; `None` where each tile meets all weights of a chunk.
    panel: Option<usize>,
    input_row: usize,
    input_step: usize,
    input: View,
    depthwise: bool,
    blocks: usize,
    output: View,
    residual: Option<View>,
    clamp: Clamp,
}

impl Convolution {
    /// Fixes kernels, tiles and the order of the work; with `one_pass` tiles leave no partial sums in the output. `None` where some
    /// access would leave its buffer, or there is no kernel for a tile: the caller's arithmetic is wrong then.
    pub fn new(
        isa: Isa,
        geometry: &Geometry,
        survivors: &Survivors,
        bias: &[f32],
        tiles: &[Tile],
        clamp: Clamp,
        one_pass: bool,
    ) -> Option<Self> {
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
        let single = output.extent.is_vector() && survivors.blocks == 1 && !vector;
        let order = Order::new(isa, survivors, geometry, tiles.first().filter(|_| !single).map(|t| t.shape), one_pass);
        let plan = if single {
            let at = |v: &View| v.base;
            Plan::Vector { kernel: vector_kernel(isa)?, input: base, output: at(&output), residual: residual.as_ref().map_or(0, at) }
        } else {
            let place = |t: &Tile| {
                let inside = t.shape.blocks == survivors.blocks && t.y + t.shape.rows <= bottom + 1 && t.x + t.shape.columns <= right + 1;
                let at = |v: &View| v.base + t.y * v.row + t.x * v.lanes;
                inside.then_some(Placed {
                    kernel: kernel(isa, access, t.shape)?,
                    columns: t.shape.columns,
                    input: base + t.y * stride.0 * input.row + t.x * access.step,
                    rows: t.y..t.y + t.shape.rows,
                    output: at(&output),
                    residual: residual.as_ref().map_or(0, at),
                })
            };
            Plan::Tiles { tiles: tiles.iter().map(place).collect::<Option<_>>()?, passes: order.passes }
        };
        let mut padded = bias.to_vec();
        padded.resize(blocks * LANES, 0.0);
        let tiles = if let Plan::Tiles { tiles, .. } = &plan { tiles.len() } else { 1 };
        Some(Self {
            plan,
            shares: vec![Share { tiles: 0..tiles, chunks: order.chunks }],
            span: LANES * survivors.blocks,
            lists: order.lists,
            offsets: survivors.offsets.clone(),
            weights: Buffer::from_slice(&order.weights),
            bias: Buffer::from_slice(&padded),
            groups,
            panel: panel(isa, survivors),
            input_row: stride.0 * input.row,
            input_step: access.step,
            input,
            depthwise: vector,
            blocks: survivors.blocks,
            output,
            residual,
            clamp,
        })
    }

    /// Divides the work among at most `threads` threads, each with at least `least` multiply-adds of 16. The result stays the
    /// same, bit for bit.
    #[must_use]
    pub fn divided(mut self, threads: usize, least: usize) -> Self {
        let pixels: Vec<usize> = match &self.plan {
            _ if threads < 2 => return self,
            // Two threads must not write the same pixel.
            Plan::Tiles { tiles, .. } if overlap(tiles, &self.output) => return self,
            Plan::Tiles { tiles, .. } => tiles.iter().map(|t| t.rows.len() * t.columns).collect(),
            Plan::Vector { .. } => vec![1],
        };
        let whole = Whole {
            pixels: &pixels,
            chunks: &self.shares[0].chunks,
            lists: &self.lists,
            groups: self.groups,
            span: self.span,
            input_bytes: self.input.len * size_of::<f32>(),
        };
        self.shares = divide(whole, threads, least);
        self
    }

    /// Computes the result, with as many threads as it was divided for. Meanwhile the first weights of the `next` convolution are
    /// asked for.
    ///
    /// # Panics
    /// Buffers shorter than those it was made for; a residual where it was made without, or the other way round; a smaller team
    /// than it was divided for.
    pub fn run(&self, input: &[f32], output: &mut [f32], residual: Option<&[f32]>, next: Option<&Self>, team: Option<&Team>) {
        self.assert_input(input);
        self.assert_output(output);
        assert_eq!(residual.is_some(), self.residual.is_some());
        assert!(residual.zip(self.residual).is_none_or(|(r, v)| r.len() >= v.len));
        let residual = residual.map(<[f32]>::as_ptr);
        let operands = Operands { input: input.as_ptr(), output: output.as_mut_ptr(), residual, middle: std::ptr::null_mut() };
        // SAFETY: the lengths were just checked, and the slices are borrowed until all shares are done. No two shares write the
        // same element: they differ in filters, or in tiles, which do not overlap where there is more than one share.
        let share = |i: usize| unsafe { self.run_share(&self.shares[i], operands.get(), next.map(|n| n.first_weights(i))) };
        Team::spread(team, self.shares.len(), share);
    }

    /// Computes one share of the result.
    ///
    /// # Safety
    /// The operands are as long as those this was made for, the residual is there if it was then, and nobody else reads or writes
    /// meanwhile what the share writes.
    unsafe fn run_share(&self, share: &Share, operands: Operands, next: Option<&[f32]>) {
        let Operands { input, output, residual, .. } = operands;
        let added = |at: usize| residual.map_or(std::ptr::null(), |r| r.wrapping_add(at));
        let part = |first: usize, last: usize| Groups { first: first as u32, last: last as u32 };
        match &self.plan {
            Plan::Tiles { tiles, passes } => {
                let tiles = &tiles[share.tiles.clone()];
                for (c, chunk) in share.chunks.iter().enumerate() {
                    let wanted = match share.chunks.get(c + 1) {
                        Some(n) => &self.weights.as_slice()[n.start..n.end],
                        None => next.unwrap_or_default(),
                    };
                    let next_step = size_of_val(wanted).div_ceil((chunk.survivors * tiles.len()).max(1)).min(128);
                    // Of nothing wanted, a place that is there: asking for pages that are not costs time.
                    let mut ahead = if wanted.is_empty() { self.weights.as_slice().as_ptr() } else { wanted.as_ptr() };
                    let whole = self.layer(next_step);
                    let compute = |t: &Placed, pass: usize, groups: Groups, ahead: *const f32| {
                        let (x, y) = (input.wrapping_add(t.input), output.wrapping_add(t.output));
                        let mut layer = Layer { lists: whole.lists.wrapping_add(pass * self.groups), ..whole };
                        let mut plus = added(t.residual);
                        if pass > 0 {
                            layer.bias = std::ptr::null();
                        }
                        if pass + 1 < *passes {
                            (layer.low, layer.high, layer.slope) = (Clamp::NONE.low, Clamp::NONE.high, Clamp::NONE.slope);
                            plus = std::ptr::null();
                        }
                        // SAFETY: the CPU has the instruction set and the largest input, output and residual element of any
                        // tile lies in its buffer: `new` checked both, and the caller vouches for the buffers. There
                        // are lists for every pass, and they lie within offsets and weights; `bias` was filled up to whole
                        // groups.
                        unsafe { (t.kernel)(&layer, x, y, plus, groups, ahead) }
                    };
                    let Some(panel) = self.panel else {
                        let groups = part(chunk.first, chunk.last);
                        let ahead_per_pass = chunk.survivors * next_step / passes;
                        for t in tiles {
                            for pass in 0..*passes {
                                compute(t, pass, groups, ahead);
                                ahead = ahead.wrapping_byte_add(ahead_per_pass);
                            }
                        }
                        continue;
                    };
                    for batch in tiles.chunks(BATCH) {
                        let mut first = chunk.first;
                        while first < chunk.last {
                            let last = if *passes > 1 { first + 1 } else { self.panel_end(first, chunk.last, panel) };
                            let ahead_per_pass = chunk.survivors * next_step * (last - first) / (chunk.last - chunk.first) / passes;
                            for pass in 0..*passes {
                                for t in batch {
                                    compute(t, pass, part(first, last), ahead);
                                    ahead = ahead.wrapping_byte_add(ahead_per_pass);
                                }
                            }
                            first = last;
                        }
                    }
                }
            }
            Plan::Vector { kernel, input: from, output: to, residual } => {
                let (x, y) = (input.wrapping_add(*from), output.wrapping_add(*to));
                for chunk in &share.chunks {
                    // SAFETY: as above, for the one output pixel there is.
                    unsafe { kernel(&self.layer(0), x, y, added(*residual), part(chunk.first, chunk.last), std::ptr::null()) }
                }
            }
        }
    }
}

/// Parts of the work.
impl Convolution {
    /// What kernels are told of it.
    fn layer(&self, next_step: usize) -> Layer {
        Layer {
            input_row: self.input_row,
            input_step: self.input_step,
            lists: self.lists.as_ptr(),
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
        }
    }

    /// One past the last group, up to `last`, of those from `first` whose weights are together at most `panel`.
    fn panel_end(&self, first: usize, last: usize, panel: usize) -> usize {
        let mut weights = 0;
        let fits = |list: &&List| {
            weights += list.count as usize * self.span;
            weights <= panel
        };
        first + self.lists[first..last].iter().take_while(fits).count().max(1)
    }

    /// The tiles, if they are computed one after the other in one pass over the channels.
    pub(super) fn single_pass(&self) -> Option<&[Placed]> {
        match &self.plan {
            Plan::Tiles { tiles, passes: 1, .. } => Some(tiles),
            _ => None,
        }
    }

    /// Computes some tiles for some groups of filter blocks.
    ///
    /// # Safety
    /// There is one pass and no residual. Pointers are to the first elements of buffers as [`Convolution::run`] takes them, at least as far
    /// as these tiles and groups read and write.
    pub(super) unsafe fn run_tiles(&self, tiles: Range<usize>, groups: Groups, input: *const f32, output: *mut f32) {
        let layer = self.layer(0);
        let Some(all) = self.single_pass() else { return };
        for t in &all[tiles] {
            let ahead = self.weights.as_slice().as_ptr();
            // SAFETY: of the caller; `new` checked every access within such buffers.
            unsafe { (t.kernel)(&layer, input.wrapping_add(t.input), output.wrapping_add(t.output), std::ptr::null(), groups, ahead) }
        }
    }

    /// # Panics
    /// It is shorter than those it was made for.
    pub(super) fn assert_input(&self, input: &[f32]) {
        assert!(input.len() >= self.input.len);
    }

    /// # Panics
    /// It is shorter than those it was made for.
    pub(super) fn assert_output(&self, output: &[f32]) {
        assert!(output.len() >= self.output.len);
    }

    /// Where it reads.
    pub(super) fn input_view(&self) -> &View {
        &self.input
    }

    /// Where it writes.
    pub(super) fn output_view(&self) -> &View {
        &self.output
    }

    /// Something is added to its result.
    pub(super) fn has_residual(&self) -> bool {
        self.residual.is_some()
    }

    /// Each filter reads its own channel only.
    pub(super) fn is_depthwise(&self) -> bool {
        self.depthwise
    }

    /// Groups of filter blocks.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }

    /// Multiply-adds of 16 of one group of filter blocks, all tiles.
    pub(super) fn operations(&self, group: usize) -> usize {
        let pixels: usize = self.single_pass().map_or(1, |tiles| tiles.iter().map(|t| t.rows.len() * t.columns).sum());
        self.lists.iter().skip(group).step_by(self.groups).map(|l| l.count as usize).sum::<usize>() * self.span / LANES * pixels
    }

    /// Filter blocks per group.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Those that share `i` needs first.
    fn first_weights(&self, i: usize) -> &[f32] {
        match &self.plan {
            Plan::Tiles { .. } => {
                self.shares.get(i).and_then(|s| s.chunks.first()).map_or(&[], |c| &self.weights.as_slice()[c.start..c.end])
            }
            Plan::Vector { .. } => &[],
        }
    }
}

/// Whether some pixel of `output` is in two tiles.
fn overlap(tiles: &[Placed], output: &View) -> bool {
    let mut seen = vec![false; output.len];
    let mut pixels = tiles.iter().flat_map(|t| (0..t.rows.len()).flat_map(move |r| (0..t.columns).map(move |c| (t.output, r, c))));
    pixels.any(|(at, r, c)| std::mem::replace(&mut seen[at + r * output.row + c * output.lanes], true))
}

/// Whether the survivors are of a depthwise convolution, whose 16 weights meet 16 channels.
fn vector_access(survivors: &Survivors, geometry: &Geometry) -> bool {
    survivors.depthwise && geometry.input.lanes == LANES
}
