//! Archtree-style: a tree of sub-networks explored level by level, latency measured on the target at every level (after
//! Reboul et al., arXiv 2311.10549; nodes, children, ranking and numbers are ours). With a beam of one it is NetAdapt's loop
//! (Yang et al., ECCV 2018) without its short fine-tunes.

use std::time::Instant;

use super::trials::{Choice, Trials};
use super::{Outcome, geometric};
use crate::error::Result;
use crate::session::Session;

/// Children measured per kept node.
const SHORTLIST: usize = 4;

/// A child must be at least this much faster than its parent, as measured; else it sits on a plateau or past a cliff.
const FASTER: f64 = 0.003;

/// A node of the tree on trial.
#[derive(Debug, Clone, PartialEq)]
struct Child {
    choice: Choice,
    /// Position of the parent in its level.
    parent: usize,
    /// Value lost per predicted second saved.
    price: f64,
}

pub(super) fn run(session: &mut Session) -> Result<Outcome> {
    let mut trials = Trials::open(session)?;
    let (beam, levels, seeds) = (trials.session.settings.beam, trials.session.settings.levels, trials.session.settings.seeds);
    let (dense_s, target_s, landing_s) = (trials.session.dense_s, trials.session.target_s(), *trials.session.landing_s().end());
    let targets = geometric(dense_s, target_s, levels);
    let mut nodes: Vec<Choice> = vec![trials.space.keep_all()];
    trials.measure(&nodes)?;
    let mut near: Vec<Choice> = Vec::new();
    let start = Instant::now();
    // A level changes one group or branch. Where none of them can give a level's share, more levels are needed than were planned.
    for (t, level_s) in targets.into_iter().chain(std::iter::repeat(target_s)).enumerate() {
        let level = if t < levels { format!("level {} of {levels}", t + 1) } else { format!("level {}, {levels} planned", t + 1) };
        trials.session.stage(&level)?;
        let mut children = shortlist(children(&trials, &nodes, level_s), SHORTLIST * beam);
        let choices: Vec<Choice> = children.iter().map(|c| c.choice.clone()).collect();
        trials.measure(&choices)?;
        children.retain(|c| match (trials.seconds(&c.choice), trials.seconds(&nodes[c.parent])) {
            (Some(child_s), Some(parent_s)) => child_s < parent_s * (1.0 - FASTER),
            _ => false,
        });
        if children.is_empty() {
            break;
        }
        let survivors: Vec<Choice> = children.iter().map(|c| c.choice.clone()).collect();
        trials.score(&survivors)?;
        let loss = |c: &Child| trials.score_of(&c.choice).map_or(f64::INFINITY, |s| s.loss);
        let scored: Vec<(Child, f64)> = children.iter().map(|c| (c.clone(), loss(c))).collect();
        nodes = keep(scored, beam);
        near.extend(nodes.iter().filter(|c| trials.seconds(c).is_some_and(|s| s < target_s * 1.1)).cloned());
        let left_s = start.elapsed().as_secs_f64() / (t + 1) as f64 * levels.saturating_sub(t + 1) as f64;
        trials.report(level, Some(left_s));
        if nodes.iter().all(|c| trials.seconds(c).is_some_and(|s| s <= landing_s)) {
            break;
        }
    }
    near.extend(nodes);
    // The control of beam one is the plain greedy descent.
    if beam > 1 && seeds > 0 {
        near.extend(trials.solutions(target_s, seeds)?);
    }
    near.sort();
    near.dedup();
    trials.finish(near)
}

/// All children of `nodes` that are predicted to reach `level_s`, or as near to it as one group gets: one group narrowed by
/// the fewest steps, or one branch removed.
fn children(trials: &Trials, nodes: &[Choice], level_s: f64) -> Vec<Child> {
    let (space, forecast) = (&trials.space, trials.forecast());
    let groups = space.groups.len();
    let mut all = Vec::new();
    for (parent, node) in nodes.iter().enumerate() {
        let correction = trials.correction(node);
        let (node_s, node_value) = (forecast.seconds(node) * correction, trials.values.total(node));
        let mut add = |choice: Choice| {
            let saved_s = node_s - forecast.seconds(&choice) * correction;
            if saved_s > 0.0 {
                all.push(Child { price: (node_value - trials.values.total(&choice)) / saved_s, choice, parent });
            }
        };
        for (k, g) in space.groups.iter().enumerate() {
            let least = g.counts.iter().position(|&c| c > 0).unwrap_or(0);
            let mut choice = node.clone();
            while choice[k] > least {
                choice[k] -= 1;
                if forecast.seconds(&choice) * correction <= level_s {
                    break;
                }
            }
            if choice[k] < node[k] && node[k] > least {
                add(choice);
            }
        }
        for b in 0..space.branches.len() {
            if node[groups + b] == 1 {
                let mut choice = node.clone();
                choice[groups + b] = 0;
                space.canonical(&mut choice);
                add(choice);
            }
        }
    }
    all
}

/// The `n` different children that lose least per second saved.
fn shortlist(mut children: Vec<Child>, n: usize) -> Vec<Child> {
    children.sort_by(|a, b| a.price.total_cmp(&b.price).then_with(|| a.choice.cmp(&b.choice)));
    let mut kept: Vec<Child> = Vec::new();
    for c in children {
        if kept.len() < n && kept.iter().all(|k| k.choice != c.choice) {
            kept.push(c);
        }
    }
    kept
}

/// The `beam` best of different children with their losses, from at least two parents where there are two: siblings are
/// near-duplicates.
fn keep(mut scored: Vec<(Child, f64)>, beam: usize) -> Vec<Choice> {
    scored.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut seen: Vec<Choice> = Vec::new();
    scored.retain(|(c, _)| {
        let new = !seen.contains(&c.choice);
        seen.push(c.choice.clone());
        new
    });
    let first = scored.first().map(|(c, _)| c.parent);
    let other = scored.iter().position(|(c, _)| Some(c.parent) != first);
    if let Some(o) = other.filter(|&o| beam > 1 && o >= beam) {
        let moved = scored.remove(o);
        scored.insert(beam - 1, moved);
    }
    scored.into_iter().take(beam).map(|(c, _)| c.choice).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn child() -> impl Strategy<Value = (Child, f64)> {
        (prop::collection::vec(0usize..3, 3), 0usize..4, 0.0f64..1.0, 0.0f64..1.0)
            .prop_map(|(choice, parent, price, loss)| (Child { choice, parent, price }, loss))
    }

    proptest! {
        #[test]
        fn the_beam_holds_no_two_equal_decisions_and_two_parents_where_there_are(
            scored in prop::collection::vec(child(), 1..30), beam in 1usize..6
        ) {
            let kept = keep(scored.clone(), beam);
            let mut different: Vec<&Choice> = scored.iter().map(|(c, _)| &c.choice).collect();
            different.sort();
            different.dedup();
            prop_assert_eq!(kept.len(), beam.min(different.len()));
            let mut unique = kept.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(unique.len(), kept.len());
            // A decision that has two parents counts as the child of the one it was scored best for.
            let of = |c: &Choice| scored.iter().filter(|(s, _)| s.choice == *c).min_by(|a, b| a.1.total_cmp(&b.1));
            let another = |c: &Choice| of(c).map(|(s, _)| s.parent) != of(&kept[0]).map(|(s, _)| s.parent);
            prop_assert!(beam == 1 || !different.iter().any(|c| another(c)) || kept.iter().any(another), "{:?} of {:?}", kept, scored);
            let best = scored.iter().map(|(_, l)| *l).fold(f64::INFINITY, f64::min);
            prop_assert!(scored.iter().any(|(c, l)| *l == best && c.choice == kept[0]));
        }

        #[test]
        fn the_shortlist_is_the_cheapest_of_different_children(scored in prop::collection::vec(child(), 0..30), n in 1usize..9) {
            let all: Vec<Child> = scored.into_iter().map(|(c, _)| c).collect();
            let kept = shortlist(all.clone(), n);
            prop_assert!(kept.len() <= n);
            prop_assert!(kept.windows(2).all(|w| w[0].price <= w[1].price));
            for c in &all {
                let inside = kept.iter().any(|k| k.choice == c.choice);
                prop_assert!(inside || kept.len() == n && kept.iter().all(|k| k.price <= c.price));
            }
        }
    }

    #[test]
    fn a_second_parent_gets_the_last_place() {
        let child = |name: usize, parent, loss| (Child { choice: vec![name], parent, price: 0.0 }, loss);
        let scored = vec![child(1, 0, 0.1), child(2, 0, 0.2), child(3, 0, 0.3), child(4, 1, 0.9)];
        assert_eq!(keep(scored.clone(), 2), [vec![1], vec![4]]);
        assert_eq!(keep(scored, 1), [vec![1]]);
    }
}
