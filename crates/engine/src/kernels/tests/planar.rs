//! The kernels with pixels in their lanes.

use super::*;
use crate::kernels::{PlanarConvolution, strip_kernel};
use crate::layout::View;
use crate::sorted::{Sorted, Structure};

/// Two values that no kernel computes here.
const MARK: f32 = 12345.0;

impl Case {
    /// The planar kernels that take `filters` at a time, and `per_pass` channels after the other, against the definition. The case keeps rows and columns.
    fn check_planar(&self, isa: Isa, filters: usize, per_pass: usize) {
        let Some(out) = self.output() else { return };
        assert_eq!((out.height, out.width, self.stride, self.group), (self.input.height, self.input.width, (1, 1), 1));
        let Operands { x, added, weights, expected } = self.operands(out);
        let halo = self.halo(out);
        let view = |extent: Extent| Layout { extent, halo, lanes: 1 }.view();
        let (input, output) = (view(self.input), view(out));
        let geometry =
            Geometry { input, pad: (self.pads[0], self.pads[1]), stride: (1, 1), output, residual: self.residual.then_some(output) };
        let taps = Taps { dilation_y: self.dilation.0, dilation_x: self.dilation.1 };
        let sorted = Sorted::pack(&weights, taps, &input, filters, per_pass).expect("fits");
        let convolution = PlanarConvolution::new(isa, &geometry, &sorted, &weights.bias, self.clamp).expect("fits its buffers");
        let (mut from, mut plus, mut to) = (Buffer::zeros(input.len), Buffer::zeros(output.len), Buffer::zeros(output.len));
        fill(&mut from, &input, &x);
        fill(&mut plus, &output, &added);
        to.as_mut_slice().fill(MARK);
        let residual = self.residual.then(|| plus.as_slice());
        convolution.run(from.as_slice(), to.as_mut_slice(), residual, None);
        // In shares, one after the other, every bit is the same.
        for threads in [2, 3, 7] {
            let mut shared = Buffer::zeros(output.len);
            shared.as_mut_slice().fill(MARK);
            convolution.clone().divided(threads, 0).run(from.as_slice(), shared.as_mut_slice(), residual, None);
            assert!(shared.as_slice().iter().zip(to.as_slice()).all(|(a, b)| a.to_bits() == b.to_bits()), "{threads} {self:?}");
        }
        let mut is_pixel = vec![false; output.len];
        for c in 0..out.channels {
            for y in 0..out.height {
                for x in 0..out.width {
                    let (e, at) = (expected[(c * out.height + y) * out.width + x], output.at(c, y, x));
                    let v = to.as_slice()[at];
                    assert!(close(e, v), "{isa:?}, {filters} at a time: filter {c}, row {y}, column {x}: {v} instead of {e}\n{self:?}");
                    is_pixel[at] = true;
                }
            }
        }
        // Around the pixels there are zeros, or what was there.
        let around = to.as_slice().iter().zip(&is_pixel).filter(|(_, p)| !**p);
        for (v, _) in around {
            assert!(*v == 0.0 || *v == MARK, "{isa:?} left {v} outside its result\n{self:?}");
        }
    }
}

/// The widths of lists that `isa` has kernels for.
fn widths(isa: Isa) -> Vec<usize> {
    [4, 8].into_iter().filter(|&f| strip_kernel(isa, f, 1).is_some()).collect()
}

/// A case of step 1 that keeps the numbers of rows and columns.
fn planar_case() -> impl Strategy<Value = Case> {
    (case(), 1usize..100).prop_map(|(mut case, width)| {
        let reach = |dilation: usize, kernel: usize| dilation * (kernel - 1);
        let (rows, columns) = (reach(case.dilation.0, case.kernel.0), reach(case.dilation.1, case.kernel.1));
        let (top, left) = (case.pads[0].min(rows), case.pads[1].min(columns));
        (case.stride, case.group, case.planar, case.input.width) = ((1, 1), 1, true, width);
        case.pads = [top, left, rows - top, columns - left];
        case
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// All sizes, channel counts, windows and sparsities; masks shared by 1, 2, 4, 8, 16 and 32 filters.
    #[test]
    fn planar_convolutions_are_what_they_are_defined_to_be(case in planar_case()) {
        for isa in Isa::available() {
            for filters in widths(isa) {
                case.check_planar(isa, filters, case.input.channels);
                case.check_planar(isa, filters, 1 + case.input.channels / 3);
            }
        }
    }

    /// Counted by the definition of a unit.
    #[test]
    fn structure_counts_units(case in planar_case()) {
        let Some(out) = case.output() else { return Ok(()) };
        let weights = case.operands(out).weights;
        let units = weights.values.len() / case.filters;
        let count = |width: usize| {
            (0..case.filters.div_ceil(width))
                .flat_map(|b| (0..units).map(move |u| (b, u)))
                .filter(|&(b, u)| (b * width..((b + 1) * width).min(case.filters)).any(|f| weights.values[f * units + u] != 0.0))
                .count()
        };
        let s = Structure { sixteens: count(16), pairs: count(32), eights: count(8), fours: count(4), weights: count(1) };
        prop_assert_eq!(Structure::of(&weights), s);
    }
}

/// Strips of every length, each with every subset of four filters: as many vectors of pixels as the longest strips and one to seven more.
#[test]
fn every_strip_computes_its_pixels() {
    for isa in Isa::available() {
        for filters in widths(isa) {
            for width in (1..14).map(|vectors| 16 * vectors - 3) {
                let case = Case {
                    input: Extent { channels: 40, height: 1, width },
                    filters: 19,
                    kernel: (1, 3),
                    stride: (1, 1),
                    dilation: (1, 1),
                    pads: [0, 1, 0, 1],
                    group: 1,
                    zeros: 8,
                    block: 1,
                    planar: true,
                    residual: width % 2 == 0,
                    clamp: Clamp { low: -0.5, high: 0.75, slope: 0.25 },
                    more_halo: 0,
                    seed: width as u64,
                };
                case.check_planar(isa, filters, 40);
            }
        }
    }
}

/// What would leave its buffers is refused when it is made.
#[test]
fn a_planar_convolution_that_would_leave_its_buffers_is_not_made() {
    let extent = Extent { channels: 8, height: 4, width: 5 };
    let make = |halo: usize, cut_input: usize, cut_output: usize| {
        let halo = Halo { top: halo, left: halo, bottom: halo, right: halo };
        let whole = Layout { extent, halo, lanes: 1 }.view();
        let input = View { len: whole.len - cut_input, ..whole };
        let output = View { len: whole.len - cut_output, ..whole };
        let weights = Weights { shape: [8, 8, 3, 3], values: vec![1.0; 8 * 8 * 9], bias: vec![0.0; 8], group: 1 };
        let sorted = Sorted::pack(&weights, Taps { dilation_y: 1, dilation_x: 1 }, &input, 4, 8).expect("fits");
        let geometry = Geometry { input, pad: (1, 1), stride: (1, 1), output, residual: None };
        PlanarConvolution::new(Isa::Plain, &geometry, &sorted, &weights.bias, Clamp::NONE)
    };
    let whole = Layout { extent, halo: Halo { top: 1, left: 1, bottom: 1, right: 1 }, lanes: 1 }.view();
    // Of the last channel: 4 rows of pitch 6, the last of 5 pixels, in vectors of 16; the input two rows and columns further from one
    // row and column before.
    let last = whole.base + 7 * whole.block + 32;
    let (input, output) = (whole.len - (last + whole.row + 1), whole.len - last);
    assert!(make(1, input, output).is_some());
    assert!(make(1, input + 1, output).is_none(), "an input one element short");
    assert!(make(1, input, output + 1).is_none(), "an output one element short");
    assert!(make(0, 0, 0).is_none(), "no room for the padding");
}
