//! One pace for measurements of different batches.

use crate::measurement::Measurement;
use crate::statistics::median;

/// The pace of a machine at which measurements are told, whatever pace each was made at: that of the sentinel in the median
/// of them. A machine may be half as fast again from one minute to the next; what is summed or compared must not be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// What the sentinel takes, seconds; `None` where no measurement had an undisturbed one.
    sentinel_s: Option<f64>,
}

impl Pace {
    /// The median pace of `measured`.
    pub fn of(measured: &[Measurement]) -> Self {
        let sentinels: Vec<f64> = measured.iter().filter_map(|m| Some(m.to_sentinel?.sentinel_s)).collect();
        Self { sentinel_s: (!sentinels.is_empty()).then(|| median(&sentinels)) }
    }

    /// Latency at this pace, seconds; as measured where it or this pace does not say how it stands to the sentinel.
    pub fn seconds(&self, measured: &Measurement) -> f64 {
        match (measured.to_sentinel, self.sentinel_s) {
            (Some(relative), Some(sentinel_s)) => relative.ratio * sentinel_s,
            _ => measured.median_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::measurement::{Origin, ToSentinel};
    use crate::{Machine, Protocol, RuntimeIdentity};

    fn took(seconds: f64, sentinel_s: Option<f64>) -> Measurement {
        let origin = Origin {
            model: String::new(),
            model_key: String::new(),
            runtime: RuntimeIdentity { name: "tract".into(), version: "0".into(), provider: "cpu".into(), options: BTreeMap::new() },
            machine: Machine::detect(),
            setup_s: 0.0,
            rounds_invalidated: 0,
            disturbed: 0,
        };
        let measured = Measurement::from_samples(origin, &[vec![seconds; 8]], 1, true, &Protocol::table());
        let relative = |s: f64| ToSentinel { ratio: seconds / s, ci: (seconds / s, seconds / s), sentinel_s: s };
        Measurement { to_sentinel: sentinel_s.map(relative), ..measured }
    }

    #[test]
    fn measurements_are_told_at_the_median_pace() {
        // The same layer at three paces of the machine, and another one at the slowest.
        let all = [took(1.0, Some(0.5)), took(1.75, Some(0.875)), took(2.0, Some(1.0)), took(6.0, Some(1.0))];
        let pace = Pace::of(&all[..3]);
        for (m, expected) in all.iter().zip([1.75, 1.75, 1.75, 5.25]) {
            assert!((pace.seconds(m) - expected).abs() < 1e-12, "{}", pace.seconds(m));
        }
    }

    #[test]
    fn what_does_not_say_how_it_stands_to_the_sentinel_is_told_as_measured() {
        let (alone, beside) = (took(3.0, None), took(1.0, Some(0.5)));
        assert_eq!(Pace::of(std::slice::from_ref(&beside)).seconds(&alone), 3.0);
        assert_eq!(Pace::of(&[alone]).seconds(&beside), 1.0);
    }
}
