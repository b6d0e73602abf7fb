//! Batches, prepared on a thread of their own while the network works.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;

use super::augment::{Augment, apply};
use super::prepare::Layout;
use super::{Inner, Pixels, folder};
use crate::error::{Error, Result};

/// Inputs and labels of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Inputs in the network's layout.
    pub inputs: Vec<f32>,
    /// Shape of `inputs`.
    pub shape: Vec<usize>,
    /// One label per image; empty where the data have none.
    pub labels: Vec<u32>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// No images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

type Augmentation = (Augment, u64, u64);

/// Reads, normalises and augments the images `chosen`.
pub(super) fn assemble(inner: &Inner, chosen: &[u32], augmentation: Option<&Augmentation>) -> Result<Batch> {
    let [c, h, w] = inner.options.shape;
    let size = c * h * w;
    let normalization = &inner.options.normalization;
    let mut inputs = vec![0.0f32; chosen.len() * size];
    inputs.par_chunks_mut(size.max(1)).zip(chosen).try_for_each(|(image, index)| -> Result<()> {
        let i = *index as usize;
        let bytes = |source: &[u8], image: &mut [f32]| {
            for channel in 0..c {
                let from = if normalization.bgr { c - 1 - channel } else { channel };
                let (a, b) = normalization.affine(channel);
                let source = &source[from * h * w..(from + 1) * h * w];
                for (value, grey) in image[channel * h * w..(channel + 1) * h * w].iter_mut().zip(source) {
                    *value = a * f32::from(*grey) + b;
                }
            }
        };
        match &inner.source.pixels {
            Pixels::Bytes(all) => bytes(&all[i * size..(i + 1) * size], image),
            Pixels::Floats(all) => image.copy_from_slice(&all[i * size..(i + 1) * size]),
            Pixels::Files(paths) => bytes(&folder::decode(&paths[i], [c, h, w])?, image),
        }
        if let Some((augment, seed, epoch)) = augmentation {
            apply(augment, image, [c, h, w], *seed, *epoch, u64::from(*index));
        }
        if inner.options.layout == Layout::ChannelsLast {
            let planes = image.to_vec();
            for (p, pixel) in image.chunks_exact_mut(c).enumerate() {
                for (channel, value) in pixel.iter_mut().enumerate() {
                    *value = planes[channel * h * w + p];
                }
            }
        }
        Ok(())
    })?;
    let n = chosen.len();
    let shape = match inner.options.layout {
        Layout::ChannelsFirst if (c, h) == (1, 1) => vec![n, w],
        Layout::ChannelsFirst => vec![n, c, h, w],
        Layout::ChannelsLast => vec![n, h, w, c],
    };
    let labels = inner.source.labels.as_ref().map_or(Vec::new(), |all| chosen.iter().map(|i| all[*i as usize]).collect());
    Ok(Batch { inputs, shape, labels })
}

/// An iterator of batches; two are prepared ahead.
#[derive(Debug)]
pub struct Loader {
    /// Of the data set.
    name: String,
    batches: Receiver<Result<Batch>>,
    left: usize,
}

impl Loader {
    pub(super) fn start(
        inner: Arc<Inner>,
        order: Vec<u32>,
        batch_size: usize,
        augmentation: Option<Augmentation>,
        whole: bool,
        skip: usize,
    ) -> Self {
        let batch_size = batch_size.max(1);
        let count = if whole { order.len() / batch_size } else { order.len().div_ceil(batch_size) };
        let name = inner.name.clone();
        let (send, batches) = sync_channel(2);
        std::thread::spawn(move || {
            for chosen in order.chunks(batch_size).take(count).skip(skip) {
                // The receiver going away ends the thread.
                if send.send(assemble(&inner, chosen, augmentation.as_ref())).is_err() {
                    break;
                }
            }
        });
        Self { name, batches, left: count.saturating_sub(skip) }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.batches.recv().unwrap_or_else(|_| {
            // Its end is not the end of the data: nothing may take what came so far for all.
            self.left = 0;
            let reason =
                "the thread that reads it stopped before the last batch, for the reason printed there; this is a defect of the program";
            Err(Error::Data { path: self.name.clone(), reason: reason.into() })
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Loader {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Normalization, Options, Source};
    use super::*;

    #[test]
    fn a_reader_that_panics_is_an_error_and_not_the_end_of_the_data() {
        // Six images of one pixel, of which four are there.
        let source = Source { pixels: Pixels::Bytes(vec![7; 4]), count: 6, labels: None, shape: [1, 1, 1], test_from: None };
        let options =
            Options { shape: [1, 1, 1], layout: Layout::ChannelsFirst, normalization: Normalization::raw255(), holdout: 0.0, seed: 0 };
        let inner = Inner { name: "short".into(), source, options, classes: 0, splits: [(0..6).collect(), vec![], vec![]] };
        let loaded: Vec<_> = Loader::start(Arc::new(inner), (0..6).collect(), 2, None, false, 0).collect();
        assert_eq!(loaded[..2].iter().map(|b| b.as_ref().unwrap().inputs.clone()).collect::<Vec<_>>(), [[7.0; 2]; 2]);
        let error = loaded[2].as_ref().unwrap_err().to_string();
        assert!(loaded.len() == 3 && error.contains("short") && error.contains("stopped"), "{error}");
    }
}
