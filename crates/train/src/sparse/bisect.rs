//! The strength of a penalty by bisection.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

/// A value in `range` (positive, geometric) at which `verdict` is content: `Less` asks for more, `Greater` for less. `verdict`
/// is asked `trials` times at most, and what is returned is the last value it was asked about that it did not find too little,
/// or the largest where all were.
///
/// What is enough is for the caller to say: a compression reached, or a latency measured.
///
/// # Errors
/// The first error of `verdict`.
pub fn bisect<E>(range: RangeInclusive<f64>, trials: usize, mut verdict: impl FnMut(f64) -> Result<Ordering, E>) -> Result<f64, E> {
    let (mut low, mut high) = (range.start().ln(), range.end().ln());
    let mut enough = *range.end();
    for _ in 0..trials {
        let middle = f64::midpoint(low, high);
        match verdict(middle.exp())? {
            Ordering::Equal => return Ok(middle.exp()),
            Ordering::Less => low = middle,
            Ordering::Greater => {
                high = middle;
                enough = middle.exp();
            }
        }
    }
    Ok(enough)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_is_just_enough_and_stops_when_content() {
        let mut asked = 0;
        let found = bisect(1e-6..=1.0, 30, |x| {
            asked += 1;
            Ok::<_, ()>(if x < 3e-3 { Ordering::Less } else { Ordering::Greater })
        });
        assert!((found.expect("no error") / 3e-3 - 1.0).abs() < 1e-6);
        assert_eq!(asked, 30);
        asked = 0;
        let found = bisect(0.01..=1.0, 30, |x| {
            asked += 1;
            Ok::<_, ()>(if (x / 0.1).ln().abs() < 0.01 { Ordering::Equal } else { Ordering::Less })
        });
        assert!((found.expect("no error") - 0.1).abs() < 1e-3 && asked == 1);
        assert_eq!(bisect(0.01..=1.0, 3, |_| Ok::<_, ()>(Ordering::Less)), Ok(1.0));
        assert_eq!(bisect(0.01..=1.0, 3, |_| Err("no")), Err("no"));
    }
}
