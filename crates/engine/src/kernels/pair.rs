//! A convolution and the depthwise one that reads it, computed together: what lies between them never leaves the caches.
//!
//! One group of filter blocks at a time: the first convolution computes as many rows as the next rows of the second need. Only the
//! planes of one group are ever stored, and of these, where they would leave the second-level cache, a band of rows: when it is full, the
//! rows that are still needed move to its beginning, and the rows after them go there, too.

use std::ops::Range;

use super::convolve::Convolution;
use super::shares::{Operands, ranges};
use super::team::Team;
use super::tile::Groups;
use crate::layout::View;

/// Tiles of both that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    /// Of the first, up to here.
    first: usize,
    /// Of the second, up to here.
    second: usize,
    /// What happens to the rows between the two before.
    moved: Option<Moved>,
    /// Elements by which all rows lie before their place in a whole plane.
    shift: usize,
}

/// Rows of a plane that move to the beginning of the band, in elements from the beginning of the plane.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Moved {
    from: usize,
    to: usize,
    count: usize,
    /// Where the zeros below the last row are now.
    zeros: Range<usize>,
}

/// The rows that are stored between the two, from turn to turn.
struct Band<'a> {
    between: &'a View,
    /// Rows that it should hold at most.
    rows: usize,
    /// The row that lies in the place of the first.
    start: usize,
    /// One past the last row computed.
    end: usize,
}

impl Band<'_> {
    /// Makes room for rows before `end`, where rows from `first` are still needed.
    fn extend(&mut self, first: usize, end: usize) -> Option<Moved> {
        let View { row, block, base, extent, .. } = *self.between;
        let top = base / row;
        let first = first.min(extent.height);
        let full = end.saturating_sub(self.start) > self.rows && first > self.start;
        let at = |y: usize| (top + y - self.start) * row;
        let moved = full.then(|| {
            let last = self.end.max(first);
            let below = at(self.start) + (extent.height - first) * row;
            Moved {
                from: at(first),
                to: at(self.start),
                count: (last - first) * row,
                zeros: below..below + block - (top + extent.height) * row,
            }
        });
        if moved.is_some() {
            self.start = first;
        }
        self.end = self.end.max(end);
        moved
    }
}

/// Two convolutions ready to run as one.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    first: Convolution,
    second: Convolution,
    turns: Vec<Turn>,
    /// Elements of the buffer between them, of each thread.
    middle_len: usize,
    /// Groups of the first, one range per thread.
    shares: Vec<Range<usize>>,
}

impl Pair {
    /// `first` writes what `second`, a depthwise convolution, reads through the same view; `reads(y)` are the first and the last row that
    /// row `y` of the second's result reads. The buffer between them holds the planes of one group of `first` only, and uses little more of
    /// it at a time than `band` bytes. `None` where they do not fit together.
    pub fn new(first: Convolution, second: Convolution, reads: impl Fn(usize) -> (usize, usize), band: usize) -> Option<Self> {
        let (tiles, others) = (first.single_pass()?, second.single_pass()?);
        let between = first.output_view();
        let reads_it = *between == *second.input_view();
        if !reads_it || !second.is_depthwise() || second.blocks() != 1 || first.has_residual() || second.has_residual() {
            return None;
        }
        let mut turns: Vec<Turn> = Vec::new();
        let mut done = 0;
        for (i, tile) in others.iter().enumerate() {
            // Tiles are sorted by their first row.
            let wanted = tiles.partition_point(|t| t.rows.start <= reads(tile.rows.end - 1).1);
            done = done.max(wanted);
            match turns.last_mut() {
                Some(t) if t.first == done => t.second = i + 1,
                _ => turns.push(Turn { first: done, second: i + 1, moved: None, shift: 0 }),
            }
        }
        let rows = band / (first.blocks() * between.row * size_of::<f32>());
        let mut band = Band { between, rows, start: 0, end: 0 };
        let (mut a, mut b) = (0, 0);
        for turn in &mut turns {
            let end = tiles[a..turn.first].iter().map(|t| t.rows.end).max().unwrap_or(band.end);
            // Of this and all later turns: tiles are sorted by their first row.
            let written = tiles.get(a).map_or(usize::MAX, |t| t.rows.start);
            turn.moved = band.extend(written.min(reads(others[b].rows.start).0), end);
            turn.shift = band.start * between.row;
            (a, b) = (turn.first, turn.second);
        }
        let middle_len = first.blocks() * between.block;
        let shares = std::iter::once(0..first.groups()).collect();
        Some(Self { first, second, turns, middle_len, shares })
    }

    /// Divides the groups among at most `threads` threads, each with at least `least` multiply-adds of 16. The result stays the
    /// same, bit for bit.
    #[must_use]
    pub fn divided(mut self, threads: usize, least: usize) -> Self {
        let blocks = self.first.blocks();
        let second = |g: usize| (g * blocks..(g + 1) * blocks).map(|b| self.second.operations(b)).sum::<usize>();
        let work: Vec<usize> = (0..self.first.groups()).map(|g| self.first.operations(g) + second(g)).collect();
        self.shares = ranges(&work, threads.min(work.iter().sum::<usize>() / least.max(1)).max(1));
        self
    }

    /// Elements that the buffer between the two must have, for every thread.
    pub fn middle_len(&self) -> usize {
        self.middle_len
    }

    /// Computes the result, with as many threads as it was divided for. `middle` is scratch whose halo is zero, as long for each of
    /// them as [`Pair::middle_len`] says.
    ///
    /// # Panics
    /// Buffers shorter than those it was made for; a smaller team than it was divided for.
    pub fn run(&self, input: &[f32], middle: &mut [f32], output: &mut [f32], team: Option<&Team>) {
        assert!(middle.len() >= self.middle_len * self.shares.len());
        self.first.assert_input(input);
        self.second.assert_output(output);
        let operands = Operands { input: input.as_ptr(), output: output.as_mut_ptr(), residual: None, middle: middle.as_mut_ptr() };
        Team::spread(team, self.shares.len(), |i| {
            let Operands { middle, .. } = operands.get();
            let own = Operands { middle: middle.wrapping_add(i * self.middle_len), ..operands.get() };
            // SAFETY: the lengths were just checked, and the slices are borrowed until all shares are done. Shares differ in their
            // groups, and so in the filters of the result that they write, and each has scratch of its own.
            unsafe { self.run_share(&self.shares[i], own) }
        });
    }

    /// Computes some groups.
    ///
    /// # Safety
    /// Input and output are as long as those this was made for, the scratch as [`Pair::middle_len`] says, and nobody else reads or
    /// writes meanwhile what the share writes.
    unsafe fn run_share(&self, groups: &Range<usize>, operands: Operands) {
        let Operands { input, output, middle, .. } = operands;
        let blocks = self.first.blocks();
        for g in groups.clone() {
            let block = self.first.output_view().block;
            let (mut a, mut b) = (0, 0);
            for turn in &self.turns {
                for plane in 0..turn.moved.as_ref().map_or(0, |_| blocks) {
                    let Some(Moved { from, to, count, zeros }) = &turn.moved else { continue };
                    let plane = middle.wrapping_add(plane * block);
                    // SAFETY: both places and the zeros lie in one plane of the scratch, which has `blocks` of them: rows come from
                    // where they were written, to before it, and the zeros end where those of the whole plane do or before it.
                    unsafe {
                        std::ptr::copy(plane.add(*from), plane.add(*to), *count);
                        std::ptr::write_bytes(plane.add(zeros.start), 0, zeros.len());
                    }
                }
                // Kernels count planes from the first block, and rows from the first of a plane; this group's planes are at the start of
                // the buffer, and these rows at the start of the band.
                let shifted = middle.wrapping_sub(g * blocks * block + turn.shift);
                // SAFETY: `new` of both checked every access within the whole of their views. What lies between is a part of that view,
                // shifted: group `g` touches planes `g·blocks..(g + 1)·blocks` of it alone, which are the first `blocks` planes of
                // `middle`, and those it has; that rows lie before their place in a plane, by no more than those before them take up, keeps
                // them in it. `shifted` itself may lie before `middle`, which kernels allow. The caller vouches for the other buffers.
                unsafe {
                    self.first.run_tiles(a..turn.first, Groups { first: g as u32, last: g as u32 + 1 }, input, shifted);
                    let these = Groups { first: (g * blocks) as u32, last: ((g + 1) * blocks) as u32 };
                    self.second.run_tiles(b..turn.second, these, shifted.cast_const(), output);
                }
                (a, b) = (turn.first, turn.second);
            }
        }
    }
}
