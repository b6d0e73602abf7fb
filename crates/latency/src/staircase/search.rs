//! Adaptive probing.

use std::collections::BTreeMap;

use super::known::Known;
use super::open::{self, Want};
use super::tiles::Tiles;
use super::{Point, Probe, Probing, Staircase};

/// Cells that the curve is divided into at first.
const CELLS: usize = 8;
/// The narrowest cell at first, channels.
const NARROWEST: usize = 16;
/// Of the greatest weight: what weighs less waits for the answers to what weighs more.
const TOGETHER: f64 = 0.3;

/// A curve being probed: ask [`Search::wanted`], measure, [`Search::tell`], until nothing is wanted.
#[derive(Debug, Clone)]
pub struct Search {
    channels: usize,
    probing: Probing,
    points: BTreeMap<usize, Point>,
    wants: Vec<Want>,
    probes: usize,
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
        let mut first: Vec<usize> = (1..).map(|k| k * cell).take_while(|&c| c < channels).collect();
        first.extend([1, channels]);
        first.sort_unstable();
        first.dedup();
        let wants = first.into_iter().map(|width| Want { width, weight: f64::INFINITY }).collect();
        Self { channels, probing, points: BTreeMap::new(), wants, probes: 0 }
    }

    /// Widths worth measuring, ascending, with what hangs on each; none when the curve is known. A limit of probes is not
    /// regarded.
    pub fn wants(&self) -> &[Want] {
        &self.wants
    }

    /// Widths to be measured next, ascending: those on which most hangs, within the limit of probes.
    pub fn wanted(&self) -> Vec<usize> {
        let most = self.wants.iter().map(|w| w.weight).fold(0.0, f64::max);
        let mut next: Vec<Want> = self.wants.iter().copied().filter(|w| w.weight >= TOGETHER * most).collect();
        if self.probes > 0 {
            next.sort_by(|a, b| b.weight.total_cmp(&a.weight));
            next.truncate(self.probing.most.saturating_sub(self.probes));
        }
        let mut widths: Vec<usize> = next.iter().map(|w| w.width).collect();
        widths.sort_unstable();
        widths
    }

    /// Times a width was measured.
    pub fn asked(&self, width: usize) -> usize {
        self.points.get(&width).map_or(0, |p| p.asked)
    }

    /// Takes the answers for `widths`, in order; they need not be all that were wanted.
    pub fn tell(&mut self, widths: &[usize], answers: &[Probe]) {
        for (&width, probe) in widths.iter().zip(answers) {
            self.probes += 1;
            self.points.entry(width).and_modify(|p| p.merge(probe)).or_insert(Point {
                width,
                latency_s: probe.latency_s,
                ci: probe.ci,
                asked: 1,
            });
        }
        if !self.points.contains_key(&self.channels) {
            self.wants.retain(|w| !self.points.contains_key(&w.width));
            return;
        }
        let known = Known::new(self.channels, &self.probing, &self.points);
        self.wants = open::wants(&known, &Tiles::new(&known), &self.probing);
    }

    /// Measurements told so far, repeats included.
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// What is known.
    pub fn finish(self) -> Staircase {
        Staircase::new(self.channels, &self.points, self.probes, &self.probing)
    }
}
