//! Which widths to measure next, and how much hangs on each.

use std::collections::BTreeMap;

use super::known::{KINDS, Known, kind};
use super::tiles::Tiles;
use super::{Probing, Rises};

/// A width to be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Want {
    /// Channels.
    pub width: usize,
    /// What hangs on it: the height (`ln`) of the edges that may be hidden as long as it is not measured, less where they are
    /// foreseen.
    pub weight: f64,
}

/// What the rise between two widths weighs where tiles foretell its edges, and where it was seen to be a line.
const FORETOLD: f64 = 0.2;
const LINE: f64 = 0.1;
/// Likewise where latency falls: what is cheaper than both ends would have to be found in between.
const FALL: f64 = 0.15;
/// What it weighs that no width of a kind was measured within a factor e, and within the whole of a curve.
const UNSEEN: f64 = 0.1;
const NEVER: f64 = 0.25;
/// So many times as wide as a width that costs as much, the widths in between may still cost less.
const PLATEAU: usize = 3;
/// Narrower curves, in channels, have less to hide.
const WIDE: f64 = 64.0;
/// Of δ: less is not worth a measurement.
const LEAST: f64 = 0.1;

/// All widths worth measuring, at most one for every stretch in which edges may hide.
pub(super) fn wants(known: &Known<'_>, tiles: &Tiles, probing: &Probing) -> Vec<Want> {
    let mut all: BTreeMap<usize, f64> = BTreeMap::new();
    let mut add = |width: usize, weight: f64| {
        let most = all.entry(width).or_insert(0.0);
        *most = most.max(weight);
    };
    for run in runs(known) {
        add(run.place(known, tiles), run.weight(known, tiles));
    }
    for (width, weight) in falls(known).into_iter().chain(unseen(known)).chain(undecided(known, probing)) {
        add(width, weight);
    }
    let worth = |w: &Want| w.weight > LEAST * known.delta;
    all.into_iter().map(|(width, weight)| Want { width, weight }).filter(worth).collect()
}

/// Widths between two measured ones of a curve that may be worth keeping.
struct Run {
    from: usize,
    to: usize,
    open: Vec<usize>,
    gap: f64,
}

fn runs(known: &Known<'_>) -> Vec<Run> {
    let mut found: BTreeMap<(usize, usize), Run> = BTreeMap::new();
    for width in (1..=known.channels).filter(|w| !known.points.contains_key(w)) {
        let gap = known.gap(width);
        if gap > 0.0 {
            let (a, b) = known.neighbours(width);
            let (from, to) = (a.map_or(0, |p| p.width), b.map_or(known.channels + 1, |p| p.width));
            let run = found.entry((from, to)).or_insert(Run { from, to, open: Vec::new(), gap: 0.0 });
            run.open.push(width);
            run.gap = run.gap.max(gap);
        }
    }
    found.into_values().collect()
}

impl Run {
    fn weight(&self, known: &Known<'_>, tiles: &Tiles) -> f64 {
        let (Some(a), Some(b)) = (known.points.get(&self.from), known.points.get(&self.to)) else { return self.gap };
        if known.falls_between(self.from, self.to) {
            return self.gap;
        }
        let tile = tiles.at(a, b);
        match tile.channels {
            _ if !tile.is_known() => self.gap,
            1 => LINE * self.gap,
            _ => FORETOLD * self.gap,
        }
    }

    /// The width that says most.
    fn place(&self, known: &Known<'_>, tiles: &Tiles) -> usize {
        let first = self.open[0];
        // Beside a width that is not worth keeping nothing is, up to where wider ones cost more.
        if known.is_dominated(self.from) && !known.falls_between(self.from, self.to) {
            return first;
        }
        let tile = match (known.points.get(&self.from), known.points.get(&self.to)) {
            (Some(a), Some(b)) if tiles.at(a, b).is_known() => tiles.at(a, b).channels,
            _ => 1,
        };
        let step = tile.max(8);
        if self.from.is_multiple_of(step) && self.to - self.from <= step {
            return first;
        }
        let gap = self.to - self.from;
        let middle = self.from + gap / 4..=self.to - gap / 4;
        let score = |w: &usize| {
            let far = (2 * w).abs_diff(self.from + self.to);
            let periodic = tile > 1 && w.is_multiple_of(tile);
            (middle.contains(w), periodic, w.trailing_zeros().min(5), w.is_multiple_of(3), std::cmp::Reverse(far))
        };
        self.open.iter().copied().max_by_key(score).unwrap_or(first)
    }
}

/// Inside falls along one curve.
fn falls(known: &Known<'_>) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    for b in known.points.values() {
        let Some(a) = known.neighbours(b.width).0.filter(|a| b.width > a.width + 1) else { continue };
        let middle = (a.width + b.width).div_ceil(2);
        if Rises::between(b, a, known.delta) == Rises::Yes && !known.points.contains_key(&middle) {
            found.push((middle, FALL * (a.latency_s / b.latency_s).ln()));
        }
    }
    found
}

/// One width of every kind, far (in proportion) from those that were measured: it may lie on a curve of its own.
fn unseen(known: &Known<'_>) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    for of in 0..KINDS - 1 {
        let measured: Vec<usize> = known.points.keys().copied().filter(|w| kind(*w) == of && *w > 4).collect();
        let far = |w: usize| measured.iter().map(|m| (*m as f64 / w as f64).ln().abs()).fold(f64::INFINITY, f64::min);
        // What costs as much as a wider one does so up to where that is passed, unless another kernel begins far beyond it.
        let below = |w: usize| measured.iter().rev().find(|m| **m < w);
        let settled = |w: usize| below(w).is_some_and(|m| m * PLATEAU >= w && known.is_dominated_up_to(*m, w));
        let free = (8..known.channels).filter(|w| kind(*w) == of && !known.points.contains_key(w) && !settled(*w));
        // Multiples of 4 beside which nothing is known say little about those between.
        let beside = free.filter(|w| of > 0 || known.points.contains_key(&(w - 1)) || known.points.contains_key(&(w + 1)));
        if let Some(width) = beside.max_by(|v, w| far(*v).total_cmp(&far(*w)).then(w.cmp(v))) {
            let weight = if measured.is_empty() { NEVER } else { UNSEEN * far(width) };
            found.push((width, weight * (known.channels as f64 / WIDE).min(1.0)));
        }
    }
    found
}

/// Both sides of edges that the noise leaves open.
fn undecided(known: &Known<'_>, probing: &Probing) -> Vec<(usize, f64)> {
    let mut found = Vec::new();
    for p in known.points.values() {
        if known.points.contains_key(&(p.width + 1))
            && let Some(best) = known.best(p.width + 1)
            && Rises::between(p, best, known.delta) == Rises::Open
        {
            let again = [p, best].into_iter().filter(|q| q.asked <= probing.repeats);
            found.extend(again.map(|q| (q.width, 0.5 * known.delta)));
        }
    }
    found
}
