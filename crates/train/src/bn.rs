//! Statistics of batch normalisation outside the training pass.

use crate::backend::BatchStatistics;
use crate::data::{Augment, Dataset, Split};
use crate::error::Result;
use crate::network::{Mode, Network};

/// `scale·(x − mean)/√(variance + epsilon) + shift` as `a·x + b`, per channel.
pub fn affine(scale: &[f32], shift: &[f32], mean: &[f32], variance: &[f32], epsilon: f32) -> (Vec<f32>, Vec<f32>) {
    scale
        .iter()
        .zip(shift)
        .zip(mean.iter().zip(variance))
        .map(|((scale, shift), (mean, variance))| {
            let a = scale / (variance + epsilon).sqrt();
            (a, shift - mean * a)
        })
        .unzip()
}

/// Replaces the running statistics by the plain averages of those of `batches` training batches
/// (means of means and of unbiased variances; over all nodes that share them), parameters untouched.
///
/// # Errors
/// Data that do not fit the network.
pub fn reestimate(network: &mut Network, data: &Dataset, batches: usize, batch_size: usize, augment: &Augment, seed: u64) -> Result<usize> {
    if network.running().is_empty() || batches == 0 {
        return Ok(0);
    }
    let mut sums: Vec<Sums> = network.running().iter().map(|r| Sums::new(r.mean.len())).collect();
    let mut used = 0;
    let mut epoch = 0;
    while used < batches {
        for batch in data.epoch(Split::Train, batch_size, augment, seed, epoch, 0)?.take(batches - used) {
            for (index, statistics) in network.statistics(&batch?, Mode::Train)? {
                sums[index].add(&statistics);
            }
            used += 1;
        }
        epoch += 1;
    }
    for (running, sums) in network.running_mut().iter_mut().zip(sums).filter(|(_, s)| s.count > 0.0) {
        running.mean = sums.mean.into_iter().map(|s| (s / sums.count) as f32).collect();
        running.variance = sums.variance.into_iter().map(|s| (s / sums.count) as f32).collect();
    }
    Ok(used)
}

/// Sums of the statistics of batches, and of how many: of more than there are batches, where nodes share their statistics.
struct Sums {
    mean: Vec<f64>,
    variance: Vec<f64>,
    count: f64,
}

impl Sums {
    fn new(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], variance: vec![0.0; channels], count: 0.0 }
    }

    fn add(&mut self, batch: &BatchStatistics) {
        let unbiased = batch.count as f64 / (batch.count.max(2) - 1) as f64;
        self.mean.iter_mut().zip(&batch.mean).for_each(|(s, m)| *s += f64::from(*m));
        self.variance.iter_mut().zip(&batch.variance).for_each(|(s, v)| *s += f64::from(*v) * unbiased);
        self.count += 1.0;
    }
}
