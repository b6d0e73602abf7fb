//! A convolution and the depthwise one that reads it, computed together: what lies between them never leaves the caches.
//!
//! One group of filter blocks at a time: the first convolution computes as many rows as the next rows of the second need. Only the
//! planes of one group are ever stored.

use std::ops::Range;

use super::convolve::Convolution;
use super::shares::{Operands, ranges};
use super::team::Team;
use super::tile::Groups;

/// Tiles of both that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    /// Of the first, up to here.
    first: usize,
    /// Of the second, up to here.
    second: usize,
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
    /// `first` writes what `second`, a depthwise convolution, reads through the same view; `needed(y)` is the last row that row `y` of the
    /// second's result reads. The buffer between them holds the planes of one group of `first` only. `None` where they do not fit together.
    pub fn new(first: Convolution, second: Convolution, needed: impl Fn(usize) -> usize) -> Option<Self> {
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
            let wanted = tiles.partition_point(|t| t.rows.start <= needed(tile.rows.end - 1));
            done = done.max(wanted);
            match turns.last_mut() {
                Some(t) if t.first == done => t.second = i + 1,
                _ => turns.push(Turn { first: done, second: i + 1 }),
            }
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
            // Kernels count planes from the first block; this group's are at the start of the buffer.
            let shifted = middle.wrapping_sub(g * blocks * self.first.output_view().block);
            let (mut a, mut b) = (0, 0);
            for turn in &self.turns {
                // SAFETY: `new` of both checked every access within the whole of their views. What lies between is a part of that view,
                // shifted: group `g` touches planes `g·blocks..(g + 1)·blocks` of it alone, which are the first `blocks` planes of
                // `middle`, and those it has. The caller vouches for the other buffers.
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
