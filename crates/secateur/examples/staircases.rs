//! Staircases of a network on a target against an exhaustive sweep of some of its curves:
//! `staircases MODEL.onnx TARGET TABLE.sqlite [SWEPT [LARGEST]]`. Prints Markdown.
//!
//! `SWEPT` curves of different kinds with at most `LARGEST` channels are measured at every count. An edge of the sweep is a
//! count such that every larger one takes more than (1 + δ) times as long beyond the noise, and still does when both were
//! measured again, more precisely. It is *missed* where no kept width has as many channels for as much time.

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
        "| layer | side | count | probes | kept | edges of the sweep | of these claimed | on a slope, kept | missed | claimed, not in the sweep |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut total = [0; 8];
    for curve in chosen(&s.curves, swept, largest) {
        let truth = Sweep::measure(&analysis, &mut bench, curve, s.sentinel_s, s.delta)?;
        let row = compare(curve, &truth, s.delta);
        println!("| {} | {} | {} |", curve.layer, curve.side, row.map(|n| n.to_string()).join(" | "));
        total.iter_mut().zip(row).for_each(|(t, r)| *t += r);
        for p in truth.points.iter().filter(|p| missed(curve, &truth, p, s.delta)) {
            eprintln!("missed: {} {} at {}", curve.layer, curve.side, p.width);
        }
    }
    println!("| all | | {} |", total.map(|n| n.to_string()).join(" | "));
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

/// Every count of a curve, measured.
struct Sweep {
    points: Vec<Point>,
}

impl Sweep {
    /// Measures every count, and both sides of what then looks like an edge again.
    fn measure(analysis: &Analysis, bench: &mut Bench, curve: &Curve, sentinel_s: f64, delta: f64) -> secateur::Result<Self> {
        let layer = analysis.layers.iter().position(|l| analysis.graph.node(l.node).name == curve.layer).unwrap_or_default();
        let mut measure = |counts: &[usize], asked: usize| -> secateur::Result<Vec<Point>> {
            let width = |count: usize| {
                let (input, output) = curve.widths_at(count);
                Width { layer, input, output, asked }
            };
            let models = counts.iter().map(|c| single_layer(analysis, &width(*c))).collect::<secateur::Result<Vec<_>>>()?;
            let (measured, _) = bench.widths(&models, asked, &mut |_, _| {})?;
            let point = |(count, m): (&usize, &latency::Measurement)| {
                let p = Timed::from(m).probe(sentinel_s);
                Point { width: *count, latency_s: p.latency_s, ci: p.ci, asked: asked + 1 }
            };
            Ok(counts.iter().zip(&measured).map(point).collect())
        };
        let all: Vec<usize> = (1..=curve.staircase.channels).collect();
        let mut sweep = Self { points: measure(&all, 0)? };
        loop {
            let sides = sweep.edges(delta).into_iter().flat_map(|(p, best)| [p, best]);
            let mut again: Vec<usize> = sides.filter(|p| p.asked == 1).map(|p| p.width).collect();
            again.sort_unstable();
            again.dedup();
            if again.is_empty() {
                return Ok(sweep);
            }
            for p in measure(&again, 1)? {
                sweep.points[p.width - 1] = p;
            }
        }
    }

    /// The cheapest larger count of each.
    fn best(&self, count: usize) -> Option<Point> {
        self.points[count..].iter().copied().min_by(|a, b| a.latency_s.total_cmp(&b.latency_s))
    }

    /// Edges, each with the cheapest larger count.
    fn edges(&self, delta: f64) -> Vec<(Point, Point)> {
        let with_best = self.points.iter().filter_map(|p| Some((*p, self.best(p.width)?)));
        with_best.filter(|(p, best)| p.log_ratio(best).1 > delta.ln_1p()).collect()
    }
}

fn claimed(curve: &Curve, width: usize) -> bool {
    curve.staircase.edges.iter().any(|e| e.width == width && e.kind == Kind::Edge)
}

/// Whether a kept width has as many channels as `p` for as much time, according to the sweep.
fn covered(curve: &Curve, truth: &Sweep, p: &Point, delta: f64) -> bool {
    let as_cheap = |w: usize| p.log_ratio(&truth.points[w - 1]).1 <= delta.ln_1p();
    curve.staircase.kept().iter().any(|&k| k >= p.width && as_cheap(k))
}

fn missed(curve: &Curve, truth: &Sweep, p: &Point, delta: f64) -> bool {
    let is_edge = truth.best(p.width).is_some_and(|best| p.log_ratio(&best).1 > delta.ln_1p());
    is_edge && !claimed(curve, p.width) && !covered(curve, truth, p, delta)
}

/// Channels, probes, kept widths, edges of the sweep, claimed, kept on a slope, missed, claimed without one in the sweep.
fn compare(curve: &Curve, truth: &Sweep, delta: f64) -> [usize; 8] {
    let found = &curve.staircase;
    let edges = truth.edges(delta);
    let exact = edges.iter().filter(|(p, _)| claimed(curve, p.width)).count();
    let lost = edges.iter().filter(|(p, _)| missed(curve, truth, p, delta)).count();
    let certain = found.edges.iter().filter(|e| e.kind == Kind::Edge && e.certain);
    let denied = |w: usize| truth.best(w).is_some_and(|best| truth.points[w - 1].log_ratio(&best).2 <= delta.ln_1p());
    let wrong = certain.filter(|e| denied(e.width)).count();
    [truth.points.len(), found.probes, found.kept().len(), edges.len(), exact, edges.len() - exact - lost, lost, wrong]
}
