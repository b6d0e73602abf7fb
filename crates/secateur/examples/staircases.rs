//! Staircases of a network on a target against an exhaustive sweep of some of its curves:
//! `staircases MODEL.onnx TARGET TABLE.sqlite [SWEPT [LARGEST [SECOND.sqlite]]]`. Prints Markdown.
//!
//! `SWEPT` curves of different kinds with at most `LARGEST` channels are measured at every count. An edge of the sweep is a
//! count such that every larger one takes more than (1 + δ) times as long beyond the noise, and still does when both were
//! measured again, more precisely. It is *missed* where no kept width has as many channels for as much time.
//!
//! Latencies differ more between processes than within one. With `SECOND`, a table that the program is given when it is run
//! again, the curves are swept a second time: an edge is what both sweeps have, and a claim is wrong where both deny it.

use std::path::Path;
use std::time::Instant;

use latency::Protocol;
use latency::staircase::{Kind, Point};
use secateur::{Analysis, Bench, Curve, Side, Silent, StaircaseOptions, Staircases, Timed, Width, single_layer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, target, table, rest @ ..] = arguments.as_slice() else {
        return Err("usage: staircases MODEL.onnx TARGET TABLE.sqlite [SWEPT [LARGEST [SECOND.sqlite]]]".into());
    };
    let number = |k: usize, default: usize| rest.get(k).map_or(Ok(default), |t| t.parse());
    let (swept, largest) = (number(0, 0)?, number(1, 100)?);
    let analysis = Analysis::new(graph::Model::load(Path::new(model))?, &graph::InputShapes::batch(1))?;
    let mut bench = Bench::open(&target.parse()?, None, Path::new(table), 1)?;
    let mut second = rest.get(2).map(|t| Bench::open(&target.parse()?, None, Path::new(t), 1)).transpose()?;
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
        "| layer | side | count | probes | kept | edges of one sweep only | edges | of these claimed | on a slope, kept | missed | claimed, not in the sweep |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut total = [0; 9];
    for curve in chosen(&s.curves, swept, largest) {
        let mut sweeps = vec![Sweep::measure(&analysis, &mut bench, curve, s.sentinel_s, s.delta)?];
        if let Some(bench) = &mut second {
            sweeps.push(Sweep::measure(&analysis, bench, curve, s.sentinel_s, s.delta)?);
        }
        let row = compare(curve, &sweeps);
        println!("| {} | {} | {} |", curve.layer, curve.side, row.map(|n| n.to_string()).join(" | "));
        total.iter_mut().zip(row).for_each(|(t, r)| *t += r);
        for w in common_edges(&sweeps).into_iter().filter(|w| missed(curve, &sweeps, *w)) {
            eprintln!("missed: {} {} at {w}", curve.layer, curve.side);
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
    delta: f64,
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
            let (measured, _) = bench.layers(&models, &Protocol::staircase(asked), &mut |_, _| {})?;
            let point = |(count, m): (&usize, &latency::Measurement)| {
                let p = Timed::from(m).probe(sentinel_s);
                Point { width: *count, latency_s: p.latency_s, ci: p.ci, asked: asked + 1 }
            };
            Ok(counts.iter().zip(&measured).map(point).collect())
        };
        let all: Vec<usize> = (1..=curve.staircase.channels).collect();
        let mut sweep = Self { points: measure(&all, 0)?, delta };
        loop {
            let sides = sweep.edges().into_iter().flat_map(|(p, best)| [p, best]);
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

    /// How much longer (`ln`, with its interval) the cheapest larger count takes than a count; with that one.
    fn rise(&self, count: usize) -> Option<(Point, (f64, f64, f64))> {
        let best = self.points[count..].iter().min_by(|a, b| a.latency_s.total_cmp(&b.latency_s))?;
        Some((*best, self.points[count - 1].log_ratio(best)))
    }

    /// Edges, each with the cheapest larger count.
    fn edges(&self) -> Vec<(Point, Point)> {
        let beyond = |p: &Point| self.rise(p.width).filter(|(_, rise)| rise.1 > self.delta.ln_1p()).map(|(best, _)| (*p, best));
        self.points.iter().filter_map(beyond).collect()
    }

    /// Whether the sweep decides that a count is no edge.
    fn denies(&self, count: usize) -> bool {
        self.rise(count).is_some_and(|(_, rise)| rise.2 <= self.delta.ln_1p())
    }

    /// Whether a wider count may take as long.
    fn as_cheap(&self, count: usize, wider: usize) -> bool {
        self.points[count - 1].log_ratio(&self.points[wider - 1]).1 <= self.delta.ln_1p()
    }
}

/// Edges of all sweeps.
fn common_edges(sweeps: &[Sweep]) -> Vec<usize> {
    let of = |s: &Sweep| s.edges().into_iter().map(|(p, _)| p.width).collect::<Vec<_>>();
    let all: Vec<Vec<usize>> = sweeps.iter().map(of).collect();
    all[0].iter().copied().filter(|w| all.iter().all(|s| s.contains(w))).collect()
}

fn claimed(curve: &Curve, width: usize) -> bool {
    curve.staircase.edges.iter().any(|e| e.width == width && e.kind == Kind::Edge)
}

/// Whether no kept width has as many channels as an edge for as much time, according to a sweep.
fn missed(curve: &Curve, sweeps: &[Sweep], edge: usize) -> bool {
    let covers = |&k: &usize| k >= edge && sweeps.iter().all(|s| s.as_cheap(edge, k));
    !claimed(curve, edge) && !curve.staircase.kept().iter().any(covers)
}

/// Channels, probes, kept widths, edges of one sweep only, edges, of these claimed, kept on a slope, missed; claims that all
/// sweeps deny.
fn compare(curve: &Curve, sweeps: &[Sweep]) -> [usize; 9] {
    let found = &curve.staircase;
    let all = common_edges(sweeps);
    let once = sweeps.iter().map(|s| s.edges().len() - all.len()).sum();
    let exact = all.iter().filter(|w| claimed(curve, **w)).count();
    let lost = all.iter().filter(|w| missed(curve, sweeps, **w)).count();
    let certain = found.edges.iter().filter(|e| e.kind == Kind::Edge && e.certain);
    let wrong = certain.filter(|e| sweeps.iter().all(|s| s.denies(e.width))).count();
    [found.channels, found.probes, found.kept().len(), once, all.len(), exact, all.len() - exact - lost, lost, wrong]
}
