//! What a job of schemes works with.

use std::collections::BTreeMap;

use graph::scheme::{Balance, Mask, Scheme, SchemeLayer, reorder};
use graph::{InputShapes, Model};

use super::job::SchemeJob;
use super::mapping::Assigned;
use crate::analysis::Analysis;
use crate::bench::{Bench, default_table, guiding};
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::learning::Learning;
use crate::patience::Patience;
use crate::run::Run;
use crate::settings::Settings;
use crate::verify::{self, TwinCheck};

/// The boxes of the job.
pub(super) struct Work<'a> {
    pub settings: Settings,
    pub job: SchemeJob,
    pub run: Run,
    pub dense: Analysis,
    pub assigned: Vec<Assigned>,
    pub learning: Option<Learning>,
    /// The target; `None` without a budget.
    pub bench: Option<Bench>,
    /// Latency of the dense network on it, seconds, once it was measured.
    pub dense_s: Option<f64>,
    pub observer: &'a mut dyn Observer,
}

impl<'a> Work<'a> {
    pub fn open(settings: Settings, job: SchemeJob, run: Run, observer: &'a mut dyn Observer) -> Result<Self> {
        job.check(&settings)?;
        let model = Model::load(&settings.model)?;
        let dense = Analysis::new(model, &InputShapes::batch(settings.latency_batch))?;
        let assigned = job.mapping.assign(&dense, &settings.keep)?;
        let learning = settings.data.as_ref().map(|d| Learning::open(d, &settings, &dense.model)).transpose()?;
        let bench = match job.budget {
            None => None,
            Some(_) => {
                let table = settings.table.clone().unwrap_or_else(default_table);
                Some(Bench::open(&settings.target.parse()?, settings.worker.clone(), &table, settings.latency_batch)?)
            }
        };
        Ok(Self { settings, job, run, dense, assigned, learning, bench, dense_s: None, observer })
    }

    /// Announces a stage; the place where a wish to stop is heard.
    pub fn stage(&mut self, what: &str) -> Result<()> {
        self.observer.event(Event::Stage { what: what.to_owned() });
        self.heed_stop()
    }

    pub fn heed_stop(&self) -> Result<()> {
        if self.observer.stop() { Err(Error::Interrupted { out: self.run.directory().to_owned() }) } else { Ok(()) }
    }

    pub fn note(&mut self, text: String) {
        self.observer.event(Event::Note { text });
    }

    pub fn observer(&mut self) -> &mut dyn Observer {
        self.observer
    }

    pub fn balance(&self) -> Balance {
        if self.job.balanced { Balance::BlockRow } else { Balance::Layer }
    }

    /// Latency of `model` as a share of the dense network's, to guide a choice.
    ///
    /// # Errors
    /// There is no target; it refuses the network, or stays too noisy.
    pub fn share(&mut self, model: &Model) -> Result<f64> {
        self.heed_stop()?;
        let Self { bench: Some(bench), run, dense, settings, observer, .. } = self else { return Err(no_target()) };
        let (tolerance, models) = (settings.tolerance, std::slice::from_ref(model));
        let patience = Patience::of(settings, run, &mut **observer);
        let measured =
            patience.measured(bench, tolerance, &mut |bench| bench.relative(&run.journal, &dense.model, models, &guiding(), tolerance))?;
        measured.first().map(|r| r.ratio).ok_or_else(no_target)
    }

    /// The budget as a share of the dense latency.
    ///
    /// # Errors
    /// There is none.
    pub fn budget_share(&self) -> Result<f64> {
        let dense_s = self.dense_s.ok_or_else(no_target)?;
        Ok(self.job.budget.ok_or_else(no_target)?.seconds(dense_s) / dense_s)
    }

    /// Layers that lose weights.
    pub fn sparse(&self) -> impl Iterator<Item = &Assigned> {
        self.assigned.iter().filter(|a| !a.scheme.is_dense())
    }

    /// The dense network, similar filters brought into the same block where that was asked for. What it computes is compared.
    pub fn start(&mut self) -> Result<(Model, Vec<graph::scheme::Reordered>, Option<TwinCheck>)> {
        if !self.job.reorder {
            return Ok((self.dense.model.clone(), Vec::new(), None));
        }
        self.stage("reordering filters")?;
        let d = &self.dense;
        let schemes: Vec<(SchemeLayer, Scheme)> = self.sparse().map(|a| (a.layer.clone(), a.scheme)).collect();
        let (model, done) = reorder(&d.model, &d.graph, &d.facts, &d.groups, &schemes, self.balance())?;
        let check = self.compare(&d.model, &model)?;
        self.note(format!("filters of {} groups reordered", done.len()));
        Ok((model, done, Some(check)))
    }

    /// Compares two networks that must compute the same, on the target or the embedded runtime.
    pub fn compare(&self, expected: &Model, found: &Model) -> Result<TwinCheck> {
        match &self.bench {
            Some(bench) => verify::compare(expected, found, bench.runtime()),
            None => verify::compare(expected, found, &*latency::runtime(&latency::TargetSpec::tract())?),
        }
    }

    /// The weight of a layer in `model`.
    pub fn weights(model: &Model, layer: &SchemeLayer) -> Result<Vec<f32>> {
        let fail = |reason: &str| graph::Error::Tensor { tensor: layer.tensor.clone(), reason: reason.into() };
        let tensor = model.tensor(&layer.tensor).ok_or_else(|| fail("it is not stored in the file"))??;
        Ok(tensor.to_f32().ok_or_else(|| fail("it is not of floats"))?)
    }

    /// Sets what the masks remove to zero.
    pub fn masked(model: &Model, masks: &BTreeMap<String, Mask>) -> Result<Model> {
        let mut result = model.clone();
        for (name, mask) in masks {
            let fail = |reason: &str| graph::Error::Tensor { tensor: name.clone(), reason: reason.into() };
            let tensor = model.tensor(name).ok_or_else(|| fail("it is not stored in the file"))??;
            let mut values = tensor.to_f32().filter(|v| v.len() == mask.len()).ok_or_else(|| fail("the mask does not fit it"))?;
            mask.apply(&mut values);
            result.set_tensor(name, &tensor.with_f32(values).ok_or_else(|| fail("it is not of floats"))?)?;
        }
        Ok(result)
    }

    /// Proves that `model` has its schemes, exactly where the masks say, and computes what `original` computes with the same
    /// weights masked: `original` gives the weights that were removed, `model` all others.
    pub fn verify(&self, original: &Model, model: &Model, masks: &BTreeMap<String, Mask>) -> Result<TwinCheck> {
        let mut unmasked = model.clone();
        for a in self.sparse() {
            let mask = masks.get(&a.layer.tensor).ok_or_else(|| Error::Setting(format!("layer `{}` has no mask", a.layer.name)))?;
            let mut weights = Self::weights(model, &a.layer)?;
            let holds = || a.scheme.regularity.validate(&a.layer.shape, mask);
            let violated = |violation: graph::scheme::Violation| Error::SchemeViolated { layer: a.layer.name.clone(), violation };
            holds().map_err(violated)?;
            if !mask.holds(&weights) {
                let reason = "weights that its mask removes are not zero".into();
                return Err(violated(graph::scheme::Violation { claim: a.scheme.to_string(), place: "the weight".into(), reason }));
            }
            for ((w, o), keep) in weights.iter_mut().zip(Self::weights(original, &a.layer)?).zip(&mask.keep) {
                if !keep {
                    *w = o;
                }
            }
            let name = &a.layer.tensor;
            let fail = |reason: &str| graph::Error::Tensor { tensor: name.clone(), reason: reason.into() };
            let tensor = model.tensor(name).ok_or_else(|| fail("it is not stored in the file"))??;
            unmasked.set_tensor(name, &tensor.with_f32(weights).ok_or_else(|| fail("it is not of floats"))?)?;
        }
        self.compare(&graph::scheme::masked_weights(&unmasked, masks)?, model)
    }
}

/// Nothing was measured, for there is nothing to measure on.
pub(super) fn no_target() -> Error {
    Error::Setting("there is no target to measure on: give a `--budget`".into())
}
