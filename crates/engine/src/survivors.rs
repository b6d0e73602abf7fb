//! The weights that are not zero, as the kernels want them.

use std::collections::HashMap;

use crate::kernels::List;
use crate::layout::{LANES, View};

/// A convolution's numbers after everything constant was folded in: weights `[F, C/group, kh, kw]`, one bias per filter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weights {
    /// Filters, input channels per group, kernel rows, kernel columns.
    pub shape: [usize; 4],
    /// Row-major.
    pub values: Vec<f32>,
    /// Per filter.
    pub bias: Vec<f32>,
    /// Partitions of the channels.
    pub group: usize,
}

/// How a kernel position maps to rows and columns of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taps {
    /// Distance of kernel rows.
    pub dilation_y: usize,
    /// Distance of kernel columns.
    pub dilation_x: usize,
}

/// Survivors of all block groups.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Survivors {
    /// One per group of blocks.
    pub lists: Vec<List>,
    /// Distances in the input in bytes, from the element under kernel position (0, 0) of channel 0.
    pub offsets: Vec<u32>,
    /// `16·blocks` weights per survivor.
    pub weights: Vec<f32>,
    /// Filter blocks per group.
    pub blocks: usize,
    /// The 16 weights of a survivor meet 16 channels.
    pub depthwise: bool,
    /// Blocks of 16 weights kept, of all that a dense layer has.
    pub kept: (usize, usize),
}

impl Survivors {
    /// Each filter sees one input channel of its own.
    pub fn is_depthwise(weights: &Weights, channels: usize) -> bool {
        weights.group == channels && weights.shape[0] == channels && channels > 1
    }

    /// Packs `weights` for an input seen as `input`, `blocks` blocks of 16 filters at a time. A unit of 16 filters × 1 channel ×
    /// 1 kernel position (`blocks` times that) that is all zero is left out. Offsets are sorted by channel block, kernel row,
    /// kernel column, channel.
    ///
    /// Returns `None` where an offset exceeds 4 GiB.
    pub fn pack(weights: &Weights, taps: Taps, input: &View, blocks: usize) -> Option<Self> {
        let [filters, per_group, kh, kw] = weights.shape;
        let channels = per_group * weights.group;
        let depthwise = Self::is_depthwise(weights, channels) && input.lanes == LANES;
        let span = LANES * blocks;
        let groups = filters.div_ceil(span);
        let filters_per_group = filters / weights.group;
        let mut out = Self { lists: Vec::new(), offsets: Vec::new(), weights: Vec::new(), blocks, depthwise, kept: (0, 0) };
        let mut shared: HashMap<Vec<u32>, u32> = HashMap::new();
        for g in 0..groups {
            let first = g * span;
            let last = (first + span).min(filters);
            // Channels that any filter of these blocks reads.
            let (c0, c1) = if depthwise {
                (first, first + 1)
            } else {
                (first / filters_per_group * per_group, ((last - 1) / filters_per_group + 1) * per_group)
            };
            let mut offsets = Vec::new();
            let before = out.weights.len() / span;
            let mut unit = vec![0f32; span];
            for block_start in (c0 / LANES * LANES..c1).step_by(LANES) {
                for ky in 0..kh {
                    for kx in 0..kw {
                        for c in block_start.max(c0)..(block_start + LANES).min(c1) {
                            for (lane, w) in unit.iter_mut().enumerate().take(last - first) {
                                let f = first + lane;
                                let local = if depthwise {
                                    Some(0)
                                } else {
                                    c.checked_sub(f / filters_per_group * per_group).filter(|&l| l < per_group)
                                };
                                *w = local.map_or(0.0, |l| weights.values[((f * per_group + l) * kh + ky) * kw + kx]);
                            }
                            out.kept.1 += blocks;
                            if unit.iter().all(|&w| w == 0.0) {
                                continue;
                            }
                            out.kept.0 += blocks;
                            let at = c / input.lanes * input.block
                                + c % input.lanes
                                + ky * taps.dilation_y * input.row
                                + kx * taps.dilation_x * input.lanes;
                            offsets.push(u32::try_from(at * size_of::<f32>()).ok()?);
                            out.weights.extend_from_slice(&unit);
                        }
                    }
                }
            }
            let start = match shared.get(&offsets) {
                Some(&s) => s,
                None => {
                    let s = u32::try_from(out.offsets.len()).ok()?;
                    out.offsets.extend_from_slice(&offsets);
                    shared.insert(offsets.clone(), s);
                    s
                }
            };
            out.lists.push(List { offsets: start, weights: u32::try_from(before).ok()?, count: offsets.len() as u32 });
        }
        Some(out)
    }
}
