//! Every kernel of every instruction set that this CPU has, against a convolution written as its definition.

use proptest::prelude::*;

use super::order::Order;
use super::{Access, Buffer, Clamp, Convolution, Geometry, Isa, Shape, tile_kernel};
use crate::layout::{Extent, Halo, LANES, Layout, View};
use crate::survivors::{Survivors, Taps, Weights};
use crate::tiling::{Tile, cover};

mod pair;
mod planar;
mod transpose;

/// A small generator of pseudo-random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    fn unit(&mut self) -> f32 {
        (self.next() % (1 << 24)) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A convolution to test.
#[derive(Debug, Clone)]
struct Case {
    input: Extent,
    filters: usize,
    kernel: (usize, usize),
    stride: (usize, usize),
    dilation: (usize, usize),
    /// Above, left, below, right.
    pads: [usize; 4],
    group: usize,
    /// Of 16 units, this many are zero.
    zeros: u64,
    /// Filters that lose a unit together.
    block: usize,
    planar: bool,
    residual: bool,
    clamp: Clamp,
    /// More halo than the convolution needs, as a second reader may want.
    more_halo: usize,
    seed: u64,
}

impl Case {
    fn output(&self) -> Option<Extent> {
        let out = |size: usize, before: usize, after: usize, k: usize, d: usize, s: usize| {
            Some((size + before + after).checked_sub(d * (k - 1) + 1)? / s + 1)
        };
        let [top, left, bottom, right] = self.pads;
        Some(Extent {
            channels: self.filters,
            height: out(self.input.height, top, bottom, self.kernel.0, self.dilation.0, self.stride.0)?,
            width: out(self.input.width, left, right, self.kernel.1, self.dilation.1, self.stride.1)?,
        })
    }

    /// Random operands, and the result by definition, in f64. What is added is a NaN now and then: that is not lost.
    fn operands(&self, out: Extent) -> Operands {
        let mut random = Random(self.seed | 1);
        let (per_group, filters_per_group) = (self.input.channels / self.group, self.filters / self.group);
        let (kh, kw) = self.kernel;
        let x: Vec<f32> = (0..self.input.len()).map(|_| random.unit()).collect();
        let added: Vec<f32> = (0..out.len()).map(|_| if random.next().is_multiple_of(16) { f32::NAN } else { random.unit() }).collect();
        let bias: Vec<f32> = (0..self.filters).map(|_| random.unit()).collect();
        let mut values: Vec<f32> = (0..self.filters * per_group * kh * kw).map(|_| random.unit()).collect();
        for first in (0..self.filters).step_by(self.block) {
            for unit in 0..per_group * kh * kw {
                if random.next() % 16 < self.zeros {
                    (first..(first + self.block).min(self.filters)).for_each(|f| values[f * per_group * kh * kw + unit] = 0.0);
                }
            }
        }
        // By definition.
        let mut expected = Vec::new();
        for f in 0..self.filters {
            for y in 0..out.height {
                for x_out in 0..out.width {
                    let mut sum = bias[f] as f64;
                    for c in 0..per_group {
                        let channel = f / filters_per_group * per_group + c;
                        for ky in 0..kh {
                            for kx in 0..kw {
                                let iy = (y * self.stride.0 + ky * self.dilation.0).checked_sub(self.pads[0]);
                                let ix = (x_out * self.stride.1 + kx * self.dilation.1).checked_sub(self.pads[1]);
                                if let (Some(iy), Some(ix)) = (iy, ix)
                                    && iy < self.input.height
                                    && ix < self.input.width
                                {
                                    let w = values[((f * per_group + c) * kh + ky) * kw + kx];
                                    sum += w as f64 * x[(channel * self.input.height + iy) * self.input.width + ix] as f64;
                                }
                            }
                        }
                    }
                    if self.residual {
                        sum += added[expected.len()] as f64;
                    }
                    let v = if sum < 0.0 { sum * self.clamp.slope as f64 } else { sum };
                    let clamped = v.max(self.clamp.low as f64).min(self.clamp.high as f64) as f32;
                    expected.push(if sum.is_nan() { f32::NAN } else { clamped });
                }
            }
        }
        let weights = Weights { shape: [self.filters, per_group, kh, kw], values, bias, group: self.group };
        Operands { x, added, weights, expected }
    }

    /// Zeros around the input, and `more_halo` than that.
    fn halo(&self, out: Extent) -> Halo {
        let m = self.more_halo;
        let reach = |size: usize, before: usize, out: usize, k: usize, d: usize, s: usize| {
            ((out - 1) * s + d * (k - 1) + 1).saturating_sub(size + before)
        };
        Halo {
            top: self.pads[0] + m,
            left: self.pads[1] + m,
            bottom: reach(self.input.height, self.pads[0], out.height, self.kernel.0, self.dilation.0, self.stride.0) + m,
            right: reach(self.input.width, self.pads[1], out.width, self.kernel.1, self.dilation.1, self.stride.1),
        }
    }

    /// The kernels of `isa` against the definition: with tiles of the engine's choice, or those given.
    fn check(&self, isa: Isa, blocks: usize, tiles: Option<&[Tile]>) {
        let Some(out) = self.output() else { return };
        let Operands { x, added, weights, expected } = self.operands(out);
        let m = self.more_halo;
        let halo = self.halo(out);
        let lanes = if self.planar { 1 } else { LANES };
        let input = Layout { extent: self.input, halo, lanes }.view();
        let output = Layout { extent: out, halo: Halo { top: m, left: m, bottom: m, right: m }, lanes: LANES }.view();
        let residual = Layout { extent: out, halo: Halo::default(), lanes: LANES }.view();
        let geometry =
            Geometry { input, pad: (self.pads[0], self.pads[1]), stride: self.stride, output, residual: self.residual.then_some(residual) };
        let taps = Taps { dilation_y: self.dilation.0, dilation_x: self.dilation.1 };
        let survivors = Survivors::pack(&weights, taps, &input, blocks).expect("fits");
        let access = Access { step: self.stride.1 * lanes, vector: survivors.depthwise };
        let chosen = cover(isa, access, blocks, out.height, out.width).map(|c| c.tiles);
        let Some(tiles) = tiles.map(<[Tile]>::to_vec).or(chosen) else {
            assert!(blocks > 1, "one block always has kernels");
            return;
        };
        let convolution = Convolution::new(isa, &geometry, &survivors, &weights.bias, &tiles, self.clamp, false).expect("fits its buffers");
        let mut from = Buffer::zeros(input.len);
        let mut plus = Buffer::zeros(residual.len);
        fill(&mut from, &input, &x);
        fill(&mut plus, &residual, &added);
        let mut to = Buffer::zeros(output.len);
        let mark = 12345.0;
        to.as_mut_slice().fill(mark);
        let residual = self.residual.then(|| plus.as_slice());
        convolution.run(from.as_slice(), to.as_mut_slice(), residual, None, None);
        // In shares, by as many threads or one after the other, every bit is the same.
        for threads in [2, 3, 7] {
            let mut shared = Buffer::zeros(to.as_slice().len());
            shared.as_mut_slice().fill(mark);
            convolution.clone().divided(threads, 0).run(from.as_slice(), shared.as_mut_slice(), residual, None, None);
            assert!(shared.as_slice().iter().zip(to.as_slice()).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} {self:?}");
        }
        let mut written = 0;
        for c in 0..out.channels {
            for y in 0..out.height {
                for x_out in 0..out.width {
                    let (e, v) = (expected[(c * out.height + y) * out.width + x_out], to.as_slice()[output.at(c, y, x_out)]);
                    assert!(close(e, v), "{isa:?}: filter {c}, row {y}, column {x_out}: {v} instead of {e}\n{self:?}");
                    written += 1;
                }
            }
        }
        // The halo of the result is untouched: later layers rely on its zeros.
        let unused = (LANES - out.channels % LANES) % LANES * out.height * out.width;
        let untouched = to.as_slice().iter().filter(|&&v| v == mark).count();
        assert_eq!(untouched, output.len - written - unused, "{isa:?} wrote outside its result\n{self:?}");
    }
}

struct Operands {
    x: Vec<f32>,
    added: Vec<f32>,
    weights: Weights,
    expected: Vec<f32>,
}

/// `v` is the number expected, or as little a number as that.
fn close(e: f32, v: f32) -> bool {
    (e - v).abs() <= 1e-4 * (1.0 + e.abs()) || (e.is_nan() && v.is_nan())
}

/// Puts `values`, in the order of a file, into `buffer`.
fn fill(buffer: &mut Buffer, view: &View, values: &[f32]) {
    for c in 0..view.extent.channels {
        for y in 0..view.extent.height {
            for x in 0..view.extent.width {
                buffer.as_mut_slice()[view.at(c, y, x)] = values[(c * view.extent.height + y) * view.extent.width + x];
            }
        }
    }
}

fn case() -> impl Strategy<Value = Case> {
    let extent = (1usize..40, 1usize..20, 1usize..34).prop_map(|(channels, height, width)| Extent { channels, height, width });
    let window = (
        (1usize..=4, 1usize..=4),
        (1usize..=3, prop::sample::select(vec![1usize, 1, 1, 2, 2, 3, 4])),
        (1usize..=2, 1usize..=2),
        [0usize..3, 0usize..3, 0usize..3, 0usize..3],
    );
    let kind = (1usize..50, 0usize..4, 0u64..=16, prop::sample::select(vec![1usize, 2, 4, 8, 16, 32]), any::<bool>(), any::<bool>());
    let clamp = prop::sample::select(vec![
        Clamp::NONE,
        Clamp { low: 0.0, ..Clamp::NONE },
        Clamp { low: 0.0, high: 1.5, slope: 1.0 },
        Clamp { slope: 0.1, ..Clamp::NONE },
    ]);
    (extent, window, kind, clamp, 0usize..3, any::<u64>()).prop_map(
        |(mut input, (kernel, stride, dilation, pads), (filters, grouping, zeros, block, planar, residual), clamp, more_halo, seed)| {
            let (mut filters, mut group) = (filters, 1);
            match grouping {
                // Depthwise.
                1 => (filters, group) = (input.channels, input.channels),
                // Grouped, with blocks that straddle groups.
                2 => {
                    group = 3;
                    input.channels *= 3;
                    filters *= 3;
                }
                _ => {}
            }
            let planar = planar && group == 1;
            Case { input, filters, kernel, stride, dilation, pads, group, zeros, block, planar, residual, clamp, more_halo, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// All sizes, channel counts, windows, groupings and sparsities.
    #[test]
    fn convolutions_are_what_they_are_defined_to_be(case in case()) {
        for isa in Isa::available() {
            case.check(isa, 1, None);
            if case.group == 1 && case.filters.div_ceil(LANES).is_multiple_of(2) {
                case.check(isa, 2, None);
            }
        }
    }
}

/// Every kernel there is, one tile each.
#[test]
fn every_tile_shape_computes_its_pixels() {
    let mut kernels = 0;
    for isa in Isa::available() {
        for (stride, planar, depthwise) in [
            (1, false, false),
            (2, false, false),
            (3, false, false),
            (1, true, false),
            (2, true, false),
            (1, false, true),
            (2, false, true),
            (3, false, true),
        ] {
            let step = if planar { stride } else { stride * LANES };
            for (blocks, rows, columns) in (1..=2).flat_map(|b| (1..=8).flat_map(move |r| (1..=28).map(move |c| (b, r, c)))) {
                let shape = Shape { blocks, rows, columns };
                if tile_kernel(isa, Access { step, vector: depthwise }, shape).is_none() {
                    continue;
                }
                kernels += 1;
                let channels = if depthwise { 16 * blocks } else { 5 };
                let case = Case {
                    input: Extent { channels, height: rows * stride, width: columns * stride },
                    filters: 16 * blocks,
                    kernel: (3, 2),
                    stride: (stride, stride),
                    dilation: (1, 1),
                    pads: [1, 1, 3, 3],
                    group: if depthwise { channels } else { 1 },
                    zeros: 4,
                    block: 16,
                    planar,
                    residual: rows % 2 == 0,
                    clamp: Clamp { low: -0.5, high: 0.75, slope: 0.25 },
                    more_halo: 1,
                    seed: 7 + columns as u64,
                };
                // The case's output may be larger than the tile; cut it to the tile.
                let out = case.output().expect("not empty");
                let tiles: Vec<Tile> = (0..out.height)
                    .flat_map(|y| (0..out.width).map(move |x| (y, x)))
                    .filter_map(|(y, x)| {
                        let whole = y % rows == 0 && x % columns == 0 && y + rows <= out.height && x + columns <= out.width;
                        let covered = y < out.height / rows * rows && x < out.width / columns * columns;
                        let one = Shape { blocks, rows: 1, columns: 1 };
                        match (whole, covered) {
                            (true, _) => Some(Tile { y, x, shape }),
                            (false, true) => None,
                            (false, false) => Some(Tile { y, x, shape: one }),
                        }
                    })
                    .collect();
                case.check(isa, blocks, Some(&tiles));
            }
        }
    }
    assert!(kernels > 30, "only {kernels} kernels were found");
}

/// Few survivors of many channels: the channels are taken in passes, with partial sums in the output.
#[test]
fn passes_over_channels_add_up() {
    for (kernel, stride, filters, residual) in [(1, 1, 96, true), (1, 2, 64, false), (3, 1, 64, true)] {
        let case = Case {
            input: Extent { channels: 500, height: 14, width: 29 },
            filters,
            kernel: (kernel, kernel),
            stride: (stride, stride),
            dilation: (1, 1),
            pads: [kernel / 2; 4],
            group: 1,
            zeros: 14,
            block: 16,
            planar: false,
            residual,
            clamp: Clamp { low: 0.0, high: 2.0, slope: 1.0 },
            more_halo: 0,
            seed: 3,
        };
        for isa in Isa::available() {
            case.check(isa, 1, None);
            case.check(isa, 2, None);
        }
    }
    // A quarter of the weights left: the input of a tile is taken in passes, and every weight is in one of them.
    let layout = Layout { extent: Extent { channels: 512, height: 14, width: 28 }, halo: Halo::default(), lanes: LANES };
    let values = (0..64 * 512).map(|i| if i % 4 == 0 { 1.0 } else { 0.0 }).collect();
    let weights = Weights { shape: [64, 512, 1, 1], values, bias: vec![0.0; 64], group: 1 };
    let survivors = Survivors::pack(&weights, Taps { dilation_y: 1, dilation_x: 1 }, &layout.view(), 1).expect("fits");
    let geometry = Geometry { input: layout.view(), pad: (0, 0), stride: (1, 1), output: layout.view(), residual: None };
    let order = Order::new(Isa::Avx512, &survivors, &geometry, Some(Shape { blocks: 1, rows: 1, columns: 28 }), false);
    assert!(order.passes > 1);
    assert_eq!(order.weights.len(), survivors.weights.len());
    assert_eq!(order.lists.iter().map(|l| l.count as usize).sum::<usize>(), 4 * 128);
}

/// What would leave its buffers is refused when it is made.
#[test]
fn a_convolution_that_would_leave_its_buffers_is_not_made() {
    let extent = Extent { channels: 16, height: 4, width: 4 };
    let make = |halo: usize, cut: usize| {
        let halo = Halo { top: halo, left: halo, bottom: halo, right: halo };
        let mut input = Layout { extent, halo, lanes: LANES }.view();
        input.len -= cut;
        let output = Layout { extent, halo: Halo::default(), lanes: LANES }.view();
        let weights = Weights { shape: [16, 16, 3, 3], values: vec![1.0; 16 * 16 * 9], bias: vec![0.0; 16], group: 1 };
        let survivors = Survivors::pack(&weights, Taps { dilation_y: 1, dilation_x: 1 }, &input, 1).expect("fits");
        let tiles = cover(Isa::Plain, Access { step: LANES, vector: false }, 1, 4, 4).expect("tiles").tiles;
        let geometry = Geometry { input, pad: (1, 1), stride: (1, 1), output, residual: None };
        Convolution::new(Isa::Plain, &geometry, &survivors, &weights.bias, &tiles, Clamp::NONE, false)
    };
    assert!(make(1, 0).is_some());
    assert!(make(1, 1).is_none(), "a buffer one element short");
    assert!(make(0, 0).is_none(), "no room for the padding");
}
