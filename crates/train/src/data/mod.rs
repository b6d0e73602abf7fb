//! Image sets, with labels or without: where they come from, how they are split, prepared and fed.
//!
//! The test split is for the final line only; what is chosen is chosen on the held-out part of
//! the *training* data.

mod augment;
mod cifar10;
mod drawn;
mod folder;
mod loader;
mod npz;
mod prepare;
mod spec;
mod synthetic;

pub use augment::Augment;
pub use drawn::Texture;
pub use loader::{Batch, Loader};
pub use prepare::{Layout, Normalization};
pub use spec::DataSpec;

use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::Network;

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Split {
    /// To fit parameters.
    Train,
    /// Taken from the training data, to choose.
    Holdout,
    /// For the final line only.
    Test,
}

impl Split {
    fn index(self) -> usize {
        self as usize
    }
}

/// How images are read and prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Channels, height and width the network wants.
    pub shape: [usize; 3],
    /// Order of axes the network wants.
    pub layout: Layout,
    /// From grey levels to inputs.
    pub normalization: Normalization,
    /// Share of the training data held out.
    pub holdout: f64,
    /// Chooses what is held out, and the test part where the data have none.
    pub seed: u64,
}

impl Options {
    /// What `network` wants to be fed with.
    ///
    /// # Errors
    /// A network whose first input is not a batch of images.
    pub fn for_network(network: &Network, normalization: Normalization) -> Result<Self> {
        let shape = network.input_shape(1)?;
        let (shape, layout) = match shape.as_slice() {
            [_, c, h, w] if *c <= 4 || *w > 4 => ([*c, *h, *w], Layout::ChannelsFirst),
            [_, h, w, c] => ([*c, *h, *w], Layout::ChannelsLast),
            [_, n] => ([1, 1, *n], Layout::ChannelsFirst),
            other => {
                let reason = format!("shape {other:?} is not a batch of images [N, C, H, W]");
                return Err(Error::Input { input: network.graph().value(network.graph().inputs[0]).name.clone(), reason });
            }
        };
        Ok(Self { shape, layout, normalization, holdout: 0.1, seed: 0 })
    }
}

/// Where the pixels are.
#[derive(Debug)]
enum Pixels {
    /// Grey levels `[N, C, H, W]` in memory.
    Bytes(Vec<u8>),
    /// Values `[N, C, H, W]` in memory.
    Floats(Vec<f32>),
    /// Files decoded when needed.
    Files(Vec<std::path::PathBuf>),
}

/// Images as a source delivers them.
#[derive(Debug)]
struct Source {
    pixels: Pixels,
    /// Images.
    count: usize,
    /// One per image; `None` where there are none.
    labels: Option<Vec<u32>>,
    /// Of the pixels in memory.
    shape: [usize; 3],
    /// The images from here on are the test part; `None` where the data do not say.
    test_from: Option<usize>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    source: Source,
    options: Options,
    classes: usize,
    splits: [Vec<u32>; 3],
}

/// A data set, cheap to clone.
#[derive(Debug, Clone)]
pub struct Dataset(Arc<Inner>);

impl Dataset {
    /// Opens what `spec` names, for the inputs that `options` describe.
    ///
    /// # Errors
    /// Files that are missing, truncated or of another shape, labels out of range, nothing in
    /// it: each names the file and what to do.
    pub fn open(spec: &DataSpec, options: Options) -> Result<Self> {
        let source = match spec {
            DataSpec::Cifar10(dir) => cifar10::read(dir)?,
            DataSpec::ImageFolder(dir) => folder::read(dir)?,
            DataSpec::Npz(file) => npz::read(file)?,
            DataSpec::Synthetic { train, test, seed } => synthetic::make(*train, *test, *seed),
            DataSpec::Drawn { count, seed } => drawn::make(options.shape, Texture::default(), *count, *seed),
        };
        Self::new(spec.to_string(), source, options)
    }

    /// The same without looking at labels.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_without_labels(spec: &DataSpec, options: Options) -> Result<Self> {
        let Self(inner) = Self::open(spec, options)?;
        // Nothing else holds what was just opened.
        let inner = Arc::into_inner(inner).map(|i| Inner { classes: 0, source: Source { labels: None, ..i.source }, ..i });
        inner.map(|i| Self(Arc::new(i))).ok_or_else(|| Error::Recipe("the data were opened twice; this is a defect of the program".into()))
    }

    /// Inputs that are made up from nothing but `texture`, for where there are no data: `count` of them.
    ///
    /// # Errors
    /// No image is asked for.
    pub fn drawn(options: Options, texture: Texture, count: usize, seed: u64) -> Result<Self> {
        let source = drawn::make(options.shape, texture, count, seed);
        Self::new(DataSpec::Drawn { count, seed }.to_string(), source, options)
    }

    /// Its images have labels.
    pub fn labelled(&self) -> bool {
        self.0.source.labels.is_some()
    }

    /// That its images have labels.
    ///
    /// # Errors
    /// They have none.
    pub fn need_labels(&self) -> Result<()> {
        if self.labelled() {
            return Ok(());
        }
        let reason = "its images have no labels (a folder per class or labels.csv, an array `y`): they serve to compare with the \
                      dense network's outputs, not to tell an accuracy"
            .into();
        Err(Error::Data { path: self.0.name.clone(), reason })
    }

    fn new(name: String, source: Source, options: Options) -> Result<Self> {
        let fail = |reason: String| Err(Error::Data { path: name.clone(), reason });
        let total = source.count;
        if total == 0 {
            return fail("there are no images in it".into());
        }
        if !matches!(source.pixels, Pixels::Files(_)) && source.shape != options.shape {
            return fail(format!(
                "images of shape {:?} (channels, height, width), the network wants {:?}; take data that fit or another network",
                source.shape, options.shape
            ));
        }
        let shuffled = |from: usize, to: usize, seed: u64| {
            let mut all: Vec<u32> = (from as u32..to as u32).collect();
            all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            all
        };
        let (mut train, test) = match source.test_from {
            Some(at) => (shuffled(0, at, options.seed), (at as u32..total as u32).collect()),
            None => {
                let mut all = shuffled(0, total, options.seed);
                let test = all.split_off(total - total / 5);
                (all, test)
            }
        };
        let held = (train.len() as f64 * options.holdout.clamp(0.0, 0.9)).round() as usize;
        let mut holdout = train.split_off(train.len() - held);
        train.sort_unstable();
        holdout.sort_unstable();
        let classes = source.labels.iter().flatten().max().map_or(0, |m| *m as usize + 1);
        Ok(Self(Arc::new(Inner { name, source, options, classes, splits: [train, holdout, test] })))
    }

    /// What it was opened as.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Number of images of a part.
    pub fn len(&self, split: Split) -> usize {
        self.0.splits[split.index()].len()
    }

    /// A part has no images.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Number of classes that occur (highest label + 1); 0 without labels.
    pub fn classes(&self) -> usize {
        self.0.classes
    }

    /// That something was scored: `n` images of `split`, of which there is one at least.
    ///
    /// # Errors
    /// There was none.
    pub(crate) fn need_images(&self, split: Split, n: usize) -> Result<usize> {
        if n > 0 {
            return Ok(n);
        }
        let reason = match self.len(split) {
            0 => format!("there are no images in its {split:?} part to score; give it more images, or another part"),
            _ => "no image of it is to be scored; raise the limit".into(),
        };
        Err(Error::Data { path: self.0.name.clone(), reason })
    }

    /// Shape of a batch of `n` inputs.
    pub fn batch_shape(&self, n: usize) -> Vec<usize> {
        let [c, h, w] = self.0.options.shape;
        match self.0.options.layout {
            Layout::ChannelsFirst if (c, h) == (1, 1) => vec![n, w],
            Layout::ChannelsFirst => vec![n, c, h, w],
            Layout::ChannelsLast => vec![n, h, w, c],
        }
    }

    /// Checks that the labels fit a network with `outputs` classes.
    ///
    /// # Errors
    /// A label out of range.
    pub fn check_classes(&self, outputs: usize) -> Result<()> {
        if self.0.classes > outputs {
            let reason = format!("its highest label is {}, the network has {outputs} outputs; labels count from 0", self.0.classes - 1);
            return Err(Error::Data { path: self.0.name.clone(), reason });
        }
        Ok(())
    }

    /// Images `range` of a part in order, not augmented.
    ///
    /// # Errors
    /// A file that does not decode.
    pub fn batch(&self, split: Split, range: std::ops::Range<usize>) -> Result<Batch> {
        let all = &self.0.splits[split.index()];
        let end = range.end.min(all.len());
        let chosen = &all[range.start.min(end)..end];
        loader::assemble(&self.0, chosen, None)
    }

    /// The batches of one pass in order, not augmented, the last one possibly smaller; at most
    /// `limit` images.
    pub fn in_order(&self, split: Split, batch_size: usize, limit: Option<usize>) -> Loader {
        let mut order = self.0.splits[split.index()].clone();
        order.truncate(limit.unwrap_or(usize::MAX));
        Loader::start(self.0.clone(), order, batch_size, None, false, 0)
    }

    /// The shuffled, augmented batches of epoch `epoch`, all whole, beginning with batch `skip`;
    /// the same for the same seed whatever the number of threads.
    ///
    /// # Errors
    /// Fewer images than one batch.
    pub fn epoch(&self, split: Split, batch_size: usize, augment: &Augment, seed: u64, epoch: u64, skip: usize) -> Result<Loader> {
        let n = self.len(split);
        if n < batch_size || batch_size == 0 {
            let reason = format!("{n} images in the {split:?} part do not fill one batch of {batch_size}; lower the batch size");
            return Err(Error::Data { path: self.0.name.clone(), reason });
        }
        let mut order = self.0.splits[split.index()].clone();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(augment::mix(seed, epoch, u64::MAX)));
        Ok(Loader::start(self.0.clone(), order, batch_size, Some((augment.clone(), seed, epoch)), true, skip))
    }
}
