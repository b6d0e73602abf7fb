//! Samples of a layer's linear map: what one output position reads, and what it lacks.

use burn_backend::TensorMetadata;
use burn_backend::tensor::FloatTensor;
use burn_flex::Flex;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;

use crate::kernels::conv::Shape;
use crate::tensors;

/// What a layer multiplies its weight with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reads {
    /// Patches of images `[N, C, H, W]`; outputs `[N, F, H', W']`.
    Patches(Shape),
    /// Rows `[…, K]`; outputs `[…, F]`.
    Rows,
}

/// A tensor on the host.
#[derive(Debug)]
pub(super) struct Host {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Host {
    pub fn of(tensor: FloatTensor<Flex>) -> Self {
        Self { shape: tensor.shape().to_vec(), values: tensors::to_f32::<Flex>(tensor) }
    }

    /// Size of the axis of channels, and elements per channel and image: `[N, F, positions]` or `[N, positions, F]`.
    fn layout(&self, last: bool) -> [usize; 3] {
        let n = self.shape[0].max(1);
        let channels = if last { self.shape.last().copied().unwrap_or(1) } else { self.shape[1] };
        [n, channels, self.values.len() / (n * channels).max(1)]
    }
}

/// Output positions per image of outputs `[N, F, …]` or `[N, …, F]`.
pub(super) fn positions(reads: &Reads, y: &Host) -> usize {
    y.layout(matches!(reads, Reads::Rows))[2]
}

/// `count` of the `of` positions of an image, ascending; the same for the same seed.
pub(super) fn chosen(of: usize, count: usize, seed: u64) -> Vec<usize> {
    if count >= of {
        return (0..of).collect();
    }
    let mut all = index::sample(&mut ChaCha8Rng::seed_from_u64(seed), of, count).into_vec();
    all.sort_unstable();
    all
}

/// Inputs of partition `g` of `groups`, read at `position` of image `n`.
pub(super) fn read(reads: &Reads, x: &Host, [n, position]: [usize; 2], g: usize, out: &mut Vec<f64>) {
    match reads {
        Reads::Rows => {
            let width = x.shape.last().copied().unwrap_or(1);
            let rows = x.values.len() / (x.shape[0] * width).max(1);
            let row = n * rows + position;
            out.extend(x.values[row * width..(row + 1) * width].iter().map(|&v| f64::from(v)));
        }
        Reads::Patches(s) => {
            let [h, w] = s.input;
            let columns = s.output()[1];
            let (oy, ox) = (position / columns, position % columns);
            let per_group = s.channels[0] / s.groups;
            for c in g * per_group..(g + 1) * per_group {
                let plane = &x.values[(n * s.channels[0] + c) * h * w..][..h * w];
                for ky in 0..s.kernel[0] {
                    // Wraps around where it lies in the padding before.
                    let y = (oy * s.stride[0] + ky * s.dilation[0]).wrapping_sub(s.before[0]);
                    for kx in 0..s.kernel[1] {
                        let x = (ox * s.stride[1] + kx * s.dilation[1]).wrapping_sub(s.before[1]);
                        out.push(if y < h && x < w { f64::from(plane[y * w + x]) } else { 0.0 });
                    }
                }
            }
        }
    }
}

/// Outputs by image, channel and position, whichever axis the channels are on.
pub(super) struct Outputs<'a> {
    host: &'a Host,
    layout: [usize; 3],
    last: bool,
}

impl<'a> Outputs<'a> {
    pub fn new(reads: &Reads, host: &'a Host) -> Self {
        let last = matches!(reads, Reads::Rows);
        Self { host, layout: host.layout(last), last }
    }

    pub fn at(&self, n: usize, channel: usize, position: usize) -> f64 {
        let [_, channels, positions] = self.layout;
        let i = if self.last { (n * positions + position) * channels + channel } else { (n * channels + channel) * positions + position };
        f64::from(self.host.values[i])
    }
}
