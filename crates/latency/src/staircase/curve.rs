//! A curve that was found, and the widths worth keeping on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::tiles::Tiles;
use super::{Point, Probing, Rises};

/// Why a width is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All channels.
    Top,
    /// The right edge of a step: it and the next width were measured, and every wider one measured takes longer.
    Edge,
    /// On a slope or by steps that were foretold: cheaper by δ than the kept one above it, as far as is known.
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
    /// Latency at every width from 1, seconds: measured, or told from the measured ones.
    pub latency_s: Vec<f64>,
    /// Widths not measured that may be worth keeping: those on slopes, and those that the probes did not reach.
    pub open: usize,
    /// Widths worth keeping, ascending; the last is `channels`.
    pub edges: Vec<Kept>,
    /// Measurements spent, repeats included.
    pub probes: usize,
    /// δ.
    pub delta: f64,
}

impl Staircase {
    /// From what was measured, the full width among it; finds the kept widths.
    pub fn new(channels: usize, points: &BTreeMap<usize, Point>, probes: usize, probing: &Probing) -> Self {
        let known = Known::new(channels, probing, points);
        let tiles = Tiles::new(&known);
        let latency_s = (1..=channels).map(|w| known.latency_s(w, &tiles)).collect();
        let open = (1..=channels).filter(|w| !points.contains_key(w) && known.gap(*w) > 0.0).count();
        let points = points.values().copied().collect();
        let mut all = Self { channels, points, latency_s, open, edges: Vec::new(), probes, delta: probing.delta };
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

    /// Latency at a width with its interval, seconds: measured, or told from the measured ones, as uncertain as the less certain of
    /// those on either side. Widths outside 1 to `channels` count as the nearest one inside.
    pub fn at(&self, width: usize) -> (f64, (f64, f64)) {
        let width = width.clamp(1, self.channels);
        let above = self.points.partition_point(|p| p.width < width);
        let beside = match self.point(width) {
            Some(p) => return (p.latency_s, p.ci),
            None => self.points[above.saturating_sub(1)..].iter().take(2),
        };
        let noise = beside.map(Point::noise).fold(0.0, f64::max);
        let s = self.latency_s[width - 1];
        (s, (s * (1.0 - noise), s * (1.0 + noise)))
    }

    /// Latency at a width, seconds; as [`Staircase::at`].
    pub fn latency_s(&self, width: usize) -> f64 {
        self.latency_s[width.clamp(1, self.channels) - 1]
    }

    /// The largest width that costs what `width` costs: the right edge of its step, within δ. On a slope, `width` itself.
    pub fn right_edge(&self, width: usize) -> usize {
        let most = self.latency_s(width) * (1.0 + self.delta);
        let wider = self.edges.iter().rev().filter(|e| e.kind != Kind::Slope && e.width > width);
        wider.map(|e| (e.width, e.latency_s)).find(|(_, s)| *s <= most).map_or(width, |(w, _)| w)
    }

    /// From the top down: a width is kept if it is cheaper by δ than every wider one, measured or told; or, measured, than every
    /// wider one measured; or else, on a slope, than the one kept before, and then a round one a little below rather than it.
    fn keep(&self) -> Vec<Kept> {
        let mut kept: Vec<Kept> = Vec::new();
        let mut cheapest: Option<Point> = None;
        let mut wider_s = f64::INFINITY;
        let mut round: Option<usize> = None;
        for width in (1..=self.channels).rev() {
            let (latency_s, ci) = self.at(width);
            let measured = self.point(width);
            let literal = cheapest.is_none_or(|c| c.latency_s > (1.0 + self.delta) * latency_s);
            let below = kept.last().is_none_or(|k| latency_s * (1.0 + self.delta) < k.latency_s);
            let edge = latency_s * (1.0 + self.delta) < wider_s;
            wider_s = wider_s.min(latency_s);
            if below && !edge {
                round = round.or_else(|| Some(self.round_below(width)));
            }
            // A measured width gives way to measured ones only, not to what is told of others.
            if edge || round == Some(width) || (measured.is_some() && literal) {
                round = round.filter(|r| *r < width);
                let here = Point { width, latency_s, ci, asked: 0 };
                let rise = cheapest.map(|c| here.log_ratio(&c)).map(|(_, lo, hi)| (lo.exp(), hi.exp()));
                let sides = measured.is_some() && self.point(width + 1).is_some();
                let beyond = cheapest.map(|c| Rises::between(&here, &c, self.delta));
                let kind = match width == self.channels {
                    true => Kind::Top,
                    false if sides && literal && edge => Kind::Edge,
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

    /// The roundest width down to half of δ below `width`, of those that take no longer: slow teeth of a comb are round, too.
    fn round_below(&self, width: usize) -> usize {
        let most = self.latency_s(width);
        let least = most / (1.0 + 0.5 * self.delta);
        let near = (1..=width).rev().take_while(|w| self.latency_s(*w) >= least && (*w == width || self.point(*w).is_none()));
        near.filter(|w| self.latency_s(*w) <= most).max_by_key(|w| (w.trailing_zeros(), *w)).unwrap_or(width)
    }
}
