//! Towards another network's outputs, all of them and nothing else: a loss, its random projections, and an agreement. What is
//! used where there are no labels.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backward::{Step, backward_with};
use crate::data::{Augment, Batch, Dataset, Split};
use crate::error::{Error, Result};
use crate::evaluate::{all_outputs, best};
use crate::loss::{Loss, distillation, softmax};
use crate::network::{Mode, Network};

use burn_backend::DType;
use burn_flex::Flex;

/// Images on which the variances of the outputs are taken.
const IMAGES: usize = 128;

/// Images per pass of an evaluation.
const BATCH: usize = 50;

/// How the outputs of two networks are compared.
#[derive(Debug, Clone, PartialEq)]
pub enum Imitation {
    /// One output `[N, K]`, taken as logits: `T²·KL` of the outputs softened by `T`; agreement is that of the highest.
    Classes {
        /// Softening.
        temperature: f32,
    },
    /// Anything else: per output, the mean squared difference over the variance of the reference's output; the mean over the
    /// outputs. The variance is that between images, element by element: what does not depend on the image counts for nothing.
    Values {
        /// Variance of every output of the reference.
        variances: Vec<f64>,
    },
}

/// How far a network agrees with its reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Share of images whose highest output is the reference's; for other networks than classifiers, `1 − loss` (the
    /// coefficient of determination, mean over the outputs): 1 is equal, 0 is no better than the mean output.
    pub share: f64,
    /// The loss of [`Imitation`], with a temperature of 1 and variances on the same images.
    pub loss: f64,
    /// Images.
    pub n: usize,
}

/// Sums of one output over images, element by element.
#[derive(Debug, Clone, Default)]
struct Spread {
    images: f64,
    sums: Vec<f64>,
    squares: f64,
}

impl Spread {
    fn add(&mut self, outputs: &[f32], images: usize) {
        let width = outputs.len() / images.max(1);
        self.sums.resize(width, 0.0);
        for image in outputs.chunks_exact(width.max(1)) {
            self.images += 1.0;
            for (s, v) in self.sums.iter_mut().zip(image) {
                *s += f64::from(*v);
                self.squares += f64::from(*v).powi(2);
            }
        }
    }

    /// Mean over elements of the variance between images; of the mean square, where it does not vary at all.
    fn variance(&self) -> f64 {
        let elements = (self.images * self.sums.len() as f64).max(1.0);
        let between = self.squares - self.sums.iter().map(|s| s * s).sum::<f64>() / self.images.max(1.0);
        let square = self.squares / elements;
        if between / elements > 1e-9 * square { between / elements } else { square.max(f64::MIN_POSITIVE) }
    }
}

impl Imitation {
    /// How to imitate `reference` on `data`.
    ///
    /// # Errors
    /// Data that do not fit the network.
    pub fn of(reference: &Network, data: &Dataset, temperature: f32, seed: u64) -> Result<Self> {
        if reference.classifies()? {
            return Ok(Self::Classes { temperature });
        }
        let mut spreads: Vec<Spread> = Vec::new();
        let size = IMAGES.min(data.len(Split::Train)).clamp(1, BATCH);
        for batch in data.epoch(Split::Train, size, &Augment::none(), seed, 0, 0)?.take(IMAGES.div_ceil(size)) {
            let batch = batch?;
            let outputs = all_outputs(reference, &batch)?;
            spreads.resize(outputs.len(), Spread::default());
            spreads.iter_mut().zip(&outputs).for_each(|(s, o)| s.add(o, batch.len()));
        }
        Ok(Self::Values { variances: spreads.iter().map(Spread::variance).collect() })
    }

    fn losses(&self, outputs: &[Vec<f32>], targets: &[Vec<f32>], images: usize) -> Result<Vec<Option<Loss>>> {
        if outputs.len() != targets.len() || outputs.iter().zip(targets).any(|(o, t)| o.len() != t.len()) {
            return Err(Error::Recipe("the network does not have the outputs of the one to imitate".into()));
        }
        Ok(match self {
            Self::Classes { temperature } => {
                let width = outputs[0].len() / images.max(1);
                vec![Some(distillation(&outputs[0], &targets[0], width, *temperature))]
            }
            Self::Values { variances } => {
                let one = |((o, t), v): ((&Vec<f32>, &Vec<f32>), &f64)| {
                    let scale = 1.0 / (v * o.len().max(1) as f64 * variances.len() as f64);
                    let differences = o.iter().zip(t).map(|(o, t)| f64::from(*o) - f64::from(*t));
                    let value = scale * differences.clone().map(|d| d * d).sum::<f64>();
                    Some(Loss { value, gradient: differences.map(|d| (2.0 * scale * d) as f32).collect() })
                };
                outputs.iter().zip(targets).zip(variances).map(one).collect()
            }
        })
    }

    /// Loss of a batch against the reference's outputs `targets`, and its gradients.
    ///
    /// # Errors
    /// Inputs or targets that do not fit the network.
    pub fn backward(&self, network: &Network, batch: &Batch, targets: &[Vec<f32>], mode: Mode, seed: u64) -> Result<Step> {
        let inputs = vec![(batch.shape.clone(), batch.inputs.clone())];
        backward_with::<Flex>(network, inputs, mode, DType::F32, seed, |outputs| self.losses(outputs, targets, batch.len()))
    }

    /// Gradients of a random projection of the outputs. Against its own outputs a network has a loss without a slope; but the
    /// square of `wᵀg`, `g` being this gradient, is on average the second-order change of the loss when `w` is taken away
    /// (Hutchinson's estimate of the Gauss–Newton matrix; for classes, labels drawn from the outputs give the Fisher matrix).
    ///
    /// # Errors
    /// Inputs that do not fit the network.
    pub fn project(&self, network: &Network, batch: &Batch, mode: Mode, seed: u64) -> Result<Step> {
        let inputs = vec![(batch.shape.clone(), batch.inputs.clone())];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        backward_with::<Flex>(network, inputs, mode, DType::F32, seed, |outputs| {
            let n = batch.len().max(1);
            Ok(match self {
                Self::Classes { .. } => {
                    let width = outputs[0].len() / n;
                    let mut loss = Loss { value: 0.0, gradient: Vec::with_capacity(outputs[0].len()) };
                    for row in outputs[0].chunks_exact(width.max(1)) {
                        let p = softmax(row, 1.0);
                        let mut left: f64 = rng.random();
                        let label = p.iter().position(|p| {
                            left -= p;
                            left < 0.0
                        });
                        let label = label.unwrap_or(width - 1);
                        loss.value -= p[label].max(1e-45).ln() / n as f64;
                        loss.gradient.extend(p.iter().enumerate().map(|(k, p)| ((p - f64::from(u8::from(k == label))) / n as f64) as f32));
                    }
                    vec![Some(loss)]
                }
                Self::Values { variances } => {
                    let one = |(o, v): (&Vec<f32>, &f64)| {
                        let scale = (1.0 / (v * o.len().max(1) as f64 * variances.len() as f64)).sqrt();
                        let gradient: Vec<f32> =
                            o.iter().map(|_| if rng.random::<bool>() { scale as f32 } else { -scale as f32 }).collect();
                        let value = o.iter().zip(&gradient).map(|(o, g)| f64::from(*o) * f64::from(*g)).sum();
                        Some(Loss { value, gradient })
                    };
                    outputs.iter().zip(variances).map(one).collect()
                }
            })
        })
    }
}

/// Agreement of `network` with `reference` on (the first `limit` images of) a part of `data`.
///
/// # Errors
/// Data that do not fit; networks with other outputs; no image to compare on.
pub fn agree(network: &Network, reference: &Network, data: &Dataset, split: Split, limit: Option<usize>) -> Result<Agreement> {
    let classes = reference.classifies()?.then_some(Imitation::Classes { temperature: 1.0 });
    let (mut n, mut same, mut loss) = (0, 0, 0.0);
    let (mut spreads, mut errors): (Vec<Spread>, Vec<f64>) = (Vec::new(), Vec::new());
    for batch in data.in_order(split, BATCH, limit) {
        let batch = batch?;
        let (ours, theirs) = (all_outputs(network, &batch)?, all_outputs(reference, &batch)?);
        let fits = ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(a, b)| a.len() == b.len());
        if !fits {
            return Err(Error::Recipe(
                "the two networks do not have the same outputs; compare a network with the one it was cut from".into(),
            ));
        }
        if let Some(i) = &classes {
            loss += i.losses(&ours, &theirs, batch.len())?.iter().flatten().map(|l| l.value).sum::<f64>() * batch.len() as f64;
            let width = (ours[0].len() / batch.len().max(1)).max(1);
            same += ours[0]
                .chunks_exact(width)
                .zip(theirs[0].chunks_exact(width))
                .filter(|(a, b)| best(a).is_some_and(|a| best(b) == Some(a)))
                .count();
        } else {
            spreads.resize(theirs.len(), Spread::default());
            errors.resize(theirs.len(), 0.0);
            for ((s, e), (a, b)) in spreads.iter_mut().zip(&mut errors).zip(ours.iter().zip(&theirs)) {
                s.add(b, batch.len());
                *e += a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
            }
        }
        n += batch.len();
    }
    let of = data.need_images(split, n)? as f64;
    if classes.is_some() {
        return Ok(Agreement { share: same as f64 / of, loss: loss / of, n });
    }
    let relative = |(s, e): (&Spread, &f64)| e / (s.variance() * of * s.sums.len().max(1) as f64);
    let loss = spreads.iter().zip(&errors).map(relative).sum::<f64>() / spreads.len().max(1) as f64;
    Ok(Agreement { share: 1.0 - loss, loss, n })
}
