//! Numbers as people read them.

/// A latency with four significant digits and its unit.
pub fn seconds(s: f64) -> String {
    let (value, unit) = match s.abs() {
        a if a >= 1.0 => (s, "s"),
        a if a >= 1e-3 => (s * 1e3, "ms"),
        a if a >= 1e-6 || a == 0.0 => (s * 1e6, "µs"),
        _ => (s * 1e9, "ns"),
    };
    format!("{} {unit}", significant(value))
}

/// Milliseconds for tables whose heading says so.
pub fn milliseconds(s: f64) -> String {
    format!("{:.4}", s * 1e3)
}

fn significant(v: f64) -> String {
    let digits = match v.abs() {
        a if a >= 1000.0 => 0,
        a if a >= 100.0 => 1,
        a if a >= 10.0 => 2,
        _ => 3,
    };
    format!("{v:.digits$}")
}

/// How long something takes, for people who wait: `8 s`, `3 min 20 s`, `2 h 05 min`.
pub fn duration(s: f64) -> String {
    let whole = s.round() as u64;
    match whole {
        0..=9 => format!("{s:.1} s"),
        10..=59 => format!("{whole} s"),
        60..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A share in percent, one decimal.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// 1234567 as 1,234,567.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count of operations: 40.55 M.
pub fn operations(n: u64) -> String {
    match n {
        0..=99_999 => thousands(n),
        100_000..=999_999_999 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// A noun with its number: `1 layer`, `3 layers`.
pub fn count(n: usize, one: &str) -> String {
    match (n, one.strip_suffix("ch")) {
        (1, _) => format!("1 {one}"),
        (_, Some(_)) => format!("{} {one}es", thousands(n as u64)),
        _ => format!("{} {one}s", thousands(n as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_keep_four_digits() {
        let cases = [(1.5, "1.500 s"), (0.012345, "12.35 ms"), (0.000_412_34, "412.3 µs"), (3.2e-8, "32.00 ns"), (0.0, "0.000 µs")];
        for (s, text) in cases {
            assert_eq!(seconds(s), text);
        }
    }

    #[test]
    fn waits_are_told_in_the_largest_units() {
        let cases = [(3.25, "3.2 s"), (42.0, "42 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 05 min")];
        for (s, text) in cases {
            assert_eq!(duration(s), text);
        }
    }

    #[test]
    fn counts() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!((thousands(999), thousands(1000)), ("999".into(), "1,000".into()));
        assert_eq!(
            (count(1, "branch"), count(27, "branch"), count(2, "layer")),
            ("1 branch".into(), "27 branches".into(), "2 layers".into())
        );
        assert_eq!((operations(40_550_000), operations(12)), ("40.55 M".into(), "12".into()));
    }
}
