//! What the network may cost: `5ms`, `50%` of the dense latency, or `2x` as fast.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A latency budget as the user gives it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Budget {
    /// Seconds on the target.
    Seconds(f64),
    /// Share of the dense network's latency.
    Share(f64),
}

/// A budget that cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{text}` is not a latency budget; write a time (`5ms`, `800us`), a share of the dense latency (`50%`) or a speed-up (`2x`)")]
pub struct ParseBudgetError {
    text: String,
}

impl Budget {
    /// The budget in seconds, for a dense network of `dense_s` seconds.
    pub fn seconds(self, dense_s: f64) -> f64 {
        match self {
            Self::Seconds(s) => s,
            Self::Share(share) => share * dense_s,
        }
    }
}

impl FromStr for Budget {
    type Err = ParseBudgetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseBudgetError { text: text.to_owned() };
        let t = text.trim();
        // Longer suffixes first: `ms` and `us` end in `s`.
        type Make = fn(f64) -> Budget;
        let units: [(&str, Make); 7] = [
            ("ms", |v| Self::Seconds(v * 1e-3)),
            ("us", |v| Self::Seconds(v * 1e-6)),
            ("µs", |v| Self::Seconds(v * 1e-6)),
            ("ns", |v| Self::Seconds(v * 1e-9)),
            ("s", Self::Seconds),
            ("%", |v| Self::Share(v / 100.0)),
            ("x", |v| Self::Share(1.0 / v)),
        ];
        for (suffix, make) in units {
            if let Some(number) = t.strip_suffix(suffix) {
                let value: f64 = number.trim().parse().map_err(|_| error())?;
                let budget = make(value);
                let (Self::Seconds(size) | Self::Share(size)) = budget;
                return if size.is_finite() && size > 0.0 { Ok(budget) } else { Err(error()) };
            }
        }
        Err(error())
    }
}

impl TryFrom<String> for Budget {
    type Error = ParseBudgetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(b: Budget) -> Self {
        b.to_string()
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(s) => f.write_str(&format_seconds(*s)),
            Self::Share(share) => write!(f, "{}%", share * 100.0),
        }
    }
}

/// Seconds in the unit a reader expects, exact enough to be read back.
pub fn format_seconds(s: f64) -> String {
    match s.abs() {
        a if a >= 1.0 => format!("{s}s"),
        a if a >= 1e-3 => format!("{}ms", round_to_digits(s * 1e3, 9)),
        a if a >= 1e-6 => format!("{}us", round_to_digits(s * 1e6, 9)),
        _ => format!("{}ns", round_to_digits(s * 1e9, 9)),
    }
}

fn round_to_digits(v: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (v * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_times_shares_and_speed_ups() {
        let cases = [("5ms", 0.005), ("800us", 0.0008), ("1.5s", 1.5), ("50%", 0.1), ("2x", 0.1), (" 25 % ", 0.05)];
        for (text, seconds) in cases {
            let b: Budget = text.parse().expect(text);
            assert!((b.seconds(0.2) - seconds).abs() < 1e-12, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_budget_and_says_what_is() {
        for text in ["", "5", "-3ms", "0%", "0x", "fast", "nan%", "infms"] {
            let e = text.parse::<Budget>().expect_err(text);
            assert!(e.to_string().contains("50%") && e.to_string().contains("5ms"), "{e}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(s in 1e-7f64..100.0) {
            let b = Budget::Seconds(s);
            let again: Budget = b.to_string().parse().expect("reads its own print");
            prop_assert!((again.seconds(1.0) - s).abs() <= 1e-9 * s + 1e-15);
        }
    }
}
