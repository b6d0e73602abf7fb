//! One training step of the CIFAR ResNet-20: forward, backward, optimizer.
//!
//! `SECATEUR_DATA=… RAYON_NUM_THREADS=2 cargo bench -p secateur-train --bench step`, beside
//! `python crates/train/benches/step_torch.py` for the same step in PyTorch.

use criterion::{Criterion, criterion_group, criterion_main};
use secateur_train::data::Batch;
use secateur_train::optim::State;
use secateur_train::{Mode, Network, Recipe, backward};

fn step(c: &mut Criterion) {
    let Some(folder) = std::env::var_os("SECATEUR_DATA") else {
        println!("skipped: SECATEUR_DATA is not set");
        return;
    };
    for (name, batch) in [("resnet20", 64), ("resnet20", 128), ("resnet56", 128)] {
        let file = std::path::Path::new(&folder).join(format!("models/cifar10_{name}_akamaster.onnx"));
        let Ok(model) = graph::Model::load(&file) else {
            println!("skipped: {} cannot be read", file.display());
            continue;
        };
        let Ok(mut network) = Network::compile(&model) else { continue };
        let images = Batch {
            inputs: (0..batch * 3072).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect(),
            shape: vec![batch, 3, 32, 32],
            labels: (0..batch as u32).map(|i| i % 10).collect(),
        };
        let recipe = Recipe { lr: 1e-5, ..Recipe::default() };
        let mut state = State::new(&network);
        let mut group = c.benchmark_group("training step");
        group.sample_size(10);
        group.bench_function(format!("{name}, batch {batch}"), |b| {
            b.iter(|| {
                if let Ok(step) = backward(&network, &images, &recipe.objective(), None, Mode::Train, 0) {
                    recipe.optimizer.step(network.params_mut(), &step.gradients, &mut state, recipe.lr, recipe.weight_decay);
                    network.update_running(&step.statistics);
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
