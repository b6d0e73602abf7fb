//! Convolution forward and backward by shifted signals (see [`super::tiles`]): no matrix of
//! patches is built, any number of channels is fast, and strides become phases of the input.

use pulp::Arch;
use rayon::prelude::*;

use super::buffers::{self, with_scratch};
use super::rows::{gather, spread};
use super::tiles::{Contract, Correlate, LANES, contract, correlate};

/// Shape of a two-dimensional convolution (one-dimensional ones have height 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Input channels, outputs channels.
    pub channels: [usize; 2],
    /// Groups; both channel numbers are multiples.
    pub groups: usize,
    /// Input height and width.
    pub input: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Vertical and horizontal dilation.
    pub dilation: [usize; 2],
    /// Padding at the top and left.
    pub before: [usize; 2],
    /// Padding at the bottom and right.
    pub after: [usize; 2],
}

impl Shape {
    /// Output height and width.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|d| {
            let window = self.dilation[d] * (self.kernel[d] - 1) + 1;
            (self.input[d] + self.before[d] + self.after[d] + 1).saturating_sub(window + 1) / self.stride[d]
                + usize::from(self.input[d] + self.before[d] + self.after[d] >= window)
        })
    }

    fn per_group(&self) -> [usize; 2] {
        self.channels.map(|c| c / self.groups)
    }

    fn taps(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [height, width] = self.kernel;
        (0..height).flat_map(move |y| (0..width).map(move |x| [y, x]))
    }

    fn input_size(&self) -> usize {
        self.input[0] * self.input[1]
    }

    fn output_size(&self) -> usize {
        let [height, width] = self.output();
        height * width
    }
}

/// How planes lie in a signal: zeros before rows and columns, and a pitch that leaves at least as many zeros between them as
/// any tap reaches over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    /// Rows of zeros before the first row of a plane, zeros before the first element of a row.
    lead: [usize; 2],
    /// Rows per plane, elements per row, the zeros included.
    pitch: [usize; 2],
}

impl Layout {
    fn plane(&self) -> usize {
        self.pitch[0] * self.pitch[1]
    }

    fn start(&self) -> usize {
        self.lead[0] * self.pitch[1] + self.lead[1]
    }
}

/// The layouts of the input (by phase) and of the positions, shared by forward and weights.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    layout: Layout,
    /// Images laid end to end in one task.
    images: usize,
    /// Positions of one task, rounded up.
    positions: usize,
    /// Length of the signal of one phase of one channel.
    signal: usize,
}

/// Elements of packed input one task may fill: with its outputs this stays in the second cache.
const TASK_ELEMENTS: usize = 96 * 1024;

fn images_per_task(batch: usize, elements_per_image: usize) -> usize {
    (TASK_ELEMENTS / elements_per_image.max(1)).clamp(1, batch.div_ceil(8).max(1))
}

impl Geometry {
    fn of_input(shape: &Shape) -> Self {
        let output = shape.output();
        let layout = if shape.stride == [1, 1] {
            let pitch = [0, 1].map(|d| (shape.input[d] + shape.before[d].max(shape.after[d])).max(output[d]));
            Layout { lead: shape.before, pitch }
        } else {
            let pitch = [0, 1].map(|d| (shape.input[d] + shape.before[d] + shape.after[d]).div_ceil(shape.stride[d]).max(output[d]));
            Layout { lead: [0, 0], pitch }
        };
        let phases = shape.stride[0] * shape.stride[1];
        let reach = [0, 1].map(|d| (shape.kernel[d] - 1) * shape.dilation[d] / shape.stride[d]);
        let [inputs, outputs] = shape.per_group();
        let images = images_per_task(shape.batch, layout.plane() * (phases * inputs).max(outputs));
        let positions = (images * layout.plane()).next_multiple_of(LANES);
        let signal = positions + (reach[0] * layout.pitch[1] + reach[1]).next_multiple_of(LANES) + layout.start().next_multiple_of(LANES);
        Self { layout, images, positions, signal }
    }

    /// Offsets of (input channel, tap) in a packed group.
    fn offsets(&self, shape: &Shape) -> Vec<usize> {
        let phases = shape.stride[0] * shape.stride[1];
        (0..shape.per_group()[0])
            .flat_map(|channel| {
                shape.taps().map(move |tap| {
                    let at = [0, 1].map(|d| tap[d] * shape.dilation[d]);
                    let phase = (at[0] % shape.stride[0]) * shape.stride[1] + at[1] % shape.stride[1];
                    (channel * phases + phase) * self.signal + at[0] / shape.stride[0] * self.layout.pitch[1] + at[1] / shape.stride[1]
                })
            })
            .collect()
    }

    /// Packs one group of `x`, images `[N, C, H, W]` of which channels `first..` are taken.
    fn pack(&self, shape: &Shape, x: &[f32], first: usize, into: &mut [f32]) {
        let [height, width] = shape.input;
        let [phases_y, phases_x] = shape.stride;
        let inputs = shape.per_group()[0];
        let plane = self.layout.plane();
        let pitch = self.layout.pitch[1];
        let per_image = shape.channels[0] * height * width;
        if (phases_y, phases_x) == (1, 1) {
            let range = [first, inputs];
            pack_planes(x, shape.input, shape.channels[0], range, &self.layout, self.signal, into);
            return;
        }
        let used = inputs * phases_y * phases_x * self.signal;
        into[..used].fill(0.0);
        for channel in 0..inputs {
            for (image, x) in x.chunks_exact(per_image).enumerate() {
                let x = &x[(first + channel) * height * width..][..height * width];
                for (y, row) in x.chunks_exact(width).enumerate() {
                    let at = y + shape.before[0];
                    for phase_x in 0..phases_x {
                        let phase = (at % phases_y) * phases_x + phase_x;
                        let start = (channel * phases_y * phases_x + phase) * self.signal + image * plane + at / phases_y * pitch;
                        // Column c of the padded row is in phase c % phases_x at c / phases_x.
                        let skip = (phase_x + phases_x - shape.before[1] % phases_x) % phases_x;
                        let column = (skip + shape.before[1]) / phases_x;
                        let content = row.iter().skip(skip).step_by(phases_x);
                        for (slot, value) in into[start + column..].iter_mut().zip(content) {
                            *slot = *value;
                        }
                    }
                }
            }
        }
    }
}

/// Copies `[channels][positions]` signals back to planes of `[N, C, H, W]`, optionally adding.
fn unpack(
    signals: &[f32],
    positions: usize,
    layout: &Layout,
    size: [usize; 2],
    channels: usize,
    [first, count]: [usize; 2],
    out: &mut [f32],
) {
    let [height, width] = size;
    for (image, out) in out.chunks_exact_mut(channels * height * width).enumerate() {
        let planes = &mut out[first * height * width..(first + count) * height * width];
        for (channel, plane) in planes.chunks_exact_mut(height * width).enumerate() {
            let start = channel * positions + image * layout.plane();
            gather(&signals[start..], layout.pitch[1], plane, width);
        }
    }
}

/// `y = conv(x, w) + bias`. `x` is `[N, C, H, W]`, `w` is `[O, C/groups, KH, KW]`, the result
/// `[N, O, OH, OW]`; then `+ residual` (of the result's shape) and `max(0, ·)`, as asked.
pub fn forward(shape: &Shape, x: &[f32], w: &[f32], bias: Option<&[f32]>, residual: Option<&[f32]>, relu: bool) -> Vec<f32> {
    let geometry = Geometry::of_input(shape);
    let offsets = geometry.offsets(shape);
    let [inputs, outputs] = shape.per_group();
    let phases = shape.stride[0] * shape.stride[1];
    let in_image = shape.channels[0] * shape.input_size();
    let out_image = shape.channels[1] * shape.output_size();
    let mut y = buffers::take(shape.batch * out_image);
    y.par_chunks_mut((geometry.images * out_image).max(1)).zip(x.par_chunks((geometry.images * in_image).max(1))).enumerate().for_each(
        |(task, (y, x))| {
            let residual = residual.map(|r| &r[task * geometry.images * out_image..][..y.len()]);
            with_scratch(|scratch| {
                let [packed, out, packed_w] =
                    scratch.slices([inputs * phases * geometry.signal, outputs * geometry.positions, outputs * offsets.len()]);
                for group in 0..shape.groups {
                    geometry.pack(shape, x, group * inputs, packed);
                    correlate(Correlate {
                        x: packed,
                        offsets: &offsets,
                        w: &w[group * outputs * offsets.len()..][..outputs * offsets.len()],
                        bias: bias.map(|b| &b[group * outputs..][..outputs]),
                        outputs,
                        positions: geometry.positions,
                        out,
                        packed_w,
                    });
                    unpack(out, geometry.positions, &geometry.layout, shape.output(), shape.channels[1], [group * outputs, outputs], y);
                }
            });
            finish(y, residual, relu);
        },
    );
    y
}

/// Sum with the residual and Relu, while the results are still in the cache.
fn finish(y: &mut [f32], residual: Option<&[f32]>, relu: bool) {
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    Arch::new().dispatch(|| match residual {
        Some(residual) => {
            for (y, r) in y.iter_mut().zip(residual) {
                let sum = *y + r;
                *y = if sum < floor { floor } else { sum };
            }
        }
        None if relu => {
            for y in y.iter_mut() {
                *y = if *y < floor { floor } else { *y };
            }
        }
        None => {}
    });
}

/// Lays the planes of channels `first..first + count` end to end as signals, zeros between rows.
fn pack_planes(x: &[f32], size: [usize; 2], channels: usize, [first, count]: [usize; 2], layout: &Layout, signal: usize, into: &mut [f32]) {
    let [height, width] = size;
    let pitch = layout.pitch[1];
    for channel in 0..count {
        let signal = &mut into[channel * signal..(channel + 1) * signal];
        let mut end = 0;
        for (image, x) in x.chunks_exact(channels * height * width).enumerate() {
            let x = &x[(first + channel) * height * width..][..height * width];
            let start = image * layout.plane() + layout.start();
            signal[end..start].fill(0.0);
            end = (start + height * pitch).min(signal.len());
            spread(x, width, &mut signal[start..end], pitch);
        }
        signal[end..].fill(0.0);
    }
}

/// Where the rows (or columns) of one phase of the input get their gradient from.
#[derive(Debug, Clone)]
struct Phase {
    /// First input row of this phase.
    first: usize,
    /// Number of input rows of this phase.
    count: usize,
    /// (tap, output row that the tap of the phase's first row came from, may be negative).
    taps: Vec<(usize, isize)>,
}

fn phases(shape: &Shape, d: usize) -> Vec<Phase> {
    let stride = shape.stride[d];
    (0..stride)
        .map(|phase| {
            // Padded row i·stride + phase; the first that is not padding has i = skip.
            let skip = shape.before[d].saturating_sub(phase).div_ceil(stride);
            let first = (skip * stride + phase).saturating_sub(shape.before[d]);
            let count = shape.input[d].saturating_sub(first).div_ceil(stride);
            let taps = (0..shape.kernel[d])
                .filter(|tap| tap * shape.dilation[d] % stride == phase)
                .map(|tap| (tap, skip as isize - (tap * shape.dilation[d] / stride) as isize))
                .collect();
            Phase { first, count, taps }
        })
        .collect()
}

/// How the gradient of the output lies in the signals that all phases of the input read.
#[derive(Debug, Clone, Copy)]
struct OutputGeometry {
    layout: Layout,
    /// Images laid end to end in one task.
    images: usize,
    /// Positions of one task, rounded up.
    positions: usize,
    /// Length of the signal of one channel.
    signal: usize,
}

impl OutputGeometry {
    fn new(shape: &Shape, by_axis: &[Vec<Phase>; 2]) -> Self {
        let output = shape.output();
        let axis = |d: usize| {
            let all = by_axis[d].iter();
            let lead = all.clone().flat_map(|p| p.taps.iter().map(|t| -t.1)).max();
            let lead = lead.unwrap_or(0).max(0) as usize;
            let trail = all.clone().flat_map(|p| p.taps.iter().map(|t| p.count as isize + t.1 - output[d] as isize));
            let trail = trail.max().unwrap_or(0).max(0) as usize;
            let count = all.map(|p| p.count).max().unwrap_or(0);
            (lead, (output[d] + lead.max(trail)).max(count))
        };
        let (rows, columns) = (axis(0), axis(1));
        let layout = Layout { lead: [rows.0, columns.0], pitch: [rows.1, columns.1] };
        let [inputs, outputs] = shape.per_group();
        let images = images_per_task(shape.batch, layout.plane() * inputs.max(outputs));
        let positions = (images * layout.plane()).next_multiple_of(LANES);
        // A tap reaches `lead + offset` beyond a position; where the input ends before the output does, that is more than what
        // trails behind the planes.
        let farthest = |d: usize, lead: usize| {
            let offset = by_axis[d].iter().flat_map(|p| p.taps.iter().map(|t| t.1)).max().unwrap_or(0);
            (lead as isize + offset).max(0) as usize
        };
        let reach = farthest(0, rows.0) * layout.pitch[1] + farthest(1, columns.0);
        let signal = positions + reach.max(layout.start()).next_multiple_of(LANES);
        Self { layout, images, positions, signal }
    }
}

/// A phase of the rows with one of the columns: a stride-1 correlation of its own.
struct PhasePair<'a> {
    rows: &'a Phase,
    columns: &'a Phase,
    /// Offsets of (output channel, tap) in a packed group.
    offsets: Vec<usize>,
    /// Weights `[input][output channel][tap]`, group by group.
    w: Vec<f32>,
}

impl<'a> PhasePair<'a> {
    fn new(shape: &Shape, geometry: &OutputGeometry, w: &[f32], rows: &'a Phase, columns: &'a Phase) -> Self {
        let layout = geometry.layout;
        let [inputs, outputs] = shape.per_group();
        let taps = shape.kernel[0] * shape.kernel[1];
        let both = || rows.taps.iter().flat_map(|y| columns.taps.iter().map(move |x| (*y, *x)));
        let offsets: Vec<usize> = (0..outputs)
            .flat_map(|o| {
                both().map(move |((_, y), (_, x))| {
                    let y = (layout.lead[0] as isize + y) as usize;
                    let x = (layout.lead[1] as isize + x) as usize;
                    o * geometry.signal + y * layout.pitch[1] + x
                })
            })
            .collect();
        let mut transposed = Vec::with_capacity(shape.groups * inputs * offsets.len());
        for group in 0..shape.groups {
            for i in 0..inputs {
                for o in 0..outputs {
                    let row = ((group * outputs + o) * inputs + i) * taps;
                    transposed.extend(both().map(|((y, _), (x, _))| w[row + y * shape.kernel[1] + x]));
                }
            }
        }
        Self { rows, columns, offsets, w: transposed }
    }
}

/// Gradient of the input: `dx = Σ_taps w · dy`, each input phase a stride-1 correlation.
pub fn backward_input(shape: &Shape, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let by_axis = [phases(shape, 0), phases(shape, 1)];
    let geometry = OutputGeometry::new(shape, &by_axis);
    let OutputGeometry { layout, images, positions, signal } = geometry;
    let [inputs, outputs] = shape.per_group();
    let in_image = shape.channels[0] * shape.input_size();
    let out_image = shape.channels[1] * shape.output_size();
    let taps = shape.kernel[0] * shape.kernel[1];
    let pairs: Vec<PhasePair<'_>> = by_axis[0]
        .iter()
        .flat_map(|rows| by_axis[1].iter().map(move |columns| (rows, columns)))
        .map(|(rows, columns)| PhasePair::new(shape, &geometry, w, rows, columns))
        .collect();

    let unit_stride = shape.stride == [1, 1];
    let mut dx = buffers::take(shape.batch * in_image);
    dx.par_chunks_mut((images * in_image).max(1)).zip(dy.par_chunks((images * out_image).max(1))).for_each(|(dx, dy)| {
        with_scratch(|scratch| {
            let [packed, out, packed_w] = scratch.slices([outputs * signal, inputs * positions, inputs * outputs * taps]);
            for group in 0..shape.groups {
                let range = [group * outputs, outputs];
                pack_planes(dy, shape.output(), shape.channels[1], range, &layout, signal, packed);
                for pair in &pairs {
                    let k = pair.offsets.len();
                    correlate(Correlate {
                        x: packed,
                        offsets: &pair.offsets,
                        w: &pair.w[group * inputs * k..][..inputs * k],
                        bias: None,
                        outputs: inputs,
                        positions,
                        out,
                        packed_w,
                    });
                    let range = [group * inputs, inputs];
                    if unit_stride {
                        let channels = shape.channels[0];
                        unpack(out, positions, &layout, shape.input, channels, range, dx);
                    } else {
                        scatter(shape, out, positions, &layout, pair.rows, pair.columns, range, dx);
                    }
                }
            }
        });
    });
    dx
}

/// Writes the gradient of one phase to every `stride`-th row and column.
#[allow(clippy::too_many_arguments)]
fn scatter(
    shape: &Shape,
    signals: &[f32],
    positions: usize,
    layout: &Layout,
    rows: &Phase,
    columns: &Phase,
    [first, count]: [usize; 2],
    dx: &mut [f32],
) {
    let [height, width] = shape.input;
    for (image, dx) in dx.chunks_exact_mut(shape.channels[0] * height * width).enumerate() {
        let planes = &mut dx[first * height * width..(first + count) * height * width];
        for (channel, plane) in planes.chunks_exact_mut(height * width).enumerate() {
            let start = channel * positions + image * layout.plane();
            for q in 0..rows.count {
                let source = &signals[start + q * layout.pitch[1]..][..columns.count];
                let row = &mut plane[(rows.first + q * shape.stride[0]) * width..][..width];
                let slots = row.iter_mut().skip(columns.first).step_by(shape.stride[1]);
                for (slot, value) in slots.zip(source) {
                    *slot = *value;
                }
            }
        }
    }
}

/// Gradient of the weights: `dw[o][k] = Σ dy[o] · x shifted by k`.
pub fn backward_weight(shape: &Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let geometry = Geometry::of_input(shape);
    let offsets = geometry.offsets(shape);
    let [inputs, outputs] = shape.per_group();
    let phases = shape.stride[0] * shape.stride[1];
    let in_image = shape.channels[0] * shape.input_size();
    let out_image = shape.channels[1] * shape.output_size();
    let weights = shape.channels[1] * offsets.len();
    let position_layout = Layout { lead: [0, 0], pitch: geometry.layout.pitch };
    let partial: Vec<Vec<f32>> = x
        .par_chunks((geometry.images * in_image).max(1))
        .zip(dy.par_chunks((geometry.images * out_image).max(1)))
        .map(|(x, dy)| {
            let mut dw = vec![0.0; weights];
            with_scratch(|scratch| {
                let stride = geometry.positions + LANES;
                let [packed, packed_dy] = scratch.slices([inputs * phases * geometry.signal, outputs * stride]);
                for group in 0..shape.groups {
                    geometry.pack(shape, x, group * inputs, packed);
                    pack_planes(dy, shape.output(), shape.channels[1], [group * outputs, outputs], &position_layout, stride, packed_dy);
                    contract(Contract {
                        x: packed,
                        offsets: &offsets,
                        dy: packed_dy,
                        dy_stride: stride,
                        outputs,
                        positions: geometry.positions,
                        dw: &mut dw[group * outputs * offsets.len()..][..outputs * offsets.len()],
                    });
                }
            });
            dw
        })
        .collect();
    let mut sum = vec![0.0; weights];
    for dw in partial {
        for (sum, dw) in sum.iter_mut().zip(dw) {
            *sum += dw;
        }
    }
    sum
}

/// Gradient of the bias: the sum of `dy` over images and positions, `[O]`.
pub fn backward_bias(shape: &Shape, dy: &[f32]) -> Vec<f32> {
    let size = shape.output_size();
    let mut sum = vec![0.0f64; shape.channels[1]];
    for image in dy.chunks_exact((shape.channels[1] * size).max(1)) {
        for (sum, plane) in sum.iter_mut().zip(image.chunks_exact(size.max(1))) {
            *sum += f64::from(plane.iter().sum::<f32>());
        }
    }
    sum.into_iter().map(|s| s as f32).collect()
}
