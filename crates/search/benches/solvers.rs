//! The solvers on a problem of ResNet-101's size.
//!
//! `cargo bench -p secateur-search --bench solvers`

mod network;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use network::Network;
use secateur_search::{Limits, joint, knapsack};

fn solvers(criterion: &mut Criterion) {
    let network = Network::resnet101(101);
    let dense = network.latency(&network.dense());
    let limits = Limits::default();

    let mut group = criterion.benchmark_group("joint exact");
    group.sample_size(20);
    for (name, problem) in [("widths", network.joint(false)), ("widths and removal", network.joint(true))] {
        for target in [0.80, 0.55, 0.30, 0.20] {
            group.bench_with_input(BenchmarkId::new(name, target), &target, |bencher, target| {
                bencher.iter(|| joint::solve(black_box(&problem), dense * target, &limits).map(|solution| solution.value));
            });
        }
    }
    group.finish();

    let mut group = criterion.benchmark_group("one linearised step, 4000 cells");
    group.sample_size(20);
    let groups = network.linearised(&network.dense());
    for target in [0.80, 0.55, 0.30] {
        group.bench_with_input(BenchmarkId::new("published", target), &target, |bencher, target| {
            bencher.iter(|| knapsack::published(black_box(&groups), dense * target, 4000));
        });
        group.bench_with_input(BenchmarkId::new("exact", target), &target, |bencher, target| {
            bencher.iter(|| knapsack::exact(black_box(&groups), dense * target, 4000));
        });
        group.bench_with_input(BenchmarkId::new("exact without a grid", target), &target, |bencher, target| {
            bencher.iter(|| knapsack::exact_continuous(black_box(&groups), dense * target));
        });
    }
    group.finish();
}

criterion_group!(benches, solvers);
criterion_main!(benches);
