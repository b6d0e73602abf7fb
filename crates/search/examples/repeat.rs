//! Solves one joint problem of ResNet-101's size again and again, so that `time` can tell the
//! processor time of a solve even on a busy machine.
//!
//! `time target/release/examples/repeat SEED BUDGET widths|removal TIMES`

#[path = "../benches/network/mod.rs"]
mod network;

use std::time::Instant;

use network::Network;
use secateur_search::{Limits, joint};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [seed, target, options, times] = arguments.as_slice() else {
        return Err("usage: repeat SEED BUDGET widths|removal TIMES, as in `repeat 101 0.3 removal 25`".into());
    };
    let (target, times): (f64, usize) = (target.parse()?, times.parse::<usize>()?.max(1));
    let network = Network::resnet101(seed.parse()?);
    let full = network.dense();
    let problem = network.joint(options == "removal");
    let mut seconds = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        let solution = joint::solve(&problem, network.latency(&full) * target, &Limits::default())?;
        seconds.push(start.elapsed().as_secs_f64());
        if seconds.len() == times {
            println!("kept {:.4}, {:?}", solution.value / network.kept(&full), solution.stop);
        }
    }
    seconds.sort_by(f64::total_cmp);
    println!("wall clock: least {:.3} s, median {:.3} s, most {:.3} s", seconds[0], seconds[times / 2], seconds[times - 1]);
    Ok(())
}
