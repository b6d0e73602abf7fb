//! Staircases from made-up curves: what bisection finds against what every width says.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_latency::staircase::{Kind, Probe, Probing, Shape, Staircase, TileModel, Tiling, find, fit_tiles};

/// Half-width of the made-up intervals; answers lie inside.
const NOISE: f64 = 0.005;
const DELTA: f64 = 0.03;

/// Probes `curve` with reproducible noise.
fn probed(channels: usize, curve: impl Fn(usize) -> f64, seed: u64) -> Staircase {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let probing = Probing { delta: DELTA, ..Probing::default() };
    let answer = |widths: &[usize]| -> Result<Vec<Probe>, Infallible> {
        let one = |&w: &usize| {
            let s = curve(w) * (1.0 + NOISE * (2.0 * rng.random::<f64>() - 1.0) * 0.9);
            Probe { latency_s: s, ci: (s * (1.0 - NOISE), s * (1.0 + NOISE)) }
        };
        Ok(widths.iter().map(one).collect())
    };
    find(channels, &probing, answer).unwrap()
}

/// Right edges by brute force: every wider width takes more than (1 + `by`) times as long.
fn edges(channels: usize, curve: impl Fn(usize) -> f64, by: f64) -> Vec<usize> {
    let mut least = f64::INFINITY;
    let mut all = Vec::new();
    for c in (1..=channels).rev() {
        if least > (1.0 + by) * curve(c) {
            all.push(c);
        }
        least = least.min(curve(c));
    }
    all.reverse();
    all
}

/// Claimed edges.
fn claimed(s: &Staircase) -> Vec<usize> {
    s.edges.iter().filter(|e| e.kind != Kind::Slope).map(|e| e.width).collect()
}

/// Steps: sorted edges (the last is the full width) and the latency of each step.
fn stairs(edges: Vec<usize>, heights: Vec<f64>) -> (usize, impl Fn(usize) -> f64 + Clone) {
    let channels = *edges.last().unwrap();
    let mut levels = vec![1e-4];
    levels.extend(heights);
    for k in 1..levels.len() {
        levels[k] *= levels[k - 1];
    }
    (channels, move |w: usize| levels[edges.partition_point(|&e| e < w)])
}

#[test]
fn tiles_of_sixteen() {
    let curve = |w: usize| 14e-6 + 5e-6 * w.div_ceil(16) as f64;
    let s = probed(64, curve, 1);
    assert_eq!(s.kept(), [16, 32, 48, 64]);
    assert!(s.edges.iter().all(|e| e.certain));
    assert!(s.probes <= 13, "{}", s.probes);
    assert_eq!((s.right_edge(1), s.right_edge(17), s.right_edge(48), s.right_edge(64)), (16, 32, 48, 64));
    let s = probed(960, curve, 1);
    assert!(edges(960, curve, DELTA + 4.0 * NOISE).iter().all(|e| claimed(&s).contains(e)), "{:?}", s.kept());
}

#[test]
fn a_flat_curve_takes_its_corners_only() {
    let s = probed(512, |_| 1e-3, 2);
    assert_eq!(s.kept(), [512]);
    assert!(s.probes <= 10, "{}", s.probes);
    assert_eq!(s.right_edge(3), 512);
    assert_eq!(probed(1, |_| 1e-3, 2).kept(), [1]);
    assert_eq!(probed(2, |w| w as f64, 2).kept(), [1, 2]);
}

#[test]
fn widths_off_the_alignment_are_slow() {
    // ONNX Runtime along the input channels: multiples of 4 run blocked, 16 at a time, the others fall back.
    let curve = |w: usize| match w {
        w if w >= 16 && w.is_multiple_of(4) => 7e-6 + 6.6e-6 * w.div_ceil(16) as f64,
        w => 7e-6 + 0.75e-6 * w as f64,
    };
    let s = probed(64, curve, 3);
    let wanted = edges(64, curve, DELTA + 4.0 * NOISE);
    for e in wanted.iter().filter(|e| **e >= 16) {
        assert!(claimed(&s).contains(e), "{e} of {wanted:?} in {:?}", s.edges);
    }
    assert!(s.kept().iter().all(|&k| k < 16 || k.is_multiple_of(16)), "{:?}", s.kept());
    assert!(s.probes <= 24, "{}", s.probes);
}

#[test]
fn slow_alignments_stand_out_of_a_line() {
    // A line, but multiples of 4 that are none of 16 take longer.
    let slow = |w: usize| w.is_multiple_of(4) && !w.is_multiple_of(16);
    let curve = |w: usize| (10e-6 + 0.7e-6 * w as f64) * if slow(w) { 1.25 } else { 1.0 };
    let s = probed(192, curve, 4);
    assert!(s.kept().iter().all(|&k| !slow(k) || k < 16), "{:?}", s.kept());
    assert!(s.kept().len() > 20 && s.probes <= 58, "{} kept, {} probes", s.kept().len(), s.probes);
    for w in (1..=192).filter(|&w| !slow(w)) {
        assert!((s.latency_s(w) / curve(w) - 1.0).abs() < 2.0 * DELTA, "at {w}: {} for {}, {s:?}", s.latency_s(w), curve(w));
    }
}

#[test]
fn another_kernel_may_make_fewer_channels_slower() {
    let curve = |w: usize| if w < 45 { 2e-6 * w as f64 } else { 1e-6 * w as f64 };
    let s = probed(64, curve, 5);
    // 23 to 44 take longer than 45.
    assert!(s.kept().iter().all(|k| !(23..=43).contains(k)), "{:?}", s.kept());
    assert!(s.kept().iter().any(|k| (45..50).contains(k)), "{:?}", s.kept());
}

#[test]
fn noise_beyond_delta_is_marked_not_guessed() {
    let probe = |widths: &[usize]| -> Result<Vec<Probe>, Infallible> {
        let one = |&w: &usize| {
            let s = if w <= 32 { 1e-4 } else { 1.06e-4 };
            Probe { latency_s: s, ci: (s * 0.95, s * 1.05) }
        };
        Ok(widths.iter().map(one).collect())
    };
    let s = find(64, &Probing { delta: DELTA, ..Probing::default() }, probe).unwrap();
    let edge = s.edges.iter().find(|e| e.width == 32).unwrap();
    assert!(edge.kind == Kind::Edge && !edge.certain, "{edge:?}");
    assert!(s.point(32).unwrap().asked == 2);
}

#[test]
fn what_probes_did_not_reach_is_unknown() {
    let curve = |w: usize| 14e-6 + 5e-6 * w.div_ceil(8) as f64;
    let probe = |widths: &[usize]| -> Result<Vec<Probe>, Infallible> {
        Ok(widths.iter().map(|&w| Probe { latency_s: curve(w), ci: (curve(w), curve(w)) }).collect())
    };
    let s = find(128, &Probing { delta: DELTA, most: 13, ..Probing::default() }, probe).unwrap();
    assert!(s.probes <= 13 && s.pieces.iter().any(|p| p.shape == Shape::Unknown), "{s:?}");
    assert_eq!(*s.kept().last().unwrap(), 128);
}

#[test]
fn models_are_found_again() {
    let truth = TileModel { tile: 16, row_tiles: 1, slots: 1, launch_s: 14e-6, wave_s: 5e-6, residual: 0.0 };
    let m = fit_tiles(&probed(64, |w| truth.latency_s(w), 6), Tiling::Kernel).unwrap();
    assert_eq!(m.tile, 16);
    assert!((m.wave_s / truth.wave_s - 1.0).abs() < 0.1 && m.residual < 0.01, "{m:?}");
    // 196 rows in tiles of 64: 4; 8 slots: a wave is two tiles of 64 channels.
    let gpu = TileModel { tile: 64, row_tiles: 4, slots: 8, launch_s: 4e-6, wave_s: 9e-6, residual: 0.0 };
    let m = fit_tiles(&probed(1024, |w| gpu.latency_s(w), 6), Tiling::Waves { sms: 8, rows: 196 }).unwrap();
    assert!((1..=1024).all(|w| (m.latency_s(w) / gpu.latency_s(w) - 1.0).abs() < 0.05), "{m:?}");
    let wild = |w: usize| 1e-5 * (1.0 + (w * 7919 % 13) as f64);
    assert_eq!(fit_tiles(&probed(64, wild, 6), Tiling::Kernel), None);
    assert_eq!(fit_tiles(&probed(64, |_| 1e-4, 6), Tiling::Kernel), None);
}

/// Edges anywhere, steps at least as wide as a vector, each higher than the noise can hide.
fn any_stairs() -> impl Strategy<Value = (Vec<usize>, Vec<f64>)> {
    prop::collection::vec((4usize..80, 1.12f64..1.6), 1..9).prop_map(|steps| {
        let edges: Vec<usize> = steps
            .iter()
            .scan(0, |at, s| {
                *at += s.0;
                Some(*at)
            })
            .collect();
        let heights = steps[1..].iter().map(|s| s.1).collect();
        (edges, heights)
    })
}

proptest! {
    /// Edges at whole tiles are found, each of them, wherever noise does not hide them.
    #[test]
    fn no_edge_of_tiles_is_missed(tile in prop::sample::select(vec![8usize, 16, 24, 32, 48, 64]), tiles in 1usize..12, launch in 0.0f64..20.0, seed in 0u64..1000) {
        let channels = tile * tiles;
        let curve = |w: usize| launch + w.div_ceil(tile) as f64;
        let s = probed(channels, curve, seed);
        let wanted = edges(channels, curve, 2.0 * DELTA + 2.0 * NOISE);
        let found = claimed(&s);
        prop_assert!(wanted.iter().all(|e| found.contains(e)), "{wanted:?} in {found:?}: {s:?}");
        prop_assert!(found.iter().all(|e| e % tile == 0));
    }

    /// Edges anywhere: each is claimed, or lies on what looks like a line, where a kept width near it costs as much.
    #[test]
    fn edges_anywhere_are_claimed_or_on_a_line((edge, height) in any_stairs(), seed in 0u64..1000) {
        let (channels, curve) = stairs(edge, height);
        let s = probed(channels, curve.clone(), seed);
        let wanted = edges(channels, curve.clone(), DELTA + 4.0 * NOISE);
        let found = claimed(&s);
        for e in &wanted {
            let line = |p: &&secateur_latency::staircase::Piece| p.shape == Shape::Line && p.from <= *e && *e < p.to;
            let hidden = s.pieces.iter().find(line).map(|p| {
                let short = if p.to - p.from <= 4 { p.to as f64 / p.from as f64 } else { 0.0 };
                curve(p.to) / curve(p.from) < (1.0 + DELTA + NOISE) * short.max(1.35)
            });
            prop_assert!(found.contains(e) || hidden == Some(true), "{e} of {wanted:?} in {found:?}: {s:?}");
        }
        // What is claimed is there, between widths that were both measured.
        for e in s.edges.iter().filter(|e| e.kind == Kind::Edge) {
            prop_assert!(s.point(e.width).is_some() && s.point(e.width + 1).is_some());
            if e.certain {
                prop_assert!(edges(channels, curve.clone(), DELTA).contains(&e.width), "{e:?}");
            }
        }
    }

    /// Bisection: a few probes per step and level.
    #[test]
    fn probes_grow_with_the_steps_and_the_logarithm_of_the_channels((edge, height) in any_stairs(), seed in 0u64..1000) {
        let steps = edge.len();
        let (channels, curve) = stairs(edge, height);
        let s = probed(channels, curve, seed);
        let levels = (channels as f64).log2().ceil() as usize;
        prop_assert!(s.probes <= 10 + 2 * steps * levels, "{} probes, {steps} steps, {channels} channels: {s:?}", s.probes);
    }

    /// A line costs few probes, and what is kept on it follows it.
    #[test]
    fn lines_are_followed(channels in 64usize..1000, launch in 0.0f64..50.0, seed in 0u64..1000) {
        let curve = |w: usize| launch + w as f64;
        let s = probed(channels, curve, seed);
        prop_assert!(s.probes as f64 <= 24.0 + 0.15 * channels as f64, "{} of {channels}: {s:?}", s.probes);
        for w in 1..=channels {
            prop_assert!((s.latency_s(w) / curve(w) - 1.0).abs() < 3.0 * DELTA, "{w}: {} for {}", s.latency_s(w), curve(w));
        }
        // A wider width for δ is always near.
        for pair in s.edges.windows(2) {
            let true_rise = curve(pair[1].width) / curve(pair[0].width);
            prop_assert!(pair[1].width == pair[0].width + 1 || true_rise < 1.0 + 4.0 * DELTA, "{pair:?}");
        }
    }

    /// Kept widths are those of the formula, computed from the curve that was found, and right edges cost no more.
    #[test]
    fn kept_widths_cover_the_formula((edge, height) in any_stairs(), seed in 0u64..1000) {
        let (channels, curve) = stairs(edge, height);
        let s = probed(channels, curve, seed);
        let kept = s.kept();
        for e in edges(channels, |w| s.latency_s(w), DELTA) {
            prop_assert!(kept.contains(&e), "{e} is not in {kept:?}");
        }
        prop_assert!(s.edges.windows(2).all(|p| p[0].width < p[1].width && p[0].latency_s < p[1].latency_s));
        for w in 1..=channels {
            let r = s.right_edge(w);
            prop_assert!(r >= w && s.latency_s(r) <= (1.0 + DELTA) * s.latency_s(w));
        }
    }
}
