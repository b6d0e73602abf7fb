//! Regularities and schemes, and their text form.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pattern::{KEPT_OF_KERNEL, KERNEL};
use crate::error::{Error, Result};

/// How far a block reaches along one side of a layer's weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extent {
    /// This many; the last block takes what is left.
    Of(NonZeroUsize),
    /// All there are.
    All,
}

impl Extent {
    /// The extent on a side of `size`.
    pub fn on(self, size: usize) -> usize {
        match self {
            Self::Of(n) => n.get(),
            Self::All => size.max(1),
        }
    }
}

/// What of a block of a linear layer is removed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// One output of the block.
    Row,
    /// One input of the block.
    Column,
}

/// Which weights of a layer are removed together. Its text form is what [`fmt::Display`] writes and [`FromStr`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Regularity {
    /// Nothing is removed: `dense`.
    Dense,
    /// A whole filter (output): `filter`.
    Filter,
    /// A whole input channel: `channel`.
    Channel,
    /// One kernel position in all kernels of a block of filters × channels: `block-punched:16x1`; with `*` for all filters or
    /// channels. `block-punched:*x1` is column pruning: a column of the layer as a matrix.
    BlockPunched {
        /// Filters of a block.
        filters: Extent,
        /// Input channels of a block.
        channels: Extent,
    },
    /// A row or a column inside a block of outputs × inputs of a linear layer: `block-based:16x16:column`.
    BlockBased {
        /// Outputs of a block.
        outputs: Extent,
        /// Inputs of a block.
        inputs: Extent,
        /// What goes at once.
        direction: Direction,
    },
    /// Every 3×3 kernel keeps 4 of its 9 weights, the centre and 3 more, in one of 8 patterns; whole kernels go: `pattern`.
    Pattern,
    /// A single weight: `unstructured`.
    Unstructured,
}

impl Regularity {
    /// A block-punched regularity of `filters` × `channels`; `None` for an empty block.
    pub fn block_punched(filters: usize, channels: usize) -> Option<Self> {
        let of = |n| NonZeroUsize::new(n).map(Extent::Of);
        Some(Self::BlockPunched { filters: of(filters)?, channels: of(channels)? })
    }

    /// Column pruning: a column of the layer as a matrix (one channel at one kernel position, for all filters) goes at once.
    pub fn columns() -> Self {
        Self::BlockPunched { filters: Extent::All, channels: Extent::Of(NonZeroUsize::MIN) }
    }

    /// The smallest rate a weight of this regularity can have. A pattern alone removes 5 of 9 weights.
    pub fn least_rate(self) -> f64 {
        if self == Self::Pattern { KERNEL as f64 / KEPT_OF_KERNEL as f64 } else { 1.0 }
    }
}

const FORMS: &str = "dense, filter, channel, block-punched:16x1 (filters x channels of a block, `*` for all), \
                     block-based:16x16:column (outputs x inputs of a block, then row or column), pattern, unstructured";

impl FromStr for Regularity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || Error::Scheme(format!("`{text}` is no regularity; there are {FORMS}"));
        let mut parts = text.trim().split(':');
        let name = parts.next().unwrap_or_default();
        let sizes = parts.next();
        let rest = parts.next();
        if parts.next().is_some() {
            return Err(error());
        }
        let block = || {
            let (a, b) = sizes?.split_once('x')?;
            let extent = |t: &str| match t.trim() {
                "*" => Some(Extent::All),
                n => n.parse().ok().map(Extent::Of),
            };
            Some((extent(a)?, extent(b)?))
        };
        let plain = sizes.is_none();
        match name {
            "dense" if plain => Ok(Self::Dense),
            "filter" if plain => Ok(Self::Filter),
            "channel" if plain => Ok(Self::Channel),
            "pattern" if plain => Ok(Self::Pattern),
            "unstructured" if plain => Ok(Self::Unstructured),
            "block-punched" if rest.is_none() => {
                block().map(|(filters, channels)| Self::BlockPunched { filters, channels }).ok_or_else(error)
            }
            "block-based" => {
                let direction = match rest.map(str::trim) {
                    None | Some("column") => Direction::Column,
                    Some("row") => Direction::Row,
                    _ => return Err(error()),
                };
                block().map(|(outputs, inputs)| Self::BlockBased { outputs, inputs, direction }).ok_or_else(error)
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(n) => n.fmt(f),
            Self::All => f.write_str("*"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Row => "row",
            Self::Column => "column",
        })
    }
}

impl fmt::Display for Regularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dense => f.write_str("dense"),
            Self::Filter => f.write_str("filter"),
            Self::Channel => f.write_str("channel"),
            Self::BlockPunched { filters, channels } => write!(f, "block-punched:{filters}x{channels}"),
            Self::BlockBased { outputs, inputs, direction } => write!(f, "block-based:{outputs}x{inputs}:{direction}"),
            Self::Pattern => f.write_str("pattern"),
            Self::Unstructured => f.write_str("unstructured"),
        }
    }
}

impl TryFrom<String> for Regularity {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Regularity> for String {
    fn from(r: Regularity) -> Self {
        r.to_string()
    }
}

/// A regularity and how much of the layer goes. Text form: `block-punched:16x1@4`, and `dense`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Scheme {
    /// Which weights are removed together.
    pub regularity: Regularity,
    /// Compression: all weights over those that stay; 4 removes three quarters.
    pub rate: f64,
}

/// A scheme as a file has it, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    regularity: Regularity,
    #[serde(default = "one")]
    rate: f64,
}

fn one() -> f64 {
    1.0
}

impl TryFrom<Written> for Scheme {
    type Error = Error;

    fn try_from(w: Written) -> Result<Self> {
        Self::new(w.regularity, w.rate)
    }
}

impl Scheme {
    /// Everything stays.
    pub const DENSE: Self = Self { regularity: Regularity::Dense, rate: 1.0 };

    /// A scheme.
    ///
    /// # Errors
    /// A rate below what the regularity has at least, not finite, or other than 1 for `dense`.
    pub fn new(regularity: Regularity, rate: f64) -> Result<Self> {
        let least = regularity.least_rate();
        if !rate.is_finite() || rate < 1.0 {
            return Err(Error::Scheme(format!(
                "rate {rate} is no compression; it is all weights over those that stay: 1 keeps all, 4 removes three quarters"
            )));
        }
        // What a file says with a few digits (2.25) is meant exactly.
        if rate < least * (1.0 - 1e-9) {
            return Err(Error::Scheme(format!(
                "{regularity} has a rate of {least} at least ({KEPT_OF_KERNEL} of {KERNEL} weights stay in every kernel), {rate} was asked for"
            )));
        }
        if regularity == Regularity::Dense && rate != 1.0 {
            return Err(Error::Scheme(format!(
                "dense keeps all weights, so its rate is 1, not {rate}; name a regularity or leave the rate out"
            )));
        }
        Ok(Self { regularity, rate })
    }

    /// Nothing is removed.
    pub fn is_dense(&self) -> bool {
        self.rate == 1.0
    }

    /// Share of the weights that go.
    pub fn removed_share(&self) -> f64 {
        1.0 - 1.0 / self.rate
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.regularity == Regularity::Dense { f.write_str("dense") } else { write!(f, "{}@{}", self.regularity, self.rate) }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once('@') {
            None => Self::new(text.parse()?, 1.0),
            Some((regularity, rate)) => {
                let rate = rate.trim().parse().map_err(|_| Error::Scheme(format!("`{text}`: the rate after `@` is no number")))?;
                Self::new(regularity.parse()?, rate)
            }
        }
    }
}
