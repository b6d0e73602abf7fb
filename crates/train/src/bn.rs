//! Statistics of batch normalisation outside the training pass.

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
