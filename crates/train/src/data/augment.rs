//! Random changes of training images, reproducible for (seed, epoch, image).

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// What is done to a training image, in this order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Augment {
    /// Zeros (in normalised space: the mean colour) added on each side before a crop of the
    /// original size at a random place.
    pub pad_crop: Option<usize>,
    /// Mirrored with probability one half.
    pub flip: bool,
    /// A random part with an area in this range (as a share) and an aspect ratio in 3/4…4/3,
    /// resampled to the input size.
    pub resized_crop: Option<(f32, f32)>,
}

impl Augment {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// The standard recipe for CIFAR: pad 4, crop, flip.
    pub fn cifar() -> Self {
        Self { pad_crop: Some(4), flip: true, resized_crop: None }
    }

    /// The standard recipe for ImageNet: random part, flip.
    pub fn imagenet() -> Self {
        Self { pad_crop: None, flip: true, resized_crop: Some((0.25, 1.0)) }
    }
}

/// One 64-bit seed from three numbers (SplitMix64 finalisers).
pub(super) fn mix(a: u64, b: u64, c: u64) -> u64 {
    [a, b, c].into_iter().fold(0x9E37_79B9_7F4A_7C15, |state, x| {
        let mut z = (state ^ x).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Applies `augment` to a normalised image `[C, H, W]` in place.
pub(super) fn apply(augment: &Augment, image: &mut [f32], [c, h, w]: [usize; 3], seed: u64, epoch: u64, index: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(mix(seed, epoch, index));
    if let Some((low, high)) = augment.resized_crop {
        let area = (h * w) as f32 * rng.random_range(low..=high.max(low));
        let ratio = rng.random_range((0.75f32).ln()..=(4.0f32 / 3.0).ln()).exp();
        let height = (area / ratio).sqrt().clamp(1.0, h as f32);
        let width = (area * ratio).sqrt().clamp(1.0, w as f32);
        let top = rng.random_range(0.0..=h as f32 - height);
        let left = rng.random_range(0.0..=w as f32 - width);
        for plane in image.chunks_exact_mut(h * w).take(c) {
            let source = plane.to_vec();
            resample(&source, plane, [h, w], [top, left, height, width]);
        }
    }
    if let Some(pad) = augment.pad_crop.filter(|p| *p > 0) {
        let dy = rng.random_range(0..=2 * pad) as isize - pad as isize;
        let dx = rng.random_range(0..=2 * pad) as isize - pad as isize;
        for plane in image.chunks_exact_mut(h * w).take(c) {
            shift(plane, [h, w], dy, dx);
        }
    }
    if augment.flip && rng.random_bool(0.5) {
        image.chunks_exact_mut(w).for_each(<[f32]>::reverse);
    }
}

/// Row y, column x becomes what was at (y + dy, x + dx), or zero.
fn shift(plane: &mut [f32], [h, w]: [usize; 2], dy: isize, dx: isize) {
    let source = plane.to_vec();
    let from = (-dx).max(0) as usize;
    let to = (w as isize - dx.max(0)).max(from as isize) as usize;
    for (y, row) in plane.chunks_exact_mut(w).enumerate() {
        row.fill(0.0);
        let Some(at) = usize::try_from(y as isize + dy).ok().filter(|at| *at < h) else { continue };
        if to <= w && from < to {
            let start = (at * w) as isize + from as isize + dx;
            let start = start as usize;
            row[from..to].copy_from_slice(&source[start..start + to - from]);
        }
    }
}

/// Bilinear resampling of a part to the whole plane.
fn resample(source: &[f32], plane: &mut [f32], [h, w]: [usize; 2], [top, left, height, width]: [f32; 4]) {
    let position = |o: usize, out: usize, start: f32, size: f32, limit: usize| {
        let at = (start + (o as f32 + 0.5) * size / out as f32 - 0.5).clamp(0.0, limit as f32 - 1.0);
        (at.floor() as usize, (at.floor() as usize + 1).min(limit - 1), at - at.floor())
    };
    for y in 0..h {
        let (y0, y1, fy) = position(y, h, top, height, h);
        for x in 0..w {
            let (x0, x1, fx) = position(x, w, left, width, w);
            let upper = source[y0 * w + x0] * (1.0 - fx) + source[y0 * w + x1] * fx;
            let lower = source[y1 * w + x0] * (1.0 - fx) + source[y1 * w + x1] * fx;
            plane[y * w + x] = upper * (1.0 - fy) + lower * fy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `3y + 2x + 1`, which bilinear resampling hits exactly between its nodes.
    fn ramp(y: f32, x: f32) -> f32 {
        3.0 * y + 2.0 * x + 1.0
    }

    #[test]
    fn resampling_is_the_identity_on_everything_and_linear_in_between() {
        let (h, w) = (6, 8);
        let source: Vec<f32> = (0..h * w).map(|i| ramp((i / w) as f32, (i % w) as f32)).collect();
        let resampled = |part: [f32; 4]| {
            let mut plane = vec![f32::NAN; h * w];
            resample(&source, &mut plane, [h, w], part);
            plane
        };
        assert_eq!(resampled([0.0, 0.0, h as f32, w as f32]), source);
        // Pixel centres of the part are laid on pixel centres of the plane; beyond the outermost centres there is nothing new.
        let [top, left, height, width] = [1.5, 0.0, 3.0, 6.0];
        for (i, found) in resampled([top, left, height, width]).iter().enumerate() {
            let y = top + ((i / w) as f32 + 0.5) * height / h as f32 - 0.5;
            let x = left + ((i % w) as f32 + 0.5) * width / w as f32 - 0.5;
            let expected = ramp(y.clamp(0.0, h as f32 - 1.0), x.clamp(0.0, w as f32 - 1.0));
            assert!((found - expected).abs() < 1e-5, "[{i}]: {found} instead of {expected}");
        }
    }

    #[test]
    fn a_shift_takes_what_was_there_or_zero() {
        let (h, w) = (3, 4);
        let source: Vec<f32> = (1..=h * w).map(|v| v as f32).collect();
        for dy in -5isize..=5 {
            for dx in -5isize..=5 {
                let mut plane = source.clone();
                shift(&mut plane, [h, w], dy, dx);
                let expected: Vec<f32> = (0..h * w)
                    .map(|i| {
                        let at = [(i / w) as isize + dy, (i % w) as isize + dx];
                        let inside = (0..h as isize).contains(&at[0]) && (0..w as isize).contains(&at[1]);
                        if inside { source[at[0] as usize * w + at[1] as usize] } else { 0.0 }
                    })
                    .collect();
                assert_eq!(plane, expected, "{dy}, {dx}");
            }
        }
    }
}
