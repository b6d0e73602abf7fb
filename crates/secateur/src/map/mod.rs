//! Automatic mapping of a pruning scheme to every layer (after Gong et al., arXiv 2111.11581): which weights of it are removed
//! together, and how many of them.
//!
//! The latency of every layer under every scheme it could have is timed on the target; rules, an exact knapsack, or a search
//! over scored candidates choose. The result is a file for people and for `prune --mapping`; no training here outlives the scoring
//! of a candidate.

mod mapper;
mod rules;
mod scorer;
mod search;
mod solve;
mod space;
mod table;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;

use graph::scheme::Scheme;
use serde::{Deserialize, Serialize};

pub use space::Schemes;

use crate::analysis::Analysis;
use crate::bench::{Probes, Relative};
use crate::error::{Error, Result, stoppable};
use crate::evaluator::Score;
use crate::events::Observer;
use crate::run::Run;
use crate::schemes::Mapping;
use crate::session::Session;
use crate::settings::{Settings, named};
use mapper::Mapper;
use rules::{Reasons, rules};
use solve::solve;

/// Version of the report's form.
pub const MAP_VERSION: u32 = 1;

/// Two genes per layer that may have a scheme: regularity and rate.
type Genes = Vec<usize>;

/// How schemes are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapBy {
    /// Regularity and block by rules, rates by an exact knapsack.
    #[default]
    Rules,
    /// Regularity, block and rate together by an exact knapsack.
    Knapsack,
    /// A recurrent policy that learns from scored candidates.
    Search,
    /// Evolution over the same genes: the control of the policy.
    Evolution,
    /// Chance over the same genes: the control of both.
    Random,
}

named!(MapBy, "way to map schemes", Rules = "rules", Knapsack = "knapsack", Search = "search", Evolution = "evolution", Random = "random");

/// What a mapping is chosen by, besides the settings of every run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MapSettings {
    /// Who chooses.
    pub by: MapBy,
    /// Limits the weights of all layers to this share, 1/compression, in place of the latency.
    pub compression: Option<f64>,
    /// Candidates that a search scores.
    pub evaluations: usize,
    /// The data set is a hard one, on which 3×3 kernels get patterns. Where not given: it has more than [`EASY_CLASSES`] classes.
    pub hard: Option<bool>,
    /// β: how much longer a smaller block may take than one block over all filters.
    pub beta: f64,
    /// Steps of training with the masks held before a candidate is scored.
    pub tune_steps: usize,
    /// A search starts from what the rules and the knapsack found.
    pub seeded: bool,
}

/// Classes up to which a data set counts as easy.
pub const EASY_CLASSES: usize = 100;

impl Default for MapSettings {
    fn default() -> Self {
        Self { by: MapBy::Rules, compression: None, evaluations: 100, hard: None, beta: 0.15, tune_steps: 0, seeded: true }
    }
}

impl MapSettings {
    /// Checks what can be checked before anything is opened.
    ///
    /// # Errors
    /// A setting outside its range, by flag; a search without data.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        if let Some(c) = self.compression
            && !(c > 1.0 && c.is_finite())
        {
            return Err(Error::Setting(format!(
                "--compression is {c}; it is all weights over those that stay, more than 1: 4 removes three quarters"
            )));
        }
        if !(0.0..=10.0).contains(&self.beta) {
            return Err(Error::Setting(format!("--beta is {}; it must lie between 0 and 10", self.beta)));
        }
        let searches = matches!(self.by, MapBy::Search | MapBy::Evolution | MapBy::Random);
        if searches && settings.data.is_none() {
            return Err(Error::Setting(format!("--by {} scores candidates and needs data: give `--data`, or `--by rules`", self.by)));
        }
        if settings.data.is_some() && settings.score_images == 0 {
            return Err(Error::Setting(format!("--by {} judges layers on held-out images: give --score-images above 0", self.by)));
        }
        if searches && !(1..=1_000_000).contains(&self.evaluations) {
            return Err(Error::Setting(format!("--evaluations is {}; it must lie between 1 and 1000000", self.evaluations)));
        }
        Ok(())
    }
}

/// One layer of a mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MappedLayer {
    /// Its name.
    pub name: String,
    /// Its scheme.
    pub scheme: Scheme,
    /// Its dense latency in the network, predicted, seconds.
    pub dense_s: f64,
    /// Its latency under the scheme, predicted, seconds.
    pub predicted_s: f64,
    /// Share of its squared weights that stays.
    pub energy: f64,
    /// Why it has this scheme.
    pub why: String,
}

/// A mapping and how it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapReport {
    /// Form of this report.
    pub version: u32,
    /// What was asked.
    pub settings: Settings,
    /// What was asked of the mapping.
    pub map: MapSettings,
    /// 3×3 kernels were to have patterns.
    pub hard: bool,
    /// Runtime with version and options.
    pub runtime: String,
    /// Machine.
    pub machine: String,
    /// The dense network's latency, seconds.
    pub dense_s: f64,
    /// The budget, seconds; none where weights were limited.
    pub budget_s: Option<f64>,
    /// Predicted latency under the mapping, seconds.
    pub predicted_s: f64,
    /// Measured against the dense network.
    pub latency: Relative,
    /// All weights of the layers over those that stay.
    pub compression: f64,
    /// Score of the dense network on held-out images, with data.
    pub dense_score: Option<Score>,
    /// Score of the projected network on them, BatchNorm re-estimated, not trained.
    pub score: Option<Score>,
    /// Candidates scored in all.
    pub scored: usize,
    /// Relative error of the calibrated table on networks left out of its fit.
    pub relative_error: f64,
    /// Measurements made and found.
    pub probes: Probes,
    /// Seconds it took to choose, the table left out.
    pub search_s: f64,
    /// The layers, in the network's order.
    pub layers: Vec<MappedLayer>,
}

impl MapReport {
    /// The schemes of the layers that are pruned, by name.
    pub fn mapping(&self) -> Mapping {
        let pruned = self.layers.iter().filter(|l| !l.scheme.is_dense());
        Mapping { default: None, layers: pruned.map(|l| (l.name.clone(), l.scheme)).collect() }
    }
}

/// Maps a scheme to every layer of the network of `settings`. What was measured and scored is kept in `work`: the same call goes
/// on from there.
///
/// # Errors
/// Settings that do not fit; a network none of whose layers can have a scheme; a budget that no mapping reaches; whatever
/// reading, measuring or scoring refuses.
pub fn map(settings: Settings, how: MapSettings, work: &Path, observer: &mut dyn Observer) -> Result<MapReport> {
    settings.check()?;
    how.check(&settings)?;
    let run = open(&settings, &how, work)?;
    stoppable(work, observer, |observer| execute(settings, how, run, observer))
}

fn execute(settings: Settings, how: MapSettings, run: Run, observer: &mut dyn Observer) -> Result<MapReport> {
    let mut session = Session::open(settings, run, observer)?;
    let hard = how.hard.unwrap_or_else(|| classes(&session.dense) > EASY_CLASSES);
    let mut mapper = Mapper::open(&mut session, how.compression, how.tune_steps)?;
    let started = std::time::Instant::now();
    let found = rules(&mapper.space, &mapper.seconds, hard, how.beta);
    mapper.session.stage("what the layers are worth")?;
    mapper.weigh_layers(&|k, rate| found[k].at_rate[rate].unwrap_or(0))?;

    let by_rules =
        |m: &Mapper, budget: f64| solve(&m.space, &m.worth, &m.costs, budget, &|k, regularity, rate| found[k].allows(regularity, rate));
    let by_knapsack = |m: &Mapper, budget: f64| solve(&m.space, &m.worth, &m.costs, budget, &|_, _, _| true);
    mapper.session.stage(&format!("mapping by {}", how.by))?;
    let genes = match how.by {
        MapBy::Rules => mapper.meet(&by_rules)?,
        MapBy::Knapsack => mapper.meet(&by_knapsack)?,
        by => {
            // A solver's answer at the budget shows what the table is wrong by there.
            let met = mapper.meet(&by_knapsack)?;
            let limit = mapper.limit();
            let mut seeds: Vec<Genes> = if how.seeded { vec![met] } else { Vec::new() };
            if how.seeded {
                seeds.extend([by_rules(&mapper, limit), by_knapsack(&mapper, limit)].into_iter().filter_map(Result::ok));
            }
            let best = search::search(&mut mapper, by, how.evaluations, &seeds)?;
            mapper.land(&best)?
        }
    };
    if mapper.session.learning.is_some() {
        mapper.score(&[genes.clone(), mapper.space.all_dense()])?;
    }
    let search_s = started.elapsed().as_secs_f64();
    let latency = mapper.latency(&genes)?;
    let layers = mapped_layers(&mapper, &found, &genes, &how);
    let table = &mapper.table;
    Ok(MapReport {
        version: MAP_VERSION,
        settings: mapper.session.settings.clone(),
        hard,
        runtime: mapper.session.bench.runtime().identity().to_string(),
        machine: latency::Machine::detect().to_string(),
        dense_s: mapper.session.dense_s,
        budget_s: how.compression.is_none().then_some(mapper.session.budget_s),
        predicted_s: mapper.predicted_s(&genes),
        latency,
        compression: mapper.space.compression(&genes),
        dense_score: mapper.score_of(&mapper.space.all_dense()),
        score: mapper.score_of(&genes),
        scored: mapper.scored(),
        relative_error: table.calibration.relative_error,
        probes: mapper.session.bench.probes(),
        search_s,
        layers,
        map: how,
    })
}

/// The folder of a mapping: a new one, or that of the same call, stopped before.
fn open(settings: &Settings, how: &MapSettings, work: &Path) -> Result<Run> {
    let asked = (settings, how);
    if !work.join("journal.sqlite").exists() {
        let run = Run::create(work)?;
        run.write_json("config.json", &asked)?;
        return Ok(run);
    }
    let run = Run::open(work)?;
    let before: serde_json::Value = run.read_json("config.json")?;
    // Through text, as the file went: both are rounded alike.
    let now = serde_json::to_string(&asked).and_then(|text| serde_json::from_str::<serde_json::Value>(&text));
    if now.ok() != Some(before) {
        return Err(Error::File {
            path: work.to_owned(),
            cause: "it holds the work of another mapping that was stopped; remove the folder, or choose another `--out`".into(),
        });
    }
    Ok(run)
}

/// Classes that the network tells apart.
fn classes(dense: &Analysis) -> usize {
    let output = dense.graph.outputs.first().and_then(|&v| dense.facts.shape(v));
    output.and_then(|s| s.last().copied()).unwrap_or(0)
}

fn mapped_layers(mapper: &Mapper, found: &[rules::Rule], genes: &Genes, how: &MapSettings) -> Vec<MappedLayer> {
    let (space, table) = (&mapper.space, &mapper.table);
    let reasons = Reasons { space, rules: found, seconds: &mapper.seconds, beta: how.beta, by: how.by };
    let schemes = space.all_schemes(genes);
    let layer = |l: usize| {
        let free = space.free.iter().position(|f| f.layer == l);
        let (energy, why) = match free {
            Some(k) => {
                let (regularity, rate) = (genes[2 * k], genes[2 * k + 1]);
                let energy = space.free[k].choice(regularity, rate).map_or(1.0, |c| c.energy);
                (energy, reasons.of(k, regularity, rate))
            }
            None => (1.0, space.dense.get(&l).cloned().unwrap_or_default()),
        };
        MappedLayer {
            name: space.layers[l].name.clone(),
            scheme: schemes[l],
            dense_s: table.cost(l, &Scheme::DENSE),
            predicted_s: table.cost(l, &schemes[l]),
            energy,
            why,
        }
    };
    (0..space.layers.len()).map(layer).collect()
}
