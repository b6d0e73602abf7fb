//! The kernel for planar activations: neighbouring pixels in the lanes, 16 or 8, one weight for all of them.
//!
//! Filters are taken four or eight at a time. Per survivor (an input element per pixel) the kernel loads the pixels once and does one
//! multiply-add per filter that uses it. Of eight filters, all meet every survivor; of four, survivors are sorted by which of them
//! do (15 subsets), so that a weight that is zero costs nothing whatever its neighbours are. Rows follow each other at one pitch in
//! input and output, so that pixels are counted through all rows; what falls between rows is computed and masked.

// Loops over constants of what is an array of registers: indices say which.
#![allow(clippy::needless_range_loop)]

use super::lanes::{Lanes, Plain};
use super::table::Isa;
use super::tile::Groups;
use crate::layout::LANES;

/// Subsets of four filters that are not empty.
pub(crate) const SUBSETS: usize = 15;

/// Survivors ahead of which pixels are asked for: which lines come next is known to the offsets only. Enough for the third-level
/// cache.
const AHEAD: usize = 24;

/// Offsets that must be readable behind the last.
pub(super) const OFFSETS_BEHIND: usize = AHEAD;

/// What all strips of a planar convolution share. Distances count elements unless said otherwise.
#[derive(Clone, Copy)]
pub(crate) struct PlanarLayer {
    /// The survivors of every group of filters.
    pub lists: *const SortedList,
    /// Distances in the input, in bytes.
    pub offsets: *const u32,
    /// One weight per survivor and filter that uses it.
    pub weights: *const f32,
    /// Per filter, of whole groups; null to continue with what the output holds.
    pub bias: *const f32,
    /// How many filters there are; the last group may have fewer than the kernel takes.
    pub filters: usize,
    /// Distance between two filters of the output.
    pub output_plane: usize,
    /// Distance between two filters of the residual.
    pub residual_plane: usize,
    /// Result at least this.
    pub low: f32,
    /// Result at most this.
    pub high: f32,
    /// Negative results are multiplied by this; 1 for none.
    pub slope: f32,
}

/// Where the survivors of one group of filters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SortedList {
    /// First offset; groups with equal offsets share them.
    pub offsets: u32,
    /// First weight.
    pub weights: u32,
    /// Of four filters: survivors per subset, subset `i + 1` in bits. Of eight: all in the first.
    pub counts: [u32; SUBSETS],
}

/// A kernel for a strip of pixels: layer, input, output, residual (or null), groups of filters, mask (or null).
pub(crate) type StripKernel = unsafe fn(&PlanarLayer, *const f32, *mut f32, *const f32, Groups, *const f32);

/// Where a strip's kernel is in its lists.
struct Cursor {
    offset: *const u32,
    weight: *const f32,
}

/// Adds `count` survivors that the filters in the bits of `SET` use.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
unsafe fn subset<L: Lanes, const F: usize, const P: usize, const SET: u32>(
    sums: &mut [[L; P]; F],
    input: *const f32,
    at: &mut Cursor,
    count: u32,
) {
    // SAFETY: all accesses are those that the caller vouches for.
    unsafe {
        let last = at.offset.add(count as usize);
        // Two at a time pay for the loop's own instructions once.
        if L::TOGETHER > 1 {
            let even = at.offset.add(count as usize / 2 * 2);
            while at.offset != even {
                one::<L, F, P, SET>(sums, input, *at.offset, at.offset, at.weight);
                let weight = at.weight.add(SET.count_ones() as usize);
                one::<L, F, P, SET>(sums, input, *at.offset.add(1), at.offset, weight);
                at.weight = weight.add(SET.count_ones() as usize);
                at.offset = at.offset.add(2);
            }
        }
        while at.offset != last {
            one::<L, F, P, SET>(sums, input, *at.offset, at.offset, at.weight);
            at.weight = at.weight.add(SET.count_ones() as usize);
            at.offset = at.offset.add(1);
        }
    }
}

/// Adds the survivor whose input is `bytes` from that of offset 0, and whose weights are at `weight`; `offset` is where its offset is.
///
/// # Safety
/// As [`strip`].
#[inline(always)]
unsafe fn one<L: Lanes, const F: usize, const P: usize, const SET: u32>(
    sums: &mut [[L; P]; F],
    input: *const f32,
    bytes: u32,
    offset: *const u32,
    mut weight: *const f32,
) {
    // SAFETY: all accesses are those that the caller vouches for.
    unsafe {
        let pixels = input.byte_add(bytes as usize);
        let mut x = [L::splat(0.0); P];
        for p in 0..P {
            x[p] = L::load(pixels.add(L::WIDTH * p));
        }
        // Fewer filters have their pixels in the first-level cache, pass by pass.
        if F == 8 {
            let wanted = input.wrapping_byte_add(*offset.add(AHEAD) as usize);
            for p in 0..P {
                L::prefetch(wanted.wrapping_add(L::WIDTH * p));
            }
        }
        for f in 0..F {
            if SET >> f & 1 == 1 {
                let w = L::splat_at(weight);
                weight = weight.add(1);
                match (sums[f].first_chunk_mut(), x.first_chunk()) {
                    (Some(three), Some(x)) if L::THREES => w.add_products(x, three),
                    _ => {
                        for p in 0..P {
                            sums[f][p] = w.mul_add(x[p], sums[f][p]);
                        }
                    }
                }
            }
        }
    }
}

/// `P` vectors of pixels for groups of `F` filters, 4 or 8. `input` is what offset 0 of the first pixel means, `output` the first pixel of
/// filter 0, `residual` what is added before the activation (null for none), `mask` bits that results keep (null for all).
///
/// # Safety
/// The CPU has the instruction set of `L`. For every survivor of the groups `P` vectors of pixels are readable; as many are writable per
/// filter, and readable of residual and mask where there is one; lists, weights and bias cover the groups, and [`OFFSETS_BEHIND`]
/// offsets are readable behind the last.
#[inline(always)]
unsafe fn strip<L: Lanes, const F: usize, const P: usize>(
    call: &PlanarLayer,
    input: *const f32,
    output: *mut f32,
    residual: *const f32,
    groups: Groups,
    mask: *const f32,
) {
    // SAFETY: all accesses below are those that the caller vouches for.
    unsafe {
        for group in groups.first as usize..groups.last as usize {
            let list = &*call.lists.add(group);
            // The last group may have fewer filters than the kernel takes: what is too much goes where the last filter follows it.
            let place = |f: usize| (F * group + f).min(call.filters - 1);
            let mut sums = [[L::splat(0.0); P]; F];
            if call.bias.is_null() {
                for f in 0..F {
                    for p in 0..P {
                        sums[f][p] = L::load(output.add(place(f) * call.output_plane + L::WIDTH * p));
                    }
                }
            } else {
                for f in 0..F {
                    sums[f] = [L::splat_at(call.bias.add(F * group + f)); P];
                }
            }
            let mut at = Cursor { offset: call.offsets.add(list.offsets as usize), weight: call.weights.add(list.weights as usize) };
            if F == 8 {
                subset::<L, F, P, 0xFF>(&mut sums, input, &mut at, list.counts[0]);
            } else {
                macro_rules! each {
                    ($($set:literal)*) => { $(subset::<L, F, P, $set>(&mut sums, input, &mut at, list.counts[$set - 1]);)* };
                }
                each!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            }
            // One simple loop after the other: the compiler unrolls these, and keeps the sums in registers.
            if !residual.is_null() {
                for f in 0..F {
                    for p in 0..P {
                        sums[f][p] = sums[f][p].add(L::load(residual.add(place(f) * call.residual_plane + L::WIDTH * p)));
                    }
                }
            }
            if call.slope != 1.0 {
                let (zero, slope) = (L::splat(0.0), L::splat(call.slope));
                for f in 0..F {
                    for p in 0..P {
                        // In this order of operands a NaN stays one.
                        sums[f][p] = slope.mul_add(zero.min(sums[f][p]), zero.max(sums[f][p]));
                    }
                }
            }
            // Here, too.
            let (low, high) = (L::splat(call.low), L::splat(call.high));
            for f in 0..F {
                for p in 0..P {
                    sums[f][p] = high.min(low.max(sums[f][p]));
                }
            }
            if !mask.is_null() {
                for p in 0..P {
                    let keep = L::load(mask.add(L::WIDTH * p));
                    for f in 0..F {
                        sums[f][p] = sums[f][p].and(keep);
                    }
                }
            }
            for f in (0..F).rev() {
                for p in 0..P {
                    sums[f][p].store(output.add(place(f) * call.output_plane + L::WIDTH * p));
                }
            }
        }
    }
}

macro_rules! strips {
    ($name:ident, $lanes:ty $(, $feature:literal)?) => {
        /// # Safety
        /// As [`strip`].
        $(#[target_feature(enable = $feature)])?
        unsafe fn $name<const F: usize, const P: usize>(
            l: &PlanarLayer,
            i: *const f32,
            o: *mut f32,
            r: *const f32,
            g: Groups,
            m: *const f32,
        ) {
            // SAFETY: the caller's contract is that of `strip`.
            unsafe { strip::<$lanes, F, P>(l, i, o, r, g, m) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
strips!(avx512, super::lanes::x86::Avx512, "avx512f");
#[cfg(target_arch = "x86_64")]
strips!(avx2, super::eight::Eight, "avx2,fma");
#[cfg(target_arch = "aarch64")]
strips!(neon, super::lanes::arm::Neon, "neon");
strips!(plain, Plain);

/// Pixels per vector of [`strip_kernel`].
pub(crate) fn strip_lanes(isa: Isa) -> usize {
    if isa == Isa::Avx2 { LANES / 2 } else { LANES }
}

/// The kernel that computes `vectors` times [`strip_lanes`] pixels of `filters` filters at a time; `None` where there is none.
pub(crate) fn strip_kernel(isa: Isa, filters: usize, vectors: usize) -> Option<StripKernel> {
    match (isa, filters, vectors) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, _, _) => Some(match (filters, vectors) {
            (8, 1) => avx512::<8, 1>,
            (8, 2) => avx512::<8, 2>,
            (8, 3) => avx512::<8, 3>,
            (4, 1) => avx512::<4, 1>,
            (4, 2) => avx512::<4, 2>,
            (4, 3) => avx512::<4, 3>,
            (4, 4) => avx512::<4, 4>,
            (4, 5) => avx512::<4, 5>,
            (4, 6) => avx512::<4, 6>,
            _ => return None,
        }),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, 4, 1) => Some(avx2::<4, 1>),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, 4, 2) => Some(avx2::<4, 2>),
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, 4, 3) => Some(avx2::<4, 3>),
        #[cfg(target_arch = "aarch64")]
        (Isa::Neon, 4, 1) => Some(neon::<4, 1>),
        (Isa::Plain, 4, 1) => Some(plain::<4, 1>),
        _ => None,
    }
}
