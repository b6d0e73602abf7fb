//! Inputs drawn at random where there are no data: noise on several scales, as rough and as strong as the network expects.
//!
//! Images of the world have about the same contrast on every scale. Here each scale is a grid of normal noise, half as fine as
//! the one before, brought to full size by bilinear interpolation; `roughness` tells how the scales weigh. What the network
//! expects is told by the running statistics that its normalisations recorded in training.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::augment::mix;
use super::{Dataset, Options, Pixels, Source, Split};
use crate::error::Result;
use crate::network::{Mode, Network};

/// What drawn inputs look like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Texture {
    /// Weight of a scale relative to the one twice as coarse: 0 is flat colour, 1 as much on every scale.
    pub roughness: f32,
    /// Standard deviation of grey levels of an image, in grey levels; of inputs that are no images, in units.
    pub contrast: f32,
}

impl Default for Texture {
    /// About that of photographs.
    fn default() -> Self {
        Self { roughness: 0.6, contrast: 55.0 }
    }
}

/// Textures among which the one is taken that suits a network best.
const ROUGHNESS: [f32; 4] = [0.3, 0.5, 0.7, 1.0];
const CONTRAST: [f32; 4] = [25.0, 45.0, 65.0, 90.0];

/// Inputs on which a texture is judged.
const TRIED: usize = 32;

impl Texture {
    /// The texture whose inputs give the statistics that are nearest to those `network` recorded, and how near: the mean over
    /// all normalised channels of `(μ − μ̂)²/σ̂² + (ln σ/σ̂)²`, `σ̂` recorded. `None` where it recorded none.
    ///
    /// # Errors
    /// Inputs that do not fit the network.
    pub fn matched(network: &Network, options: &Options, seed: u64) -> Result<Option<(Self, f64)>> {
        if network.running().is_empty() {
            return Ok(None);
        }
        let mut best: Option<(Self, f64)> = None;
        for (roughness, contrast) in ROUGHNESS.iter().flat_map(|&r| CONTRAST.iter().map(move |&c| (r, c))) {
            let texture = Self { roughness, contrast };
            let data = Dataset::drawn(Options { holdout: 0.0, ..options.clone() }, texture, TRIED, seed)?;
            let distance = distance(network, &data)?;
            if best.is_none_or(|(_, least)| distance < least) {
                best = Some((texture, distance));
            }
        }
        Ok(best)
    }
}

fn distance(network: &Network, data: &Dataset) -> Result<f64> {
    let batch = data.batch(Split::Train, 0..data.len(Split::Train))?;
    let statistics = network.statistics(&batch, Mode::Train)?;
    let (mut sum, mut count) = (0.0, 0usize);
    for (index, found) in statistics {
        let recorded = &network.running()[index];
        let all = found.mean.iter().zip(&found.variance).zip(recorded.mean.iter().zip(&recorded.variance));
        for ((mean, variance), (wanted, spread)) in all {
            let (variance, spread) = (f64::from(*variance).max(1e-12), f64::from(*spread).max(1e-12));
            let shift = (f64::from(*mean) - f64::from(*wanted)).powi(2) / spread;
            sum += shift + (0.5 * (variance / spread).ln()).powi(2);
            count += 1;
        }
    }
    Ok(sum / count.max(1) as f64)
}

pub(super) fn make([c, h, w]: [usize; 3], texture: Texture, count: usize, seed: u64) -> Source {
    let size = c * h * w;
    // A row of features has no neighbours to be smooth with.
    if (c, h) == (1, 1) {
        let mut values = vec![0.0f32; count * size];
        values.par_chunks_mut(size.max(1)).enumerate().for_each(|(i, input)| {
            let mut rng = ChaCha8Rng::seed_from_u64(mix(seed, i as u64, 0xD4A));
            input.iter_mut().for_each(|v| *v = normal(&mut rng) * texture.contrast / Texture::default().contrast);
        });
        return Source { pixels: Pixels::Floats(values), count, labels: None, shape: [c, h, w], test_from: None };
    }
    let mut pixels = vec![0u8; count * size];
    pixels.par_chunks_mut(size.max(1)).enumerate().for_each(|(i, image)| {
        draw(image, [c, h, w], texture, &mut ChaCha8Rng::seed_from_u64(mix(seed, i as u64, 0xD4A)));
    });
    Source { pixels: Pixels::Bytes(pixels), count, labels: None, shape: [c, h, w], test_from: None }
}

/// The sum of twelve uniform numbers is near enough to normal.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0
}

fn draw(image: &mut [u8], [c, h, w]: [usize; 3], texture: Texture, rng: &mut ChaCha8Rng) {
    let mut planes = vec![0.0f32; c * h * w];
    let (mut side, mut weight, mut power) = (1, 1.0f32, 0.0f32);
    while side <= h.max(w) {
        let grid = side + 1;
        // Colours vary together more than apart.
        let common: Vec<f32> = (0..grid * grid).map(|_| normal(rng)).collect();
        for plane in planes.chunks_exact_mut(h * w) {
            let own: Vec<f32> = common.iter().map(|v| 0.9 * v + 0.44 * normal(rng)).collect();
            for y in 0..h {
                let (y0, fy) = place(y, h, side);
                for x in 0..w {
                    let (x0, fx) = place(x, w, side);
                    let at = |dy: usize, dx: usize| own[(y0 + dy) * grid + x0 + dx];
                    let (top, bottom) = (at(0, 0) * (1.0 - fx) + at(0, 1) * fx, at(1, 0) * (1.0 - fx) + at(1, 1) * fx);
                    plane[y * w + x] += weight * (top * (1.0 - fy) + bottom * fy);
                }
            }
        }
        power += weight * weight;
        weight *= texture.roughness;
        side *= 2;
    }
    let light = 110.0 + 25.0 * normal(rng);
    let scale = texture.contrast * (0.6 + 0.8 * rng.random::<f32>()) / power.sqrt();
    for (value, v) in image.iter_mut().zip(planes) {
        *value = (light + scale * v).clamp(0.0, 255.0) as u8;
    }
}

/// Cell of a grid of `side` cells, and the place in it, of pixel `i` of `n`.
fn place(i: usize, n: usize, side: usize) -> (usize, f32) {
    let at = i as f32 * side as f32 / n as f32;
    let cell = (at as usize).min(side - 1);
    (cell, at - cell as f32)
}
