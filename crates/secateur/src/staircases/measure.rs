//! Measuring all curves of a network together, so that a batch interleaves probes of several.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use latency::staircase::{Probe, Probing, Search, Want};
use latency::{Measurement, ModelBytes, Protocol, Tiling, ToSentinel, fit_tiles};
use serde::{Deserialize, Serialize};

use super::lines::{Line, lines};
use super::{Curve, GroupStaircase, Side, Staircases};
use crate::analysis::Analysis;
use crate::bench::Bench;
use crate::error::{Error, Result};
use crate::events::{Event, Observer};

/// How the staircases of a network are found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StaircaseOptions {
    /// Relative difference that counts; from the noise of the first probes where not given, at least [`LEAST_DELTA`].
    pub delta: Option<f64>,
    /// Probes at most, as a share of an exhaustive sweep of all curves. They go to the curves, and the widths, on which most hangs.
    pub share: f64,
}

impl Default for StaircaseOptions {
    /// δ from the noise; a fifth of a sweep at most.
    fn default() -> Self {
        Self { delta: None, share: 0.2 }
    }
}

/// The smallest δ that is chosen from the noise.
pub const LEAST_DELTA: f64 = 0.025;
/// The largest: beyond it steps would be overlooked rather than measured.
const MOST_DELTA: f64 = 0.06;

/// A layer at a width, to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Width {
    /// Index of the layer.
    pub layer: usize,
    /// Input coordinates.
    pub input: usize,
    /// Output coordinates.
    pub output: usize,
    /// Times this curve has asked for it already; the more, the more precisely it is to be measured.
    pub asked: usize,
}

/// Measures layers at widths, in order; with the number of those found in a table.
pub type MeasureWidths<'a> = &'a mut dyn FnMut(&[Width]) -> Result<(Vec<Timed>, usize)>;

/// What measuring a layer at a width gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    /// Estimate and interval, seconds.
    pub own: Probe,
    /// Against the sentinel of the same rounds.
    pub to_sentinel: Option<ToSentinel>,
}

impl From<&Measurement> for Timed {
    fn from(m: &Measurement) -> Self {
        Self { own: Probe { latency_s: m.median_s, ci: m.ci }, to_sentinel: m.to_sentinel }
    }
}

impl Timed {
    /// As if the sentinel had taken `sentinel_s` seconds, so that batches compare; as it is where there was no sentinel.
    pub fn probe(&self, sentinel_s: f64) -> Probe {
        let relative = |r: ToSentinel| Probe { latency_s: r.ratio * sentinel_s, ci: (r.ci.0 * sentinel_s, r.ci.1 * sentinel_s) };
        self.to_sentinel.map_or(self.own, relative)
    }
}

impl Staircases {
    /// Finds the staircases of `analysis`. `measure` gets layers at widths, each once, and gives their measurements in order,
    /// with the number of them that were found in a table.
    ///
    /// # Errors
    /// Those of `measure`; a single-layer model cannot be made.
    pub fn find(analysis: &Analysis, options: &StaircaseOptions, measure: MeasureWidths<'_>) -> Result<Self> {
        let (lines, groups) = lines(analysis)?;
        let mut found = Self { delta: options.delta.unwrap_or(LEAST_DELTA), ..Self::default() };
        let every = |l: &Line| (1..=l.size).map(|c| (l.model, l.widths(analysis, c))).collect::<Vec<_>>();
        found.exhaustive = lines.iter().flat_map(every).collect::<HashSet<_>>().len();
        let allowed = (options.share * found.exhaustive as f64).min(usize::MAX as f64) as usize;
        let probing = |delta, l: &Line| Probing { delta, lone: l.side == Side::Both && l.grouped(analysis), ..Probing::default() };
        let start = |delta| lines.iter().map(|l| Search::new(l.size, probing(delta, l))).collect::<Vec<_>>();
        let mut searches = start(found.delta);
        let mut first = true;
        let mut seen: HashSet<Width> = HashSet::new();
        loop {
            // The first widths are measured in any case.
            let left = if first { usize::MAX } else { allowed.saturating_sub(found.probes) };
            let wanted = heaviest(&searches, left);
            let requests: Vec<Vec<Width>> = lines.iter().zip(&searches).zip(&wanted).map(|((l, s), w)| ask(analysis, l, s, w)).collect();
            let distinct: Vec<Width> = requests.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
            if distinct.is_empty() {
                break;
            }
            let (measured, cached) = measure(&distinct)?;
            // What another curve asked for before is no probe.
            let again = distinct.iter().filter(|w| !seen.insert(**w)).count();
            found.probes += distinct.len() - again;
            found.cached += cached.saturating_sub(again);
            if first {
                found.sentinel_s = median(measured.iter().map(|m| m.to_sentinel.map_or(f64::NAN, |s| s.sentinel_s)));
            }
            let by_width: HashMap<Width, Probe> = distinct.iter().zip(&measured).map(|(w, m)| (*w, m.probe(found.sentinel_s))).collect();
            if first {
                let half = |p: &Probe| (p.ci.1 - p.ci.0) / 2.0 / p.latency_s;
                found.noise = median(by_width.values().map(half));
                // Two medians are compared: their difference is √2 as uncertain, and must be told from 0 and from 2δ.
                found.delta = options.delta.unwrap_or((2.0 * found.noise).clamp(LEAST_DELTA, MOST_DELTA));
                searches = start(found.delta);
                first = false;
            }
            for ((search, widths), asked) in searches.iter_mut().zip(&wanted).zip(&requests) {
                if !widths.is_empty() {
                    let answers: Vec<Probe> = asked.iter().map(|w| by_width[w]).collect();
                    search.tell(widths, &answers);
                }
            }
        }
        for (line, search) in lines.iter().zip(searches) {
            found.curves.push(curve(analysis, line, search));
        }
        found.groups =
            groups.iter().map(|(g, parts)| GroupStaircase::sum(analysis.groups.group(*g), parts, &found.curves, found.delta)).collect();
        Ok(found)
    }
}

/// For each curve the widths on which most hangs in the whole network, `left` at most, some at a time: their answers may make
/// the others superfluous.
fn heaviest(searches: &[Search], left: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<(usize, Want)> = searches.iter().enumerate().flat_map(|(k, s)| s.wants().iter().map(move |w| (k, *w))).collect();
    all.sort_by(|(_, a), (_, b)| b.weight.total_cmp(&a.weight));
    let at_a_time = all.iter().take_while(|(_, w)| w.weight.is_infinite()).count().max(AT_A_TIME.max(searches.len() / 2));
    let mut wanted = vec![Vec::new(); searches.len()];
    for (k, want) in all.into_iter().take(at_a_time.min(left)) {
        wanted[k].push(want.width);
    }
    for widths in &mut wanted {
        widths.sort_unstable();
    }
    wanted
}

/// Widths measured at least before it is judged anew what others are worth.
const AT_A_TIME: usize = 16;

/// Layers measured between two looks at whether the user wants to stop.
const AT_ONCE: usize = 64;

impl Staircases {
    /// Finds the staircases of `analysis` on the target of `bench`. Every measurement is in its table as soon as it is made.
    ///
    /// # Errors
    /// The runtime refuses a layer; the device is busy; [`Error::Interrupted`] names `out`.
    pub fn on_bench(
        analysis: &Analysis,
        options: &StaircaseOptions,
        bench: &mut Bench,
        observer: &mut dyn Observer,
        out: &Path,
    ) -> Result<Self> {
        let mut before = 0;
        Self::find(analysis, options, &mut |widths| {
            let (mut measured, mut cached) = (vec![None; widths.len()], 0);
            let most = widths.iter().map(|w| w.asked).max().unwrap_or(0);
            for asked in 0..=most {
                let own: Vec<usize> = (0..widths.len()).filter(|&k| widths[k].asked == asked).collect();
                for part in own.chunks(AT_ONCE) {
                    if observer.stop() {
                        return Err(Error::Interrupted { out: out.to_owned() });
                    }
                    let models = part.iter().map(|&k| single_layer(analysis, &widths[k])).collect::<Result<Vec<_>>>()?;
                    let (found, probes) = bench.layers(&models, &Protocol::staircase(asked), &mut |done, _| {
                        let note = "probes of this round, of staircases".into();
                        observer.event(Event::Progress { done: before + done, total: before + widths.len(), note });
                    })?;
                    cached += probes.cached;
                    for (&k, m) in part.iter().zip(found) {
                        measured[k] = Some(Timed::from(&m));
                    }
                    before += probes.measured;
                }
            }
            Ok((measured.into_iter().flatten().collect(), cached))
        })
    }
}

/// The layer alone at the width, as a model.
///
/// # Errors
/// The width does not fit the layer.
pub fn single_layer(analysis: &Analysis, width: &Width) -> Result<ModelBytes> {
    let Analysis { model, graph, facts, .. } = analysis;
    let node = analysis.layers[width.layer].node;
    let bytes = graph::layer_model(model, graph, facts, node, width.input, width.output, true)?.to_bytes()?;
    let name = format!("{} {}→{}", graph.node(node).name, width.input, width.output);
    let inputs = latency::read_inputs(&name, &bytes, 1)?;
    Ok(ModelBytes::new(name, bytes, inputs))
}

fn ask(analysis: &Analysis, line: &Line, search: &Search, wanted: &[usize]) -> Vec<Width> {
    let width = |&count: &usize| {
        let (input, output) = line.widths(analysis, count);
        Width { layer: line.model, input, output, asked: search.asked(count) }
    };
    wanted.iter().map(width).collect()
}

fn curve(analysis: &Analysis, line: &Line, search: Search) -> Curve {
    let staircase = search.finish();
    Curve {
        layer: analysis.graph.node(analysis.layers[line.layer].node).name.clone(),
        shared: line.shared,
        side: line.side,
        widths: [line.widths(analysis, 1), line.widths(analysis, line.size)],
        rows: (line.side == Side::Output && !line.grouped(analysis)).then(|| line.rows(analysis)),
        fit: fit_tiles(&staircase, Tiling::Kernel),
        staircase,
    }
}

/// Of the numbers among `values`; 1 where there is none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let known: Vec<f64> = values.filter(|v| v.is_finite()).collect();
    if known.is_empty() { 1.0 } else { latency::statistics::median(&known) }
}
