//! A seeded problem of ResNet-101's size and shape: 33 bottleneck blocks in four stages, latency
//! tables with the two nested stairs of tiled matrix multiplication, decaying saliencies.

// Every program that includes this file uses its own part of it.
#![allow(dead_code)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use secateur_search::knapsack::{Chunk, Group};
use secateur_search::{Factor, Problem, Variable};

/// A convolution's latency table over the kept chunks of its input and output (0 = none).
pub struct Layer {
    pub name: String,
    /// Group of the input channels; `None` for the image.
    pub input: Option<usize>,
    pub output: usize,
    /// `table[i][o]`, microseconds.
    pub table: Vec<Vec<f64>>,
    /// The residual block it belongs to, when that can be removed.
    pub block: Option<usize>,
}

/// A coupled group of channels, in chunks.
pub struct Channels {
    pub name: String,
    /// Saliency of each chunk, most salient first.
    pub saliency: Vec<f64>,
    /// The residual block whose removal takes it away.
    pub block: Option<usize>,
}

pub struct Network {
    pub groups: Vec<Channels>,
    pub layers: Vec<Layer>,
    pub blocks: usize,
}

const BLOCKS: [usize; 4] = [3, 4, 23, 3];
/// Inner width, chunk of the inner groups, side of the feature map.
const STAGES: [(usize, usize, usize); 4] = [(64, 8, 56), (128, 16, 28), (256, 16, 14), (512, 32, 7)];
/// Chunk of the residual stages' groups.
const STAGE_CHUNK: usize = 32;
const BATCH: usize = 64;

impl Network {
    pub fn resnet101(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut network = Self { groups: Vec::new(), layers: Vec::new(), blocks: 0 };
        let mut before: Option<(usize, usize)> = None;
        for (stage, (&blocks, &(width, chunk, side))) in BLOCKS.iter().zip(&STAGES).enumerate() {
            let out = network.group(&mut rng, format!("stage{}", stage + 1), 4 * width, STAGE_CHUNK, blocks as f64, None);
            for nth in 0..blocks {
                let name = |conv: &str| format!("layer{}.{nth}.{conv}", stage + 1);
                // The first block of a stage changes the shape: it cannot be removed.
                let block = (nth > 0).then(|| {
                    network.blocks += 1;
                    network.blocks - 1
                });
                let inner: Vec<usize> =
                    ["conv1", "conv2"].iter().map(|conv| network.group(&mut rng, name(conv), width, chunk, 1.0, block)).collect();
                let (input, input_chunk) =
                    if nth > 0 { (Some(out), STAGE_CHUNK) } else { (before.map(|b| b.0), before.map_or(64, |b| b.1)) };
                let pixels = BATCH * side * side;
                network.layer(&mut rng, name("conv1"), (input, input_chunk), (inner[0], chunk), pixels, 1, block);
                network.layer(&mut rng, name("conv2"), (Some(inner[0]), chunk), (inner[1], chunk), pixels, 9, block);
                network.layer(&mut rng, name("conv3"), (Some(inner[1]), chunk), (out, STAGE_CHUNK), pixels, 1, block);
                if nth == 0 {
                    network.layer(&mut rng, name("downsample"), (input, input_chunk), (out, STAGE_CHUNK), pixels, 1, None);
                }
            }
            before = Some((out, STAGE_CHUNK));
        }
        network
    }

    fn group(&mut self, rng: &mut ChaCha8Rng, name: String, width: usize, chunk: usize, layers: f64, block: Option<usize>) -> usize {
        let scale = layers.sqrt() * (0.8 * (rng.random::<f64>() + rng.random::<f64>() + rng.random::<f64>() - 1.5)).exp();
        let decay = rng.random_range(1.0..4.0);
        let mut channels: Vec<f64> =
            (0..width).map(|channel| scale * (-decay * channel as f64 / width as f64).exp() * rng.random_range(0.7..1.3)).collect();
        channels.sort_by(|a, b| b.total_cmp(a));
        let saliency = channels.chunks(chunk).map(|chunk| chunk.iter().sum()).collect();
        self.groups.push(Channels { name, saliency, block });
        self.groups.len() - 1
    }

    #[allow(clippy::too_many_arguments)]
    fn layer(
        &mut self,
        rng: &mut ChaCha8Rng,
        name: String,
        (input, input_chunk): (Option<usize>, usize),
        (output, output_chunk): (usize, usize),
        pixels: usize,
        taps: usize,
        block: Option<usize>,
    ) {
        let inputs = input.map_or(1, |group| self.groups[group].saliency.len());
        let outputs = self.groups[output].saliency.len();
        let (tile_m, tile_n, tile_k, slots) = (128, 32, 32, 160);
        // One draw per pair of tiles: channels of the same tile take the same time.
        let tiles = (inputs * input_chunk).div_ceil(tile_k) + 1;
        let noise: Vec<f64> = (0..tiles * ((outputs * output_chunk).div_ceil(tile_n) + 1)).map(|_| rng.random_range(0.96..1.04)).collect();
        let table = (0..=inputs)
            .map(|i| {
                (0..=outputs)
                    .map(|o| {
                        let (k, n) = (i * input_chunk, o * output_chunk);
                        if k == 0 || n == 0 {
                            return 0.0;
                        }
                        let (steps, columns) = ((k * taps).div_ceil(tile_k), n.div_ceil(tile_n));
                        let waves = (pixels.div_ceil(tile_m) * columns).div_ceil(slots);
                        let ideal = 4.0 + waves as f64 * (3.0 + 0.55 * steps as f64);
                        ideal * noise[k.div_ceil(tile_k) + tiles * columns.min(noise.len() / tiles - 1)]
                    })
                    .collect()
            })
            .collect();
        self.layers.push(Layer { name, input, output, table, block });
    }

    /// Latency of a network with these widths in chunks, everything present.
    pub fn latency(&self, widths: &[usize]) -> f64 {
        self.layers.iter().map(|layer| layer.table[layer.input.map_or(1, |g| widths[g])][widths[layer.output]]).sum()
    }

    pub fn dense(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.saliency.len()).collect()
    }

    pub fn kept(&self, widths: &[usize]) -> f64 {
        self.groups.iter().zip(widths).map(|(group, &width)| group.saliency[..width].iter().sum::<f64>()).sum()
    }

    /// The joint problem. Option `w` of a group keeps `w` chunks. With removal, a removable block has
    /// one more variable (0 = gone, 1 = present) that ties its inner widths to zero or above zero.
    pub fn joint(&self, removal: bool) -> Problem {
        let mut problem = Problem::default();
        for group in &self.groups {
            let mut sum = 0.0;
            let values = std::iter::once(0.0)
                .chain(group.saliency.iter().map(|saliency| {
                    sum += saliency;
                    sum
                }))
                .collect();
            problem.variables.push(Variable { name: group.name.clone(), values });
        }
        let present = self.groups.len();
        if removal {
            for block in 0..self.blocks {
                problem.variables.push(Variable { name: format!("block{block}"), values: vec![0.0, 0.0] });
            }
        }
        for (index, group) in self.groups.iter().enumerate() {
            let never_zero = |from: usize| std::iter::repeat_n(f64::INFINITY, from).chain(vec![0.0; group.saliency.len() + 1 - from]);
            let (vars, costs): (Vec<usize>, Vec<f64>) = match group.block {
                Some(block) if removal => {
                    let gone = std::iter::once(0.0).chain(vec![f64::INFINITY; group.saliency.len()]);
                    (vec![present + block, index], gone.chain(never_zero(1)).collect())
                }
                _ => (vec![index], never_zero(1).collect()),
            };
            problem.factors.push(Factor { name: format!("width of {}", group.name), vars, costs });
        }
        for layer in &self.layers {
            let mut vars: Vec<usize> = layer.input.into_iter().chain([layer.output]).collect();
            let mut costs: Vec<f64> = match layer.input {
                Some(_) => layer.table.iter().flatten().copied().collect(),
                None => layer.table[1].clone(),
            };
            if let Some(block) = layer.block.filter(|_| removal) {
                vars.insert(0, present + block);
                costs = std::iter::repeat_n(0.0, costs.len()).chain(costs).collect();
            }
            problem.factors.push(Factor { name: layer.name.clone(), vars, costs });
        }
        problem
    }

    /// HALP's linearised problem at the present widths: every layer's input frozen.
    pub fn linearised(&self, widths: &[usize]) -> Vec<Group> {
        self.groups
            .iter()
            .enumerate()
            .map(|(index, group)| {
                let latency = |o: usize| -> f64 {
                    let layers = self.layers.iter().filter(|layer| layer.output == index);
                    layers.map(|layer| layer.table[layer.input.map_or(1, |g| widths[g])][o]).sum()
                };
                let chunks = (0..widths[index]).map(|o| Chunk { value: group.saliency[o], cost: latency(o + 1) - latency(o) }).collect();
                Group { name: group.name.clone(), min_chunks: 1, chunks }
            })
            .collect()
    }
}
