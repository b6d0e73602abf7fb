//! Time of the convolution kernels on the shapes of the CIFAR residual networks.
use std::time::Instant;

use secateur_train::kernels::{buffers, conv::*};

fn best(mut f: impl FnMut() -> Vec<f32>) -> f64 {
    let mut t = f64::INFINITY;
    for _ in 0..15 {
        let s = Instant::now();
        let r = f();
        t = t.min(s.elapsed().as_secs_f64());
        buffers::give(r);
    }
    t
}

fn main() {
    for (c, o, h, s) in [(3, 16, 32, 1), (16, 16, 32, 1), (16, 32, 32, 2), (32, 32, 16, 1), (64, 64, 8, 1), (11, 11, 32, 1)] {
        let shape = Shape {
            batch: 128,
            channels: [c, o],
            groups: 1,
            input: [h, h],
            kernel: [3, 3],
            stride: [s, s],
            dilation: [1, 1],
            before: [1, 1],
            after: [1, 1],
        };
        let [oh, ow] = shape.output();
        let x: Vec<f32> = (0..128 * c * h * h).map(|i| (i % 17) as f32 - 8.0).collect();
        let w: Vec<f32> = (0..c * o * 9).map(|i| (i % 13) as f32 - 6.0).collect();
        let dy: Vec<f32> = (0..128 * o * oh * ow).map(|i| (i % 11) as f32 - 5.0).collect();
        let gf = 128.0 * (c * o * 9 * oh * ow * 2) as f64 / 1e9;
        let f = best(|| forward(&shape, &x, &w, None, None, false));
        let i = best(|| backward_input(&shape, &dy, &w));
        let k = best(|| backward_weight(&shape, &x, &dy));
        println!(
            "{c}->{o} {h} s{s}: fwd {:.2} ms {:.0} GF/s, dx {:.2} ms {:.0}, dw {:.2} ms {:.0}, total {:.2} ms",
            f * 1e3,
            gf / f,
            i * 1e3,
            gf / i,
            k * 1e3,
            gf / k,
            (f + i + k) * 1e3
        );
    }
}
