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

/// What the mean divides by, for a window that starts at row `top` and column `left`.
#[inline(always)]
fn counted(p: &Pooling, top: isize, left: isize, from: &View) -> usize {
    let PoolKind::Average { include_pad } = p.kind else { return 1 };
    let along = |start: isize, kernel: usize, dilation: usize, size: usize, end: usize| {
        if include_pad {
            // With rounding up a window may reach beyond the padding; that part does not count.
            let room = (size + end) as isize - start;
            kernel.min((room.max(0) as usize).div_ceil(dilation))
        } else {
            let (first, last) = inside(start, kernel, dilation, size);
            last - first
        }
    };
    let rows = along(top, p.kernel.0, p.dilation.0, from.extent.height, p.pad_end.0);
    rows * along(left, p.kernel.1, p.dilation.1, from.extent.width, p.pad_end.1)
}

/// Local pooling of planar views: each row of the result takes one kernel position after the other.
#[inline(always)]
fn pool_planes(p: &Pooling, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    let width = to.extent.width;
    for c in 0..to.extent.channels {
        for y in 0..to.extent.height {
            let top = (y * p.stride.0) as isize - p.pad.0 as isize;
            let (ky0, ky1) = inside(top, p.kernel.0, p.dilation.0, from.extent.height);
            let at = to.base + c * to.block + y * to.row;
            let row = &mut output[at..at + width];
            row.fill(if p.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 });
            for ky in ky0..ky1 {
                let line = from.base + c * from.block + (top + (ky * p.dilation.0) as isize) as usize * from.row;
                let line = &input[line..line + from.extent.width];
                for kx in 0..p.kernel.1 {
                    let shift = (kx * p.dilation.1) as isize - p.pad.1 as isize;
                    // Results whose window has this column inside the rows.
                    let first = if shift < 0 { shift.unsigned_abs().div_ceil(p.stride.1) } else { 0 };
                    let start = (first * p.stride.1) as isize + shift;
                    if first >= width || start as usize >= line.len() {
                        continue;
                    }
                    let (results, values) = (&mut row[first..], &line[start as usize..]);
                    match p.stride.1 {
                        1 => take_in::<1>(p.kind, results, values),
                        2 => take_in::<2>(p.kind, results, values),
                        s => results.iter_mut().zip(values.iter().step_by(s)).for_each(|(a, v)| *a = joined(p.kind, *a, *v)),
                    }
                }
            }
            if p.kind != PoolKind::Max && p.kernel != (1, 1) {
                for (x, v) in row.iter_mut().enumerate() {
                    let left = (x * p.stride.1) as isize - p.pad.1 as isize;
                    *v *= 1.0 / counted(p, top, left, from).max(1) as f32;
                }
            }
        }
    }
}

/// Every `STEP`-th value into the results.
#[inline(always)]
fn take_in<const STEP: usize>(kind: PoolKind, results: &mut [f32], values: &[f32]) {
    let n = results.len().min(values.len().div_ceil(STEP));
    // All but the last, whose group of values may be cut off.
    let (groups, _) = values.as_chunks::<STEP>();
    let whole = n.min(groups.len());
    if kind == PoolKind::Max {
        results[..whole].iter_mut().zip(groups).for_each(|(a, v)| *a = if v[0] > *a { v[0] } else { *a });
    } else {
        results[..whole].iter_mut().zip(groups).for_each(|(a, v)| *a += v[0]);
    }
    for i in whole..n {
        results[i] = joined(kind, results[i], values[i * STEP]);
    }
}

#[inline(always)]
fn joined(kind: PoolKind, a: f32, v: f32) -> f32 {
    match kind {
        PoolKind::Max if v > a => v,
        PoolKind::Max => a,
        PoolKind::Average { .. } => a + v,
    }
}

/// Local pooling of two views of the same layout.
#[inline(always)]
pub(crate) fn pool(p: &Pooling, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    if from.lanes == 1 {
        return pool_planes(p, input, from, output, to);
    }
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
                if p.kind != PoolKind::Max && p.kernel != (1, 1) {
                    let scale = 1.0 / counted(p, top, left, from).max(1) as f32;
                    acc.iter_mut().for_each(|a| *a *= scale);
                }
                out[(to.base + b * to.block + y * to.row) / LANES + x] = acc;
            }
        }
    }
}

/// Mean or maximum over all pixels.
#[inline(always)]
pub(crate) fn global_pool(maximum: bool, input: &[f32], from: &View, output: &mut [f32], to: &View) {
    let scale = 1.0 / (from.extent.height * from.extent.width) as f32;
    if from.lanes == 1 {
        for c in 0..from.extent.channels {
            let mut acc = [if maximum { f32::NEG_INFINITY } else { 0.0 }; LANES];
            let kind = if maximum { PoolKind::Max } else { PoolKind::Average { include_pad: false } };
            for y in 0..from.extent.height {
                let at = from.base + c * from.block + y * from.row;
                let (groups, rest) = input[at..at + from.extent.width].as_chunks::<LANES>();
                for v in groups {
                    for l in 0..LANES {
                        acc[l] = joined(kind, acc[l], v[l]);
                    }
                }
                acc.iter_mut().zip(rest).for_each(|(a, &v)| *a = joined(kind, *a, v));
            }
            let all = acc.into_iter().reduce(|a, v| joined(kind, a, v)).unwrap_or_default();
            output[to.at(c, 0, 0)] = if maximum { all } else { all * scale };
        }
        return;
    }
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
