//! From the curves of layers to the staircase of a group.

use graph::Group;
use latency::staircase::{Kept, Kind};

use super::{Curve, GroupStaircase};

impl GroupStaircase {
    /// The sum of the `parts` of `curves`.
    pub(super) fn sum(group: &Group, parts: &[usize], curves: &[Curve], delta: f64) -> Self {
        let at = |count: usize| {
            parts
                .iter()
                .map(|&p| curves[p].staircase.at(count))
                .fold((0.0, (0.0, 0.0)), |(s, ci), (t, (lo, hi))| (s + t, (ci.0 + lo, ci.1 + hi)))
        };
        let all: Vec<(f64, (f64, f64))> = (1..=group.size).map(at).collect();
        let edge_of_a_part = |count: usize| {
            parts.iter().any(|&p| curves[p].staircase.edges.iter().any(|e| e.width == count && e.kind == Kind::Edge && e.certain))
        };
        let mut edges: Vec<Kept> = Vec::new();
        let mut cheapest: Option<usize> = None;
        for count in (1..=group.size).rev() {
            let (latency_s, ci) = all[count - 1];
            if edges.last().is_none_or(|k| latency_s * (1.0 + delta) < k.latency_s) {
                let wider = cheapest.map(|c| all[c - 1]);
                let rise = wider.map(|(_, w)| (w.0 / ci.1, w.1 / ci.0));
                let literal = wider.is_some_and(|(w, _)| w > (1.0 + delta) * latency_s);
                let kind = match count == group.size {
                    true => Kind::Top,
                    false if literal && edge_of_a_part(count) => Kind::Edge,
                    false => Kind::Slope,
                };
                let certain = kind == Kind::Top || (kind == Kind::Edge && rise.is_some_and(|r| r.0 > 1.0 + delta));
                edges.push(Kept { width: count, latency_s, ci, kind, rise, certain });
            }
            if cheapest.is_none_or(|c| latency_s <= all[c - 1].0) {
                cheapest = Some(count);
            }
        }
        edges.reverse();
        Self {
            group: group.id,
            name: group.name.clone(),
            size: group.size,
            curves: parts.to_vec(),
            latency_s: all.iter().map(|(s, _)| *s).collect(),
            kept: edges.iter().map(|e| e.width).collect(),
            edges,
        }
    }

    /// The largest count that costs what `count` does, within `delta`: an edge, or `count` itself. Counts outside 1 to `size`
    /// are returned as they are.
    pub fn right_edge(&self, count: usize, delta: f64) -> usize {
        let Some(&here) = count.checked_sub(1).and_then(|k| self.latency_s.get(k)) else { return count };
        let wider = self.edges.iter().rev().filter(|e| e.kind != Kind::Slope && e.width > count);
        wider.map(|e| (e.width, e.latency_s)).find(|(_, s)| *s <= here * (1.0 + delta)).map_or(count, |(w, _)| w)
    }
}
