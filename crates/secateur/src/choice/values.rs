//! What options are worth.

use std::collections::BTreeMap;

use graph::{BranchId, GroupId};

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
    /// latency, the largest network. A branch is worth what lives in it; without channels of its own, the weights of its layers.
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
        let branch = |(b, id): (usize, &BranchId)| {
            let without = space.groups.iter().all(|g| g.branch != Some(b));
            let inside = |l: &usize| a.groups.branch(*id).nodes.contains(&a.priced[*l].node);
            if without { (0..a.priced.len()).filter(inside).map(weights).sum() } else { 0.0 }
        };
        Self { groups: space.groups.iter().map(group).collect(), branches: space.branches.iter().enumerate().map(branch).collect() }
    }

    /// The channels inside a branch share out the measured `damage` of losing it in proportion to what they are worth here, and all
    /// other channels are brought to the same scale. A branch without channels of its own is worth its damage.
    pub(crate) fn sharing_out(mut self, space: &Space, damage: &BTreeMap<BranchId, f64>) -> Self {
        let mut sums = vec![0.0; space.branches.len()];
        for (g, v) in space.groups.iter().zip(&self.groups) {
            if let (Some(b), Some(&all)) = (g.branch, v.last()) {
                sums[b] += all;
            }
        }
        let of = |b: usize| damage.get(&space.branches[b]).copied().unwrap_or(0.0);
        let total_damage: f64 = (0..sums.len()).filter(|&b| sums[b] > 0.0).map(of).sum();
        let total: f64 = sums.iter().sum();
        let common = if total > 0.0 && total_damage > 0.0 { total_damage / total } else { 1.0 };
        for (g, v) in space.groups.iter().zip(&mut self.groups) {
            let factor = match g.branch {
                Some(b) if sums[b] > 0.0 => of(b) / sums[b],
                _ => common,
            };
            v.iter_mut().for_each(|x| *x *= factor);
        }
        for (b, value) in self.branches.iter_mut().enumerate().filter(|(b, _)| sums[*b] <= 0.0) {
            *value = of(b);
        }
        self
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

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u32, branch: Option<usize>) -> GroupOptions {
        GroupOptions { group: GroupId(id), counts: if branch.is_some() { vec![0, 2, 4] } else { vec![2, 4] }, branch }
    }

    #[test]
    fn a_branch_is_worth_its_damage_whether_or_not_channels_live_in_it() {
        // Two groups in the first branch, one outside, nothing in the second.
        let space = Space { groups: vec![group(0, Some(0)), group(1, None), group(2, Some(0))], branches: vec![BranchId(0), BranchId(1)] };
        let values = Values { groups: vec![vec![0.0, 2.0, 3.0], vec![4.0, 5.0], vec![0.0, 1.0, 1.0]], branches: vec![0.0; 2] };
        let damage = BTreeMap::from([(BranchId(0), 0.8), (BranchId(1), 0.5)]);
        let shared = values.sharing_out(&space, &damage);
        let without = |b: usize| {
            let mut choice = space.keep_all();
            choice[space.groups.len() + b] = 0;
            space.canonical(&mut choice);
            shared.total(&space.keep_all()) - shared.total(&choice)
        };
        assert!((without(0) - 0.8).abs() < 1e-12 && (without(1) - 0.5).abs() < 1e-12, "{shared:?}");
        // Damage per saliency inside, for what is outside as well.
        assert_eq!(shared.groups[1], [4.0 * 0.2, 5.0 * 0.2]);
    }
}
