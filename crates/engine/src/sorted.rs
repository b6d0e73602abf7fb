//! The weights that are not zero, as the planar kernels want them, and what a convolution's zeros look like.

use std::collections::HashMap;

use crate::kernels::{SUBSETS, SortedList};
use crate::layout::View;
use crate::survivors::{Taps, Weights};

/// Groups of filters that take the channels in the same passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    /// First group.
    pub first: usize,
    /// One past the last.
    pub last: usize,
}

/// Groups in a batch where there are several passes: their sums stay in the first-level cache beside the pixels.
const BATCH: usize = 8;

/// Survivors of all groups of filters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sorted {
    /// Batch by batch; in a batch, those of all groups for the first pass over channels, then for the second …
    pub lists: Vec<SortedList>,
    /// In order.
    pub batches: Vec<Batch>,
    /// Passes over the channels.
    pub passes: usize,
    /// Distances in the input in bytes, from the element under kernel position (0, 0) of channel 0.
    pub offsets: Vec<u32>,
    /// One per survivor and filter that uses it, in the order of the filters.
    pub weights: Vec<f32>,
    /// Filters per group: 4 or 8.
    pub filters: usize,
}

impl Sorted {
    /// Packs `weights` (not grouped) for a planar input seen as `input`, `filters` (4 or 8) at a time, `per_pass` channels after the
    /// other. Survivors of a pass are sorted by the subset of four filters that use them, then by channel, kernel row and kernel column; of
    /// eight filters all use every survivor.
    ///
    /// Returns `None` where an offset exceeds 4 GiB.
    pub fn pack(weights: &Weights, taps: Taps, input: &View, filters: usize, per_pass: usize) -> Option<Self> {
        let [count, channels, kh, kw] = weights.shape;
        let units = channels * kh * kw;
        let passes = channels.div_ceil(per_pass.max(1));
        let groups = count.div_ceil(filters);
        let size = if passes == 1 { groups } else { BATCH };
        let batches: Vec<Batch> = (0..groups).step_by(size).map(|first| Batch { first, last: (first + size).min(groups) }).collect();
        let mut out = Self { lists: Vec::new(), batches: batches.clone(), passes, offsets: Vec::new(), weights: Vec::new(), filters };
        let mut shared: HashMap<Vec<u32>, u32> = HashMap::new();
        let order = batches.iter().flat_map(|b| (0..passes).flat_map(|pass| (b.first..b.last).map(move |g| (pass, g))));
        for (pass, group) in order {
            let first = group * filters;
            let used = filters.min(count - first);
            let value = |f: usize, u: usize| if f < used { weights.values[(first + f) * units + u] } else { 0.0 };
            let mut sets: Vec<Vec<u32>> = vec![Vec::new(); SUBSETS];
            for u in pass * per_pass * kh * kw..((pass + 1) * per_pass * kh * kw).min(units) {
                let set: usize = (0..filters).filter(|&f| value(f, u) != 0.0).map(|f| 1 << f).sum();
                if set > 0 {
                    sets[if filters == 4 { set - 1 } else { 0 }].push(u as u32);
                }
            }
            let start = u32::try_from(out.weights.len()).ok()?;
            let mut offsets = Vec::new();
            for (i, set) in sets.iter().enumerate() {
                for &u in set {
                    let u = u as usize;
                    let (c, ky, kx) = (u / (kh * kw), u / kw % kh, u % kw);
                    let at = c * input.block + ky * taps.dilation_y * input.row + kx * taps.dilation_x;
                    offsets.push(u32::try_from(at * size_of::<f32>()).ok()?);
                    let uses = |f: &usize| filters != 4 || (i + 1) >> f & 1 == 1;
                    out.weights.extend((0..filters).filter(uses).map(|f| value(f, u)));
                }
            }
            let at = match shared.get(&offsets) {
                Some(&s) => s,
                None => {
                    let s = u32::try_from(out.offsets.len()).ok()?;
                    out.offsets.extend_from_slice(&offsets);
                    shared.insert(offsets, s);
                    s
                }
            };
            let mut counts = [0; SUBSETS];
            counts.iter_mut().zip(&sets).for_each(|(c, s)| *c = s.len() as u32);
            out.lists.push(SortedList { offsets: at, weights: start, counts });
        }
        Some(out)
    }
}

/// How many units of each form a kernel would compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Structure {
    /// 16 filters × 1 channel × 1 kernel position, not all zero.
    pub sixteens: usize,
    /// 32 filters, not all zero.
    pub pairs: usize,
    /// 8 filters, not all zero.
    pub eights: usize,
    /// 4 filters, not all zero.
    pub fours: usize,
    /// Weights that are not zero.
    pub weights: usize,
}

impl Structure {
    /// Counts.
    pub fn of(weights: &Weights) -> Self {
        let units = weights.values.len() / weights.shape[0];
        let mut s = Self::default();
        for block in weights.values.chunks(32 * units) {
            let mut sets = vec![0u32; units];
            for (f, filter) in block.chunks(units).enumerate() {
                filter.iter().zip(&mut sets).filter(|(w, _)| **w != 0.0).for_each(|(_, set)| *set |= 1 << f);
            }
            for set in sets {
                let parts = |width: u32| (0..32 / width).filter(|i| set >> (i * width) & ((1 << width) - 1) != 0).count();
                s.pairs += usize::from(set != 0);
                s.sixteens += parts(16);
                s.eights += parts(8);
                s.fours += parts(4);
                s.weights += set.count_ones() as usize;
            }
        }
        s
    }
}
