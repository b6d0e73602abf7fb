//! The linearised problem of HALP (Shen et al., NeurIPS 2022): every group is an ordered list of
//! chunks of channels, most salient first, each with a value and a cost of its own; a group keeps a prefix.
//!
//! [`published`] is the programme as the paper gives it, greedy in which chunks it builds upon;
//! [`exact`] solves the same problem optimally on the same cost grid, a multiple-choice knapsack over
//! prefixes; [`exact_continuous`] needs no grid. Costs may be negative: real latency tables are not monotone.

use serde::{Deserialize, Serialize};

use crate::{Error, Factor, Limits, Problem, Variable, joint};

/// A run of a group's channels, taken or left together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// What keeping it is worth.
    pub value: f64,
    /// What keeping it costs on top of the chunks before it; negative where the table is not monotone.
    pub cost: f64,
}

/// Chunks in the order in which they are kept, most salient first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Name used in messages.
    pub name: String,
    /// How many chunks are always kept.
    pub min_chunks: usize,
    /// The chunks, most salient first.
    pub chunks: Vec<Chunk>,
}

/// How many chunks each group keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prefixes {
    /// Chunks kept, per group.
    pub kept: Vec<usize>,
    /// Total value of the kept chunks.
    pub value: f64,
    /// Total true (not discretised) cost of the kept chunks.
    pub cost: f64,
    /// The budget it was solved for.
    pub budget: f64,
}

/// The published programme: dynamic programming over chunks, most salient first, in which a chunk may
/// be taken at capacity `c` only if it is the first of its group or the table's own optimum at
/// `c − cost` holds its predecessor. `O(chunks · resolution)` table cells.
///
/// Not optimal: an optimum that does not hold a predecessor hides every solution that does. Costs are
/// rounded up on a grid of `resolution` cells between the least attainable cost and the budget, so
/// the budget is kept. The first `min_chunks` chunks of a group count as taken beforehand; should they
/// not fit by themselves although longer prefixes with negative costs do, the cheapest prefixes do.
///
/// # Errors
/// [`Error::Group`] and [`Error::Argument`] for malformed input; [`Error::Infeasible`] with the floor.
pub fn published(groups: &[Group], budget: f64, resolution: usize) -> Result<Prefixes, Error> {
    let grid = Grid::new(groups, budget, resolution)?;
    let least: Vec<usize> = groups.iter().map(|group| group.min_chunks).collect();
    let kept = match greedy(groups, &grid, &least) {
        Some(kept) => kept,
        None => greedy(groups, &grid, &grid.cheapest).unwrap_or_else(|| grid.cheapest.clone()),
    };
    Ok(grid.prefixes(groups, kept))
}

/// The exact choice of prefixes: `F_g[c] = max_k F_{g−1}[c − cost_k] + value_k`, the multiple-choice
/// knapsack, on the same grid and with the same rounding as [`published`] (so never worse than it).
/// `O(chunks · resolution)`.
///
/// # Errors
/// [`Error::Group`] and [`Error::Argument`] for malformed input; [`Error::Infeasible`] with the floor.
pub fn exact(groups: &[Group], budget: f64, resolution: usize) -> Result<Prefixes, Error> {
    let grid = Grid::new(groups, budget, resolution)?;
    let mut best = vec![0.0f64; resolution + 1];
    let mut taken: Vec<Vec<u32>> = Vec::with_capacity(groups.len());
    for (group, cells) in groups.iter().zip(&grid.cells) {
        let mut next = vec![f64::NEG_INFINITY; resolution + 1];
        let mut choice = vec![0u32; resolution + 1];
        let mut value: f64 = group.chunks[..group.min_chunks].iter().map(|chunk| chunk.value).sum();
        for length in group.min_chunks..=group.chunks.len() {
            if length > group.min_chunks {
                value += group.chunks[length - 1].value;
            }
            let cost = cells[length - group.min_chunks];
            for at in cost..=resolution {
                let sum = best[at - cost] + value;
                if sum > next[at] {
                    next[at] = sum;
                    choice[at] = length as u32;
                }
            }
        }
        best = next;
        taken.push(choice);
    }
    let mut at = resolution;
    let mut kept = vec![0; groups.len()];
    for nth in (0..groups.len()).rev() {
        kept[nth] = taken[nth][at] as usize;
        at -= grid.cells[nth][kept[nth] - groups[nth].min_chunks];
    }
    Ok(grid.prefixes(groups, kept))
}

/// The exact choice of prefixes with the costs as they are: [`joint::solve`] on one variable per
/// group (its options are the prefix lengths).
///
/// # Errors
/// [`Error::Group`] and [`Error::Argument`] for malformed input; [`Error::Infeasible`] with the floor.
pub fn exact_continuous(groups: &[Group], budget: f64) -> Result<Prefixes, Error> {
    check(groups)?;
    let solution = joint::solve(&problem(groups), budget, &Limits { max_states: usize::MAX, ..Limits::default() })?;
    let kept = solution.choice.iter().zip(groups).map(|(length, group)| length + group.min_chunks).collect();
    Ok(Prefixes { kept, value: solution.value, cost: solution.cost, budget })
}

/// The linearised problem as a [`Problem`]: one variable per group, option `k` keeps `min_chunks + k` chunks.
///
/// # Panics
/// When `min_chunks` exceeds the number of chunks.
pub fn problem(groups: &[Group]) -> Problem {
    let mut problem = Problem::default();
    for (index, group) in groups.iter().enumerate() {
        let (values, costs) = prefix_sums(group);
        problem.variables.push(Variable { name: group.name.clone(), values });
        problem.factors.push(Factor { name: group.name.clone(), vars: vec![index], costs });
    }
    problem
}

/// Values and costs of the prefixes from `min_chunks` on.
fn prefix_sums(group: &Group) -> (Vec<f64>, Vec<f64>) {
    let sums = |of: fn(&Chunk) -> f64| {
        let first: f64 = group.chunks[..group.min_chunks].iter().map(of).sum();
        let mut sums = vec![first];
        for chunk in &group.chunks[group.min_chunks..] {
            sums.push(sums[sums.len() - 1] + of(chunk));
        }
        sums
    };
    (sums(|chunk| chunk.value), sums(|chunk| chunk.cost))
}

fn check(groups: &[Group]) -> Result<(), Error> {
    for (index, group) in groups.iter().enumerate() {
        let refuse = |cause: String| Err(Error::Group { index, name: group.name.clone(), cause });
        if group.min_chunks > group.chunks.len() {
            return refuse(format!("it must keep {} chunks but has only {}; lower the minimum", group.min_chunks, group.chunks.len()));
        }
        if let Some(at) = group.chunks.iter().position(|chunk| !(chunk.value.is_finite() && chunk.cost.is_finite())) {
            let Chunk { value, cost } = group.chunks[at];
            return refuse(format!("chunk {at} has value {value} and cost {cost}; both must be finite numbers"));
        }
    }
    Ok(())
}

/// Prefix costs in cells, rounded up, above each group's cheapest prefix.
struct Grid {
    budget: f64,
    resolution: usize,
    /// `cells[group][k]`: cells of the prefix of `min_chunks + k` chunks; 0 for the cheapest.
    cells: Vec<Vec<usize>>,
    /// Length of each group's cheapest prefix.
    cheapest: Vec<usize>,
}

impl Grid {
    fn new(groups: &[Group], budget: f64, resolution: usize) -> Result<Self, Error> {
        check(groups)?;
        if !budget.is_finite() {
            let cause = "the grid needs a finite budget; use the sum of all costs for \"no limit\"";
            return Err(Error::Argument { name: "budget", value: budget, cause });
        }
        if resolution == 0 {
            let cause = "the grid needs at least one cell; 1000 or more keep the rounding small";
            return Err(Error::Argument { name: "resolution", value: 0.0, cause });
        }
        let costs: Vec<Vec<f64>> = groups.iter().map(|group| prefix_sums(group).1).collect();
        let least = |costs: &Vec<f64>| (1..costs.len()).fold(0, |best, length| if costs[length] < costs[best] { length } else { best });
        let cheapest: Vec<usize> = costs.iter().map(least).collect();
        let floor: f64 = costs.iter().zip(&cheapest).map(|(costs, &length)| costs[length]).sum();
        let scale: f64 = costs.iter().flatten().map(|cost| cost.abs()).sum();
        let room = budget - floor;
        if room < -1e-12 * scale {
            return Err(Error::Infeasible { floor });
        }
        let cell = room.max(0.0) / resolution as f64;
        // A cost that is a whole number of cells up to rounding must not become one cell more.
        let cells_of = |above: f64| match above / cell {
            _ if above <= 0.0 => 0,
            cells if cells > resolution as f64 * (1.0 + 1e-12) => resolution + 1,
            cells => (cells * (1.0 - 1e-12)).ceil() as usize,
        };
        let cells = costs
            .iter()
            .zip(&cheapest)
            .map(|(costs, &cheapest)| costs.iter().map(|cost| cells_of(cost - costs[cheapest])).collect())
            .collect();
        let cheapest = cheapest.iter().zip(groups).map(|(length, group)| length + group.min_chunks).collect();
        Ok(Self { budget, resolution, cells, cheapest })
    }

    fn prefixes(&self, groups: &[Group], kept: Vec<usize>) -> Prefixes {
        let total = |of: fn(&Chunk) -> f64| groups.iter().zip(&kept).flat_map(|(group, &kept)| &group.chunks[..kept]).map(of).sum();
        let (value, cost) = (total(|chunk| chunk.value), total(|chunk| chunk.cost));
        Prefixes { kept, value, cost, budget: self.budget }
    }
}

/// The published table, starting from prefixes that are held anyway. `None` when they do not fit and
/// no sequence of chunks with negative costs leads from them into the budget.
fn greedy(groups: &[Group], grid: &Grid, held: &[usize]) -> Option<Vec<usize>> {
    struct Item {
        group: usize,
        chunk: usize,
        rank: f64,
        value: f64,
        cells: i64,
    }
    let mut items = Vec::new();
    for (index, (group, cells)) in groups.iter().zip(&grid.cells).enumerate() {
        let mut rank = f64::INFINITY;
        for chunk in held[index]..group.chunks.len() {
            let value = group.chunks[chunk].value;
            // A chunk is never ranked before its predecessor, even if it is worth more.
            rank = value.min(rank);
            let at = chunk - group.min_chunks;
            items.push(Item { group: index, chunk, rank, value, cells: cells[at + 1] as i64 - cells[at] as i64 });
        }
    }
    items.sort_by(|a, b| b.rank.total_cmp(&a.rank));
    let start: usize = held.iter().zip(groups).zip(&grid.cells).map(|((held, group), cells)| cells[held - group.min_chunks]).sum();
    // Beyond the budget there is room for what negative costs bring back.
    let refunds: usize = items.iter().map(|item| (-item.cells).max(0) as usize).sum();
    let capacity = grid.resolution + refunds;
    if start > capacity {
        return None;
    }
    // Held items of each capacity's optimum, one bit each.
    let words = items.len().div_ceil(64).max(1);
    let mut predecessor = vec![usize::MAX; items.len()];
    let mut last = vec![usize::MAX; groups.len()];
    for (nth, item) in items.iter().enumerate() {
        predecessor[nth] = std::mem::replace(&mut last[item.group], nth);
    }
    let mut best = vec![f64::NEG_INFINITY; capacity + 1];
    best[start..].fill(0.0);
    let mut holds = vec![0u64; (capacity + 1) * words];
    let (mut next, mut next_holds) = (best.clone(), holds.clone());
    for (nth, item) in items.iter().enumerate() {
        for at in 0..=capacity {
            let row = at * words..(at + 1) * words;
            next[at] = best[at];
            next_holds[row.clone()].copy_from_slice(&holds[row.clone()]);
            let from = at as i64 - item.cells;
            if from < 0 || from > capacity as i64 {
                continue;
            }
            let from = from as usize;
            let bits = &holds[from * words..(from + 1) * words];
            let before = predecessor[nth];
            let builds = before == usize::MAX || bits[before / 64] >> (before % 64) & 1 == 1;
            if builds && best[from] + item.value > best[at] {
                next[at] = best[from] + item.value;
                next_holds[row.clone()].copy_from_slice(bits);
                next_holds[row.start + nth / 64] |= 1 << (nth % 64);
            }
        }
        std::mem::swap(&mut best, &mut next);
        std::mem::swap(&mut holds, &mut next_holds);
    }
    let at = grid.resolution;
    if best[at] == f64::NEG_INFINITY {
        return None;
    }
    let mut kept = held.to_vec();
    for (nth, item) in items.iter().enumerate() {
        if holds[at * words + nth / 64] >> (nth % 64) & 1 == 1 {
            kept[item.group] = item.chunk + 1;
        }
    }
    Some(kept)
}
