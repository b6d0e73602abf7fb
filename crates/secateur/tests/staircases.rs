//! Staircases of a network from made-up layer latencies: what groups keep against brute force over the sums.
#![allow(clippy::unwrap_used)]

use latency::staircase::{Kind, Probe};
use proptest::prelude::*;
use secateur::{Analysis, Side, StaircaseOptions, Staircases, Timed, Width, residual_network};

/// Half-width of the intervals.
const NOISE: f64 = 0.002;

fn network(widths: &[usize]) -> Analysis {
    Analysis::new(residual_network(widths, 1, 10, 0), &graph::InputShapes::batch(1)).unwrap()
}

/// Latency of a layer in tiles of `tile` output channels and `depth` input channels.
fn seconds(launch: f64, tile: usize, depth: usize, input: usize, output: usize) -> f64 {
    1e-6 * (launch + (output.div_ceil(tile) * input.div_ceil(depth)) as f64)
}

fn find(analysis: &Analysis, curve: impl Fn(&Width) -> f64) -> Staircases {
    find_within(f64::INFINITY, analysis, curve)
}

/// With at most `share` of the probes of an exhaustive sweep.
fn find_within(share: f64, analysis: &Analysis, curve: impl Fn(&Width) -> f64) -> Staircases {
    let mut seen = std::collections::HashSet::new();
    let options = StaircaseOptions { share, ..StaircaseOptions::default() };
    Staircases::find(analysis, &options, &mut |widths| {
        assert!(widths.iter().all(|w| w.input > 0 && w.output > 0));
        let found = widths.iter().filter(|w| !seen.insert(**w)).count();
        let timed = |w: &Width| {
            let s = curve(w);
            Timed { own: Probe { latency_s: s, ci: (s * (1.0 - NOISE), s * (1.0 + NOISE)) }, to_sentinel: None }
        };
        Ok((widths.iter().map(timed).collect(), found))
    })
    .unwrap()
}

/// Sum over the layers that a group widens, at a count of it.
fn sum(analysis: &Analysis, group: graph::GroupId, count: usize, curve: &dyn Fn(&Width) -> f64) -> f64 {
    let touched = analysis.layers.iter().enumerate().filter(|(_, l)| l.inputs.iter().chain(&l.outputs).any(|(g, _)| *g == group));
    touched
        .map(|(layer, l)| {
            let (input, output) = l.widths(|g| if g == group { count } else { analysis.groups.group(g).size });
            curve(&Width { layer, input, output, asked: 0 })
        })
        .sum()
}

#[test]
fn every_group_that_can_be_pruned_has_a_staircase_and_layers_share_curves() {
    let analysis = network(&[16, 32, 64]);
    let s = find(&analysis, |w| seconds(5.0, 16, 16, w.input, w.output));
    let prunable: Vec<_> = analysis.groups.prunable().map(|g| g.id).collect();
    assert_eq!(s.groups.iter().map(|g| g.group).collect::<Vec<_>>(), prunable);
    let parts: usize = s.groups.iter().map(|g| g.curves.len()).sum();
    assert_eq!(s.curves.iter().map(|c| c.shared).sum::<usize>(), parts);
    assert!(s.curves.iter().any(|c| c.side == Side::Input) && s.curves.iter().any(|c| c.side == Side::Output));
    for g in &s.groups {
        assert_eq!(s.kept(g.group), g.kept.as_slice());
        assert_eq!((g.kept.last(), g.latency_s.len()), (Some(&g.size), g.size));
        assert!(g.kept.iter().all(|k| k % 16 == 0), "{:?}", g.kept);
        assert_eq!(s.right_edge(g.group, g.size), g.size);
        assert_eq!(s.right_edge(g.group, 1), 16);
        assert_eq!(s.right_edge(g.group, 0), 0);
    }
    let frozen = analysis.groups.groups.iter().find(|g| g.frozen.is_some()).unwrap();
    assert!(s.kept(frozen.id).is_empty());
    assert_eq!(s.right_edge(frozen.id, 2), 2);
}

#[test]
fn probes_that_simple_curves_leave_go_to_the_others() {
    // Nothing depends on the outputs; along the inputs there is a step every 4 channels.
    let analysis = network(&[64, 128]);
    let curve = |w: &Width| 1e-6 * (5.0 + w.input.div_ceil(4) as f64);
    let share = 0.2;
    let s = find_within(share, &analysis, curve);
    assert!(s.probes as f64 <= share * s.exhaustive as f64, "{} of {}", s.probes, s.exhaustive);
    let beyond = |c: &&secateur::Curve| c.staircase.probes as f64 > share * c.staircase.channels as f64 + 2.0;
    assert!(s.curves.iter().any(|c| beyond(&c) && c.side == Side::Input), "no curve got more than its share");
    let simple: Vec<_> = s.curves.iter().filter(|c| c.side == Side::Output && c.staircase.channels == 128).collect();
    assert!(simple.iter().all(|c| c.staircase.probes < 20 && c.staircase.kept() == [128]), "{simple:?}");
}

#[test]
fn what_is_journaled_is_read_back() {
    let s = find(&network(&[16, 32]), |w| seconds(5.0, 8, 16, w.input, w.output));
    let read: Staircases = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
    assert_eq!((read.probes, read.exhaustive, read.curves.len()), (s.probes, s.exhaustive, s.curves.len()));
    assert!(s.groups.iter().zip(&read.groups).all(|(a, b)| a.kept == b.kept && a.edges.len() == b.edges.len()));
}

#[test]
fn the_page_draws_every_curve_and_needs_nothing_else() {
    let mut s = find(&network(&[16, 32]), |w| seconds(5.0, 8, 4, w.input, w.output));
    let page = s.html("a<b>.onnx", "tract", "machine").unwrap();
    assert_eq!(page.matches("<svg").count(), s.curves.len() + s.groups.len());
    assert!(page.contains("a&lt;b&gt;.onnx") && !page.contains("a<b>"));
    assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("<?xml"));
    s.fit_waves(4);
    assert!(s.curves.iter().filter(|c| c.rows.is_some()).all(|c| c.side == Side::Output));
}

#[test]
fn depthwise_layers_shrink_on_both_sides() {
    let Some(data) = std::env::var_os("SECATEUR_DATA") else {
        eprintln!("skipped: depthwise_layers_shrink_on_both_sides: SECATEUR_DATA is not set");
        return;
    };
    let path = std::path::Path::new(&data).join("models/vww96_mobilenetv1_0.25_mlperftiny.onnx");
    let Ok(model) = graph::Model::load(&path) else {
        eprintln!("skipped: depthwise_layers_shrink_on_both_sides: {} is not there", path.display());
        return;
    };
    let analysis = Analysis::new(model, &graph::InputShapes::batch(1)).unwrap();
    let s = find(&analysis, |w| seconds(5.0, 8, 8, w.input, w.output));
    let both: Vec<_> = s.curves.iter().filter(|c| c.side == Side::Both).collect();
    assert!(!both.is_empty());
    for c in both {
        assert!((1..=c.staircase.channels).all(|n| c.widths_at(n).0 == c.widths_at(n).1), "{c:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Kept counts of a group are those at which the sum over its layers has a right edge.
    #[test]
    fn groups_keep_the_edges_of_sums(
        tile in prop::sample::select(vec![8usize, 16, 32]),
        depth in prop::sample::select(vec![8usize, 16, 64]),
        launch in 0.0f64..10.0,
        last in prop::sample::select(vec![48usize, 64, 80]),
    ) {
        let analysis = network(&[16, 32, last]);
        let curve = |w: &Width| seconds(launch, tile, depth, w.input, w.output);
        let s = find(&analysis, curve);
        let by = 2.0 * s.delta + 4.0 * NOISE;
        for g in &s.groups {
            let mut least = f64::INFINITY;
            for count in (1..=g.size).rev() {
                let here = sum(&analysis, g.group, count, &curve);
                prop_assert!((g.latency_s[count - 1] / here - 1.0).abs() < 2.0 * s.delta, "{} at {count}", g.name);
                if least > (1.0 + by) * here {
                    prop_assert!(g.kept.contains(&count), "{count} of {} is not in {:?}", g.name, g.kept);
                    if count < g.size {
                        let edge = g.edges.iter().find(|e| e.width == count).unwrap();
                        prop_assert!(edge.kind == Kind::Edge && edge.certain, "{edge:?}");
                    }
                }
                least = least.min(here);
                let right = s.right_edge(g.group, count);
                prop_assert!(right >= count && sum(&analysis, g.group, right, &curve) <= here * (1.0 + s.delta + 4.0 * NOISE));
            }
        }
        prop_assert!(s.probes <= s.exhaustive);
    }
}
