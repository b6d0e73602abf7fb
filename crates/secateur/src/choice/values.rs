//! What options are worth.

use graph::GroupId;

use super::{GroupOptions, Space, Widths};
use crate::analysis::Analysis;
use crate::saliency::Saliency;

/// Value of every option: per group and count, and per branch (added while it is there).
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// `[group position][option]`
    pub groups: Vec<Vec<f64>>,
    /// `[branch position]`
    pub branches: Vec<f64>,
}

impl Values {
    /// Kept saliency, as the methods of the literature maximise it.
    pub fn kept_saliency(space: &Space, saliency: &Saliency) -> Self {
        let of = |g: &GroupOptions| {
            let sums = saliency.prefix_sums(g.group);
            g.counts.iter().map(|&c| sums.get(c).or(sums.last()).copied().unwrap_or(0.0)).collect()
        };
        Self { groups: space.groups.iter().map(of).collect(), branches: vec![0.0; space.branches.len()] }
    }

    /// Every channel is worth the weights of the layers that write and read it, the layers' other side as wide as it is: at a
    /// latency, the largest network. A branch is worth what lives in it.
    pub fn kept_weights(space: &Space, a: &Analysis) -> Self {
        let widths = Widths::new(&a.groups, &a.priced, space);
        let weights = |l: usize| {
            let weight = a.graph.node(a.priced[l].node).input(1).and_then(|v| a.facts.shape(v));
            weight.map_or(0.0, |s| s.iter().product::<usize>() as f64)
        };
        let share = |l: usize, g: GroupId, count: usize| {
            let area = |(i, o): (usize, usize)| (i * o) as f64;
            area(widths.of(l, &|x| (x == g).then_some(count))) / area(widths.of(l, &|_| None)).max(1.0)
        };
        let touches = |l: usize, g: GroupId| a.priced[l].inputs.iter().chain(&a.priced[l].outputs).any(|(x, _)| *x == g);
        let of = |g: GroupId, count: usize| (0..a.priced.len()).filter(|&l| touches(l, g)).map(|l| weights(l) * share(l, g, count)).sum();
        let group = |o: &GroupOptions| o.counts.iter().map(|&c| if c == 0 { 0.0 } else { of(o.group, c) }).collect();
        Self { groups: space.groups.iter().map(group).collect(), branches: vec![0.0; space.branches.len()] }
    }

    /// What lives in removable branches counted `balance` times.
    pub fn weighted(&self, space: &Space, balance: f64) -> Self {
        let group =
            |(g, v): (&GroupOptions, &Vec<f64>)| if g.branch.is_some() { v.iter().map(|x| x * balance).collect() } else { v.clone() };
        Self {
            groups: space.groups.iter().zip(&self.groups).map(group).collect(),
            branches: self.branches.iter().map(|v| v * balance).collect(),
        }
    }

    /// Both, each as a share of what it is worth to keep everything.
    pub fn mixed(&self, other: &Self, space: &Space) -> Self {
        let share = |v: &Self| 1.0 / v.total(&space.keep_all()).max(f64::MIN_POSITIVE);
        let (a, b) = (share(self), share(other));
        let sum = |x: &Vec<f64>, y: &Vec<f64>| x.iter().zip(y).map(|(x, y)| a * x + b * y).collect();
        Self {
            groups: self.groups.iter().zip(&other.groups).map(|(x, y)| sum(x, y)).collect(),
            branches: sum(&self.branches, &other.branches),
        }
    }

    /// Every group's and branch's values times a factor of its own, drawn from `factor`.
    pub fn perturbed(&self, factor: &mut dyn FnMut() -> f64) -> Self {
        let mut scaled = |v: &Vec<f64>| {
            let f = factor();
            v.iter().map(|x| x * f).collect()
        };
        let groups = self.groups.iter().map(&mut scaled).collect();
        Self { groups, branches: self.branches.iter().map(|x| x * factor()).collect() }
    }

    /// Value of a choice, what every solver maximises.
    pub fn total(&self, choice: &[usize]) -> f64 {
        let (groups, branches) = choice.split_at(self.groups.len());
        let of_groups: f64 = self.groups.iter().zip(groups).map(|(v, &k)| v[k]).sum();
        of_groups + self.branches.iter().zip(branches).filter(|(_, b)| **b == 1).map(|(v, _)| v).sum::<f64>()
    }
}
