//! A curve that was found, and the widths worth keeping on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Point, Rises};

/// What is known of the widths between two measured ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The ends agree: nothing between them is worth keeping.
    Flat,
    /// The rise is at the left end: the widths between cost what the right end costs, or more.
    Step,
    /// Samples between lie on a line.
    Line,
    /// The probes were spent before it was known. Taken for a line, on which nothing is an edge.
    Unknown,
}

/// The widths strictly between two measured ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Measured width on the left.
    pub from: usize,
    /// Measured width on the right.
    pub to: usize,
    /// What is known.
    pub shape: Shape,
}

/// Why a width is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All channels.
    Top,
    /// The right edge of a step: it and the next width were measured, and every wider one measured takes longer.
    Edge,
    /// On a slope (or where the probes were spent): the largest width that is cheaper by δ than the kept one above it.
    Slope,
}

/// A width worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Channels.
    pub width: usize,
    /// Latency, seconds: measured, or on the line between measured widths.
    pub latency_s: f64,
    /// Interval of the latency, seconds.
    pub ci: (f64, f64),
    /// Why.
    pub kind: Kind,
    /// Interval of the latency of the cheapest wider width measured as a share of this one's; `None` at the top.
    pub rise: Option<(f64, f64)>,
    /// The rise exceeds δ beyond the noise. An edge that is not certain is *undecided*: repeated, and still within the noise.
    pub certain: bool,
}

/// Latency as a function of the number of channels, 1 to `channels`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Staircase {
    /// Channels of the full width.
    pub channels: usize,
    /// Measured widths, ascending.
    pub points: Vec<Point>,
    /// What is known between them.
    pub pieces: Vec<Piece>,
    /// Widths worth keeping, ascending; the last is `channels`.
    pub edges: Vec<Kept>,
    /// Measurements spent, repeats included.
    pub probes: usize,
    /// δ.
    pub delta: f64,
}

impl Staircase {
    /// From what was measured and what is known between; finds the kept widths.
    pub fn new(channels: usize, points: &BTreeMap<usize, Point>, mut pieces: Vec<Piece>, probes: usize, delta: f64) -> Self {
        pieces.retain(|p| p.to > p.from + 1);
        pieces.sort_by_key(|p| p.from);
        let points = points.values().copied().collect();
        let mut all = Self { channels, points, pieces, edges: Vec::new(), probes, delta };
        all.edges = all.keep();
        all
    }

    /// The measured point of a width.
    pub fn point(&self, width: usize) -> Option<&Point> {
        self.points.binary_search_by_key(&width, |p| p.width).ok().map(|k| &self.points[k])
    }

    /// Widths worth keeping, ascending.
    pub fn kept(&self) -> Vec<usize> {
        self.edges.iter().map(|e| e.width).collect()
    }

    /// Latency at a width with its interval, seconds: measured, on the line between measured widths, or that of the right end
    /// of the step. Widths outside 1 to `channels` count as the nearest one inside.
    pub fn at(&self, width: usize) -> (f64, (f64, f64)) {
        let width = width.clamp(1, self.channels);
        if let Some(p) = self.point(width) {
            return (p.latency_s, p.ci);
        }
        let above = self.points.partition_point(|p| p.width < width).min(self.points.len() - 1);
        let Some(piece) = self.piece(width) else { return (self.points[above].latency_s, self.points[above].ci) };
        let (Some(a), Some(b)) = (self.point(piece.from), self.point(piece.to)) else {
            return (self.points[above].latency_s, self.points[above].ci);
        };
        if matches!(piece.shape, Shape::Flat | Shape::Step) || self.is_slow(width) {
            return (b.latency_s, b.ci);
        }
        let t = (width - a.width) as f64 / (b.width - a.width) as f64;
        let mix = |x: f64, y: f64| x + (y - x) * t;
        (mix(a.latency_s, b.latency_s), (mix(a.ci.0, b.ci.0), mix(a.ci.1, b.ci.1)))
    }

    /// Latency at a width, seconds; as [`Staircase::at`].
    pub fn latency_s(&self, width: usize) -> f64 {
        self.at(width).0
    }

    /// The largest width that costs what `width` costs: the right edge of its step, within δ. On a slope, `width` itself.
    pub fn right_edge(&self, width: usize) -> usize {
        let most = self.latency_s(width) * (1.0 + self.delta);
        let wider = self.edges.iter().rev().filter(|e| e.kind != Kind::Slope && e.width > width);
        wider.map(|e| (e.width, e.latency_s)).find(|(_, s)| *s <= most).map_or(width, |(w, _)| w)
    }

    fn piece(&self, width: usize) -> Option<&Piece> {
        let k = self.pieces.partition_point(|p| p.from < width);
        self.pieces[..k].iter().rev().find(|p| p.to > width)
    }

    /// Whether the nearest measured width of the same alignment takes longer than a wider one.
    fn is_slow(&self, width: usize) -> bool {
        let class = alignment(width);
        let same = self.points.iter().filter(|p| alignment(p.width) == class);
        let Some(nearest) = same.min_by_key(|p| p.width.abs_diff(width)) else { return false };
        let wider = self.points.iter().filter(|p| p.width > nearest.width);
        wider.clone().any(|p| Rises::between(p, nearest, self.delta) == Rises::Yes)
    }

    /// From the top down: a width is kept if it is cheaper by δ than the one kept before.
    fn keep(&self) -> Vec<Kept> {
        let mut kept: Vec<Kept> = Vec::new();
        let mut cheapest: Option<Point> = None;
        for width in (1..=self.channels).rev() {
            let (latency_s, ci) = self.at(width);
            let measured = self.point(width);
            let below = kept.last().is_none_or(|k| latency_s * (1.0 + self.delta) < k.latency_s);
            if below {
                let here = Point { width, latency_s, ci, asked: 0 };
                let rise = cheapest.map(|c| here.log_ratio(&c)).map(|(_, lo, hi)| (lo.exp(), hi.exp()));
                let sides = measured.is_some() && self.point(width + 1).is_some();
                let beyond = cheapest.map(|c| Rises::between(&here, &c, self.delta));
                let literal = cheapest.is_some_and(|c| c.latency_s > (1.0 + self.delta) * latency_s);
                let kind = match width == self.channels {
                    true => Kind::Top,
                    false if sides && literal => Kind::Edge,
                    false => Kind::Slope,
                };
                let certain = kind == Kind::Top || (kind == Kind::Edge && beyond == Some(Rises::Yes));
                kept.push(Kept { width, latency_s, ci, kind, rise, certain });
            }
            if let Some(p) = measured.filter(|p| cheapest.is_none_or(|c| p.latency_s <= c.latency_s)) {
                cheapest = Some(*p);
            }
        }
        kept.reverse();
        kept
    }
}

/// The largest power of two, up to 16, that `width` is a multiple of, as its exponent. Kernels for aligned and unaligned widths
/// differ; within one alignment the curve is smooth.
pub(super) fn alignment(width: usize) -> u32 {
    width.trailing_zeros().min(4)
}
