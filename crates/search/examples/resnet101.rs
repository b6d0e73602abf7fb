//! What the solvers keep, and how long they take, on a problem of ResNet-101's size.
//!
//! `cargo run --release -p secateur-search --example resnet101`

#[path = "../benches/network/mod.rs"]
mod network;

use std::time::Instant;

use network::Network;
use secateur_search::knapsack::{self, Group, Prefixes};
use secateur_search::{Error, Limits, joint};

const CELLS: usize = 4000;
type Solver = fn(&[Group], f64, usize) -> Result<Prefixes, Error>;

/// HALP's schedule: `steps` budgets `C_0·(C/C_0)^(t/k)`, each linearised at the widths reached.
fn scheduled(network: &Network, target: f64, steps: usize, solver: Solver) -> Result<(f64, f64), Error> {
    let mut widths = network.dense();
    let dense = network.latency(&widths);
    for step in 1..=steps {
        let budget = dense * target.powf(step as f64 / steps as f64);
        widths = solver(&network.linearised(&widths), budget, CELLS)?.kept;
    }
    Ok((network.kept(&widths), network.latency(&widths) / dense))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seed = std::env::args().nth(1).map_or(Ok(101), |seed| seed.parse())?;
    let network = Network::resnet101(seed);
    let dense = network.dense();
    let (all, full) = (network.kept(&dense), network.latency(&dense));
    let (narrow, removable) = (network.joint(false), network.joint(true));
    println!(
        "seed {seed}: {} groups, {} layers, {} removable blocks, {} options; dense {:.0} us",
        network.groups.len(),
        network.layers.len(),
        network.blocks,
        removable.variables.iter().map(|variable| variable.values.len()).sum::<usize>(),
        full
    );
    let floor = |problem| -> Result<f64, Error> { Ok(joint::min_cost(problem, &Limits::default())?.cost / full) };
    println!("floor: {:.3} of dense by width alone, {:.3} with block removal\n", floor(&narrow)?, floor(&removable)?);

    println!("One linearised step, same table and grid ({CELLS} cells): share of all saliency kept");
    println!("budget  published  exact   published/exact  published s  exact s");
    let groups = network.linearised(&dense);
    for target in [0.80, 0.55, 0.40, 0.30, 0.20] {
        let timed = |solver: Solver| -> Result<(f64, f64), Error> {
            let start = Instant::now();
            let kept = solver(&groups, full * target, CELLS)?.value;
            Ok((kept, start.elapsed().as_secs_f64()))
        };
        let ((greedy, greedy_s), (exact, exact_s)) = match (timed(knapsack::published), timed(knapsack::exact)) {
            (Err(Error::Infeasible { floor }), _) => {
                println!("{target:<6}  below the linearised floor of {:.3}", floor / full);
                continue;
            }
            (greedy, exact) => (greedy?, exact?),
        };
        println!(
            "{target:<6}  {:.4}     {:.4}  {:.4}           {greedy_s:.3}        {exact_s:.3}",
            greedy / all,
            exact / all,
            greedy / exact
        );
    }

    println!("\nShare of all saliency kept (share of dense latency reached)");
    println!("budget  1 step         30 published   30 exact       joint          joint+removal  joint s  +removal s  gap");
    for target in [0.80, 0.55, 0.40, 0.30, 0.20] {
        let mut row = format!("{target:<6}");
        for (steps, solver) in [(1, knapsack::exact as Solver), (30, knapsack::published), (30, knapsack::exact)] {
            row += &match scheduled(&network, target, steps, solver) {
                Ok((kept, latency)) => format!("  {:.4} ({latency:.3})", kept / all),
                Err(Error::Infeasible { .. }) => "  none          ".into(),
                Err(error) => return Err(error.into()),
            };
        }
        let mut seconds = Vec::new();
        let mut gap = 0.0f64;
        for problem in [&narrow, &removable] {
            let start = Instant::now();
            let solution = joint::solve(problem, full * target, &Limits::default())?;
            seconds.push(start.elapsed().as_secs_f64());
            gap = gap.max(solution.gap());
            row += &format!("  {:.4} ({:.3})", solution.value / all, solution.cost / full);
        }
        println!("{row}  {:.3}    {:.3}       {gap:.1e}", seconds[0], seconds[1]);
    }

    let start = Instant::now();
    let front = joint::frontier(&removable, &Limits::default())?;
    let gap = front.iter().map(|point| point.gap()).fold(0.0, f64::max);
    println!("\nfrontier with removal: {} points, {:.2} s, largest gap {gap:.1e}", front.len(), start.elapsed().as_secs_f64());
    Ok(())
}
