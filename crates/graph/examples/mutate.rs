//! Many damaged real files: `cargo run --release --workspace --example mutate -- COUNT FILE…` takes the files in turn, with
//! seeds 0, 1, 2 …; a case that panics, hangs, takes too much memory or fails without a cause is printed with its seed, and
//! the exit code is 1.

#[path = "../tests/support/mutate.rs"]
mod mutate;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutate::{Outcome, judge};

/// The case being judged, for the watchdog.
static CASE: AtomicU64 = AtomicU64::new(0);

fn main() {
    let mut args = std::env::args().skip(1);
    let count: u64 = args.next().and_then(|c| c.parse().ok()).unwrap_or(20_000);
    let files: Vec<(String, Vec<u8>)> = args.filter_map(|f| std::fs::read(&f).ok().map(|b| (f, b))).collect();
    if files.is_empty() {
        println!("skipped: no file was named");
        return;
    }
    std::thread::spawn(|| {
        let mut last = (0, Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = CASE.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > Duration::from_secs(30) {
                println!("case {now} hangs");
                std::process::exit(1);
            }
        }
    });
    std::panic::set_hook(Box::new(|info| println!("    {info}")));
    let started = Instant::now();
    let (mut read, mut broken, mut slowest) = (0u64, 0u64, Duration::ZERO);
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for case in 0..count {
        if case % 2000 == 0 && case > 0 {
            println!("    {case} done, {:.0} s", started.elapsed().as_secs_f64());
        }
        CASE.store(case, Ordering::Relaxed);
        let (name, file) = &files[(case % files.len() as u64) as usize];
        let bytes = mutate::mutate(file, case);
        let begun = Instant::now();
        match judge(bytes) {
            Outcome::Read => read += 1,
            Outcome::Refused(cause) => {
                let kind: String =
                    cause.split('`').step_by(2).collect::<Vec<_>>().join("…").chars().filter(|c| !c.is_ascii_digit()).take(60).collect();
                *causes.entry(kind).or_default() += 1;
            }
            Outcome::Broken(why) => {
                broken += 1;
                println!("case {case} of {name}: {why}");
            }
        }
        slowest = slowest.max(begun.elapsed());
    }
    println!(
        "{count} mutations of {} files in {:.0} s: {read} read, {} refused, {broken} broken; slowest {slowest:.1?}",
        files.len(),
        started.elapsed().as_secs_f64(),
        count - read - broken
    );
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|c| std::cmp::Reverse(c.1));
    for (cause, n) in causes.into_iter().take(25) {
        println!("{n:6}  {cause}");
    }
    std::process::exit(i32::from(broken > 0));
}
