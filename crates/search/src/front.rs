//! Pareto messages: for every assignment of a bucket's scope, the non-dominated (cost, value) pairs
//! of the eliminated part, with enough to reconstruct the choices behind them.

use std::time::Instant;

use crate::Problem;
use crate::dual::Completion;
use crate::elimination::Tree;

/// Non-dominated states of all scope entries of one bucket, entry after entry, ascending in cost and value.
#[derive(Debug, Default)]
struct Message {
    starts: Vec<usize>,
    costs: Vec<f64>,
    values: Vec<f64>,
    nodes: Vec<u32>,
}

/// How partial choices were put together: a leaf is one variable's option, an inner node joins two parts.
#[derive(Debug, Default)]
struct Origins {
    nodes: Vec<(u32, u32)>,
}

const LEAF: u32 = 1 << 31;
const NONE: u32 = u32::MAX;

impl Origins {
    fn push(&mut self, left: u32, right: u32) -> u32 {
        self.nodes.push((left, right));
        (self.nodes.len() - 1) as u32
    }

    fn choice(&self, node: u32, variables: usize) -> Vec<usize> {
        let mut choice = vec![0; variables];
        let mut stack = vec![node];
        while let Some(node) = stack.pop() {
            let (left, right) = self.nodes[node as usize];
            if left & LEAF != 0 {
                choice[(left & !LEAF) as usize] = right as usize;
            } else {
                stack.extend([left, right]);
            }
        }
        choice
    }
}

/// A state that may enter a front: two parts not joined yet (`right` is `NONE` for a single part).
#[derive(Debug, Clone, Copy)]
struct Candidate {
    cost: f64,
    value: f64,
    left: u32,
    right: u32,
}

/// What prunes and what limits one elimination with Pareto messages.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub problem: &'a Problem,
    pub tree: &'a Tree,
    /// Bounds on completions; the first is used to sort and should be the dual's multiplier.
    pub completions: &'a [Completion],
    /// For each completion, what a state must exceed: `incumbent − λ·budget`, or `−budget` for cost alone.
    pub needed: Vec<f64>,
    /// Values closer than this count as equal.
    pub equal: f64,
    /// Largest number of states in one message.
    pub states: usize,
    /// Largest number of states for one assignment of a scope.
    pub states_per_entry: usize,
    /// Cost bucket of thinning.
    pub bucket: f64,
    pub deadline: Option<Instant>,
}

/// The root's front and what was lost on the way to it.
#[derive(Debug)]
pub(crate) struct Front {
    pub states: Vec<(f64, f64)>,
    nodes: Vec<u32>,
    origins: Origins,
    variables: usize,
    /// Largest excess over `needed` (in value) of any state dropped by thinning, and how many there were.
    pub dropped_excess: f64,
    pub dropped: usize,
    pub out_of_time: bool,
}

impl Front {
    pub(crate) fn choice(&self, state: usize) -> Vec<usize> {
        self.origins.choice(self.nodes[state], self.variables)
    }
}

impl Front {
    fn none(dropped: usize) -> Self {
        Self {
            states: Vec::new(),
            nodes: Vec::new(),
            origins: Origins::default(),
            variables: 0,
            dropped_excess: f64::INFINITY,
            dropped,
            out_of_time: false,
        }
    }
}

/// States per entry once the deadline has passed.
const HURRIED: usize = 16;
/// A whole front is given up once it has cost this many sums for every state it may hold.
const SUMS_PER_STATE: usize = 8;

#[derive(Default)]
struct Work {
    /// Per completion, the best of everything that a state does not include yet.
    rest: Vec<f64>,
    cap: usize,
    candidates: Vec<Candidate>,
    scored: Vec<(f64, u32)>,
    dropped_excess: f64,
    dropped: usize,
    /// Pairs of states met so far.
    sums: usize,
}

impl Work {
    /// Without completions nothing can be said about what is thrown away, so nothing may be.
    fn given_up(&self, pass: &Pass) -> bool {
        self.dropped > 0 && pass.completions.is_empty()
    }
}

impl Pass<'_> {
    /// Eliminates all variables. The problem must have at least one. Without completions (for a whole
    /// front) the pass gives up, with `dropped > 0` and no states, where it would have to thin.
    pub(crate) fn run(&self) -> Front {
        let Tree { buckets } = self.tree;
        let mut messages: Vec<Message> = Vec::with_capacity(buckets.len());
        let mut origins = Origins::default();
        let mut out_of_time = false;
        let mut work = Work::default();
        let mut running: Vec<Candidate> = Vec::new();
        for (at, bucket) in buckets.iter().enumerate() {
            let values = &self.problem.variables[bucket.var].values;
            let leaves: Vec<u32> = (0..bucket.options).map(|option| origins.push(bucket.var as u32 | LEAF, option as u32)).collect();
            let alive: Vec<bool> = (0..bucket.entries).map(|entry| self.alive(at, entry)).collect();
            let share = self.states / alive.iter().filter(|&&alive| alive).count().max(1);
            let share = share.min(self.states_per_entry);
            let mut message = Message { starts: vec![0], ..Message::default() };
            for (entry, alive) in alive.into_iter().enumerate() {
                out_of_time = out_of_time || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
                work.cap = if out_of_time { share.min(HURRIED) } else { share }.max(4);
                let mut joined = std::mem::take(&mut work.candidates);
                joined.clear();
                for option in (0..bucket.options).take_while(|_| alive) {
                    let clique = entry * bucket.options + option;
                    let (cost, value) = (bucket.cost[clique], values[option]);
                    if cost == f64::INFINITY || !self.enter(at, entry, clique, cost, value, &mut work.rest) {
                        continue;
                    }
                    running.clear();
                    running.push(Candidate { cost, value, left: leaves[option], right: NONE });
                    for (nth, (child, map)) in bucket.children.iter().enumerate() {
                        let from = map[clique] as usize;
                        let message = &messages[*child];
                        let span = message.starts[from]..message.starts[from + 1];
                        for (rest, completion) in work.rest.iter_mut().zip(self.completions) {
                            *rest -= completion.upward.messages[*child][from];
                        }
                        let last = nth + 1 == bucket.children.len();
                        if last {
                            self.outside(at, entry, &mut work.rest);
                        }
                        let mut into = if last { std::mem::take(&mut joined) } else { Vec::new() };
                        work.sums += running.len() * span.len();
                        if self.completions.is_empty() && work.sums > SUMS_PER_STATE.saturating_mul(self.states) {
                            work.dropped += 1;
                        }
                        if work.given_up(self) {
                            break;
                        }
                        self.join(&running, message, span, &mut work, &mut into);
                        if last {
                            joined = into;
                        } else {
                            self.settle(&mut into, &mut work);
                            running.clear();
                            running.extend(into.iter().map(|state| Candidate {
                                left: origins.push(state.left, state.right),
                                right: NONE,
                                ..*state
                            }));
                        }
                    }
                    if bucket.children.is_empty() {
                        joined.push(running[0]);
                    }
                }
                self.outside(at, entry, &mut work.rest);
                self.settle(&mut joined, &mut work);
                for state in &joined {
                    message.costs.push(state.cost);
                    message.values.push(state.value);
                    let whole = state.right == NONE;
                    message.nodes.push(if whole { state.left } else { origins.push(state.left, state.right) });
                }
                message.starts.push(message.costs.len());
                work.candidates = joined;
                if work.given_up(self) {
                    return Front::none(work.dropped);
                }
            }
            for (child, _) in &bucket.children {
                messages[*child] = Message::default();
            }
            messages.push(message);
        }
        let root = messages.pop().unwrap_or_default();
        Front {
            states: root.costs.into_iter().zip(root.values).collect(),
            nodes: root.nodes,
            origins,
            variables: self.problem.variables.len(),
            dropped_excess: work.dropped_excess,
            dropped: work.dropped,
            out_of_time,
        }
    }

    /// Whether anything useful can pass through this scope entry.
    fn alive(&self, at: usize, entry: usize) -> bool {
        self.completions
            .iter()
            .zip(&self.needed)
            .all(|(completion, &needed)| completion.upward.messages[at][entry] + completion.downward[at][entry] > needed)
    }

    /// Sets `rest` to the best of everything but this clique entry's own terms; false when the
    /// entry cannot lead to anything useful.
    fn enter(&self, at: usize, entry: usize, clique: usize, cost: f64, value: f64, rest: &mut Vec<f64>) -> bool {
        rest.clear();
        for (completion, &needed) in self.completions.iter().zip(&self.needed) {
            let mut sum = completion.downward[at][entry];
            for (child, map) in &self.tree.buckets[at].children {
                sum += completion.upward.messages[*child][map[clique] as usize];
            }
            let weights = completion.upward.weights;
            if weights.value * value - weights.cost * cost + sum <= needed {
                return false;
            }
            rest.push(sum);
        }
        true
    }

    fn outside(&self, at: usize, entry: usize, rest: &mut Vec<f64>) {
        rest.clear();
        rest.extend(self.completions.iter().map(|completion| completion.downward[at][entry]));
    }

    /// Whether a state can beat the incumbent within the budget, by the completions from `from` on.
    #[inline]
    fn promising(&self, from: usize, cost: f64, value: f64, rest: &[f64]) -> bool {
        self.completions[from..].iter().zip(&self.needed[from..]).zip(&rest[from..]).all(|((completion, &needed), &rest)| {
            let weights = completion.upward.weights;
            weights.value * value - weights.cost * cost + rest > needed
        })
    }

    /// Minkowski sum of two fronts, without the sums that cannot lead to anything useful.
    fn join(&self, running: &[Candidate], message: &Message, span: std::ops::Range<usize>, work: &mut Work, into: &mut Vec<Candidate>) {
        let (costs, values, nodes) = (&message.costs[span.clone()], &message.values[span.clone()], &message.nodes[span]);
        let ceiling = work.cap.saturating_mul(4).max(1 << 16);
        let Some(first) = self.completions.first() else {
            for a in running {
                for ((&cost, &value), &node) in costs.iter().zip(values).zip(nodes) {
                    into.push(Candidate { cost: a.cost + cost, value: a.value + value, left: a.left, right: node });
                }
                if into.len() > ceiling {
                    self.settle(into, work);
                }
            }
            return;
        };
        let weights = first.upward.weights;
        let score = |cost: f64, value: f64| weights.value * value - weights.cost * cost;
        work.scored.clear();
        work.scored.extend(costs.iter().zip(values).enumerate().map(|(i, (&c, &v))| (score(c, v), i as u32)));
        let mut scored = std::mem::take(&mut work.scored);
        if running.len() > 4 {
            scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        let sorted = running.len() > 4;
        for a in running {
            let least = self.needed[0] - work.rest[0] - score(a.cost, a.value);
            for &(score, nth) in &scored {
                if score <= least {
                    if sorted {
                        break;
                    }
                    continue;
                }
                let nth = nth as usize;
                let (cost, value) = (a.cost + costs[nth], a.value + values[nth]);
                if self.promising(1, cost, value, &work.rest) {
                    into.push(Candidate { cost, value, left: a.left, right: nodes[nth] });
                }
            }
            if into.len() > ceiling {
                self.settle(into, work);
            }
        }
        work.scored = scored;
    }

    /// Sorts, removes what is dominated, and thins to the cap.
    fn settle(&self, states: &mut Vec<Candidate>, work: &mut Work) {
        if states.len() > 1 {
            states.sort_unstable_by(|a, b| a.cost.total_cmp(&b.cost).then(b.value.total_cmp(&a.value)));
            let mut best = f64::NEG_INFINITY;
            states.retain(|state| {
                let kept = state.value > best + self.equal;
                if kept {
                    best = state.value;
                }
                kept
            });
        }
        if states.len() > work.cap {
            if self.completions.is_empty() {
                work.dropped += 1;
            } else {
                self.thin(states, work);
            }
        }
    }

    /// Keeps the most promising state of every cost bucket (and the cheapest of all), and remembers
    /// how good the best of the others could have become.
    fn thin(&self, states: &mut Vec<Candidate>, work: &mut Work) {
        let lowest = states[0].cost;
        let range = states[states.len() - 1].cost - lowest;
        let mut width = self.bucket.min(2.0 * range / work.cap as f64).max(range * 1e-12);
        let number = |state: &Candidate, width: f64| ((state.cost - lowest) / width) as u64;
        loop {
            let mut count = 1;
            let mut last = number(&states[0], width);
            for state in states.iter() {
                let at = number(state, width);
                count += usize::from(at != last);
                last = at;
            }
            if count < work.cap {
                break;
            }
            width *= 2.0;
        }
        let Work { rest, dropped_excess, dropped, .. } = work;
        let multiplier = self.completions.first().map_or(0.0, |first| first.upward.weights.cost);
        let score = |state: &Candidate| state.value - multiplier * state.cost;
        let mut kept = 1;
        let mut from = 1;
        while from < states.len() {
            let at = number(&states[from], width);
            let mut best = from;
            let mut to = from + 1;
            while to < states.len() && number(&states[to], width) == at {
                if score(&states[to]) > score(&states[best]) {
                    best = to;
                }
                to += 1;
            }
            for (nth, state) in states[from..to].iter().enumerate() {
                if from + nth != best {
                    *dropped += 1;
                    *dropped_excess = dropped_excess.max(self.excess(state, rest));
                }
            }
            states[kept] = states[best];
            kept += 1;
            from = to;
        }
        states.truncate(kept);
    }

    /// How far above the incumbent this state could still end.
    fn excess(&self, state: &Candidate, rest: &[f64]) -> f64 {
        let mut least = f64::INFINITY;
        for ((completion, &needed), &rest) in self.completions.iter().zip(&self.needed).zip(rest) {
            let weights = completion.upward.weights;
            if weights.value > 0.0 {
                least = least.min(weights.value * state.value - weights.cost * state.cost + rest - needed);
            }
        }
        least
    }
}
