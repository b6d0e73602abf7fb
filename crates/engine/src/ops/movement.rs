//! Elements that change their place: slices, padding, reshapes, transpositions, joins, and the way in and out of the engine.

use crate::kernels::{Isa, blocks_to_planes, planes_to_blocks};
use crate::layout::{Extent, LANES, View};

/// Elements at equal distances, copied or filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// First element read; `None` to fill.
    from: Option<u32>,
    /// First element written.
    to: u32,
    /// How many.
    count: u32,
    /// Distance between elements read.
    from_step: i32,
    /// Distance between elements written.
    to_step: i32,
}

/// Copies from one buffer to another, as a list of runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moves {
    runs: Vec<Run>,
    fill: f32,
}

impl Moves {
    /// `to[i] = from[source(i)]` over all elements `i` of `to` in the file's order, or `fill` where there is no source. `source`
    /// counts in the file's order too.
    pub fn new(from: &View, to: &View, fill: f32, source: impl Fn(usize) -> Option<usize>) -> Self {
        let (e, f) = (to.extent, from.extent);
        let place = |i: usize| from.at(i / (f.height * f.width), i / f.width % f.height, i % f.width);
        let runs = runs(e, to.lanes, |c, y, x| (source((c * e.height + y) * e.width + x).map(place), to.at(c, y, x)));
        Self { runs, fill }
    }

    /// The same elements in another place.
    pub fn copy(from: &View, to: &View) -> Self {
        Self::new(from, to, 0.0, Some)
    }

    /// All of `from` to a part of `to` that begins at channel, row and column `first`.
    pub fn into_part(from: &View, to: &View, first: [usize; 3]) -> Self {
        let runs = runs(from.extent, from.lanes, |c, y, x| (Some(from.at(c, y, x)), to.at(first[0] + c, first[1] + y, first[2] + x)));
        Self { runs, fill: 0.0 }
    }

    /// Moves them.
    pub fn run(&self, from: &[f32], to: &mut [f32]) {
        for r in &self.runs {
            let (count, start) = (r.count as usize, r.to as usize);
            match r.from.map(|f| f as usize) {
                Some(f) if r.from_step == 1 && r.to_step == 1 => to[start..start + count].copy_from_slice(&from[f..f + count]),
                Some(f) if r.from_step > 0 && r.to_step > 0 => {
                    let read = from[f..].iter().step_by(r.from_step as usize);
                    let write = to[start..].iter_mut().step_by(r.to_step as usize);
                    write.zip(read).take(count).for_each(|(o, i)| *o = *i);
                }
                Some(f) => {
                    for k in 0..count as isize {
                        to[(start as isize + k * r.to_step as isize) as usize] = from[(f as isize + k * r.from_step as isize) as usize];
                    }
                }
                None => (0..count as isize).for_each(|k| to[(start as isize + k * r.to_step as isize) as usize] = self.fill),
            }
        }
    }
}

/// The extent of two views, as one long row where nothing lies between the rows of either.
#[inline(always)]
fn joined_rows(a: &View, b: &View) -> Extent {
    let e = a.extent;
    let joined = |v: &View| v.row == e.width * v.lanes;
    if joined(a) && joined(b) { Extent { channels: e.channels, height: 1, width: e.height * e.width } } else { e }
}

/// Planes into blocks of 16 channels.
pub(crate) fn into_blocks(isa: Isa, planes: &[f32], from: &View, output: &mut [f32], to: &View) {
    let e = joined_rows(from, to);
    for b in 0..to.blocks() {
        let channels = LANES.min(e.channels - b * LANES);
        for y in 0..e.height {
            for x in (0..e.width).step_by(LANES) {
                let n = LANES.min(e.width - x);
                let plane = from.base + b * LANES * from.block + y * from.row + x;
                let at = to.base + b * to.block + y * to.row + x * LANES;
                let out = &mut output[at..at + n * LANES];
                if channels == LANES {
                    planes_to_blocks(isa, &planes[plane..], from.block, n, out);
                    continue;
                }
                for (p, pixel) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    pixel.fill(0.0);
                    pixel[..channels].iter_mut().enumerate().for_each(|(l, v)| *v = planes[plane + l * from.block + p]);
                }
            }
        }
    }
}

/// Blocks of 16 channels into planes.
pub(crate) fn from_blocks(isa: Isa, input: &[f32], from: &View, planes: &mut [f32], to: &View) {
    let e = joined_rows(from, to);
    for b in 0..from.blocks() {
        let channels = LANES.min(e.channels - b * LANES);
        for y in 0..e.height {
            for x in (0..e.width).step_by(LANES) {
                let n = LANES.min(e.width - x);
                let plane = to.base + b * LANES * to.block + y * to.row + x;
                let at = from.base + b * from.block + y * from.row + x * LANES;
                let pixels = &input[at..at + n * LANES];
                if channels == LANES {
                    blocks_to_planes(isa, pixels, n, &mut planes[plane..], to.block);
                    continue;
                }
                for (p, pixel) in pixels.as_chunks::<LANES>().0.iter().enumerate() {
                    pixel[..channels].iter().enumerate().for_each(|(l, v)| planes[plane + l * to.block + p] = *v);
                }
            }
        }
    }
}

/// What `pair` says for all elements of `e`, in the order of the channels of a pixel or of the pixels of a channel: whichever needs
/// fewer runs.
fn runs(e: Extent, lanes: usize, pair: impl Fn(usize, usize, usize) -> (Option<usize>, usize)) -> Vec<Run> {
    let pixels = |c: std::ops::Range<usize>| {
        (0..e.height).flat_map(move |y| (0..e.width).map(move |x| (y, x))).flat_map(move |(y, x)| c.clone().map(move |c| (c, y, x)))
    };
    let by_pixel = (0..e.channels).step_by(lanes).flat_map(|c| pixels(c..(c + lanes).min(e.channels)));
    let by_channel = (0..e.channels).flat_map(|c| pixels(c..c + 1));
    let a = compress(by_pixel.map(|(c, y, x)| pair(c, y, x)));
    let b = compress(by_channel.map(|(c, y, x)| pair(c, y, x)));
    if a.len() <= b.len() { a } else { b }
}

/// Joins pairs of (read, written) into runs of equal distances.
fn compress(pairs: impl Iterator<Item = (Option<usize>, usize)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (from, to) in pairs {
        let (from, to) = (from.map(|f| f as u32), to as u32);
        if let Some(r) = runs.last_mut() {
            let steps = |a: u32, b: u32| (b as i64 - a as i64) as i32;
            if r.count == 1 && r.from.is_some() == from.is_some() {
                r.from_step = r.from.zip(from).map_or(0, |(a, b)| steps(a, b));
                r.to_step = steps(r.to, to);
                r.count = 2;
                continue;
            }
            let n = r.count as i64;
            let next_from = r.from.map(|f| f as i64 + n * r.from_step as i64);
            if next_from == from.map(i64::from) && r.to as i64 + n * r.to_step as i64 == to as i64 {
                r.count += 1;
                continue;
            }
            // A pair that did not grow is two single elements.
            if r.count == 2 {
                let second = Run {
                    from: r.from.map(|f| (f as i64 + r.from_step as i64) as u32),
                    to: (r.to as i64 + r.to_step as i64) as u32,
                    count: 1,
                    from_step: 0,
                    to_step: 0,
                };
                if second.from.is_some() == from.is_some() {
                    r.count = 1;
                    let joined = Run {
                        count: 2,
                        from_step: second.from.zip(from).map_or(0, |(a, b)| steps(a, b)),
                        to_step: steps(second.to, to),
                        ..second
                    };
                    runs.push(joined);
                    continue;
                }
            }
        }
        runs.push(Run { from, to, count: 1, from_step: 0, to_step: 0 });
    }
    runs
}
