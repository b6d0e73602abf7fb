//! How well a small residual network learns the procedural image set:
//! `synthetic [TRAIN EPOCHS LR WIDTHS…]`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::ops::ControlFlow;

use secateur_train::data::{Augment, DataSpec, Dataset, Normalization, Options, Split};
use secateur_train::{Hooks, Network, Progress, Recipe, Result, evaluate, fit};

fn main() -> Result<()> {
    let numbers: Vec<f64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let at = |i: usize, default: f64| numbers.get(i).copied().unwrap_or(default);
    let widths: Vec<usize> = numbers.iter().skip(3).map(|w| *w as usize).collect();
    let widths = if widths.is_empty() { vec![16, 32, 64] } else { widths };
    let mut network = Network::compile(&support::residual(&widths, 32, 10, 1))?;
    let options = Options::for_network(&network, Normalization::imagenet())?;
    let data = Dataset::open(&DataSpec::Synthetic { train: at(0, 8000.0) as usize, test: 2000, seed: 0 }, options)?;
    let recipe = Recipe {
        epochs: at(1, 5.0),
        lr: at(2, 0.1) as f32,
        batch_size: 64,
        augment: Augment { flip: false, pad_crop: Some(2), ..Augment::none() },
        ..Recipe::default()
    };
    let mut watch = |p: &Progress| {
        if p.step.is_multiple_of(50) {
            println!("step {} of {}: loss {:.3}, accuracy {:.2}, {:?}", p.step, p.steps, p.loss, p.accuracy, p.elapsed);
        }
        ControlFlow::Continue(())
    };
    println!("{:?}", fit(&mut network, None, &data, &recipe, &mut Hooks { progress: Some(&mut watch), ..Hooks::default() })?);
    println!("{:?}", evaluate(&network, &data, Split::Test, None)?);
    Ok(())
}
