//! A session owns the boxes of a run: the dense network, the target, the data, the run directory. Methods walk the loop
//! through it.

use graph::{Decision, InputShapes, Model, Slabs};
use latency::{Protocol, TargetSpec};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::analysis::Analysis;
use crate::bench::{Bench, Relative, default_table};
use crate::choice::{Space, Values, Widths, default_chunk, joint_problem};
use crate::cost::{Calibration, Features, LatencyTable, LayerCosts, WidthRange};
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::lean::Lean;
use crate::learning::Learning;
use crate::plan::{LayerWidth, PLAN_VERSION, Plan, file_hash};
use crate::run::{Journal, Run};
use crate::saliency::Sources;
use crate::scope::Scope;
use crate::settings::{Grid, Method, Settings};
use crate::stage::Stage;
use crate::staircases::{StaircaseOptions, Staircases};
use crate::verify;

/// Everything a method works with.
pub struct Session<'a> {
    /// What was asked.
    pub settings: Settings,
    /// The run directory.
    pub run: Run,
    /// The dense network.
    pub dense: Analysis,
    /// Its latency on the target, seconds.
    pub dense_s: f64,
    /// The budget, seconds.
    pub budget_s: f64,
    /// The target.
    pub bench: Bench,
    /// Data and training; `None` without data.
    pub learning: Option<Learning>,
    /// The dense network with heads as the channels of its attentions, where both heads and their width may be pruned.
    in_parts: Option<Analysis>,
    /// Agreement of every cut network with its masked twin.
    pub twin_checks: Vec<verify::TwinCheck>,
    /// What measuring while searching says against separate processes.
    pub(crate) lean: Lean,
    pub(crate) observer: &'a mut dyn Observer,
}

impl<'a> Session<'a> {
    /// Opens what `settings` name and measures the dense network, unless the journal of `run` has it already.
    ///
    /// # Errors
    /// Whatever cannot be opened; a network with nothing to prune.
    pub fn open(settings: Settings, run: Run, observer: &'a mut dyn Observer) -> Result<Self> {
        settings.check()?;
        let model = Model::load(&settings.model)?;
        let dense = Analysis::within(model, &InputShapes::batch(settings.latency_batch), Scope::but(&settings.keep))?;
        dense.scope.check(&dense.graph, &dense.groups)?;
        dense.need_prunable()?;
        let stepwise = settings.method.is_stepwise() && settings.steps > 1;
        let in_parts = if stepwise { in_parts(&dense)? } else { None };
        let learning = settings.data().map(|d| Learning::open(d, &settings, &dense.model)).transpose()?;
        learning.iter().try_for_each(|l| l.check_gradients(&settings))?;
        if let Some(text) = learning.as_ref().and_then(Learning::drawn) {
            observer.event(Event::Note { text: text.to_owned() });
        }
        if settings.depth && !settings.measures_branches() && !dense.groups.branches.is_empty() {
            let text = "residual branches stay: what one is worth is measured on held-out images, and there are none";
            observer.event(Event::Note { text: text.into() });
        }
        let target: TargetSpec = settings.target.parse()?;
        let table = settings.table.clone().unwrap_or_else(default_table);
        let mut bench = Bench::open(&target, settings.worker.clone(), &table, settings.latency_batch)?;
        if let Some(text) = bench.runtime().placement(&bench.bytes("dense", &dense.model)?)?.and_then(|p| p.note()) {
            observer.event(Event::Note { text });
        }
        observer.event(Event::Stage { what: "measuring the dense network".into() });
        let dense_s = bench.begin(&run, &settings.model, &dense.model)?.median_s;
        let budget_s = settings.budget.seconds(dense_s);
        if budget_s >= dense_s {
            return Err(Error::AboveDense { budget_s, dense_s });
        }
        Ok(Self {
            settings,
            run,
            dense,
            dense_s,
            budget_s,
            bench,
            learning,
            in_parts,
            twin_checks: Vec::new(),
            lean: Lean::default(),
            observer,
        })
    }

    /// The latency aimed at: the middle of the tolerance.
    pub fn target_s(&self) -> f64 {
        self.budget_s * (1.0 - self.settings.tolerance / 2.0)
    }

    /// Residual branches may be removed: asked for, the solver can, and what one is worth can be measured on held-out images.
    /// Channels of different layers compare by their weights; a branch and channels do not.
    pub fn depth(&self) -> bool {
        let settings = &self.settings;
        settings.depth && settings.solver == crate::settings::Solver::Joint && settings.measures_branches()
    }

    /// What a search may choose at `stage`.
    ///
    /// # Errors
    /// The staircase cannot be measured.
    pub(crate) fn space(&mut self, stage: &Stage, depth: bool) -> Result<Space> {
        let groups = &stage.analysis.groups;
        Ok(match self.settings.grid {
            Grid::Chunk => Space::new(groups, self.settings.chunk, depth),
            Grid::All => Space::new(groups, 1, depth),
            Grid::Kept => {
                let stairs = self.staircases()?;
                let kept = |g: &graph::Group| stairs.groups.iter().find(|s| s.name == g.name).map_or(Vec::new(), |s| s.kept.clone());
                Space::with_counts(groups, depth, &kept)
            }
        })
    }

    /// The slabs of step `step` of `steps`: heads and their width in turn where both may be pruned, width in the end, which is the
    /// finer choice.
    pub(crate) fn slabs(&self, step: usize, steps: usize) -> Slabs {
        let heads = self.in_parts.is_some() && (steps - 1 - step) % 2 == 1;
        if heads { Slabs::Parts } else { self.dense.scope.slabs }
    }

    /// The dense network in every way that the run cuts it.
    fn ways(&self) -> impl Iterator<Item = &Analysis> {
        std::iter::once(&self.dense).chain(&self.in_parts)
    }

    /// The same, with what may be chosen.
    fn spaces(&self, depth: bool) -> Vec<(&Analysis, Space)> {
        self.ways().map(|a| (a, Space::new(&a.groups, self.settings.chunk, depth))).collect()
    }

    /// The widths that the method of the run may come to, on a grid of chunks: down to one channel where it is not held to chunks.
    fn reachable(&self, a: &Analysis, depth: bool) -> Space {
        let s = &self.settings;
        let searches = matches!(s.method, Method::Archtree | Method::Lacp | Method::Evolution);
        let free = s.method == Method::Uniform || searches && s.grid != Grid::Chunk;
        let counts = |g: &graph::Group| {
            let chunk = if s.chunk > 0 { s.chunk } else { default_chunk(g.size) };
            let least = if free { g.min_keep.max(1) } else { chunk };
            std::iter::once(least).chain((1..).map(|k| k * chunk).take_while(|&c| c < g.size)).collect()
        };
        Space::with_counts(&a.groups, depth, &counts)
    }

    /// Announces a stage; the place where a wish to stop is heard.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn stage(&mut self, what: &str) -> Result<()> {
        self.observer.event(Event::Stage { what: what.to_owned() });
        self.heed_stop()
    }

    /// # Errors
    /// [`Error::Interrupted`] if the user wants to stop.
    pub fn heed_stop(&self) -> Result<()> {
        if self.observer.stop() { Err(Error::Interrupted { out: self.run.directory().to_owned() }) } else { Ok(()) }
    }

    /// Tells something.
    pub fn tell(&mut self, event: Event) {
        self.observer.event(event);
    }

    /// Progress callbacks while something borrowed from the session works.
    pub(crate) fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    /// The journal to record in, and the observer to tell.
    pub(crate) fn journal_and_observer(&mut self) -> (&Journal, &mut dyn Observer) {
        (&self.run.journal, self.observer)
    }

    /// The target, and the observer to tell.
    pub(crate) fn bench_and_observer(&mut self) -> (&mut Bench, &mut dyn Observer) {
        (&mut self.bench, self.observer)
    }

    /// As [`Session::timed_table`], for the budget of the run.
    ///
    /// # Errors
    /// The floor is above the budget.
    pub fn latency_table(&mut self) -> Result<LatencyTable> {
        let table = self.timed_table()?;
        self.check_floor(&table)?;
        Ok(table)
    }

    /// The latency table of the dense network's layers over all widths the run may give them, calibrated to whole networks.
    ///
    /// # Errors
    /// The runtime refuses a layer.
    pub fn timed_table(&mut self) -> Result<LatencyTable> {
        self.stage("latency table of the layers")?;
        let ranges = self
            .ways()
            .map(|a| width_ranges(a, &self.reachable(a, true)))
            .reduce(|one, other| one.iter().zip(&other).map(|(a, b)| a.combined(b)).collect());
        let ranges = ranges.unwrap_or_default();
        let (dense, bench, observer) = (&self.dense, &mut self.bench, &mut *self.observer);
        let mut table: LatencyTable = self.run.journal.step("latency table", || {
            LatencyTable::profile(&dense.model, &dense.graph, &dense.facts, &dense.priced, &ranges, &mut |models| {
                bench.layers(models, &Protocol::table(), &mut |done, total| {
                    observer.event(Event::Progress { done, total, note: "layers timed".into() })
                })
            })
        })?;
        table.calibration = self.calibrate(&table)?;
        Ok(table)
    }

    /// The staircases of the dense network: which widths of its layers and groups are worth keeping on the target. What the
    /// journal holds of an earlier call is returned as it is.
    ///
    /// # Errors
    /// The runtime refuses a layer; the device is busy; [`Error::Interrupted`].
    pub fn staircases(&mut self) -> Result<Staircases> {
        self.stage("staircases of the layers")?;
        if let Some(found) = self.run.journal.recall("staircases")? {
            self.observer.event(Event::Recalled { what: "staircases".into() });
            return Ok(found);
        }
        let (dense, bench, observer) = (&self.dense, &mut self.bench, &mut *self.observer);
        let folder = self.run.directory();
        let found: Staircases =
            self.run.journal.step("staircases", || Staircases::on_bench(dense, &StaircaseOptions::default(), bench, observer, folder))?;
        let text =
            format!("staircases: {} probes, an exhaustive sweep takes {}; δ {:.1} %", found.probes, found.exhaustive, 100.0 * found.delta);
        self.observer.event(Event::Note { text });
        Ok(found)
    }

    /// Measures random sub-networks and fits the table to them.
    fn calibrate(&mut self, table: &LatencyTable) -> Result<Calibration> {
        let count = self.settings.calibration_networks;
        self.stage(&format!("calibrating the table on {count} sub-networks"))?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed ^ 0xca11);
        let spaces = self.spaces(true);
        let ranks: Vec<_> = spaces
            .iter()
            .map(|(a, _)| Sources::find(&a.graph, &a.groups, crate::Criterion::Magnitude).from_weights(&a.model, &a.groups))
            .collect();
        // Sub-networks of every kind of slab in turn; the first point is the dense network.
        let choices: Vec<(usize, Vec<usize>)> = (0..count)
            .map(|k| (k % spaces.len(), random_choice(&spaces[k % spaces.len()].1, &mut rng, (k + 1) as f64 / (count + 1) as f64)))
            .collect();
        let features = |(a, space): &(&Analysis, Space), choice: &[usize]| {
            table.features(&Widths::new(&a.groups, &a.priced, space).all(space, choice))
        };
        let mut points: Vec<(Features, f64)> = vec![(features(&spaces[0], &spaces[0].1.keep_all()), self.dense_s)];
        for (k, batch) in choices.chunks(3).enumerate() {
            self.heed_stop()?;
            let spaces = self.spaces(true);
            let mut cut = Vec::new();
            for (which, choice) in batch {
                let (a, space) = &spaces[*which];
                cut.push((features(&spaces[*which], choice), a.apply(&space.decision(&a.groups, &ranks[*which], choice))?));
            }
            let (seen, models): (Vec<Features>, Vec<Model>) = cut.into_iter().unzip();
            let measured =
                self.bench.relative(&self.run.journal, &self.dense.model, &models, &calibration_protocol(), CALIBRATION_NOISE)?;
            points.extend(seen.into_iter().zip(measured).map(|(x, m)| (x, m.ratio * self.dense_s)));
            self.observer.event(Event::Progress { done: (k * 3 + batch.len()).min(count), total: count, note: "sub-networks".into() });
        }
        let fit = Calibration::fit(&points);
        let text =
            format!("table calibrated on {} networks: error {:.1} % on those left out of the fit", fit.points, 100.0 * fit.relative_error);
        self.observer.event(Event::Note { text });
        Ok(fit)
    }

    /// Refuses a budget that no decision reaches, and tells what is ahead.
    fn check_floor(&mut self, table: &LatencyTable) -> Result<()> {
        // Cut in both ways where there are two, a layer is as narrow as either makes it.
        let mut least: Option<Vec<(usize, usize)>> = None;
        for a in self.ways() {
            let space = self.reachable(a, self.depth());
            let widths = Widths::new(&a.groups, &a.priced, &space);
            let groups = space.groups.iter().map(|g| vec![0.0; g.counts.len()]).collect();
            let values = Values { groups, branches: vec![0.0; space.branches.len()] };
            let problem = joint_problem(&space, &widths, &a.priced, &values, table);
            let choice = search::joint::min_cost(&problem, &search::Limits::default())?.choice;
            let here = widths.all(&space, &choice);
            least = Some(match least {
                None => here,
                Some(there) => here.iter().zip(there).map(|(h, t)| (h.0.min(t.0), h.1.min(t.1))).collect(),
            });
        }
        let layers: f64 = least.unwrap_or_default().iter().enumerate().map(|(l, &(i, o))| table.cost(l, i, o)).sum();
        // The fit may say less than nothing where it is asked far outside of what it was fitted to.
        let floor_s = (layers + table.constant()).max(0.0);
        let estimate_s = self.learning.as_ref().and_then(|l| l.estimate_s(&self.settings));
        self.observer.event(Event::Outlook { dense_s: self.dense_s, budget_s: self.budget_s, floor_s, estimate_s });
        if floor_s > self.budget_s {
            return Err(Error::BelowFloor { budget_s: self.budget_s, floor_s, dense_s: self.dense_s });
        }
        Ok(())
    }

    /// Cuts `decision` out of `stage`, checked against the masked twin.
    ///
    /// # Errors
    /// The result is not its masked twin.
    pub fn cut(&mut self, stage: Stage, decision: &Decision) -> Result<Stage> {
        if decision == &Decision::keep_all() {
            return Ok(stage);
        }
        let smaller = stage.analysis.apply(decision)?;
        self.twin_checks.push(verify::check(&stage.analysis, decision, &smaller, self.bench.runtime())?);
        let mut cut = stage.cut;
        cut.steps.push(decision.to_named(&stage.analysis.groups, &stage.analysis.graph));
        let analysis = stage.analysis.with_model(smaller, self.settings.latency_batch)?;
        Ok(Stage { analysis, cut })
    }

    /// The plan of `stage`, measured at `latency`.
    ///
    /// # Errors
    /// The dense network's file cannot be read again.
    pub(crate) fn plan(&self, stage: &Stage, latency: &Relative, budget_s: f64) -> Result<Plan> {
        let s = &self.settings;
        Ok(Plan {
            version: PLAN_VERSION,
            model: s.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            model_hash: file_hash(&s.model)?,
            method: s.method,
            solver: s.solver,
            seed: s.seed,
            target: self.bench.runtime().identity().to_string(),
            dense_s: self.dense_s,
            budget_s,
            latency: latency.clone(),
            cut: stage.cut.clone(),
            layers: LayerWidth::compare(&self.dense, &stage.analysis),
        })
    }

    /// Where the latency table lies.
    pub fn table_path(&self) -> std::path::PathBuf {
        self.settings.table.clone().unwrap_or_else(default_table)
    }
}

/// `dense` with heads as the channels of its attentions, where that offers what it does not offer as it is.
fn in_parts(dense: &Analysis) -> Result<Option<Analysis>> {
    let open = |a: &Analysis, side: fn(&graph::Layer) -> &Vec<(graph::GroupId, usize)>| {
        a.groups.attention().iter().flat_map(side).any(|&(g, _)| a.groups.prunable().any(|p| p.id == g))
    };
    if dense.scope.slabs == Slabs::Parts || !open(dense, |l| &l.outputs) {
        return Ok(None);
    }
    let parts = dense.clone().with_slabs(Slabs::Parts)?;
    Ok(open(&parts, |l| &l.inputs).then_some(parts))
}

/// Noise up to which a sub-network's latency is good enough for calibration, which averages over many.
const CALIBRATION_NOISE: f64 = 0.1;

/// Precision of a sub-network's latency for calibration.
fn calibration_protocol() -> Protocol {
    Protocol { precision: 0.015, time_limit_s: 1.5, ..Protocol::default() }
}

/// Random options, less kept the larger `cut` (0 to 1) is.
fn random_choice(space: &Space, rng: &mut ChaCha8Rng, cut: f64) -> Vec<usize> {
    let present: Vec<usize> = space.branches.iter().map(|_| usize::from(rng.random::<f64>() >= cut * 0.7)).collect();
    let mut choice: Vec<usize> = space
        .groups
        .iter()
        .map(|g| {
            let low = g.counts.iter().position(|&c| c > 0).unwrap_or(0);
            match g.branch {
                Some(b) if present[b] == 0 => 0,
                _ if rng.random::<f64>() < cut => rng.random_range(low..g.counts.len()),
                _ => g.counts.len() - 1,
            }
        })
        .collect();
    choice.extend(present);
    choice
}

/// The widths that the options of `space` can give each layer.
fn width_ranges(analysis: &Analysis, space: &Space) -> Vec<WidthRange> {
    let counts = |g: graph::GroupId| {
        let all = [analysis.groups.groups[g.index()].size];
        space.groups.iter().find(|o| o.group == g).map_or(all.to_vec(), |o| o.counts.iter().copied().filter(|&c| c > 0).collect())
    };
    let sums = |fixed: usize, parts: &[(graph::GroupId, usize)]| {
        let mut reach = std::collections::BTreeSet::from([fixed]);
        for &(g, coords) in parts {
            let options = counts(g);
            reach = reach.iter().flat_map(|&w| options.iter().map(move |&c| w + c * coords)).collect();
        }
        reach.into_iter().collect::<Vec<_>>()
    };
    analysis.priced.iter().map(|l| WidthRange { inputs: sums(l.fixed_in, &l.inputs), outputs: sums(l.fixed_out, &l.outputs) }).collect()
}
