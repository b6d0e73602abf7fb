//! Adaptive probing.

use std::collections::{BTreeMap, BTreeSet};

use super::curve::alignment;
use super::{Piece, Point, Probe, Probing, Rises, Shape, Staircase};

/// Cells that the curve is divided into at first.
const CELLS: usize = 8;
/// The narrowest cell at first, channels.
const NARROWEST: usize = 16;
/// Channels over which a line needs no further sample.
const SHORT: usize = 4;
/// Samples that may be spent on a curve that is one line, as a share of its channels.
const LINE_SHARE: f64 = 0.1;
/// Rise between neighbouring samples of a line, `ln`, at most: it could hide a step of this height.
const HIDDEN: f64 = 0.3;
/// Steps seen to be flat in the middle before the middle is taken for granted in steps of the same length.
const CONFIRMED: usize = 2;

/// A curve being probed: ask [`Search::wanted`], measure, [`Search::tell`], until nothing is wanted.
#[derive(Debug, Clone)]
pub struct Search {
    channels: usize,
    probing: Probing,
    points: BTreeMap<usize, Point>,
    nodes: Vec<Node>,
    pieces: Vec<Piece>,
    /// Length of a step → how often its middle was seen to be as slow as its right end.
    confirmed: BTreeMap<usize, usize>,
    wanted: BTreeSet<usize>,
    probes: usize,
}

/// Two measured widths between which the curve is not yet known.
#[derive(Debug, Clone, Copy)]
struct Node {
    a: usize,
    b: usize,
    /// Part of a line that was accepted but for its steepness.
    line: bool,
    /// A width inside that stands for its alignment: is it on the line from `a` to `b`?
    check: Option<usize>,
}

enum Outcome {
    Close(Vec<Piece>),
    /// Into the pairs of neighbouring stops.
    Split {
        stops: Vec<usize>,
        line: bool,
    },
    Need(Vec<usize>),
}

/// Probes the curve of widths 1 to `channels` through `probe`, which measures a batch of widths; a width that is asked for
/// again should be measured again, more precisely.
///
/// # Errors
/// Those of `probe`.
pub fn find<E>(channels: usize, probing: &Probing, mut probe: impl FnMut(&[usize]) -> Result<Vec<Probe>, E>) -> Result<Staircase, E> {
    let mut search = Search::new(channels, *probing);
    loop {
        let wanted = search.wanted();
        if wanted.is_empty() {
            return Ok(search.finish());
        }
        let answers = probe(&wanted)?;
        search.tell(&wanted, &answers);
    }
}

impl Search {
    /// A curve of which nothing is known; `channels` is at least 1.
    pub fn new(channels: usize, probing: Probing) -> Self {
        let channels = channels.max(1);
        let mut cell = NARROWEST;
        while cell * CELLS < channels {
            cell *= 2;
        }
        let mut wanted: BTreeSet<usize> = (1..).map(|k| k * cell).take_while(|&c| c < channels).collect();
        wanted.extend([1, channels]);
        Self {
            channels,
            probing,
            points: BTreeMap::new(),
            nodes: Vec::new(),
            pieces: Vec::new(),
            confirmed: BTreeMap::new(),
            wanted,
            probes: 0,
        }
    }

    /// Widths to be measured next, ascending; empty when the curve is known.
    pub fn wanted(&self) -> Vec<usize> {
        self.wanted.iter().copied().collect()
    }

    /// Times a width was measured.
    pub fn asked(&self, width: usize) -> usize {
        self.points.get(&width).map_or(0, |p| p.asked)
    }

    /// Takes the answers for `widths`, in order.
    pub fn tell(&mut self, widths: &[usize], answers: &[Probe]) {
        let first = self.points.is_empty();
        for (&width, probe) in widths.iter().zip(answers) {
            self.probes += 1;
            self.points.entry(width).and_modify(|p| p.merge(probe)).or_insert(Point {
                width,
                latency_s: probe.latency_s,
                ci: probe.ci,
                asked: 1,
            });
        }
        self.wanted.clear();
        if first {
            let widths: Vec<usize> = self.points.keys().copied().collect();
            self.nodes = pairs(&widths, false);
        }
        self.advance();
    }

    /// Measurements told so far, repeats included.
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// The same per channel.
    pub fn density(&self) -> f64 {
        self.probes as f64 / self.channels as f64
    }

    /// Whether the curve is not known and nothing more may be measured.
    pub fn is_starved(&self) -> bool {
        self.wanted.is_empty() && !self.nodes.is_empty()
    }

    /// Allows `more` probes.
    pub fn grant(&mut self, more: usize) {
        self.probing.most = self.probing.most.max(self.probes).saturating_add(more);
        if self.is_starved() {
            self.advance();
        }
    }

    /// What is known. While something is wanted, the rest is [`Shape::Unknown`].
    pub fn finish(mut self) -> Staircase {
        let open = std::mem::take(&mut self.nodes);
        for n in open {
            self.pieces.extend(self.between(n.a, n.b, Shape::Unknown));
        }
        Staircase::new(self.channels, &self.points, self.pieces, self.probes, self.probing.delta)
    }

    /// Works on the open nodes until each needs a measurement.
    fn advance(&mut self) {
        loop {
            let mut waiting = Vec::new();
            let mut work = std::mem::take(&mut self.nodes);
            while let Some(node) = work.pop() {
                match self.judge(node) {
                    Outcome::Close(pieces) => self.pieces.extend(pieces),
                    Outcome::Split { stops, line } => work.extend(pairs(&stops, line)),
                    Outcome::Need(widths) => {
                        self.wanted.extend(widths);
                        waiting.push(node);
                    }
                }
            }
            self.nodes = waiting;
            if self.wanted.is_empty() && self.nodes.is_empty() && !self.try_alignments() {
                return;
            }
            if !self.wanted.is_empty() {
                break;
            }
        }
        let left = self.probing.most.saturating_sub(self.probes);
        if self.wanted.len() > left {
            // Not enough left for all: some, evenly spread.
            let all: Vec<usize> = self.wanted.iter().copied().collect();
            self.wanted = (0..left).map(|k| all[k * all.len() / left]).collect();
        }
    }

    /// The cheapest measured way to have at least `width` channels.
    fn cheapest(&self, width: usize) -> Point {
        let wider = self.points.range(width..).map(|(_, p)| *p);
        wider.min_by(|a, b| a.latency_s.total_cmp(&b.latency_s)).unwrap_or(self.points[&self.channels])
    }

    fn rises(&self, low: &Point, high: &Point) -> Rises {
        Rises::between(low, high, self.probing.delta)
    }

    /// Points among `all` that may be measured again.
    fn repeatable(&self, all: &[Point]) -> Vec<usize> {
        all.iter().filter(|p| p.asked <= self.probing.repeats).map(|p| p.width).collect()
    }

    fn judge(&mut self, node: Node) -> Outcome {
        let Node { a, b, line, check } = node;
        let (left, right) = (self.points[&a], self.points[&b]);
        let best = self.cheapest(b);
        let rise = self.rises(&left, &best);
        let fall = self.rises(&best, &left);
        // Only neighbours are worth repeating: between others, what is open is bisected until it is a matter of neighbours.
        if b == a + 1 && !line && (rise == Rises::Open || fall == Rises::Open) {
            let again = self.repeatable(&[left, best]);
            if !again.is_empty() {
                return Outcome::Need(again);
            }
        }
        if b <= a + 1 {
            return Outcome::Close(Vec::new());
        }
        if let Some(width) = check {
            return self.check(a, b, width);
        }
        let level = |r: Rises, low: &Point, high: &Point| {
            r == Rises::No || (r == Rises::Open && high.latency_s <= low.latency_s * (1.0 + self.probing.delta))
        };
        let (no_rise, no_fall) = (level(rise, &left, &best), level(fall, &best, &left));
        if no_rise && no_fall {
            return Outcome::Close(self.between(a, b, Shape::Flat));
        }
        if line && !self.too_steep(a, b) && (b - a <= SHORT || (right.latency_s / left.latency_s).ln() <= self.hidden()) {
            return Outcome::Close(vec![Piece { from: a, to: b, shape: Shape::Line }]);
        }
        if b - a == 2 {
            return if self.has(a + 1) { self.split(a, b) } else { Outcome::Need(vec![a + 1]) };
        }
        self.sample(node, no_rise)
    }

    /// Looks inside a rise (or a fall): is it at the left end, is it a line, or is it to be bisected?
    fn sample(&mut self, node: Node, falls: bool) -> Outcome {
        let Node { a, b, line, .. } = node;
        if line {
            return self.refine_line(a, b);
        }
        let period = self.period();
        let middle = round_between(a, b, period);
        let beside = if middle + 1 < b { middle + 1 } else { middle - 1 };
        let aligned = !falls && b - a >= SHORT && a.is_multiple_of(period.unwrap_or(8));
        let taken = aligned && self.confirmed.get(&(b - a)).is_some_and(|&n| n >= CONFIRMED);
        let first = [(aligned, a + 1), (!taken, middle)];
        let need: Vec<usize> = first.iter().filter(|(ask, w)| *ask && !self.has(*w)).map(|(_, w)| *w).collect();
        if !need.is_empty() {
            return Outcome::Need(need);
        }
        let best = self.cheapest(b);
        let inside: Vec<usize> = self.points.range(a + 1..b).map(|(w, _)| *w).collect();
        let cheap: Vec<usize> = inside.iter().copied().filter(|w| self.is_cheaper(*w, &best)).collect();
        if cheap.is_empty() {
            return self.close_step(node, falls, aligned, middle, beside);
        }
        if falls || !cheap.iter().all(|w| self.on_line(a, b, *w)) {
            return self.split(a, b);
        }
        if !self.has(middle) {
            return Outcome::Need(vec![middle]);
        }
        let central = cheap.contains(&middle) || cheap.contains(&beside);
        if !self.has(beside) && (b - a >= NARROWEST || !central) {
            return Outcome::Need(vec![beside]);
        }
        if !central || self.jumps(a, b, a) || self.jumps(a, b, middle) || self.too_steep(a, b) {
            return self.split(a, b);
        }
        // Teeth stand out of the line: it goes through what lies on it.
        let stops: Vec<usize> = std::iter::once(a).chain(cheap).chain([b]).collect();
        Outcome::Split { stops, line: true }
    }

    /// Everything seen between `a` and `b` costs what the right end costs, or more: the rise is at the left end.
    fn close_step(&mut self, node: Node, falls: bool, aligned: bool, middle: usize, beside: usize) -> Outcome {
        let Node { a, b, .. } = node;
        let best = self.cheapest(b);
        if !aligned && !falls && !self.has(a + 1) && self.points[&middle].latency_s <= best.latency_s * (1.0 + self.probing.delta) {
            return self.split(a, b);
        }
        let first = if falls { beside } else { a + 1 };
        if !self.has(first) {
            return Outcome::Need(vec![first]);
        }
        if !falls {
            let sides = [self.points[&a], self.cheapest(a + 1)];
            let again = self.repeatable(&sides);
            if self.rises(&sides[0], &sides[1]) == Rises::Open && !again.is_empty() {
                return Outcome::Need(again);
            }
            if self.has(middle) {
                *self.confirmed.entry(b - a).or_default() += 1;
            }
        }
        Outcome::Close(self.between(a, b, Shape::Step))
    }

    /// One more sample of a line that is steep: of an alignment that its ends have, where there is one.
    fn refine_line(&mut self, a: usize, b: usize) -> Outcome {
        let known = [alignment(a), alignment(b)];
        let inner = (a + 1..b).filter(|&w| known.contains(&alignment(w)));
        let middle = inner.min_by_key(|w| (2 * w).abs_diff(a + b)).unwrap_or_else(|| round_between(a, b, None));
        let beside = if middle + 1 < b { middle + 1 } else { middle - 1 };
        for sample in [middle, beside] {
            if !self.has(sample) {
                return Outcome::Need(vec![sample]);
            }
            if self.on_line(a, b, sample) && !self.too_steep(a, b) {
                return Outcome::Split { stops: vec![a, sample, b], line: true };
            }
            if self.is_cheaper(sample, &self.cheapest(b)) {
                break;
            }
        }
        self.split(a, b)
    }

    fn has(&self, width: usize) -> bool {
        self.points.contains_key(&width)
    }

    /// Whether a measured width is cheaper than `best` by δ, or more likely so than not.
    fn is_cheaper(&self, width: usize, best: &Point) -> bool {
        let p = &self.points[&width];
        match self.rises(p, best) {
            Rises::Yes => true,
            Rises::No => false,
            Rises::Open => best.latency_s > p.latency_s * (1.0 + self.probing.delta),
        }
    }

    /// Into all pairs of neighbouring measured widths.
    fn split(&self, a: usize, b: usize) -> Outcome {
        Outcome::Split { stops: self.points.range(a..=b).map(|(w, _)| *w).collect(), line: false }
    }

    /// Whether a width lies on the line from `a` to `b`: within half of δ and its noise, and more on a steep one, which may be
    /// curved and is cut into shorter ones.
    fn on_line(&self, a: usize, b: usize, width: usize) -> bool {
        let (low, high, p) = (self.points[&a], self.points[&b], self.points[&width]);
        let t = (p.width - a) as f64 / (b - a) as f64;
        let line = low.latency_s + (high.latency_s - low.latency_s) * t;
        let steep = 0.08 * (high.latency_s / low.latency_s).ln().abs();
        (p.latency_s / line).ln().abs() <= steep.clamp(0.5 * self.probing.delta, 1.5 * self.probing.delta) + p.noise()
    }

    /// Whether there is an edge at `at` that a line from `a` to `b` does not account for.
    fn jumps(&self, a: usize, b: usize, at: usize) -> bool {
        let (Some(low), Some(high)) = (self.points.get(&at), self.points.get(&(at + 1))) else { return false };
        let slope = (self.points[&b].latency_s - self.points[&a].latency_s) / (b - a) as f64;
        let beyond = Point { latency_s: low.latency_s + slope, ..*low };
        high.latency_s > beyond.latency_s && self.rises(&beyond, high) != Rises::No
    }

    /// Whether latency grows faster than the channels: no line does, it takes a step.
    fn too_steep(&self, a: usize, b: usize) -> bool {
        let rise = self.points[&b].latency_s / self.points[&a].latency_s;
        rise > b as f64 / a as f64 * (1.0 + self.probing.delta)
    }

    /// Judges a line again by a width of an alignment that it had no sample of.
    fn check(&mut self, a: usize, b: usize, width: usize) -> Outcome {
        let Some(&p) = self.points.get(&width) else { return Outcome::Need(vec![width]) };
        if self.on_line(a, b, width) {
            let ends = [(a, width), (width, b)];
            return Outcome::Close(ends.map(|(from, to)| Piece { from, to, shape: Shape::Line }).to_vec());
        }
        if self.rises(&p, &self.cheapest(b)) == Rises::Yes {
            return self.split(a, b);
        }
        Outcome::Close(vec![Piece { from: a, to: b, shape: Shape::Line }])
    }

    /// Rise between neighbouring samples of a line, `ln`, up to which no further one is taken: what two samples off the line
    /// by the tolerance could hide, and more where the curve is steep for its number of channels.
    fn hidden(&self) -> f64 {
        let all = self.points.values().map(|p| p.latency_s);
        let (least, most) = all.fold((f64::INFINITY, 0.0f64), |(l, m), s| (l.min(s), m.max(s)));
        ((most / least).ln() / (LINE_SHARE * self.channels as f64)).clamp(1.5 * self.probing.delta, HIDDEN)
    }

    /// Measures one width of every alignment that occurs on the lines and was not seen there yet, where it matters most:
    /// at the smallest. True if there is something to do.
    fn try_alignments(&mut self) -> bool {
        let mut lines: Vec<Piece> = self.pieces.iter().filter(|p| p.shape == Shape::Line).copied().collect();
        lines.sort_by_key(|p| p.from);
        let seen: BTreeSet<u32> = lines.iter().flat_map(|p| self.points.range(p.from..=p.to).map(|(w, _)| alignment(*w))).collect();
        let mut least: BTreeMap<u32, (usize, Piece)> = BTreeMap::new();
        for piece in lines.iter().filter(|p| p.to - p.from > SHORT) {
            for w in piece.from + 1..piece.to {
                if !seen.contains(&alignment(w)) && !self.points.contains_key(&w) {
                    least.entry(alignment(w)).or_insert((w, *piece));
                }
            }
        }
        if least.is_empty() {
            return false;
        }
        for (w, piece) in least.into_values() {
            // One at a time: what the line says is judged again with this width inside.
            if self.pieces.contains(&piece) {
                self.wanted.insert(w);
                self.pieces.retain(|p| *p != piece);
                self.nodes.push(Node { a: piece.from, b: piece.to, line: false, check: Some(w) });
            }
        }
        true
    }

    /// The greatest common divisor of the edges found so far, where there are three and it means something.
    fn period(&self) -> Option<usize> {
        let mut edges = Vec::new();
        for (&w, p) in &self.points {
            if let Some(next) = self.points.get(&(w + 1))
                && self.rises(p, next) == Rises::Yes
            {
                edges.push(w);
            }
        }
        let common = edges.iter().fold(0, |g, &e| gcd(g, e));
        (edges.len() >= 3 && common >= 3).then_some(common)
    }

    fn between(&self, a: usize, b: usize, shape: Shape) -> Vec<Piece> {
        let widths: Vec<usize> = self.points.range(a..=b).map(|(w, _)| *w).collect();
        widths.windows(2).filter(|w| w[1] > w[0] + 1).map(|w| Piece { from: w[0], to: w[1], shape }).collect()
    }
}

fn pairs(widths: &[usize], line: bool) -> Vec<Node> {
    widths.windows(2).map(|w| Node { a: w[0], b: w[1], line, check: None }).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The roundest width in the middle half of (a, b): a multiple of the period found, else of the largest power of two (up to 32;
/// three times it rather than not), the nearest to the middle among equals.
fn round_between(a: usize, b: usize, period: Option<usize>) -> usize {
    let gap = b - a;
    let (low, high) = ((a + gap / 4).max(a + 1), (b - gap / 4).min(b - 1));
    let score = |w: usize| {
        let periodic = period.is_some_and(|p| w.is_multiple_of(p));
        let far = (2 * w).abs_diff(a + b);
        (periodic, w.trailing_zeros().min(5), w.is_multiple_of(3), std::cmp::Reverse(far))
    };
    (low..=high.max(low)).max_by_key(|&w| score(w)).unwrap_or(low)
}
