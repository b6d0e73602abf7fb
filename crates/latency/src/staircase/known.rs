//! What the measured widths say about the others.
//!
//! Widths are of *kinds*, by the power of two that they are a multiple of: kernels for aligned and for unaligned widths
//! differ, and one may be slower than the other, a *comb*. Within a kind latency is taken to grow with the width. Two kinds
//! are taken to be alike until a pair of near widths shows that the narrower one takes longer. A single channel that another kernel
//! computes ([`Probing::lone`]) is on no curve.

use std::collections::BTreeMap;

use super::tiles::Tiles;
use super::{Point, Probing, Rises};

/// Number of kinds.
pub(super) const KINDS: usize = 4;
/// Widths that are compared with each other lie at most so far apart, channels, and a share of the width more.
const NEAR: usize = 16;
const NEAR_SHARE: usize = 8;

/// By how much (`ln`) a width may undercut all measured ones, where no narrower one on its curve was measured.
const BELOW: f64 = 0.15;

/// 0 for widths that are no multiple of 4, else 1, 2, 3 for multiples of 4, 8, 16 and not of the next.
pub(super) fn kind(width: usize) -> usize {
    (width.trailing_zeros() as usize).saturating_sub(1).min(KINDS - 1)
}

/// The measured widths of a curve and what follows from them.
pub(super) struct Known<'a> {
    pub channels: usize,
    pub delta: f64,
    lone: bool,
    /// Measured widths beyond which a faster kernel begins, ascending.
    falls: Vec<usize>,
    pub points: &'a BTreeMap<usize, Point>,
    /// For each width (from 0), `ln` of the least latency measured at it or a wider one.
    cheapest: Vec<f64>,
    /// For each width (from 0), `ln` of what it takes at least.
    least: Vec<f64>,
    /// Whether widths of the first kind were seen to take longer than near wider ones of the second.
    slower: [[bool; KINDS]; KINDS],
}

impl<'a> Known<'a> {
    /// `points` is not empty, and its last is `channels`.
    pub fn new(channels: usize, probing: &Probing, points: &'a BTreeMap<usize, Point>) -> Self {
        let mut known = Self {
            channels,
            delta: probing.delta,
            lone: probing.lone,
            falls: Vec::new(),
            points,
            cheapest: vec![f64::INFINITY; channels + 2],
            least: vec![f64::NEG_INFINITY; channels + 2],
            slower: [[false; KINDS]; KINDS],
        };
        for width in (0..=channels).rev() {
            let here = points.get(&width).map_or(f64::INFINITY, |p| p.latency_s.ln());
            known.cheapest[width] = known.cheapest[width + 1].min(here);
        }
        known.compare();
        known.falls = points.values().filter(|p| known.on_a_curve(p) && known.falls_behind(p)).map(|p| p.width).collect();
        let mut last = [f64::NEG_INFINITY; KINDS];
        for width in 1..=channels {
            let own = kind(width);
            let bound = (0..KINDS).filter(|&k| known.precedes(k, own)).map(|k| last[k]).fold(f64::NEG_INFINITY, f64::max);
            known.least[width] = bound;
            if let Some(p) = points.get(&width).filter(|p| known.on_a_curve(p)) {
                last[own] = p.latency_s.ln();
            }
            if known.falls.contains(&width) {
                last = known.beyond_fall(width);
            }
        }
        known
    }

    fn compare(&mut self) {
        let all: Vec<&Point> = self.points.values().filter(|p| self.on_a_curve(p)).collect();
        for (k, narrow) in all.iter().enumerate() {
            let reach = narrow.width + NEAR + narrow.width / NEAR_SHARE;
            for wide in all[k + 1..].iter().take_while(|p| p.width <= reach) {
                let (a, b) = (kind(narrow.width), kind(wide.width));
                self.slower[a][b] |= a != b && Rises::between(wide, narrow, self.delta / 2.0) == Rises::Yes;
            }
        }
    }

    /// Of each kind, what the widest one that may lie on the faster kernel's curve takes (`ln`), up to a width beyond which it begins.
    fn beyond_fall(&self, width: usize) -> [f64; KINDS] {
        let mut last = [f64::NEG_INFINITY; KINDS];
        for p in self.points.range(..=width).map(|(_, p)| p).filter(|p| self.on_a_curve(p)) {
            if p.latency_s.ln() <= self.cheapest[width + 1] {
                last[kind(p.width)] = p.latency_s.ln();
            }
        }
        last
    }

    /// Whether a faster kernel begins between two measured widths.
    pub fn falls_between(&self, a: usize, b: usize) -> bool {
        self.falls.iter().any(|f| (a..b).contains(f))
    }

    /// Whether a measured width takes longer than a wider one of its kind: somewhere in between a faster kernel begins.
    fn falls_behind(&self, p: &Point) -> bool {
        let wider = self.points.range(p.width + 1..).map(|(_, q)| q);
        wider.filter(|q| kind(q.width) == kind(p.width)).any(|q| Rises::between(q, p, self.delta) == Rises::Yes)
    }

    fn on_a_curve(&self, p: &Point) -> bool {
        !self.lone || p.width > 1
    }

    /// Whether a width of kind `a` bounds wider ones of kind `b` from below. Not where it was seen to take longer than a wider
    /// one of that kind, or of another on the same side: what is true of multiples of 16 may be of those of 8.
    fn precedes(&self, a: usize, b: usize) -> bool {
        let seen = if a < b { (a + 1..KINDS).any(|k| self.slower[a][k]) } else { (b + 1..KINDS).any(|k| self.slower[k][b]) };
        a == b || !seen
    }

    /// Whether widths of the two kinds lie on one curve.
    pub fn alike(&self, a: usize, b: usize) -> bool {
        self.precedes(a, b) && self.precedes(b, a)
    }

    /// By how much (`ln`) the cheapest measured way to have at least `width` channels exceeds what `width` takes at least, beyond
    /// δ: where this is not positive the width is not worth keeping.
    pub fn gap(&self, width: usize) -> f64 {
        let least = self.least[width].max(self.cheapest[0] - BELOW);
        self.cheapest[width] - least - self.delta.ln_1p()
    }

    /// Whether a measured width is not worth keeping, for a wider one measured costs as much.
    pub fn is_dominated(&self, width: usize) -> bool {
        self.is_dominated_up_to(width, width + 1)
    }

    /// Whether a measured width costs as much as one measured at `wide` or more.
    pub fn is_dominated_up_to(&self, width: usize, wide: usize) -> bool {
        self.points.get(&width).is_some_and(|p| p.latency_s.ln() + self.delta.ln_1p() >= self.cheapest[wide])
    }

    /// The nearest measured widths on either side on the same curve.
    pub fn neighbours(&self, width: usize) -> (Option<&Point>, Option<&Point>) {
        let own = kind(width);
        let on_curve = |p: &&Point| self.on_a_curve(p) && self.alike(own, kind(p.width));
        let below = self.points.range(..width).rev().map(|(_, p)| p).find(on_curve);
        (below, self.points.range(width + 1..).map(|(_, p)| p).find(on_curve))
    }

    /// What a width is taken to cost, seconds: measured; else what the cheapest wider one does, where it costs that or more; else
    /// on the line, or in the steps, between its neighbours on the same curve.
    pub fn latency_s(&self, width: usize, tiles: &Tiles) -> f64 {
        if let Some(p) = self.points.get(&width) {
            return p.latency_s;
        }
        let wider = self.cheapest[width].exp();
        if self.gap(width) <= 0.0 {
            return wider.max(self.least[width].exp());
        }
        match self.neighbours(width) {
            (Some(a), Some(b)) => tiles.at(a, b).between(a, b, width),
            (Some(a), None) => self.beyond(a, width).min(wider),
            _ => wider,
        }
    }

    /// Beyond the widest one measured on its curve: as latency grew up to there, in proportion to the width at most.
    fn beyond(&self, last: &Point, width: usize) -> f64 {
        let slope = match self.neighbours(last.width).0 {
            Some(a) => (last.latency_s - a.latency_s) / (last.width - a.width) as f64,
            None => last.latency_s / last.width as f64,
        };
        last.latency_s + slope.clamp(0.0, last.latency_s / last.width as f64) * (width - last.width) as f64
    }

    /// The cheapest measured point of at least `width` channels.
    pub fn best(&self, width: usize) -> Option<&Point> {
        self.points.range(width..).map(|(_, p)| p).min_by(|a, b| a.latency_s.total_cmp(&b.latency_s))
    }
}
