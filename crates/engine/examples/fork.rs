//! What it takes to hand work to threads: the time of an empty job on the engine's own threads and on rayon's, and of a network with
//! each number of threads.
//!
//!     fork [THREADS] [MODEL.onnx…]

use std::hint::black_box;
use std::time::{Duration, Instant};

use secateur_engine::{Engine, empty_job};

/// Median time of `work` in nanoseconds, with a pause of work before each that is about as long as a layer's.
fn median_ns(work: impl Fn()) -> u128 {
    let mut times: Vec<u128> = (0..2000)
        .map(|_| {
            let until = Instant::now() + Duration::from_micros(10);
            while Instant::now() < until {
                black_box(0);
            }
            let start = Instant::now();
            work();
            start.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads: usize = arguments.next().map_or(Ok(2), |t| t.parse())?;
    let empty = empty_job(threads)?;
    println!("own threads: {} ns per job", median_ns(&empty));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    println!("rayon broadcast: {} ns per job", median_ns(|| _ = pool.broadcast(|c| black_box(c.index()))));
    println!("rayon install and join: {} ns per job", median_ns(|| _ = pool.install(|| rayon::join(|| black_box(0), || black_box(1)))));
    for path in arguments {
        let model = graph::Model::load(&path)?;
        for n in 1..=threads {
            let mut compiled = Engine::new().with_threads(n)?.compile(&model, &graph::InputShapes::batch(1))?;
            let mut times: Vec<f64> = (0..200)
                .map(|_| {
                    let start = Instant::now();
                    compiled.run();
                    start.elapsed().as_secs_f64() * 1e3
                })
                .collect();
            times.sort_by(f64::total_cmp);
            println!("{path}, {n} threads: {:.3} ms in the median, {:.3} at best", times[100], times[0]);
        }
    }
    Ok(())
}
