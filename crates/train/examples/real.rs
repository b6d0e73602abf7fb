//! Evaluates and times networks on real data: `real MODEL DATA NORMALIZATION [train STEPS]`.
use std::ops::ControlFlow;
use std::time::Instant;

use secateur_train::{data::*, *};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let model = graph::Model::load(&args[1])?;
    let mut network = Network::compile(&model)?;
    let options = Options::for_network(&network, args[3].parse()?)?;
    let t = Instant::now();
    let data = Dataset::open(&args[2].parse()?, options)?;
    println!("opened {} in {:?}", data.name(), t.elapsed());
    let t = Instant::now();
    println!("{:?} in {:?}", evaluate(&network, &data, Split::Test, None)?, t.elapsed());
    if let Some(steps) = args.get(5).and_then(|s| s.parse::<usize>().ok()) {
        let mut recipe = Recipe::cifar(1.0);
        recipe.batch_size = args.get(6).and_then(|s| s.parse().ok()).unwrap_or(128);
        recipe.lr = 0.01;
        let mut times = Vec::new();
        let mut last = Instant::now();
        let mut watch = |p: &Progress| {
            times.push(last.elapsed().as_secs_f64());
            last = Instant::now();
            if p.step.is_multiple_of(20) {
                println!("{} loss {:.4} acc {:.3} left {:?}", p.step, p.loss, p.accuracy, p.left);
            }
            if p.step >= steps { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let report = fit(&mut network, None, &data, &recipe, &mut Hooks { progress: Some(&mut watch), ..Default::default() })?;
        times.sort_by(f64::total_cmp);
        println!("{report:?}\nbest step {:.1} ms, median {:.1} ms", times[0] * 1e3, times[times.len() / 2] * 1e3);
        println!("{:?}", evaluate(&network, &data, Split::Test, None)?);
    }
    Ok(())
}
