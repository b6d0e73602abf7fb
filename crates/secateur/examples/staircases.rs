//! Staircases of a network on a target against an exhaustive sweep of some of its curves:
//! `staircases MODEL.onnx TARGET TABLE.sqlite [SWEPT [LARGEST]]`. Prints Markdown.
//!
//! `SWEPT` curves of different kinds with at most `LARGEST` channels are measured at every count. An edge of the sweep that
//! exceeds δ beyond the noise is *missed* where no kept width has as many channels for as much time.

use std::path::Path;
use std::time::Instant;

use latency::staircase::{Kind, Point};
use secateur::{Analysis, Bench, Curve, Side, Silent, StaircaseOptions, Staircases, Timed, Width, single_layer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, target, table, rest @ ..] = arguments.as_slice() else {
        return Err("usage: staircases MODEL.onnx TARGET TABLE.sqlite [SWEPT [LARGEST]]".into());
    };
    let number = |k: usize, default: usize| rest.get(k).map_or(Ok(default), |t| t.parse());
    let (swept, largest) = (number(0, 0)?, number(1, 100)?);
    let analysis = Analysis::new(graph::Model::load(Path::new(model))?, &graph::InputShapes::batch(1))?;
    let mut bench = Bench::open(&target.parse()?, None, Path::new(table), 1)?;
    let start = Instant::now();
    let s = Staircases::on_bench(&analysis, &StaircaseOptions::default(), &mut bench, &mut Silent, Path::new("."))?;
    println!("{model} on {}\n", bench.runtime().identity());
    println!("| layers | groups | curves | exhaustive | probes | share | measured now | noise | δ | edges | certain | seconds |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let edges: Vec<_> = s.curves.iter().flat_map(|c| &c.staircase.edges).filter(|e| e.kind == Kind::Edge).collect();
    println!(
        "| {} | {} | {} | {} | {} | {:.1} % | {} | {:.2} % | {:.1} % | {} | {} | {:.0} |\n",
        analysis.layers.len(),
        s.groups.len(),
        s.curves.len(),
        s.exhaustive,
        s.probes,
        100.0 * s.probes as f64 / s.exhaustive as f64,
        bench.probes().measured,
        100.0 * s.noise,
        100.0 * s.delta,
        edges.len(),
        edges.iter().filter(|e| e.certain).count(),
        start.elapsed().as_secs_f64()
    );
    if swept == 0 {
        return Ok(());
    }
    println!(
        "| layer | side | count | probes | edges of the sweep | of these claimed | on a slope, kept | missed | claimed, not in the sweep |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut total = [0; 7];
    for curve in chosen(&s.curves, swept, largest) {
        let truth = sweep(&analysis, &mut bench, curve, s.sentinel_s)?;
        let row = compare(curve, &truth, s.delta);
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            curve.layer, curve.side, row[0], row[1], row[2], row[3], row[4], row[5], row[6]
        );
        total.iter_mut().zip(row).for_each(|(t, r)| *t += r);
    }
    println!("| all | | {} | {} | {} | {} | {} | {} | {} |", total[0], total[1], total[2], total[3], total[4], total[5], total[6]);
    Ok(())
}

/// Curves of different sides and sizes, the most shared first.
fn chosen(curves: &[Curve], number: usize, largest: usize) -> Vec<&Curve> {
    let mut fits: Vec<&Curve> = curves.iter().filter(|c| (8..=largest).contains(&c.staircase.channels)).collect();
    fits.sort_by_key(|c| (std::cmp::Reverse(c.staircase.channels), std::cmp::Reverse(c.shared)));
    let of = |side: Side| fits.iter().copied().filter(move |c| c.side == side).collect::<Vec<_>>();
    let mut sides = [of(Side::Output), of(Side::Input), of(Side::Both)];
    // In turn from each side; within a side evenly over the sizes.
    let mut quota = [0; 3];
    for k in 0..number * 3 {
        if quota.iter().sum::<usize>() < number && quota[k % 3] < sides[k % 3].len() {
            quota[k % 3] += 1;
        }
    }
    let pick = |all: &mut Vec<&'_ Curve>, n: usize| (0..n).map(|k| all.len() * (2 * k + 1) / (2 * n)).collect::<Vec<_>>();
    let picked: Vec<Vec<usize>> = sides.iter_mut().zip(quota).map(|(s, n)| pick(s, n)).collect();
    sides.iter().zip(picked).flat_map(|(s, p)| p.into_iter().map(|k| s[k]).collect::<Vec<_>>()).collect()
}

fn sweep(analysis: &Analysis, bench: &mut Bench, curve: &Curve, sentinel_s: f64) -> secateur::Result<Vec<Point>> {
    let layer = analysis.layers.iter().position(|l| analysis.graph.node(l.node).name == curve.layer).unwrap_or_default();
    let width = |count: usize| {
        let (input, output) = curve.widths_at(count);
        Width { layer, input, output, asked: 0 }
    };
    let models = (1..=curve.staircase.channels).map(|c| single_layer(analysis, &width(c))).collect::<secateur::Result<Vec<_>>>()?;
    let (measured, _) = bench.widths(&models, 0, &mut |_, _| {})?;
    let point = |(k, m): (usize, &latency::Measurement)| {
        let p = Timed::from(m).probe(sentinel_s);
        Point { width: k + 1, latency_s: p.latency_s, ci: p.ci, asked: 1 }
    };
    Ok(measured.iter().enumerate().map(point).collect())
}

/// Channels, probes, edges of the sweep, claimed, kept on a slope, missed, claimed without one in the sweep.
fn compare(curve: &Curve, truth: &[Point], delta: f64) -> [usize; 7] {
    let found = &curve.staircase;
    let bound = delta.ln_1p();
    // How the cheapest wider width stands to each.
    let mut cheapest: Option<Point> = None;
    let mut rises: Vec<Option<(f64, f64)>> = vec![None; truth.len()];
    for p in truth.iter().rev() {
        rises[p.width - 1] = cheapest.map(|c| p.log_ratio(&c)).map(|(_, lo, hi)| (lo, hi));
        if cheapest.is_none_or(|c| p.latency_s < c.latency_s) {
            cheapest = Some(*p);
        }
    }
    let is_edge = |p: &&Point| rises[p.width - 1].is_some_and(|(lo, _)| lo > bound);
    let claimed = |w: usize| found.edges.iter().any(|e| e.width == w && e.kind == Kind::Edge);
    let covered = |p: &Point| {
        let as_cheap = |w: usize| p.log_ratio(&truth[w - 1]).1 <= bound;
        found.kept().iter().any(|&k| k >= p.width && as_cheap(k))
    };
    let edges: Vec<&Point> = truth.iter().filter(is_edge).collect();
    let exact = edges.iter().filter(|p| claimed(p.width)).count();
    let slope = edges.iter().filter(|p| !claimed(p.width) && covered(p)).count();
    let wrong = found.edges.iter().filter(|e| e.kind == Kind::Edge && e.certain);
    let wrong = wrong.filter(|e| rises[e.width - 1].is_some_and(|(_, hi)| hi <= bound)).count();
    [truth.len(), found.probes, edges.len(), exact, slope, edges.len() - exact - slope, wrong]
}
