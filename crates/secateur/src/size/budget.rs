//! How many parameters may stay.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Parameters that may stay: `70%` of the network's, or a number of them (`250k`, `1.5M`, `80000`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SizeBudget {
    /// Share of the dense network's parameters.
    Share(f64),
    /// Number of parameters.
    Count(u64),
}

/// A size that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{text}` is not a number of parameters; write a share of the dense network's (`70%`) or a number (`250k`, `1.5M`, `80000`)")]
pub struct ParseSizeError {
    text: String,
}

impl FromStr for SizeBudget {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseSizeError { text: text.to_owned() };
        let number = |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0).ok_or_else(error);
        let t = text.trim();
        if let Some(share) = t.strip_suffix('%') {
            return Ok(Self::Share(number(share)? / 100.0));
        }
        let units = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
        for (suffix, unit) in units {
            if let Some(n) = t.strip_suffix(suffix) {
                return Ok(Self::Count((number(n)? * unit).round() as u64));
            }
        }
        Ok(Self::Count(number(t)?.round() as u64))
    }
}

impl fmt::Display for SizeBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{}%", share * 100.0),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

impl TryFrom<String> for SizeBudget {
    type Error = ParseSizeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SizeBudget> for String {
    fn from(b: SizeBudget) -> Self {
        b.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_wrong_ones_explained() {
        for (text, size) in [
            ("70%", SizeBudget::Share(0.7)),
            ("250k", SizeBudget::Count(250_000)),
            ("1.5M", SizeBudget::Count(1_500_000)),
            (" 80000", SizeBudget::Count(80_000)),
        ] {
            assert_eq!(text.parse(), Ok(size), "{text}");
            assert_eq!(size.to_string().parse(), Ok(size), "{text}");
        }
        for text in ["", "%", "-3", "0%", "many", "infk"] {
            assert!(text.parse::<SizeBudget>().expect_err(text).to_string().contains("70%"));
        }
    }
}
