//! Staircases from made-up curves: what bisection finds against what every width says.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_latency::staircase::{Kind, Probe, Probing, Staircase, TileModel, Tiling, find, fit_tiles};

/// Half-width of the made-up intervals; answers lie inside.
const NOISE: f64 = 0.005;
const DELTA: f64 = 0.03;

/// Probes `curve` with reproducible noise, as often as it takes.
fn probed(channels: usize, curve: impl Fn(usize) -> f64, seed: u64) -> Staircase {
    probed_within(usize::MAX, channels, curve, NOISE, seed)
}

/// Probes `curve` with reproducible noise, at most a fifth of its widths.
fn probed_a_fifth(channels: usize, curve: impl Fn(usize) -> f64, seed: u64) -> Staircase {
    let s = probed_within(channels / 5, channels, curve, NOISE, seed);
    assert!(5 * s.probes <= channels, "{} of {channels}", s.probes);
    s
}

fn probed_within(most: usize, channels: usize, curve: impl Fn(usize) -> f64, noise: f64, seed: u64) -> Staircase {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let probing = Probing { delta: DELTA, most, ..Probing::default() };
    let answer = |widths: &[usize]| -> Result<Vec<Probe>, Infallible> {
        let one = |&w: &usize| {
            let s = curve(w) * (1.0 + noise * (2.0 * rng.random::<f64>() - 1.0) * 0.9);
            Probe { latency_s: s, ci: (s * (1.0 - noise), s * (1.0 + noise)) }
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
    assert!(s.probes <= 26, "{}", s.probes);
    assert_eq!((s.right_edge(1), s.right_edge(17), s.right_edge(48), s.right_edge(64)), (16, 32, 48, 64));
    assert_eq!(probed_a_fifth(64, curve, 1).kept(), [16, 32, 48, 64]);
    let s = probed(960, curve, 1);
    assert!(edges(960, curve, DELTA + 4.0 * NOISE).iter().all(|e| claimed(&s).contains(e)), "{:?}", s.kept());
}

#[test]
fn a_flat_curve_takes_its_corners_only() {
    let s = probed(512, |_| 1e-3, 2);
    assert_eq!(s.kept(), [512]);
    assert!(s.probes <= 24, "{}", s.probes);
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
    for channels in [64, 256] {
        let s = probed_a_fifth(channels, curve, 3);
        let wanted = edges(channels, curve, DELTA + 4.0 * NOISE);
        assert!(wanted.iter().filter(|e| **e >= 16).all(|e| s.kept().contains(e)), "{wanted:?} in {:?}", s.kept());
    }
}

#[test]
fn slow_alignments_stand_out_of_a_line() {
    // A line, but multiples of 4 that are none of 16 take longer.
    let slow = |w: usize| w.is_multiple_of(4) && !w.is_multiple_of(16);
    let curve = |w: usize| (10e-6 + 0.7e-6 * w as f64) * if slow(w) { 1.25 } else { 1.0 };
    let s = probed_a_fifth(192, curve, 4);
    assert!(s.kept().len() > 20, "{:?}", s.kept());
    for w in (8..=192).filter(|&w| !slow(w)) {
        assert!((s.latency_s(w) / curve(w) - 1.0).abs() < 2.5 * DELTA, "at {w}: {} for {}, {s:?}", s.latency_s(w), curve(w));
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
fn a_faster_kernel_from_some_width_on_is_found() {
    // ONNX Runtime (AVX-512) along the inputs of a 1×1 convolution: from 17 channels on another kernel, and slow multiples of 4. The full
    // width takes less than what the few channels before took, or just as long.
    let curve = |w: usize| match w {
        ..16 => 0.75 + 0.063 * w as f64,
        _ if w.is_multiple_of(4) => 1.3 * (0.43 + 0.020 * w as f64),
        _ => 0.43 + 0.020 * w as f64,
    };
    for channels in [63, 71, 95] {
        let s = probed_within(channels * 2 / 5, channels, curve, 1e-3, 7);
        for w in (18..channels).filter(|w| !w.is_multiple_of(4)) {
            assert!(
                (s.latency_s(w) / curve(w) - 1.0).abs() < 2.0 * DELTA,
                "at {w} of {channels}: {} for {}, {s:?}",
                s.latency_s(w),
                curve(w)
            );
        }
        assert!(s.kept().iter().any(|k| (17..24).contains(k)), "{:?}", s.kept());
        for e in s.edges.iter().filter(|e| e.width > 16 && s.point(e.width).is_none()) {
            let cheaper = s.edges.iter().find(|w| w.width > e.width && w.latency_s < e.latency_s);
            assert!(cheaper.is_none(), "{e:?} is kept, {cheaper:?} is wider and cheaper");
        }
    }
}

#[test]
fn a_single_channel_of_another_kernel_hides_no_edge() {
    // A depthwise convolution: one channel is an ordinary convolution, and takes as long as a whole block.
    let curve = |w: usize| match w {
        2 => 14e-6,
        w => 20e-6 + 6e-6 * w.div_ceil(8) as f64,
    };
    let find = |lone| {
        let probe = |widths: &[usize]| -> Result<Vec<Probe>, Infallible> {
            Ok(widths.iter().map(|&w| Probe { latency_s: curve(w), ci: (curve(w) * 0.995, curve(w) * 1.005) }).collect())
        };
        find(32, &Probing { delta: DELTA, lone, ..Probing::default() }, probe).unwrap()
    };
    assert_eq!(find(true).kept(), [2, 8, 16, 24, 32]);
    assert_eq!(find(false).kept(), [8, 16, 24, 32], "taken to be like the others, it hides what is cheaper beside it");
    assert_eq!(find(true).latency_s(1), curve(1));
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
    assert!(s.probes <= 13 && s.open > 0, "{s:?}");
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

/// A staircase, a line, or a comb: every fourth or eighth width is slower or faster than the others, which lie on a line or in
/// steps of their own. Below `kernel` another, slower kernel computes all of them.
#[derive(Debug, Clone, Copy)]
struct Comb {
    launch: f64,
    tile: usize,
    others: usize,
    every: Option<usize>,
    factor: f64,
    from: usize,
    kernel: usize,
}

impl Comb {
    fn draw(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut one_of = |n: usize| rng.random_range(0..n);
        let (tile, others) = ([1, 4, 8, 16, 32][one_of(5)], [1, 1, 8][one_of(3)]);
        let (every, from) = ([None, Some(4), Some(8)][one_of(3)], [0, 16][one_of(2)]);
        let factor = [0.6, 0.8, 1.2, 1.5][one_of(4)];
        Self { launch: rng.random::<f64>() * 20.0, tile, others, every, factor, from, kernel: 0 }
    }

    fn latency(&self, width: usize) -> f64 {
        let steps = |tile: usize| self.launch + (width.div_ceil(tile) * tile) as f64;
        if width < self.kernel {
            return 1.7 * steps(self.tile);
        }
        match self.every {
            Some(every) if width.is_multiple_of(every) && width >= self.from => self.factor * steps(self.tile),
            Some(_) => steps(self.others),
            None => steps(self.tile),
        }
    }
}

/// Of 100 curves, the first kernel of which ends before `kernel`: edges, those that are not kept, edges claimed, those that are none.
fn combs(channels: usize, share: f64, kernel: usize) -> [usize; 4] {
    let mut counts = [0; 4];
    for seed in 0..100 {
        let comb = Comb { kernel, ..Comb::draw(seed) };
        let curve = |w: usize| comb.latency(w);
        let s = probed_within((share * channels as f64) as usize, channels, curve, 1e-3, seed);
        let (beyond, within) = (edges(channels, curve, DELTA + 4e-3), edges(channels, curve, DELTA - 4e-3));
        let kept = s.kept();
        let certain = s.edges.iter().filter(|e| e.kind == Kind::Edge && e.certain);
        counts[0] += beyond.len();
        counts[1] += beyond.iter().filter(|e| !kept.contains(e)).count();
        counts[2] += certain.clone().count();
        counts[3] += certain.filter(|e| !within.contains(&e.width)).count();
    }
    counts
}

#[test]
fn a_fifth_of_the_widths_finds_the_edges_of_combs_on_stairs_and_lines() {
    // The wider a curve the more a fifth tells; narrow ones need what the wide ones of a network leave.
    for (channels, share, most) in [(64, 0.2, 0.12), (128, 0.2, 0.025), (512, 0.2, 0.005), (64, 0.3, 0.015)] {
        let [all, lost, claimed, wrong] = combs(channels, share, 0);
        assert!(lost as f64 <= most * all as f64, "{lost} of {all} edges lost at {channels} channels with {share}");
        assert!(wrong * 200 <= claimed, "{wrong} of {claimed} edges are none at {channels} channels");
    }
}

#[test]
fn a_fifth_of_the_widths_finds_most_edges_beyond_a_slower_kernel() {
    // What is claimed among the slow widths may be undercut by fast ones that no probe reached.
    for (channels, most) in [(128, 0.15), (512, 0.02)] {
        let [all, lost, claimed, wrong] = combs(channels, 0.2, 17);
        assert!(lost as f64 <= most * all as f64, "{lost} of {all} edges lost at {channels} channels");
        assert!(wrong * 8 <= claimed, "{wrong} of {claimed} edges are none at {channels} channels");
    }
}

#[test]
fn the_last_width_before_a_slow_full_one_is_kept() {
    let curve = |w: usize| (20.0 + w as f64) * if w.is_multiple_of(4) { 1.2 } else { 1.0 };
    let s = probed_a_fifth(96, curve, 9);
    assert!(s.kept().contains(&95), "{:?}", s.kept());
}

#[test]
fn what_the_table_says_twice_is_not_known_better() {
    // The full width is asked for again, and a table answers with what it has.
    let probe = |widths: &[usize]| -> Result<Vec<Probe>, Infallible> {
        let one = |&w: &usize| {
            let s = if w <= 32 { 1e-4 } else { 1.06e-4 };
            Probe { latency_s: s, ci: (s * 0.95, s * 1.05) }
        };
        Ok(widths.iter().map(one).collect())
    };
    let s = find(64, &Probing { delta: DELTA, ..Probing::default() }, probe).unwrap();
    let again = s.points.iter().filter(|p| p.asked > 1).collect::<Vec<_>>();
    assert!(!again.is_empty() && again.iter().all(|p| (p.noise() - 0.05).abs() < 1e-9), "{again:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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

    /// Edges anywhere are kept, and what is claimed is there.
    #[test]
    fn edges_anywhere_are_kept((edge, height) in any_stairs(), seed in 0u64..1000) {
        let (channels, curve) = stairs(edge, height);
        let s = probed(channels, curve.clone(), seed);
        let wanted = edges(channels, curve.clone(), DELTA + 4.0 * NOISE);
        let found = claimed(&s);
        for e in &wanted {
            prop_assert!(s.kept().contains(e), "{e} of {wanted:?} in {found:?}: {s:?}");
        }
        // What is claimed is there, between widths that were both measured.
        for e in s.edges.iter().filter(|e| e.kind == Kind::Edge) {
            prop_assert!(s.point(e.width).is_some() && s.point(e.width + 1).is_some());
            if e.certain {
                prop_assert!(edges(channels, curve.clone(), DELTA).contains(&e.width), "{e:?}");
            }
        }
    }

    /// A few probes per step and level.
    #[test]
    fn probes_grow_with_the_steps_and_the_logarithm_of_the_channels((edge, height) in any_stairs(), seed in 0u64..1000) {
        let steps = edge.len();
        let (channels, curve) = stairs(edge, height);
        let s = probed(channels, curve, seed);
        let levels = (channels as f64).log2().ceil() as usize;
        prop_assert!(s.probes <= 16 + 3 * steps * levels, "{} probes, {steps} steps, {channels} channels: {s:?}", s.probes);
    }

    /// A fifth of the widths tells what all of a line take, and what is kept on it follows it.
    #[test]
    fn lines_are_followed(channels in 64usize..1000, launch in 0.0f64..50.0, seed in 0u64..1000) {
        let curve = |w: usize| launch + w as f64;
        let s = probed_a_fifth(channels, curve, seed);
        for w in 8..=channels {
            prop_assert!((s.latency_s(w) / curve(w) - 1.0).abs() < 3.0 * DELTA, "{w}: {} for {}", s.latency_s(w), curve(w));
        }
        // A wider width for δ is always near.
        for pair in s.edges.windows(2).filter(|p| p[0].width >= 8) {
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
        let measured: Vec<_> = s.edges.iter().filter(|e| s.point(e.width).is_some()).collect();
        prop_assert!(s.edges.windows(2).all(|p| p[0].width < p[1].width));
        prop_assert!(measured.windows(2).all(|p| p[0].latency_s < p[1].latency_s));
        for w in 1..=channels {
            let r = s.right_edge(w);
            prop_assert!(r >= w && s.latency_s(r) <= (1.0 + DELTA) * s.latency_s(w));
        }
    }
}
