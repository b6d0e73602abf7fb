//! The work of a convolution in shares, one per thread.

use std::ops::Range;

use super::order::Chunk;
use super::tile::List;

/// Work in which every pixel of the result meets the same weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amount<'a> {
    /// Pixels of every part of the result that one thread computes: of a tile, or a strip.
    pub pixels: &'a [usize],
    /// Weights that a pixel meets, of every group of filters that one thread computes.
    pub weights: &'a [usize],
    pub input_bytes: usize,
}

/// What threads take of it: ranges of the parts of its pixels, or of its groups of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Split {
    One,
    Pixels(Vec<Range<usize>>),
    Filters(Vec<Range<usize>>),
}

/// Loading this many bytes takes a thread about as long as one multiply-add of 16.
const BYTES_PER_OPERATION: usize = 8;

/// Cuts work for at most `threads` threads of at least `least` multiply-adds of 16: by pixels, where every thread loads all weights,
/// or by filters, where every thread loads the whole input, whichever leaves the slowest of them less to do.
pub(super) fn split(work: Amount<'_>, threads: usize, least: usize) -> Split {
    let Amount { pixels, weights, input_bytes } = work;
    let (all_pixels, all_weights) = (pixels.iter().sum::<usize>(), weights.iter().sum::<usize>());
    let operations = |pixels: usize, weights: usize| pixels * weights / 16;
    let threads = threads.min((operations(all_pixels, all_weights) / least.max(1)).max(1));
    if threads == 1 {
        return Split::One;
    }
    let (by_pixels, by_filters) = (ranges(pixels, threads), ranges(weights, threads));
    let most = |ranges: &[Range<usize>], of: &[usize]| ranges.iter().map(|r| of[r.clone()].iter().sum::<usize>()).max().unwrap_or(0);
    let pixels_take = operations(most(&by_pixels, pixels), all_weights) + all_weights * size_of::<f32>() / BYTES_PER_OPERATION;
    let filters_take = operations(all_pixels, most(&by_filters, weights)) + input_bytes / BYTES_PER_OPERATION;
    if pixels_take <= filters_take { Split::Pixels(by_pixels) } else { Split::Filters(by_filters) }
}

/// Where one run reads and writes, for all threads.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub input: *const f32,
    pub output: *mut f32,
    pub residual: Option<*const f32>,
    /// Scratch; null where there is none.
    pub middle: *mut f32,
}

// SAFETY: addresses alone; what is done with them is the business of who computes a share.
unsafe impl Sync for Operands {}

impl Operands {
    /// Itself: a closure that calls this captures all of it, and not the addresses one by one.
    pub fn get(&self) -> Self {
        *self
    }
}

/// Part of a convolution's work: some tiles of all filters, or all tiles of some filters. What it computes of an element is all
/// of it, in the order of the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub tiles: Range<usize>,
    pub chunks: Vec<Chunk>,
}

/// A convolution's work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole<'a> {
    /// Output pixels of every tile.
    pub pixels: &'a [usize],
    pub chunks: &'a [Chunk],
    /// Of all groups of filter blocks for every pass.
    pub lists: &'a [List],
    pub groups: usize,
    /// Weights per survivor.
    pub span: usize,
    pub input_bytes: usize,
}

/// Shares for at most `threads` threads of at least `least` multiply-adds of 16.
pub(super) fn divide(whole: Whole<'_>, threads: usize, least: usize) -> Vec<Share> {
    let Whole { pixels, chunks, lists, groups, span, input_bytes } = whole;
    let weights = |g: usize| lists.iter().skip(g).step_by(groups.max(1)).map(|l| l.count as usize * span).sum();
    let weights: Vec<usize> = (0..groups).map(weights).collect();
    match split(Amount { pixels, weights: &weights, input_bytes }, threads, least) {
        Split::One => vec![Share { tiles: 0..pixels.len(), chunks: chunks.to_vec() }],
        Split::Pixels(ranges) => ranges.into_iter().map(|tiles| Share { tiles, chunks: chunks.to_vec() }).collect(),
        Split::Filters(ranges) => {
            let part = |groups: Range<usize>| chunks.iter().filter_map(move |c| within(c, &groups, whole)).collect();
            ranges.into_iter().map(|g| Share { tiles: 0..pixels.len(), chunks: part(g) }).collect()
        }
    }
}

/// The part of `chunk` that lies in `groups`.
fn within(chunk: &Chunk, groups: &Range<usize>, whole: Whole<'_>) -> Option<Chunk> {
    let (first, last) = (chunk.first.max(groups.start), chunk.last.min(groups.end));
    if first >= last {
        return None;
    }
    if (first, last) == (chunk.first, chunk.last) {
        return Some(*chunk);
    }
    let lists = || (0..whole.lists.len() / whole.groups).flat_map(|p| &whole.lists[p * whole.groups..][first..last]);
    // Of all passes; between them lie weights of other groups, which matters to nothing but what is asked for early.
    let start = lists().map(|l| l.weights as usize * whole.span).min().unwrap_or(chunk.start);
    let end = lists().map(|l| (l.weights + l.count) as usize * whole.span).max().unwrap_or(start);
    Some(Chunk { first, last, start, end, survivors: lists().map(|l| l.count as usize).sum() })
}

/// Cuts `0..weights.len()` into at most `parts` ranges of about equal weight, none of them empty.
pub(super) fn ranges(weights: &[usize], parts: usize) -> Vec<Range<usize>> {
    let total: usize = weights.iter().sum();
    let (mut start, mut sum, mut cut) = (0, 0, Vec::with_capacity(parts));
    for (i, w) in weights.iter().enumerate() {
        sum += w;
        // Whether the boundary is nearer behind this one than behind the next.
        let ahead = weights.get(i + 1).map_or(0, |n| n / 2);
        if cut.len() + 1 < parts && (sum + ahead) * parts >= total * (cut.len() + 1) {
            cut.push(start..i + 1);
            start = i + 1;
        }
    }
    if start < weights.len() {
        cut.push(start..weights.len());
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_cover_everything_in_order_and_none_is_far_too_heavy(weights in prop::collection::vec(0usize..50, 1..60), parts in 1usize..6) {
            let cut = ranges(&weights, parts);
            prop_assert!(cut.len() <= parts && cut.iter().all(|r| !r.is_empty()));
            prop_assert_eq!(cut.first().map(|r| r.start), Some(0));
            prop_assert_eq!(cut.last().map(|r| r.end), Some(weights.len()));
            prop_assert!(cut.windows(2).all(|w| w[0].end == w[1].start));
            let (total, largest) = (weights.iter().sum::<usize>(), weights.iter().copied().max().unwrap_or(0));
            for r in &cut {
                let sum: usize = weights[r.clone()].iter().sum();
                prop_assert!(sum <= total / parts + 2 * largest + 1, "{sum} of {total} in {parts}: {cut:?}");
            }
        }
    }
}
