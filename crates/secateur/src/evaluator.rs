//! Candidates scored without training: accuracy (without labels: agreement with the dense network) on held-out images with
//! inherited weights and BatchNorm re-estimated (EagleEye, Li et al., ECCV 2020). One service for all methods.
//!
//! A [`Scorer`] takes a candidate as a value (a decision, or the schemes of a mapping) and gives a value back, so that one on
//! another machine can stand where [`LocalScorer`] stands. The [`Evaluator`] in front of it scores nothing twice, records what
//! was scored, and keeps several candidates in work at a time. Nothing here measures latency: that stays one at a time per
//! device.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use graph::{Decision, NamedDecision};
use serde::{Deserialize, Serialize};
use train::data::{Augment, Dataset, Split};
use train::{Network, bn};

use crate::analysis::Analysis;
use crate::error::{Error, Result};
use crate::run::Journal;

/// What tells how good a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Top-1 accuracy.
    #[default]
    Accuracy,
    /// Agreement with the dense network ([`train::Agreement`]); used where there are no labels.
    Agreement,
}

impl Figure {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Agreement => "agreement with the dense network",
        }
    }
}

/// How good a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy on the held-out images; without labels, the difference to the dense network's outputs.
    pub loss: f64,
    /// The figure, percent.
    #[serde(alias = "accuracy")]
    pub percent: f64,
    /// What it is.
    #[serde(default)]
    pub figure: Figure,
}

/// Judges networks: by labels, or by the network that they are to imitate.
#[derive(Debug, Clone)]
pub struct Judge {
    reference: Option<Network>,
}

impl Judge {
    /// By labels, where there is no reference.
    pub fn new(reference: Option<Network>) -> Self {
        Self { reference }
    }

    /// What it tells.
    pub fn figure(&self) -> Figure {
        if self.reference.is_some() { Figure::Agreement } else { Figure::Accuracy }
    }

    /// Score on (the first `images` of) a part of `data`.
    ///
    /// # Errors
    /// The network cannot be run on the data.
    pub fn score(&self, network: &Network, data: &Dataset, split: Split, images: Option<usize>) -> Result<Score> {
        let figure = self.figure();
        Ok(match &self.reference {
            Some(reference) => {
                let a = train::agree(network, reference, data, split, images)?;
                Score { loss: a.loss, percent: 100.0 * a.share, figure }
            }
            None => {
                let a = train::evaluate(network, data, split, images)?;
                Score { loss: a.loss, percent: 100.0 * a.top1, figure }
            }
        })
    }
}

/// Scores candidates of type `C`; the same candidate always gets the same score.
pub trait Scorer<C = NamedDecision>: Send + Sync {
    /// What the score depends on besides the candidate, as a key: weights, images, batches, seed.
    fn identity(&self) -> &str;

    /// Scores one candidate.
    ///
    /// # Errors
    /// The candidate does not fit the network; the network cannot be run on the data.
    fn score(&self, candidate: &C) -> Result<Score>;
}

/// How much is looked at to score a candidate.
#[derive(Debug, Clone, PartialEq)]
pub struct Effort {
    /// Held-out images.
    pub images: usize,
    /// Training batches that BatchNorm statistics are re-estimated on.
    pub batches: usize,
    /// Images per batch.
    pub batch_size: usize,
    /// Augmentation of those batches.
    pub augment: Augment,
    /// Order of those batches.
    pub seed: u64,
}

/// Scores candidates in this process.
#[derive(Debug)]
pub struct LocalScorer {
    base: Analysis,
    data: Dataset,
    split: Split,
    judge: Judge,
    effort: Effort,
    identity: String,
    pool: rayon::ThreadPool,
}

impl LocalScorer {
    /// Candidates are cut out of `base` and scored on `split` of `data` by `judge`, each with `threads` threads.
    ///
    /// # Errors
    /// The model cannot be written; threads cannot be started.
    pub fn new(base: Analysis, (data, split): (Dataset, Split), judge: Judge, effort: Effort, threads: usize) -> Result<Self> {
        let weights = blake3::hash(&base.model.to_bytes()?);
        let what = format!("{} {:?} {:?} {:?}", weights.to_hex(), split, effort, judge.figure());
        let identity = blake3::hash(what.as_bytes()).to_hex()[..16].to_owned();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
        let pool = pool.map_err(|e| Error::Setting(format!("cannot start {threads} threads for scoring: {e}")))?;
        Ok(Self { base, data, split, judge, effort, identity, pool })
    }
}

impl Scorer for LocalScorer {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn score(&self, candidate: &NamedDecision) -> Result<Score> {
        let decision = Decision::from_named(candidate, &self.base.groups, &self.base.graph)?;
        let mut network = Network::compile(&self.base.apply(&decision)?)?;
        self.pool.install(|| self.effort.score(&mut network, &self.judge, &self.data, self.split))
    }
}

impl Effort {
    /// Re-estimates the BatchNorm of `network` and scores it by `judge` on `split` of `data`.
    ///
    /// # Errors
    /// The network cannot be run on the data.
    pub fn score(&self, network: &mut Network, judge: &Judge, data: &Dataset, split: Split) -> Result<Score> {
        bn::reestimate(network, data, self.batches, self.batch_size, &self.augment, self.seed)?;
        judge.score(network, data, split, Some(self.images))
    }
}

/// Scores candidates of type `C` once, several at a time.
pub struct Evaluator<C = NamedDecision> {
    scorer: Box<dyn Scorer<C>>,
    workers: usize,
    known: HashMap<String, Score>,
    /// Candidates scored anew.
    pub scored: usize,
    /// Candidates whose score was known or found in the journal.
    pub recalled: usize,
}

impl<C> std::fmt::Debug for Evaluator<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { workers, scored, recalled, .. } = self;
        write!(f, "Evaluator {{ scorer: {}, workers: {workers}, scored: {scored}, recalled: {recalled} }}", self.scorer.identity())
    }
}

impl<C: Serialize + Sync> Evaluator<C> {
    /// Puts `workers` candidates in work at a time.
    pub fn new(scorer: Box<dyn Scorer<C>>, workers: usize) -> Self {
        Self { scorer, workers: workers.max(1), known: HashMap::new(), scored: 0, recalled: 0 }
    }

    fn key(&self, candidate: &C) -> Result<String> {
        let text = serde_json::to_string(candidate).map_err(|e| Error::Setting(format!("a candidate cannot be written down: {e}")))?;
        Ok(format!("score {} {}", self.scorer.identity(), &blake3::hash(text.as_bytes()).to_hex()[..24]))
    }

    /// Scores of `candidates`, in order. Each is recorded as soon as it is known; equal candidates are scored once. `told`
    /// hears how many of the open ones are done, and may end the work.
    ///
    /// # Errors
    /// The scorer's, the journal's; `None` if `told` ended the work.
    pub fn score_all(
        &mut self,
        journal: &Journal,
        candidates: &[C],
        told: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Option<Vec<Score>>> {
        let keys = candidates.iter().map(|c| self.key(c)).collect::<Result<Vec<_>>>()?;
        let mut open: Vec<(&String, &C)> = Vec::new();
        for (key, candidate) in keys.iter().zip(candidates) {
            if self.known.contains_key(key) || open.iter().any(|(k, _)| *k == key) {
                self.recalled += 1;
            } else if let Some(score) = journal.recall::<Score>(key)? {
                self.known.insert(key.clone(), score);
                self.recalled += 1;
            } else {
                open.push((key, candidate));
            }
        }
        if !self.work(journal, &open, told)? {
            return Ok(None);
        }
        Ok(Some(keys.iter().filter_map(|k| self.known.get(k).copied()).collect()))
    }

    /// False if `told` ended the work.
    fn work(&mut self, journal: &Journal, open: &[(&String, &C)], told: &mut dyn FnMut(usize, usize) -> ControlFlow<()>) -> Result<bool> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (scorer, known, scored) = (&*self.scorer, &mut self.known, &mut self.scored);
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            for _ in 0..self.workers.min(open.len()) {
                let (send, next, stop) = (send.clone(), &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let k = next.fetch_add(1, Ordering::Relaxed);
                        let Some((_, candidate)) = open.get(k) else { break };
                        if send.send((k, scorer.score(candidate))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            let mut done = 0;
            let mut take = |(k, score): (usize, Result<Score>)| -> Result<bool> {
                let score = score?;
                journal.record(open[k].0, &score, 0.0)?;
                known.insert(open[k].0.clone(), score);
                *scored += 1;
                done += 1;
                Ok(told(done, open.len()).is_continue())
            };
            for message in receive {
                match take(message) {
                    Ok(true) => {}
                    other => {
                        stop.store(true, Ordering::Relaxed);
                        return other;
                    }
                }
            }
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Scores by the number of branches removed; counts how often it is asked.
    struct Counting(Mutex<Vec<String>>);

    impl Scorer for &'static Counting {
        fn identity(&self) -> &str {
            "counting"
        }

        fn score(&self, candidate: &NamedDecision) -> Result<Score> {
            let name = candidate.removed_branches.join(",");
            if name == "bad" {
                return Err(Error::Setting("bad candidate".into()));
            }
            self.0.lock().expect("lock").push(name.clone());
            Ok(Score { loss: name.len() as f64, percent: 0.0, figure: Figure::Accuracy })
        }
    }

    fn candidate(name: &str) -> NamedDecision {
        NamedDecision { removed_branches: vec![name.to_owned()], ..NamedDecision::default() }
    }

    fn counting() -> &'static Counting {
        Box::leak(Box::new(Counting(Mutex::new(Vec::new()))))
    }

    #[test]
    fn nothing_is_scored_twice_and_order_is_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal.sqlite");
        let scorer = counting();
        let all: Vec<_> = ["a", "bbb", "a", "cc", "bbb"].map(candidate).into();
        let wanted = [1.0, 3.0, 1.0, 2.0, 3.0];
        let losses = |evaluator: &mut Evaluator, journal: &Journal| -> Vec<f64> {
            let scores = evaluator.score_all(journal, &all, &mut |_, _| ControlFlow::Continue(())).expect("scores").expect("not stopped");
            scores.iter().map(|s| s.loss).collect()
        };
        let journal = Journal::open(path.clone()).expect("journal");
        let mut evaluator = Evaluator::new(Box::new(scorer), 3);
        assert_eq!(losses(&mut evaluator, &journal), wanted);
        assert_eq!(losses(&mut evaluator, &journal), wanted);
        assert_eq!((evaluator.scored, evaluator.recalled), (3, 7));
        drop(journal);
        // A new run of the program finds everything in the journal.
        let mut again = Evaluator::new(Box::new(scorer), 1);
        assert_eq!(losses(&mut again, &Journal::open(path).expect("journal")), wanted);
        assert_eq!(scorer.0.lock().expect("lock").len(), 3);
    }

    #[test]
    fn a_failure_is_passed_on_and_a_stop_is_heard() {
        let folder = tempfile::tempdir().expect("folder");
        let journal = Journal::open(folder.path().join("journal.sqlite")).expect("journal");
        let mut evaluator = Evaluator::new(Box::new(counting()), 2);
        let many: Vec<_> = (0..40).map(|k| candidate(&format!("candidate {k}"))).collect();
        let stopped =
            evaluator.score_all(&journal, &many, &mut |done, _| if done == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        assert!(stopped.expect("no error").is_none());
        assert_eq!(evaluator.scored, 3);
        let error = evaluator.score_all(&journal, &[candidate("bad")], &mut |_, _| ControlFlow::Continue(()));
        assert!(error.expect_err("bad").to_string().contains("bad candidate"));
    }
}
