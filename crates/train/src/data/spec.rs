//! The names of data sets on the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Where data come from: `cifar10:DIR`, `imagefolder:DIR`, `npz:FILE`, `synthetic[:TRAIN,TEST[,SEED]]`,
/// `drawn[:N[,SEED]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataSpec {
    /// Folder with the binary CIFAR-10 records.
    Cifar10(PathBuf),
    /// Folder with one folder of images per class, or a flat one, with `labels.csv` or without labels.
    ImageFolder(PathBuf),
    /// NumPy archive with `x`, and `y` where there are labels.
    Npz(PathBuf),
    /// The procedural image set.
    Synthetic {
        /// Images to train (and hold out).
        train: usize,
        /// Images to test.
        test: usize,
        /// Seed.
        seed: u64,
    },
    /// Inputs drawn at random, for where there are no data.
    Drawn {
        /// How many.
        count: usize,
        /// Seed.
        seed: u64,
    },
}

/// Inputs drawn where no number is given.
const DRAWN: u64 = 720;

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cifar10(p) => write!(f, "cifar10:{}", p.display()),
            Self::ImageFolder(p) => write!(f, "imagefolder:{}", p.display()),
            Self::Npz(p) => write!(f, "npz:{}", p.display()),
            Self::Synthetic { train, test, seed } => write!(f, "synthetic:{train},{test},{seed}"),
            Self::Drawn { count, seed } => write!(f, "drawn:{count},{seed}"),
        }
    }
}

impl From<DataSpec> for String {
    fn from(spec: DataSpec) -> Self {
        spec.to_string()
    }
}

impl TryFrom<String> for DataSpec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl FromStr for DataSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Data { path: text.to_owned(), reason: reason.to_owned() };
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let numbers = |form: &str| -> Result<Vec<u64>, Error> {
            let all = rest.split(',').filter(|s| !s.is_empty()).map(|s| s.trim().parse::<u64>());
            all.collect::<Result<_, _>>().map_err(|_| fail(&format!("give {form} as whole numbers")))
        };
        let path = || if rest.is_empty() { Err(fail("a path is missing after the colon")) } else { Ok(PathBuf::from(rest)) };
        match kind {
            "cifar10" => Ok(Self::Cifar10(path()?)),
            "imagefolder" => Ok(Self::ImageFolder(path()?)),
            "npz" => Ok(Self::Npz(path()?)),
            "synthetic" => {
                let numbers = numbers("synthetic:TRAIN,TEST,SEED")?;
                let at = |i: usize, default: u64| numbers.get(i).copied().unwrap_or(default);
                let (train, test) = (at(0, 8000) as usize, at(1, 2000) as usize);
                if train < 10 || test == 0 || numbers.len() > 3 {
                    return Err(fail("give synthetic:TRAIN,TEST,SEED with at least 10 and 1 images"));
                }
                Ok(Self::Synthetic { train, test, seed: at(2, 0) })
            }
            "drawn" => {
                let numbers = numbers("drawn:N,SEED")?;
                let (count, seed) = (numbers.first().copied().unwrap_or(DRAWN) as usize, numbers.get(1).copied().unwrap_or(0));
                if count < 20 || numbers.len() > 2 {
                    return Err(fail("give drawn:N,SEED with at least 20 inputs"));
                }
                Ok(Self::Drawn { count, seed })
            }
            _ => Err(fail("data are given as cifar10:DIR, imagefolder:DIR, npz:FILE, synthetic or drawn")),
        }
    }
}
