//! Planar convolutions that were checked once, so that running them needs no bounds.

use std::ops::Range;

use super::buffer::Buffer;
use super::convolve::{Clamp, Geometry};
use super::planar::{OFFSETS_BEHIND, PlanarLayer, SUBSETS, SortedList, StripKernel, strip_kernel, strip_lanes};
use super::shares::{Amount, Operands, Split, split};
use super::table::Isa;
use super::team::Team;
use super::tile::Groups;
use crate::layout::{LANES, View};
use crate::sorted::{Batch, Sorted};

/// Pixels of a pass that stay in the first-level cache beside sums and weights, in bytes.
const INPUT_BYTES: usize = 24 << 10;

/// Survivors per group and pass that are worth loading and storing the sums for.
const WORTH_A_PASS: f64 = 24.0;

/// Pixels that follow each other, with their kernel.
#[derive(Debug, Clone)]
struct Strip {
    kernel: StripKernel,
    first: usize,
    pixels: usize,
}

/// Some strips of all filters, or all strips of some filters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Share {
    strips: Range<usize>,
    /// Batches, chunk by chunk.
    chunks: Vec<Vec<Batch>>,
}

/// Weights in the list of a group of `width` filters.
fn weights_in(list: &SortedList, width: usize) -> usize {
    let used = |set: usize| if width == 8 { 8 } else { (set + 1).count_ones() as usize };
    list.counts.iter().enumerate().map(|(set, &c)| c as usize * used(set)).sum()
}

/// A convolution of step 1 from planes to planes of the same pitch.
#[derive(Debug, Clone)]
pub(crate) struct PlanarConvolution {
    strips: Vec<Strip>,
    /// One per thread.
    shares: Vec<Share>,
    /// Filters that the kernels take at a time.
    width: usize,
    passes: usize,
    lists: Vec<SortedList>,
    offsets: Vec<u32>,
    weights: Buffer,
    bias: Buffer,
    /// Bits of the pixels that are between rows or behind the last are zero; empty where there are none.
    mask: Buffer,
    filters: usize,
    input: View,
    /// Of the element that kernel position (0, 0) of channel 0 meets at the first pixel.
    first: usize,
    output: View,
    residual: Option<View>,
    clamp: Clamp,
}

/// The row pitch and planes are such that pixels can be counted through all rows.
fn is_continuous(view: &View, like: &View) -> bool {
    view.lanes == 1 && view.row == like.row && view.extent == like.extent
}

/// Pixels of a plane counted through all rows, in vectors of `lanes`.
fn vectors(view: &View, lanes: usize) -> usize {
    ((view.extent.height - 1) * view.row + view.extent.width).div_ceil(lanes)
}

/// Vectors of the longest strip for lists of `filters`.
fn longest(isa: Isa, filters: usize) -> Option<usize> {
    (1..=6).rev().find(|&p| strip_kernel(isa, filters, p).is_some())
}

/// Channels of `input` whose pixels under a strip stay in the first-level cache while groups of four filters meet them; of eight
/// filters, which meet a pixel with more weights, all. `reach` is how many elements the kernel reaches beyond the pixels,
/// `survivors` how many there are per channel and group.
pub(crate) fn channels_per_pass(isa: Isa, filters: usize, input: &View, reach: usize, survivors: f64) -> usize {
    let all = input.extent.channels;
    let Some(most) = longest(isa, filters).filter(|_| filters == 4) else { return all };
    let rows = reach / input.row + 1;
    let strip = most * strip_lanes(isa);
    let lines = ((reach + strip) / LANES + 2).min(rows * (strip.div_ceil(LANES) + 1));
    let fit = INPUT_BYTES / (lines * LANES * size_of::<f32>());
    let worth = (WORTH_A_PASS / survivors.max(1e-6)).ceil() as usize;
    // Passes of equal size.
    let passes = all.div_ceil(fit.max(worth).max(1));
    all.div_ceil(passes)
}

/// How `vectors` are cut for lists of `filters`: as few strips as possible, of even sizes.
fn cut(isa: Isa, filters: usize, vectors: usize) -> Option<Vec<usize>> {
    let most = longest(isa, filters)?;
    let strips = vectors.div_ceil(most);
    Some((0..strips).map(|i| vectors * (i + 1) / strips - vectors * i / strips).collect())
}

impl PlanarConvolution {
    /// Fixes kernels and the order of the work. `None` where views do not fit together, some access would leave its buffer, or
    /// there is no kernel.
    pub fn new(isa: Isa, geometry: &Geometry, sorted: &Sorted, bias: &[f32], clamp: Clamp) -> Option<Self> {
        let Geometry { input, pad, stride, output, residual } = *geometry;
        let filters = output.extent.channels;
        let pitch = |v: &View| v.lanes == 1 && v.row == output.row;
        if !isa.is_available() || stride != (1, 1) || output.lanes != 1 || !pitch(&input) || bias.len() != filters {
            return None;
        }
        let groups = filters.div_ceil(sorted.filters);
        let in_turn = sorted.batches.iter().try_fold(0, |at, b| (b.first == at && b.first < b.last).then_some(b.last)) == Some(groups);
        if !residual.is_none_or(|r| is_continuous(&r, &output)) || !in_turn || sorted.lists.len() != groups * sorted.passes {
            return None;
        }
        let lanes = strip_lanes(isa);
        let vectors = vectors(&output, lanes);
        let pixels = vectors * lanes;
        let first = input.base.checked_sub(pad.0 * input.row + pad.1)?;
        let reach = sorted.offsets.iter().map(|&o| o as usize / size_of::<f32>()).max().unwrap_or(0);
        // What is written behind the last row stays in the plane.
        let fits = |v: &View| v.base + (filters - 1) * v.block + pixels <= v.len && pixels <= v.block;
        let lists_fit = sorted.lists.iter().all(|l| {
            let survivors: usize = l.counts.iter().map(|&c| c as usize).sum();
            let weights = weights_in(l, sorted.filters);
            let one_set = sorted.filters != 8 || l.counts[1..] == [0; SUBSETS - 1];
            one_set && l.offsets as usize + survivors <= sorted.offsets.len() && l.weights as usize + weights <= sorted.weights.len()
        });
        if first + reach + pixels > input.len || !fits(&output) || !residual.as_ref().is_none_or(fits) || !lists_fit {
            return None;
        }
        let mut strips = Vec::new();
        let mut at = 0;
        for n in cut(isa, sorted.filters, vectors)? {
            strips.push(Strip { kernel: strip_kernel(isa, sorted.filters, n)?, first: at, pixels: n * lanes });
            at += n * lanes;
        }
        let inside = |i: usize| i / output.row < output.extent.height && i % output.row < output.extent.width;
        let mask: Vec<f32> = (0..pixels).map(|i| f32::from_bits(if inside(i) { u32::MAX } else { 0 })).collect();
        let whole = (0..pixels).all(inside);
        let mut padded = bias.to_vec();
        padded.resize(groups * sorted.filters, 0.0);
        let mut offsets = sorted.offsets.clone();
        offsets.resize(offsets.len() + OFFSETS_BEHIND, 0);
        Some(Self {
            shares: vec![Share { strips: 0..strips.len(), chunks: chunks(isa, sorted, largest_chunk(isa, &input, &output)) }],
            strips,
            width: sorted.filters,
            passes: sorted.passes,
            lists: sorted.lists.clone(),
            offsets,
            weights: Buffer::from_slice(&sorted.weights),
            bias: Buffer::from_slice(&padded),
            mask: Buffer::from_slice(if whole { &[] } else { &mask }),
            filters,
            input,
            first,
            output,
            residual,
            clamp,
        })
    }

    /// Divides the work among at most `threads` threads, each with at least `least` multiply-adds of 16. The result stays the
    /// same, bit for bit.
    #[must_use]
    pub fn divided(mut self, threads: usize, least: usize) -> Self {
        let all = &self.shares[0].chunks;
        // The lists of a batch are pass by pass, so that only a batch of one pass can be cut.
        let parts: Vec<Batch> = match all.concat() {
            batches if self.passes > 1 => batches,
            batches => batches.into_iter().flat_map(|b| (b.first..b.last).map(|g| Batch { first: g, last: g + 1 })).collect(),
        };
        let lists = |b: &Batch| &self.lists[b.first * self.passes..b.last * self.passes];
        let weights: Vec<usize> = parts.iter().map(|b| lists(b).iter().map(|l| weights_in(l, self.width)).sum()).collect();
        let pixels: Vec<usize> = self.strips.iter().map(|s| s.pixels).collect();
        let input_bytes = self.input.extent.channels * self.input.block * size_of::<f32>();
        let shares = match split(Amount { pixels: &pixels, weights: &weights, input_bytes }, threads, least) {
            Split::One => return self,
            Split::Pixels(ranges) => ranges.into_iter().map(|strips| Share { strips, chunks: all.clone() }).collect(),
            Split::Filters(ranges) => {
                let share =
                    |r: Range<usize>| Share { strips: 0..pixels.len(), chunks: within(all, parts[r.start].first..parts[r.end - 1].last) };
                ranges.into_iter().map(share).collect()
            }
        };
        self.shares = shares;
        self
    }

    /// Computes the result, with as many threads as it was divided for.
    ///
    /// # Panics
    /// Buffers shorter than those it was made for; a residual where it was made without, or the other way round; a smaller team
    /// than it was divided for.
    pub fn run(&self, input: &[f32], output: &mut [f32], residual: Option<&[f32]>, team: Option<&Team>) {
        assert!(input.len() >= self.input.len && output.len() >= self.output.len);
        assert_eq!(residual.is_some(), self.residual.is_some());
        assert!(residual.zip(self.residual).is_none_or(|(r, v)| r.len() >= v.len));
        let operands = Operands {
            input: input.as_ptr().wrapping_add(self.first),
            output: output.as_mut_ptr().wrapping_add(self.output.base),
            residual: residual.zip(self.residual).map(|(r, v)| r.as_ptr().wrapping_add(v.base)),
            middle: std::ptr::null_mut(),
        };
        // SAFETY: the lengths were just checked, and the slices are borrowed until all shares are done. No two shares write the
        // same element: they differ in filters, or in strips, which do not overlap.
        Team::spread(team, self.shares.len(), |i| unsafe { self.run_share(&self.shares[i], operands.get()) });
    }

    /// Computes one share of the result.
    ///
    /// # Safety
    /// The operands are the first pixels in buffers as long as those this was made for, the residual is there if it was then, and
    /// nobody else reads or writes meanwhile what the share writes.
    unsafe fn run_share(&self, share: &Share, operands: Operands) {
        let Operands { input, output, residual, .. } = operands;
        let whole = PlanarLayer {
            lists: self.lists.as_ptr(),
            offsets: self.offsets.as_ptr(),
            weights: self.weights.as_slice().as_ptr(),
            bias: self.bias.as_slice().as_ptr(),
            filters: self.filters,
            output_plane: self.output.block,
            residual_plane: self.residual.map_or(0, |r| r.block),
            low: self.clamp.low,
            high: self.clamp.high,
            slope: self.clamp.slope,
        };
        let mask = self.mask.as_slice();
        for chunk in &share.chunks {
            for &Strip { kernel, first: at, .. } in &self.strips[share.strips.clone()] {
                for batch in chunk {
                    let groups = Groups { first: batch.first as u32, last: batch.last as u32 };
                    for pass in 0..self.passes {
                        // Lists of a batch are pass by pass; the kernel counts them by group.
                        let lists = batch.first * self.passes + pass * (batch.last - batch.first);
                        let mut layer = PlanarLayer { lists: whole.lists.wrapping_add(lists).wrapping_sub(batch.first), ..whole };
                        if pass > 0 {
                            layer.bias = std::ptr::null();
                        }
                        let (mut plus, mut keep) = (std::ptr::null(), std::ptr::null());
                        if pass + 1 < self.passes {
                            (layer.low, layer.high, layer.slope) = (Clamp::NONE.low, Clamp::NONE.high, Clamp::NONE.slope);
                        } else {
                            plus = residual.map_or(plus, |r| r.wrapping_add(at));
                            keep = if mask.is_empty() { keep } else { mask.as_ptr().wrapping_add(at) };
                        }
                        // SAFETY: the CPU has the instruction set, the last pixel of the last strip of every channel, filter and
                        // residual lies in its buffer, batches cover the groups, there are lists for every pass, and they lie in
                        // offsets and weights: `new` checked all of it, and the caller vouches for the buffers. The mask is as long
                        // as all strips, `bias` was filled up to whole groups.
                        unsafe { kernel(&layer, input.wrapping_add(at), output.wrapping_add(at), plus, groups, keep) }
                    }
                }
            }
        }
    }
}

/// What of `chunks` lies in `groups`, which cut no batch of several passes.
fn within(chunks: &[Vec<Batch>], groups: Range<usize>) -> Vec<Vec<Batch>> {
    let part = |b: &Batch| {
        let (first, last) = (b.first.max(groups.start), b.last.min(groups.end));
        (first < last).then_some(Batch { first, last })
    };
    chunks.iter().map(|c| c.iter().filter_map(part).collect::<Vec<_>>()).filter(|c| !c.is_empty()).collect()
}

/// Groups of a chunk at most. Where the input stays in the second-level cache and the result does not, few: they write few planes
/// from end to end, which the hardware prefetches, instead of a little of each.
fn largest_chunk(isa: Isa, input: &View, output: &View) -> usize {
    let stays = 2 * isa.chunk_bytes();
    let bytes = |v: &View| v.extent.channels * v.block * size_of::<f32>();
    if bytes(input) <= stays && bytes(output) >= stays / 2 { 2 } else { usize::MAX }
}

/// Batches whose weights stay in cache together, of `most` groups unless there are several passes.
fn chunks(isa: Isa, sorted: &Sorted, most: usize) -> Vec<Vec<Batch>> {
    let mut chunks: Vec<Vec<Batch>> = Vec::new();
    // Pixels of a strip are few.
    let fit = isa.chunk_bytes() * 3 / 2;
    let mut start = 0;
    // A batch of all groups has one pass; it is cut as needed.
    let groups = sorted.batches.last().map_or(0, |b| b.last);
    let single = (0..groups).map(|g| Batch { first: g, last: g + 1 }).collect();
    let parts = if sorted.passes == 1 { single } else { sorted.batches.clone() };
    for batch in parts {
        let weights_before = |g: usize| sorted.lists.get(g * sorted.passes).map_or(sorted.weights.len(), |l| l.weights as usize);
        let end = weights_before(batch.last);
        match chunks.last_mut() {
            Some(chunk) if (end - start) * size_of::<f32>() <= fit && batch.last - chunk[0].first <= most => match chunk.last_mut() {
                Some(last) if sorted.passes == 1 => last.last = batch.last,
                _ => chunk.push(batch),
            },
            _ => {
                start = weights_before(batch.first);
                chunks.push(vec![batch]);
            }
        }
    }
    chunks
}
