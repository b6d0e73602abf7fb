//! Training steps on fixed numbers, to profile: `steps MODEL STEPS BATCH`.
use secateur_train::data::Batch;
use secateur_train::optim::State;
use secateur_train::{Mode, Network, Recipe, Result, backward};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let mut network = Network::compile(&graph::Model::load(&arguments[1])?)?;
    let (steps, batch) = (number(2, 10), number(3, 128));
    let images = Batch {
        inputs: (0..batch * 3072).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect(),
        shape: vec![batch, 3, 32, 32],
        labels: (0..batch as u32).map(|i| i % 10).collect(),
    };
    let recipe = Recipe::default();
    let mut state = State::new(&network);
    for _ in 0..steps {
        let start = std::time::Instant::now();
        let step = backward(&network, &images, &recipe.objective(), None, Mode::Train, 0)?;
        recipe.optimizer.step(network.params_mut(), &step.gradients, &mut state, 1e-5, recipe.weight_decay);
        network.update_running(&step.statistics);
        println!("{:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}
