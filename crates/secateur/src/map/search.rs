//! Mappings found by scoring candidates: a policy that learns (after Gong et al., arXiv 2111.11581), and its controls over the
//! same genes: evolution, and chance.
//!
//! ```text
//! reward = exp(−held-out loss at the target) − μ · max(0, predicted latency / target − 1)
//! ```
//!
//! exp(−loss) is the (geometric) mean probability of the right class; it orders candidates as the loss does and lies in (0, 1].
//! What is scored of a candidate is what it becomes within the target, by random steps as those of the controls ([`repair`]): so no
//! evaluation goes to a network that could not be taken, or that leaves time unused; and none to one that was scored before. What
//! candidates cost as they were asked is known before and is charged to the policy by the penalty. Between updates the policy goes
//! back to the best that is known ([`Policy::replay`]): a few dozen rewards are too few to learn from each only once.

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use search::evolution::{Evolution, Genome, Scored, Settings as Evolving, repair};
use search::policy::{Policy, Settings as Learning};

use super::mapper::Mapper;
use super::space::Priced;
use super::{Genes, MapBy};
use crate::error::Result;

/// μ of the reward: what being over the target by its own length costs.
const PENALTY: f64 = 2.0;

/// Candidates between two updates of the policy, and in a generation.
const BATCH: usize = 10;

/// Candidates of the elite that parents are drawn from.
const ELITE: usize = 6;

/// Best candidates that the policy goes back to.
const REPLAYED: usize = 3;

/// Genes in which its candidates then differ from them, on average.
const DIFFERENT: f64 = 4.0;

/// Candidates that the policy is asked for, per one that is new; where that is not enough, it has nothing left to ask.
const TRIES: usize = 60;

/// Scores `evaluations` different candidates, `seeds` among them, and returns all of them, the best first.
pub(super) fn search(mapper: &mut Mapper, by: MapBy, evaluations: usize, seeds: &[Genes]) -> Result<Vec<Genes>> {
    let (space, costs, limit) = (mapper.space.clone(), mapper.costs.clone(), mapper.limit());
    let genome = Priced { space: &space, costs: &costs };
    let mut run = Run { found: Vec::new(), evaluations, began: Instant::now() };
    let mut rng = ChaCha8Rng::seed_from_u64(mapper.seed());
    let mut within = |genes: &Genes| {
        let mut moved = genes.clone();
        genome.canonical(&mut moved);
        repair(&genome, limit, &mut moved, &mut rng).then_some(moved)
    };
    // All searches start from the same.
    let mut first: Vec<Genes> = Vec::new();
    for genes in seeds.iter().filter_map(&mut within) {
        if first.len() < evaluations && !first.contains(&genes) {
            first.push(genes);
        }
    }
    if by != MapBy::Search {
        let evolving = Evolving { population: BATCH, elite: ELITE, mutants: BATCH / 2, crossovers: BATCH * 2 / 5, ..Evolving::default() };
        let seed = mapper.seed();
        let settings = if by == MapBy::Random { Evolving::random(BATCH, seed) } else { Evolving { seed, ..evolving } };
        let mut evolution = Evolution::new(settings);
        while run.left() > 0 {
            let seeds: &[Genes] = if run.found.is_empty() { &first } else { &[] };
            let mut generation = evolution.ask(&genome, limit, seeds);
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
    run.score(mapper, &first)?;
    let probability = (1.0 - DIFFERENT / genome.arities().len() as f64).max(0.5);
    while run.left() > 0 {
        let best = run.best_first(mapper);
        policy.replay(&genome, &best[..best.len().min(REPLAYED)], probability);
        // What was asked, with what it becomes within the target.
        let mut asked: Vec<(Genes, Option<Genes>)> = Vec::new();
        let mut new: Vec<Genes> = Vec::new();
        for _ in 0..BATCH * TRIES {
            if new.len() == BATCH.min(run.left()) {
                break;
            }
            for genes in policy.ask(&genome, 1) {
                let moved = within(&genes);
                new.extend(moved.iter().filter(|g| !run.found.contains(g) && !new.contains(g)).cloned().collect::<Vec<_>>());
                asked.push((genes, moved));
            }
        }
        if new.is_empty() {
            break;
        }
        run.score(mapper, &new)?;
        // What no step brings within the target counts as the worst that is known.
        let worst = run.found.iter().filter_map(|g| mapper.quality(g)).fold(1.0, f64::min);
        let scored: Vec<Scored> = asked
            .into_iter()
            .map(|(genes, moved)| {
                let over = (costs.total(&genes) / limit - 1.0).clamp(0.0, 10.0);
                let quality = moved.and_then(|m| mapper.quality(&m)).unwrap_or(worst);
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
    began: Instant,
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
        let left_s = self.began.elapsed().as_secs_f64() / self.found.len().max(1) as f64 * self.left() as f64;
        mapper.report(format!("{} of {} candidates", self.found.len(), self.evaluations), best.as_ref(), left_s);
        Ok(())
    }

    fn best_first(&self, mapper: &Mapper) -> Vec<Genes> {
        let mut all = self.found.clone();
        let quality = |g: &Genes| mapper.quality(g).unwrap_or(f64::NEG_INFINITY);
        all.sort_by(|a, b| quality(b).total_cmp(&quality(a)));
        all
    }
}
