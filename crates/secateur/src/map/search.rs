//! Mappings found by scoring candidates: a policy that learns (after Gong et al., arXiv 2111.11581), and its controls over the
//! same genes: evolution, and chance.
//!
//! ```text
//! reward = exp(−held-out loss at the target) − μ · max(0, predicted latency / target − 1)
//! ```
//!
//! exp(−loss) is the (geometric) mean probability of the right class; it orders candidates as the loss does and lies in (0, 1].
//! What is scored is the candidate brought to the target ([`fit`]): rates are moved one step at a time until the target is used
//! and not passed. So no evaluation goes to a network that could not be taken, or that leaves time unused; what candidates cost as
//! they were asked is known before and is charged to the policy by the penalty. The controls' candidates are repaired within the
//! target by themselves.

use search::evolution::{Evolution, Genome, Scored, Settings as Evolving};
use search::policy::{Policy, Settings as Learning};

use super::mapper::Mapper;
use super::solve::fit;
use super::space::Priced;
use super::{Genes, MapBy};
use crate::error::Result;

/// μ of the reward: what being over the target by its own length costs.
const PENALTY: f64 = 2.0;

/// Candidates between two updates of the policy, and in a generation.
const BATCH: usize = 10;

/// Candidates of the elite that parents are drawn from.
const ELITE: usize = 6;

/// Batches in a row that bring no new candidate within the target, after which a search has nothing left to ask.
const STALE: usize = 40;

/// Genes in which the policy's first candidates differ from the best known mapping, at most on average.
const DIFFERENT: f64 = 4.0;

/// Scores `evaluations` different candidates, `seeds` among them, and returns all of them, the best first.
pub(super) fn search(mapper: &mut Mapper, by: MapBy, evaluations: usize, seeds: &[Genes]) -> Result<Vec<Genes>> {
    let (space, costs, limit) = (mapper.space.clone(), mapper.costs.clone(), mapper.limit());
    let genome = Priced { space: &space, costs: &costs };
    let mut run = Run { found: Vec::new(), evaluations };
    if by != MapBy::Search {
        let evolving = Evolving { population: BATCH, elite: ELITE, mutants: BATCH / 2, crossovers: BATCH * 2 / 5, ..Evolving::default() };
        let seed = mapper.seed();
        let settings = if by == MapBy::Random { Evolving::random(BATCH, seed) } else { Evolving { seed, ..evolving } };
        let mut evolution = Evolution::new(settings);
        while run.left() > 0 {
            let first = if run.found.is_empty() { seeds } else { &[] };
            let mut generation = evolution.ask(&genome, limit, first);
            if generation.is_empty() {
                break;
            }
            generation.truncate(run.left());
            run.score(mapper, &generation)?;
            for genes in generation {
                let fitness = mapper.quality(&genes).unwrap_or(f64::NEG_INFINITY);
                evolution.tell(genes, fitness);
            }
        }
        return Ok(run.best_first(mapper));
    }
    let mut policy = Policy::new(genome.arities(), Learning { seed: mapper.seed(), ..Learning::default() });
    let worth = mapper.worth.clone();
    let at_target = |genes: &Genes| {
        let mut moved = fit(&space, &worth, &costs, genes, limit)?;
        genome.canonical(&mut moved);
        Some(moved)
    };
    let within: Vec<Genes> = seeds.iter().take(evaluations).filter_map(at_target).collect();
    run.score(mapper, &within)?;
    if let Some(best) = run.best_first(mapper).first() {
        let genes = genome.arities().len() as f64;
        policy.imitate(&genome, best, (1.0 - DIFFERENT / genes).max(0.5));
    }
    let mut stale = 0;
    while run.left() > 0 && stale < STALE {
        let asked = policy.ask(&genome, BATCH);
        let moved: Vec<Option<Genes>> = asked.iter().map(at_target).collect();
        let mut new: Vec<Genes> = moved.iter().flatten().filter(|g| !run.found.contains(g)).cloned().collect();
        new.sort();
        new.dedup();
        new.truncate(run.left());
        stale = if new.is_empty() { stale + 1 } else { 0 };
        run.score(mapper, &new)?;
        // What no rate brings to the target counts as the worst that is known.
        let worst = run.found.iter().filter_map(|g| mapper.quality(g)).fold(1.0, f64::min);
        let scored: Vec<Scored> = asked
            .into_iter()
            .zip(&moved)
            .map(|(genes, moved)| {
                let over = (costs.total(&genes) / limit - 1.0).clamp(0.0, 10.0);
                let quality = moved.as_ref().and_then(|m| mapper.quality(m)).unwrap_or(worst);
                Scored { genes, fitness: quality - PENALTY * over }
            })
            .collect();
        policy.tell(&genome, &scored);
    }
    Ok(run.best_first(mapper))
}

/// Candidates scored in one search.
struct Run {
    found: Vec<Genes>,
    evaluations: usize,
}

impl Run {
    fn left(&self) -> usize {
        self.evaluations.saturating_sub(self.found.len())
    }

    fn score(&mut self, mapper: &mut Mapper, genes: &[Genes]) -> Result<()> {
        mapper.session.heed_stop()?;
        mapper.score(genes)?;
        self.found.extend_from_slice(genes);
        let best = self.best_first(mapper).first().cloned();
        mapper.report(format!("{} of {} candidates", self.found.len(), self.evaluations), best.as_ref());
        Ok(())
    }

    fn best_first(&self, mapper: &Mapper) -> Vec<Genes> {
        let mut all = self.found.clone();
        let quality = |g: &Genes| mapper.quality(g).unwrap_or(f64::NEG_INFINITY);
        all.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
        all
    }
}
