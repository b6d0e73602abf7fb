//! The tile and wave model of a staircase.
//!
//! A convolution computed as a matrix product of M = batch · output pixels rows, N = output channels columns and K = input
//! channels · kernel terms is cut into tiles of bM × bN; a device runs `slots` tiles at a time (on a GPU: multiprocessors ×
//! resident blocks; on one core: one):
//!
//! ```text
//! tiles = ⌈M / bM⌉ · ⌈N / bN⌉;   waves = ⌈tiles / slots⌉;   t = t_launch + waves · t_wave
//! ```
//!
//! Along the input channels K takes the place of N, in one stair of ⌈K / bK⌉. On a CPU the tile is the width of the
//! micro-kernel, 8 or 16 channels; a tile of 1 is a straight line.

use serde::{Deserialize, Serialize};

use super::Staircase;

/// What is known of the device and the layer before fitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tiling {
    /// One tile at a time: a CPU core, or any device along the input channels.
    Kernel,
    /// Waves of tiles on a GPU.
    Waves {
        /// Multiprocessors.
        sms: usize,
        /// Rows of the product, batch · output pixels.
        rows: usize,
    },
}

/// A fitted model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TileModel {
    /// Channels per tile, bN (bK along the input).
    pub tile: usize,
    /// Tiles along the rows, ⌈M / bM⌉; 1 on one core.
    pub row_tiles: usize,
    /// Tiles that run at a time; 1 on one core.
    pub slots: usize,
    /// Seconds that every run takes.
    pub launch_s: f64,
    /// Seconds per wave.
    pub wave_s: f64,
    /// Root mean square of the relative error over the widths fitted.
    pub residual: f64,
}

impl TileModel {
    /// Waves at a width.
    pub fn waves(&self, width: usize) -> usize {
        (self.row_tiles * width.div_ceil(self.tile)).div_ceil(self.slots)
    }

    /// Latency at a width, seconds.
    pub fn latency_s(&self, width: usize) -> f64 {
        self.launch_s + self.waves(width) as f64 * self.wave_s
    }
}

/// Channels per tile that are tried.
const TILES: [usize; 14] = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256];
/// Rows per tile that are tried.
const ROW_TILES: [usize; 4] = [32, 64, 128, 256];
/// Blocks resident on a multiprocessor that are tried.
const RESIDENT: [usize; 5] = [1, 2, 3, 4, 8];
/// Residual beyond which a model does not fit.
const FITS: f64 = 0.05;
/// Distinct numbers of waves that a fit must rest on: two parameters and one more.
const LEAST_WAVES: usize = 3;

/// The tile model that fits the measured widths of `curve` best, by relative least squares over those that no wider width
/// undercuts (what a slow alignment adds is no matter of tiles). `None` where none fits within 5 %, or where the curve is flat or fewer
/// than three distinct numbers of waves were seen.
pub fn fit_tiles(curve: &Staircase, tiling: Tiling) -> Option<TileModel> {
    let mut least = f64::INFINITY;
    let mut points: Vec<(usize, f64)> = Vec::new();
    for p in curve.points.iter().rev() {
        if p.latency_s <= least * (1.0 + curve.delta) {
            points.push((p.width, p.latency_s));
        }
        least = least.min(p.latency_s);
    }
    let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
    if most <= least * (1.0 + curve.delta) {
        return None;
    }
    let shapes: Vec<(usize, usize)> = match tiling {
        Tiling::Kernel => vec![(1, 1)],
        Tiling::Waves { sms, rows } => {
            let all = ROW_TILES.iter().flat_map(|m| RESIDENT.iter().map(|r| (rows.div_ceil(*m), (sms * r).max(1))));
            all.collect()
        }
    };
    let mut best: Option<TileModel> = None;
    for &(row_tiles, slots) in &shapes {
        for &tile in &TILES {
            let Some(model) = fit(&points, tile, row_tiles, slots) else { continue };
            // A wider tile says more; it has to be as good as the narrower one, not better.
            if best.is_none_or(|b| model.residual < b.residual * 1.02) {
                best = Some(model);
            }
        }
    }
    best.filter(|m| m.residual <= FITS)
}

fn fit(points: &[(usize, f64)], tile: usize, row_tiles: usize, slots: usize) -> Option<TileModel> {
    let shape = TileModel { tile, row_tiles, slots, launch_s: 0.0, wave_s: 0.0, residual: 0.0 };
    let mut waves: Vec<usize> = points.iter().map(|p| shape.waves(p.0)).collect();
    // Σ ((a + b·w − t) / t)² over (a, b): normal equations with weights 1 / t².
    let sum = |f: &dyn Fn(f64, f64) -> f64| points.iter().zip(&waves).map(|(p, &w)| f(w as f64, 1.0 / p.1)).sum::<f64>();
    let (s0, s1, s2) = (sum(&|_, i| i * i), sum(&|w, i| w * i * i), sum(&|w, i| w * w * i * i));
    let (r0, r1) = (sum(&|_, i| i), sum(&|w, i| w * i));
    let determinant = s0 * s2 - s1 * s1;
    let (launch_s, wave_s) = ((r0 * s2 - r1 * s1) / determinant, (s0 * r1 - s1 * r0) / determinant);
    waves.sort_unstable();
    waves.dedup();
    if waves.len() < LEAST_WAVES || !(launch_s.is_finite() && launch_s >= 0.0 && wave_s > 0.0) {
        return None;
    }
    let model = TileModel { launch_s, wave_s, ..shape };
    let squares: f64 = points.iter().map(|p| (model.latency_s(p.0) / p.1 - 1.0).powi(2)).sum();
    Some(TileModel { residual: (squares / points.len() as f64).sqrt(), ..model })
}
