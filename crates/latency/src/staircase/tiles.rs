//! Steps of equal length: what lies between measured widths on one curve.
//!
//! With tiles of p channels latency between two widths a < b is a line through whole tiles,
//!
//! ```text
//! t(w) = t(a) + (t(b) − t(a)) · (⌈w/p⌉ − ⌈a/p⌉) / (⌈b/p⌉ − ⌈a/p⌉)
//! ```
//!
//! and with p = 1 a line. Every measured width tests each p: would its neighbours have told what it takes?

use super::Point;
use super::known::{KINDS, Known, kind};

/// Channels per tile that are told apart.
const TILES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
/// The largest tile that is supposed where nothing is known.
const SUPPOSED: usize = 16;
/// Tests further away than this factor in width say nothing.
const REACH: usize = 3;
/// Tests that have to be passed before tiles count as explained.
const LEAST: usize = 2;

/// A length of steps, in channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    pub channels: usize,
    /// Near measured widths that it told and a line did not (for a line: told), where none contradicted; 0 for a supposition.
    pub passed: usize,
}

impl Tile {
    /// Latency at `width` between two measured ones, seconds.
    pub fn between(&self, a: &Point, b: &Point, width: usize) -> f64 {
        let tiles = |w: usize| w.div_ceil(self.channels);
        let all = tiles(b.width) - tiles(a.width);
        let t = match all {
            0 => (width - a.width) as f64 / (b.width - a.width) as f64,
            _ => (tiles(width) - tiles(a.width)) as f64 / all as f64,
        };
        a.latency_s + (b.latency_s - a.latency_s) * t
    }

    /// Tiles that the measured widths of a curve agree with.
    pub fn is_known(&self) -> bool {
        self.passed >= LEAST
    }
}

/// A measured width as a test of every tile.
struct Test {
    width: usize,
    /// Kinds of widths that it is a test for.
    alike: [bool; KINDS],
    passed: [Option<bool>; TILES.len()],
}

/// What the measured widths of a curve say about its steps.
pub(super) struct Tiles {
    tests: Vec<Test>,
    delta: f64,
}

impl Tiles {
    pub fn new(known: &Known<'_>) -> Self {
        let tests = known.points.values().filter_map(|p| test(known, p)).collect();
        Self { tests, delta: known.delta }
    }

    /// The tile between two measured widths: the one that passes most of the tests near by, or one just long enough for its
    /// steps to exceed δ.
    pub fn at(&self, a: &Point, b: &Point) -> Tile {
        let of = kind(a.width);
        let near = self.tests.iter().filter(|t| t.alike[of] && t.width * REACH >= a.width && t.width <= b.width * REACH);
        let mut counts = [(0usize, 0usize); TILES.len()];
        for t in near {
            for (count, passed) in counts.iter_mut().zip(t.passed) {
                count.0 += usize::from(passed == Some(true));
                count.1 += usize::from(passed == Some(false));
            }
        }
        let score = |(passed, failed): (usize, usize)| passed as i64 - 2 * failed as i64;
        // The shorter of equals: it keeps what the longer one does, and more.
        let best = (0..TILES.len()).max_by_key(|&k| (score(counts[k]), std::cmp::Reverse(k))).unwrap_or(0);
        if score(counts[best]) >= LEAST as i64 {
            return Tile { channels: TILES[best], passed: score(counts[best]) as usize };
        }
        let rise = (b.latency_s / a.latency_s).ln() / (b.width - a.width) as f64;
        let mut channels = 1;
        while channels < SUPPOSED && (channels as f64) * rise < self.delta {
            channels *= 2;
        }
        Tile { channels, passed: 0 }
    }
}

fn test(known: &Known<'_>, p: &Point) -> Option<Test> {
    let (Some(a), Some(b)) = known.neighbours(p.width) else { return None };
    let rise = (b.latency_s / a.latency_s).ln();
    if rise <= known.delta {
        return None;
    }
    let line = Tile { channels: 1, passed: 0 }.between(a, b, p.width);
    let tolerance = 0.5 * known.delta + p.noise();
    let curved = (0.08 * rise).clamp(0.5 * known.delta, 1.5 * known.delta) + p.noise();
    let passed = TILES.map(|channels| {
        let told = Tile { channels, passed: 0 }.between(a, b, p.width);
        let off = (p.latency_s / told).ln().abs();
        match channels {
            1 => (b.width - a.width > 2).then_some(off <= curved),
            _ => ((told / line).ln().abs() > tolerance).then_some(off <= tolerance),
        }
    });
    Some(Test { width: p.width, alike: std::array::from_fn(|k| known.alike(k, kind(p.width))), passed })
}
