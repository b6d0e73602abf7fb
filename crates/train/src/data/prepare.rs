//! From grey levels to network inputs.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Order of the axes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// `[C, H, W]`
    ChannelsFirst,
    /// `[H, W, C]`
    ChannelsLast,
}

/// `(scale·grey − mean)/std` per channel; channels are reversed first where `bgr` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Factor on grey levels 0…255.
    pub scale: f32,
    /// Subtracted per channel; missing channels repeat the last.
    pub mean: Vec<f32>,
    /// Divided by per channel.
    pub std: Vec<f32>,
    /// Blue first.
    pub bgr: bool,
}

impl Normalization {
    /// `(x/255 − mean)/std` with the means and deviations of ImageNet.
    pub fn imagenet() -> Self {
        Self { scale: 1.0 / 255.0, mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225], bgr: false }
    }

    /// Grey levels as they are, 0…255.
    pub fn raw255() -> Self {
        Self { scale: 1.0, mean: vec![0.0], std: vec![1.0], bgr: false }
    }

    /// 0…1.
    pub fn unit() -> Self {
        Self { scale: 1.0 / 255.0, ..Self::raw255() }
    }

    /// Blue, green, red, 0…1.
    pub fn bgr_unit() -> Self {
        Self { bgr: true, ..Self::unit() }
    }

    /// Blue, green, red minus (104, 117, 123).
    pub fn bgr_caffe() -> Self {
        Self { scale: 1.0, mean: vec![104.0, 117.0, 123.0], std: vec![1.0], bgr: true }
    }

    /// −1…1.
    pub fn tf() -> Self {
        Self { scale: 1.0 / 127.5, mean: vec![1.0], std: vec![1.0], bgr: false }
    }

    /// Factor and offset of channel `c`: `a·grey + b`.
    pub fn affine(&self, c: usize) -> (f32, f32) {
        let at = |v: &[f32], default| v.get(c).or(v.last()).copied().unwrap_or(default);
        let (mean, std) = (at(&self.mean, 0.0), at(&self.std, 1.0));
        (self.scale / std, -mean / std)
    }
}

impl FromStr for Normalization {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "imagenet" => Ok(Self::imagenet()),
            "raw255" => Ok(Self::raw255()),
            "unit" => Ok(Self::unit()),
            "bgr-unit" => Ok(Self::bgr_unit()),
            "bgr-caffe" => Ok(Self::bgr_caffe()),
            "tf" => Ok(Self::tf()),
            _ => Err(Error::Data {
                path: text.to_owned(),
                reason: "the normalisation is one of imagenet, raw255, unit, bgr-unit, bgr-caffe, tf".into(),
            }),
        }
    }
}
