//! Statistics of batch normalisation outside the training pass.

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
/// (means of means and of unbiased variances), parameters untouched.
///
/// # Errors
/// Data that do not fit the network.
pub fn reestimate(network: &mut Network, data: &Dataset, batches: usize, batch_size: usize, augment: &Augment, seed: u64) -> Result<usize> {
    if network.running().is_empty() || batches == 0 {
        return Ok(0);
    }
    let mut sums: Vec<(Vec<f64>, Vec<f64>)> =
        network.running().iter().map(|r| (vec![0.0; r.mean.len()], vec![0.0; r.mean.len()])).collect();
    let mut used = 0;
    let mut epoch = 0;
    while used < batches {
        for batch in data.epoch(Split::Train, batch_size, augment, seed, epoch, 0)?.take(batches - used) {
            for (index, statistics) in network.statistics(&batch?, Mode::Train)? {
                let unbiased = statistics.count as f64 / (statistics.count.max(2) - 1) as f64;
                let (mean, variance) = &mut sums[index];
                mean.iter_mut().zip(&statistics.mean).for_each(|(s, m)| *s += f64::from(*m));
                variance.iter_mut().zip(&statistics.variance).for_each(|(s, v)| *s += f64::from(*v) * unbiased);
            }
            used += 1;
        }
        epoch += 1;
    }
    for (running, (mean, variance)) in network.running_mut().iter_mut().zip(sums) {
        running.mean = mean.into_iter().map(|s| (s / used as f64) as f32).collect();
        running.variance = variance.into_iter().map(|s| (s / used as f64) as f32).collect();
    }
    Ok(used)
}
