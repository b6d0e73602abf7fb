//! The kernel of all convolutions: one tile of output pixels for a range of filter blocks.
//!
//! A *survivor* is 16 weights, one per filter of a block, that meet the same input element. Per survivor the kernel loads one
//! offset and 16 weights and does one multiply-add per pixel of the tile, the pixel's input broadcast to all lanes. Weights that
//! are zero in all 16 filters have no survivor and cost nothing. A depthwise convolution has the same form with 16 input
//! channels in place of the broadcast.

// Loops over constants of what is an array of registers: indices say which.
#![allow(clippy::needless_range_loop)]

use super::lanes::Lanes;

/// What all tiles of a convolution share. Offsets and pitches count elements unless said otherwise.
#[derive(Clone, Copy)]
pub(crate) struct Layer {
    /// Distance in the input between two rows of output pixels.
    pub input_row: usize,
    /// Distance in the input between two output pixels of a row; read only by kernels without a constant step.
    pub input_step: usize,
    /// The survivors of every block group.
    pub lists: *const List,
    /// Distances in the input, in bytes.
    pub offsets: *const u32,
    /// 16 weights per survivor and block of the group.
    pub weights: *const f32,
    /// Per filter; null to continue with what the output holds.
    pub bias: *const f32,
    /// Distance between two rows of the output.
    pub output_row: usize,
    /// Distance between two filter blocks of the output.
    pub output_block: usize,
    /// Distance between two rows of the residual.
    pub residual_row: usize,
    /// Distance between two filter blocks of the residual.
    pub residual_block: usize,
    /// Result at least this.
    pub low: f32,
    /// Result at most this.
    pub high: f32,
    /// Negative results are multiplied by this; 1 for none.
    pub slope: f32,
    /// How many bytes of the weights wanted next are asked for per survivor.
    pub next_step: usize,
}

/// A range of block groups; in one register.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Groups {
    /// The first.
    pub first: u32,
    /// One past the last.
    pub last: u32,
}

/// Where the survivors of one block group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct List {
    /// First offset; groups with equal offsets share them.
    pub offsets: u32,
    /// Survivors whose weights come before.
    pub weights: u32,
    /// How many there are.
    pub count: u32,
}

/// A tile kernel.
pub(crate) type TileKernel = unsafe fn(&Layer, *const f32, *mut f32, *const f32, Groups, *const f32);

/// Survivors ahead of which weights are asked for: long lists come from beyond the first two caches, and the hardware's own
/// prefetching stops at pages.
const AHEAD: usize = 24;

/// Adds one survivor whose input is `at` bytes from that of offset 0.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn survivor<L: Lanes, const FB: usize, const TH: usize, const TW: usize, const VECTOR: bool>(
    sums: &mut [[[L; TW]; TH]; FB],
    rows: &[*const f32; TH],
    step: usize,
    at: usize,
    weights: *const f32,
) {
    // SAFETY: all accesses are those that the caller vouches for. A row's pointer may lie outside of its buffer, so the way from it to
    // an element wraps.
    unsafe {
        if L::THREES && !VECTOR && FB == 2 && TH * TW == 3 {
            let mut x = [L::splat(0.0); 3];
            for i in 0..3 {
                x[i] = L::splat_at(rows[i / TW].wrapping_byte_add(at).add(i % TW * step));
            }
            for f in 0..FB {
                if let Some(three) = sums[f].as_flattened_mut().first_chunk_mut() {
                    L::add_loaded_products(weights.add(16 * f), &x, three);
                }
            }
            return;
        }
        let mut w = [L::splat(0.0); FB];
        for f in 0..FB {
            w[f] = L::load(weights.add(16 * f));
        }
        for r in 0..TH {
            for c in 0..TW {
                let p = rows[r].wrapping_byte_add(at).add(c * step);
                let x = if VECTOR { L::load(p) } else { L::splat_at(p) };
                for f in 0..FB {
                    if VECTOR {
                        sums[f][r][c] = w[f].mul_add(x, sums[f][r][c]);
                    } else {
                        w[f].add_product(x, &mut sums[f][r][c]);
                    }
                }
            }
        }
    }
}

/// `TH × TW` output pixels for `FB` blocks of 16 filters at a time. `STEP` is the distance in the input between output pixels of
/// a row, 0 where the layer says it. With `VECTOR` the 16 input elements at the offset meet the 16 weights lane by lane.
///
/// `input` is the element that offset 0 of the tile's first pixel means, `output` its first pixel in filter block 0, `residual` what is
/// added before the activation (the output's geometry up to two pitches; null for none). `next` are weights wanted after these; they
/// are asked for meanwhile and may lie anywhere. So may `input` and `output` themselves, where buffers hold a part of the planes only:
/// what is read and written counts.
///
/// # Safety
/// The CPU has the instruction set of `L`. For every survivor of the range and every pixel of the tile the input element (16 with
/// `VECTOR`) is readable; 16 outputs per pixel and block are writable and 16 residuals readable where there is one; `lists`,
/// `offsets`, `weights` and `bias` cover the range.
#[inline(always)]
pub(crate) unsafe fn tile<L: Lanes, const FB: usize, const TH: usize, const TW: usize, const STEP: usize, const VECTOR: bool>(
    call: &Layer,
    input: *const f32,
    output: *mut f32,
    residual: *const f32,
    groups: Groups,
    next: *const f32,
) {
    let step = if STEP == 0 { call.input_step } else { STEP };
    // SAFETY: all accesses below are those that the caller vouches for. `input` and `output` may lie outside of their buffers, so the
    // way from them to the first element of a row or block wraps.
    unsafe {
        let mut rows = [input; TH];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = input.wrapping_add(r * call.input_row);
        }
        let mut next = next;
        for group in groups.first as usize..groups.last as usize {
            let list = *call.lists.add(group);
            let mut sums = [[[L::splat(0.0); TW]; TH]; FB];
            for f in 0..FB {
                if call.bias.is_null() {
                    let from = output.wrapping_add((group * FB + f) * call.output_block);
                    for r in 0..TH {
                        for c in 0..TW {
                            sums[f][r][c] = L::load(from.add(r * call.output_row + 16 * c));
                        }
                    }
                } else {
                    sums[f] = [[L::load(call.bias.add(16 * (group * FB + f))); TW]; TH];
                }
            }
            let mut weights = call.weights.add(16 * FB * list.weights as usize);
            let mut offset = call.offsets.add(list.offsets as usize);
            let mut left = list.count as usize;
            while left >= L::TOGETHER {
                L::prefetch_far(next);
                next = next.wrapping_byte_add(call.next_step * L::TOGETHER);
                for s in 0..L::TOGETHER {
                    let own = weights.add(16 * FB * s);
                    if L::ASKS_AHEAD {
                        L::prefetch(own.wrapping_add(16 * FB * AHEAD));
                    }
                    survivor::<L, FB, TH, TW, VECTOR>(&mut sums, &rows, step, *offset.add(s) as usize, own);
                }
                weights = weights.add(16 * FB * L::TOGETHER);
                offset = offset.add(L::TOGETHER);
                left -= L::TOGETHER;
            }
            for s in 0..left {
                survivor::<L, FB, TH, TW, VECTOR>(&mut sums, &rows, step, *offset.add(s) as usize, weights.add(16 * FB * s));
            }
            for f in 0..FB {
                let block = group * FB + f;
                let out = output.wrapping_add(block * call.output_block);
                if !residual.is_null() {
                    let from = residual.add(block * call.residual_block);
                    for r in 0..TH {
                        for c in 0..TW {
                            sums[f][r][c] = sums[f][r][c].add(L::load(from.add(r * call.residual_row + 16 * c)));
                        }
                    }
                }
                if call.slope != 1.0 {
                    let (zero, slope) = (L::splat(0.0), L::splat(call.slope));
                    for r in 0..TH {
                        for c in 0..TW {
                            let v = sums[f][r][c];
                            // In this order of operands a NaN stays one.
                            sums[f][r][c] = slope.mul_add(zero.min(v), zero.max(v));
                        }
                    }
                }
                // Here, too.
                let (low, high) = (L::splat(call.low), L::splat(call.high));
                for r in 0..TH {
                    for c in 0..TW {
                        high.min(low.max(sums[f][r][c])).store(out.add(r * call.output_row + 16 * c));
                    }
                }
            }
        }
    }
}
