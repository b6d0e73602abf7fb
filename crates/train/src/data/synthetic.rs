//! A procedural image set: ten shapes at random place, size, angle and colour, textured, on
//! cluttered ground, partly covered, noisy. A small residual network gets about nine in ten right.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::augment::mix;
use super::{Pixels, Source};

const SIDE: usize = 32;
const CLASSES: u32 = 10;

pub(super) fn make(train: usize, test: usize, seed: u64) -> Source {
    let total = train + test;
    let mut pixels = vec![0u8; total * 3 * SIDE * SIDE];
    // Labels in turn: balanced in every part.
    let labels: Vec<u32> = (0..total).map(|i| i as u32 % CLASSES).collect();
    pixels.par_chunks_mut(3 * SIDE * SIDE).zip(&labels).enumerate().for_each(|(i, (image, label))| {
        draw(image, *label, &mut ChaCha8Rng::seed_from_u64(mix(seed, i as u64, 0x5EC)));
    });
    Source { pixels: Pixels::Bytes(pixels), count: total, labels: Some(labels), shape: [3, SIDE, SIDE], test_from: Some(train) }
}

/// Whether the point (x, y) in the shape's own frame, where its radius is 1, belongs to it.
fn inside(class: u32, x: f32, y: f32) -> bool {
    let r = x.hypot(y);
    match class {
        0 => r < 0.9,
        1 => x.abs() < 0.75 && y.abs() < 0.75,
        2 => y > -0.6 && y < 1.2 - 2.0 * x.abs() - 0.3,
        3 => (x.abs() < 0.28 || y.abs() < 0.28) && x.abs().max(y.abs()) < 0.95,
        4 => r < 0.95 && r > 0.5,
        5 => r < 0.5 + 0.45 * (5.0 * y.atan2(x)).cos(),
        6 => r < 0.95 && (x - 0.45).hypot(y) > 0.7,
        7 => x.abs() < 0.9 && y.abs() < 0.9 && !(x > -0.35 && y > -0.35),
        8 => r < 0.95 && y > 0.0 || (x.abs() < 0.22 && y > -0.95 && y <= 0.0),
        _ => x.abs() < 0.9 && y.abs() < 0.9 && (y.abs() > 0.5 || x.abs() < 0.25),
    }
}

type Colour = [f32; 3];

fn colour(rng: &mut ChaCha8Rng) -> Colour {
    [0; 3].map(|_| rng.random_range(25.0..230.0f32))
}

/// The tint of a class, with so much scatter that it overlaps its neighbours': a hint, no proof.
fn tint(class: u32, rng: &mut ChaCha8Rng) -> Colour {
    let scatter: f32 = (0..4).map(|_| rng.random_range(-0.4..0.4f32)).sum();
    let hue = (class as f32 + scatter).rem_euclid(CLASSES as f32) * 6.0 / CLASSES as f32;
    let (saturation, value) = (rng.random_range(0.45..1.0f32), rng.random_range(120.0..245.0f32));
    // HSV: each primary falls off linearly with its distance on the circle of hues.
    [0.0, 2.0, 4.0].map(|primary: f32| {
        let apart = (hue - primary).abs().min(6.0 - (hue - primary).abs());
        value * (1.0 - saturation * (1.0 - (2.0 - apart).clamp(0.0, 1.0)))
    })
}

fn distance(a: Colour, b: Colour) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt()
}

/// A shape with its place in the image.
struct Placed {
    class: u32,
    centre: [f32; 2],
    radius: f32,
    angle: f32,
    stretch: f32,
}

impl Placed {
    fn random(class: u32, radius: std::ops::Range<f32>, rng: &mut ChaCha8Rng) -> Self {
        let radius = rng.random_range(radius);
        let margin = (radius * 0.8).min(SIDE as f32 / 2.0 - 1.0);
        let mut place = || rng.random_range(margin..SIDE as f32 - margin);
        let centre = [place(), place()];
        Self { class, centre, radius, angle: rng.random_range(-0.35..0.35), stretch: rng.random_range(0.85..1.18) }
    }

    fn covers(&self, x: f32, y: f32) -> bool {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let (sin, cos) = self.angle.sin_cos();
        let u = (cos * dx + sin * dy) / self.radius * self.stretch;
        let v = (cos * dy - sin * dx) / self.radius / self.stretch;
        u.abs() < 1.6 && v.abs() < 1.6 && inside(self.class, u, v)
    }
}

fn draw(image: &mut [u8], class: u32, rng: &mut ChaCha8Rng) {
    let front = tint(class, rng);
    let (mut ground, mut ground_end) = (colour(rng), colour(rng));
    while distance(front, ground).min(distance(front, ground_end)) < 90.0 {
        (ground, ground_end) = (colour(rng), colour(rng));
    }
    let second = colour(rng);
    let texture = rng.random_range(0..3u32);
    let (frequency, phase) = (rng.random_range(0.5..1.6f32), rng.random_range(0.0..6.3f32));
    let direction = rng.random_range(0.0..6.3f32).sin_cos();
    let slope = rng.random_range(0.0..6.3f32).sin_cos();
    let shape = Placed::random(class, 8.0..12.5, rng);
    // Clutter: small pieces of other shapes behind, a bar in front.
    let clutter: Vec<(Placed, Colour)> = (0..rng.random_range(1..5usize))
        .map(|_| {
            let class = rng.random_range(0..CLASSES);
            (Placed::random(class, 1.5..4.5, rng), colour(rng))
        })
        .collect();
    let bar = Placed { class: 1, stretch: rng.random_range(2.0..3.5), ..Placed::random(1, 4.0..7.0, rng) };
    let bar_colour = rng.random_bool(0.4).then(|| colour(rng));
    let noise = rng.random_range(6.0..20.0f32);
    let light = rng.random_range(0.7..1.25f32);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let (fx, fy) = (x as f32 + 0.5, y as f32 + 0.5);
            let along = ((fx - 16.0) * slope.0 + (fy - 16.0) * slope.1) / 32.0 + 0.5;
            let mut pixel: Colour = std::array::from_fn(|c| ground[c] + (ground_end[c] - ground[c]) * along.clamp(0.0, 1.0));
            for (piece, tint) in &clutter {
                if piece.covers(fx, fy) {
                    pixel = *tint;
                }
            }
            if shape.covers(fx, fy) {
                let wave = ((fx * direction.0 + fy * direction.1) * frequency + phase).sin();
                let mixed = match texture {
                    0 => 0.0,
                    1 => 0.25 * (wave + 1.0),
                    _ => {
                        if wave > 0.3 {
                            0.45
                        } else {
                            0.0
                        }
                    }
                };
                pixel = std::array::from_fn(|c| front[c] + (second[c] - front[c]) * mixed);
            }
            if let Some(tint) = bar_colour.filter(|_| bar.covers(fx, fy)) {
                pixel = tint;
            }
            for (c, value) in pixel.iter().enumerate() {
                // The sum of four uniform numbers is near enough to normal.
                let error: f32 = (0..4).map(|_| rng.random_range(-0.87..0.87f32)).sum();
                image[(c * SIDE + y) * SIDE + x] = (value * light + noise * error).clamp(0.0, 255.0) as u8;
            }
        }
    }
}
