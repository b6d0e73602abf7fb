//! The multiply-add peak of one core per instruction set, in GFLOP/s: the best and the median of 200 samples of about a millisecond.

use std::time::Instant;

use secateur_engine::{Isa, peak_operations};

fn main() {
    for isa in Isa::available() {
        let sample = |_| {
            let start = Instant::now();
            let (operations, sum) = peak_operations(isa, 400_000);
            std::hint::black_box(sum);
            operations as f64 / start.elapsed().as_secs_f64() * 1e-9
        };
        let mut samples: Vec<f64> = (0..200).map(sample).collect();
        samples.sort_by(f64::total_cmp);
        println!("{}: best {:.1}, median {:.1} GFLOP/s", isa.name(), samples[199], samples[100]);
    }
}
