//! Pooling, local and global.

use graph::ops::PoolKind;

use crate::layout::{LANES, View};

/// A pooling with all its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pooling {
    /// Maximum or mean.
    pub kind: PoolKind,
    /// Rows and columns.
    pub kernel: (usize, usize),
    /// Rows and columns.
    pub stride: (usize, usize),
    /// Rows and columns.
    pub dilation: (usize, usize),
    /// Above and to the left.
    pub pad: (usize, usize),
    /// Below and to the right; counts for the mean with padding only.
    pub pad_end: (usize, usize),
}

/// Kernel positions `[first, last)` inside `0..size` for a window that starts at `start` (which may be negative).
#[inline(always)]
fn inside(start: isize, kernel: usize, dilation: usize, size: usize) -> (usize, usize) {
    let first = if start < 0 { (start.unsigned_abs()).div_ceil(dilation) } else { 0 };
    let room = size as isize - start;
    let last = if room <= 0 { 0 } else { kernel.min((room as usize).div_ceil(dilation)) };
    (first.min(last), last)
}

/// Local pooling of 16-lane views.
#[inline(always)]
pub(crate) fn pool(p: &Pooling, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    let pixels = input.as_chunks::<LANES>().0;
    let out = output.as_chunks_mut::<LANES>().0;
    let (row, base) = (from.row / LANES, from.base / LANES);
    for b in 0..to.blocks() {
        let plane = base + b * from.block / LANES;
        for y in 0..to.extent.height {
            let top = (y * p.stride.0) as isize - p.pad.0 as isize;
            let (ky0, ky1) = inside(top, p.kernel.0, p.dilation.0, from.extent.height);
            for x in 0..to.extent.width {
                let left = (x * p.stride.1) as isize - p.pad.1 as isize;
                let (kx0, kx1) = inside(left, p.kernel.1, p.dilation.1, from.extent.width);
                let mut acc = [if p.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 }; LANES];
                for ky in ky0..ky1 {
                    let line = plane + (top + (ky * p.dilation.0) as isize) as usize * row;
                    for kx in kx0..kx1 {
                        let v = &pixels[line + (left + (kx * p.dilation.1) as isize) as usize];
                        match p.kind {
                            PoolKind::Max => {
                                for l in 0..LANES {
                                    acc[l] = if v[l] > acc[l] { v[l] } else { acc[l] };
                                }
                            }
                            PoolKind::Average { .. } => {
                                for l in 0..LANES {
                                    acc[l] += v[l];
                                }
                            }
                        }
                    }
                }
                if let PoolKind::Average { include_pad } = p.kind {
                    let count = if include_pad {
                        // With rounding up a window may reach beyond the padding; that part does not count.
                        let reach = |start: isize, kernel: usize, dilation: usize, size: usize, end: usize| {
                            let room = (size + end) as isize - start;
                            kernel.min((room.max(0) as usize).div_ceil(dilation))
                        };
                        reach(top, p.kernel.0, p.dilation.0, from.extent.height, p.pad_end.0)
                            * reach(left, p.kernel.1, p.dilation.1, from.extent.width, p.pad_end.1)
                    } else {
                        (ky1 - ky0) * (kx1 - kx0)
                    };
                    let scale = 1.0 / count.max(1) as f32;
                    acc.iter_mut().for_each(|a| *a *= scale);
                }
                out[(to.base + b * to.block + y * to.row) / LANES + x] = acc;
            }
        }
    }
}

/// Mean or maximum over all pixels of 16-lane views.
#[inline(always)]
pub(crate) fn global_pool(maximum: bool, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    let scale = 1.0 / (from.extent.height * from.extent.width) as f32;
    for b in 0..to.blocks() {
        // Two sums, so that additions need not wait for each other.
        let mut acc = [[if maximum { f32::NEG_INFINITY } else { 0.0 }; LANES]; 2];
        for y in 0..from.extent.height {
            let start = from.base + b * from.block + y * from.row;
            let pixels = input[start..start + from.extent.width * LANES].as_chunks::<LANES>().0;
            for (x, v) in pixels.iter().enumerate() {
                let acc = &mut acc[x % 2];
                for l in 0..LANES {
                    acc[l] = if !maximum {
                        acc[l] + v[l]
                    } else if v[l] > acc[l] {
                        v[l]
                    } else {
                        acc[l]
                    };
                }
            }
        }
        let at = to.base + b * to.block;
        for (l, o) in output[at..at + LANES].iter_mut().enumerate() {
            *o = if maximum { acc[0][l].max(acc[1][l]) } else { (acc[0][l] + acc[1][l]) * scale };
        }
    }
}
