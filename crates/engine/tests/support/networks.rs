//! Random networks of the blocks that convolutional networks are made of.

use graph::Tensor;

use super::build::{Builder, float, int, ints, text};

/// A random network: an image or a vector, some blocks of the kinds that convolutional networks are made of, a head.
pub fn network(seed: u64) -> Builder {
    let mut b = Builder::new(seed);
    let size = [1, 2, 5, 7, 9, 12, 18][b.random.below(7)];
    let wide = size + b.random.below(5);
    let channels = b.random.pick(&[1, 3, 3, 7, 16, 20, 33]);
    let mut x = b.input("image", &[1, channels, size, wide]);
    let mut values = vec![x.clone()];
    for _ in 0..2 + b.random.below(6) {
        x = block(&mut b, &x, &values);
        values.push(x.clone());
    }
    if b.random.one_in(4) {
        b.output(&x);
        x = b.node("Relu", &[&x], vec![]);
    }
    match b.random.below(3) {
        0 => b.output(&x),
        1 => {
            x = b.node("GlobalAveragePool", &[&x], vec![]);
            x = b.node("Flatten", &[&x], vec![]);
            head(&mut b, x);
        }
        _ => {
            x = b.node("Flatten", &[&x], vec![]);
            head(&mut b, x);
        }
    }
    b
}

fn head(b: &mut Builder, mut x: String) {
    let k = b.shape(&x)[1];
    let n = 1 + b.random.below(40);
    let bound = (3.0 / k as f32).sqrt();
    if b.random.one_in(2) {
        let w = b.tensor(&[n, k], 0.0, bound);
        let c = b.tensor(&[n], 0.0, 0.5);
        x = b.node("Gemm", &[&x, &w, &c], vec![int("transB", 1), float("alpha", 0.5), float("beta", 2.0)]);
    } else {
        let w = b.tensor(&[k, n], 0.0, bound);
        let c = b.tensor(&[n], 0.0, 0.5);
        x = b.node("MatMul", &[&x, &w], vec![]);
        x = b.node("Add", &[&c, &x], vec![]);
    }
    if b.random.one_in(2) {
        let kind = b.random.pick(&["Softmax", "LogSoftmax"]);
        x = b.node(kind, &[&x], vec![int("axis", 1)]);
    }
    b.output(&x);
}

fn activation(b: &mut Builder, x: &str) -> String {
    match b.random.below(9) {
        0 => x.to_owned(),
        1 => {
            let (low, high) = (b.stored(&Tensor::f32([], vec![-0.25])), b.stored(&Tensor::f32([], vec![1.0])));
            b.node("Clip", &[x, &low, &high], vec![])
        }
        2 => b.node("LeakyRelu", &[x], vec![float("alpha", 0.1)]),
        3 => b.node("HardSwish", &[x], vec![]),
        4 => b.node("Tanh", &[x], vec![]),
        5 => {
            let gate = b.node("Sigmoid", &[x], vec![]);
            b.node("Mul", &[x, &gate], vec![])
        }
        _ => b.node("Relu", &[x], vec![]),
    }
}

fn layer(b: &mut Builder, x: &str, filters: usize, k: usize, stride: usize, group: usize) -> String {
    let (zeros, wide) = (b.random.pick(&[0, 0, 8, 12, 16]), b.random.pick(&[1, 16, 32]));
    let y = b.conv(x, filters, k, stride, k / 2, group, zeros, wide);
    if b.random.one_in(2) { b.normalization(&y) } else { y }
}

/// Rows and columns changed.
fn turned(b: &mut Builder, x: &str) -> String {
    b.node("Transpose", &[x], vec![ints("perm", &[0, 1, 3, 2])])
}

/// Cut in two along an axis; both parts are read, or only one.
fn split(b: &mut Builder, x: &str) -> String {
    let x = if b.random.one_in(2) { turned(b, x) } else { x.to_owned() };
    let shape = b.shape(&x);
    let axis = 1 + b.random.below(3);
    if shape[axis] < 2 {
        return x;
    }
    let first = 1 + b.random.below(shape[axis] - 1);
    let sizes = b.stored(&Tensor::vec_i64(vec![first as i64, (shape[axis] - first) as i64]));
    let parts = b.nodes("Split", &[&x, &sizes], vec![int("axis", axis as i64)], 2);
    match b.random.below(4) {
        k @ 0..2 => parts[k].clone(),
        2 => {
            let y = activation(b, &parts[1]);
            b.node("Concat", &[&y, &parts[0]], vec![int("axis", axis as i64)])
        }
        _ => b.node("Concat", &[&parts[1], &parts[0], &x], vec![int("axis", axis as i64)]),
    }
}

fn block(b: &mut Builder, x: &str, values: &[String]) -> String {
    let shape = b.shape(x);
    let (c, h, w) = (shape[1], shape[2], shape[3]);
    let filters = b.random.pick(&[4, 16, 16, 24, 32, 48]);
    let k = b.random.pick(&[1, 3, 3, 5]);
    let stride = if h > 2 && w > 2 { b.random.pick(&[1, 1, 2, 3]) } else { 1 };
    match b.random.below(22) {
        // Depthwise.
        0 => {
            let y = layer(b, x, c, 3, stride, c);
            activation(b, &y)
        }
        // Grouped, two filters for every channel.
        1 => layer(b, x, 2 * c, 3, 1, c),
        // Residual: an earlier value of the same shape, or a projection that is computed later than the branch.
        2 | 3 => {
            let y = layer(b, x, filters, 3, stride, 1);
            let same: Vec<String> = values.iter().filter(|v| b.shape(v) == b.shape(&y)).cloned().collect();
            let other = if same.is_empty() { layer(b, x, filters, 1, stride, 1) } else { same[b.random.below(same.len())].clone() };
            let operands = if b.random.one_in(2) { [&y, &other] } else { [&other, &y] };
            let sum = b.node("Add", &[operands[0], operands[1]], vec![]);
            activation(b, &sum)
        }
        // Squeeze and excitation.
        4 => {
            let y = b.node("GlobalAveragePool", &[x], vec![]);
            let y = layer(b, &y, 1 + c / 4, 1, 1, 1);
            let y = activation(b, &y);
            let y = layer(b, &y, c, 1, 1, 1);
            let y = b.node("HardSigmoid", &[&y], vec![float("alpha", 1.0 / 6.0)]);
            b.node("Mul", &[&y, x], vec![])
        }
        5 if h > 2 && w > 2 => {
            let kind = b.random.pick(&["MaxPool", "AveragePool"]);
            let (k, s, p) = (2 + b.random.below(2) as i64, 1 + b.random.below(2) as i64, b.random.below(2) as i64);
            let mut a = vec![ints("kernel_shape", &[k, k]), ints("strides", &[s, s]), ints("pads", &[p, 0, 0, p])];
            a.push(int("ceil_mode", b.random.below(2) as i64));
            if kind == "AveragePool" {
                a.push(int("count_include_pad", b.random.below(2) as i64));
            }
            b.node(kind, &[x], a)
        }
        // Branches joined; of 16 channels they are computed in place.
        6 | 7 => {
            let parts: Vec<String> = (0..2 + b.random.below(2)).map(|_| layer(b, x, filters, k, 1, 1)).collect();
            let mut parts: Vec<String> = parts.iter().map(|p| activation(b, p)).collect();
            if b.random.one_in(3) {
                parts.push(x.to_owned());
            }
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            b.node("Concat", &parts, vec![int("axis", 1)])
        }
        // The shortcut that halves the map and fills up channels.
        8 if h > 2 && w > 2 => {
            let y = [2, 3].into_iter().fold(x.to_owned(), |y, axis| {
                let parts = [vec![0], vec![i64::MAX], vec![axis], vec![2]].map(|v| b.stored(&Tensor::vec_i64(v)));
                b.node("Slice", &[&y, &parts[0], &parts[1], &parts[2], &parts[3]], vec![])
            });
            let pads = b.stored(&Tensor::vec_i64(vec![0, 3, 0, 0, 0, 5, 0, 0]));
            b.node("Pad", &[&y, &pads], vec![])
        }
        // Padding apart from its convolution.
        9 => {
            let pads = b.stored(&Tensor::vec_i64(vec![0, 0, 0, 1, 0, 0, 2, 1]));
            let y = b.node("Pad", &[x, &pads], vec![]);
            let y = b.conv(&y, filters, 1, stride, 0, 1, 0, 1);
            activation(b, &y)
        }
        // Numbers per channel, folded where a convolution stands before.
        10 => {
            let p = b.tensor(&[1, c, 1, 1], 1.0, 0.5);
            let kind = b.random.pick(&["Mul", "Add", "Sub", "Div"]);
            let y = b.node(kind, &[x, &p], vec![]);
            let y = b.normalization(&y);
            activation(b, &y)
        }
        11 if h * w < 100 => {
            let scales = b.stored(&Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0]));
            let a = vec![text("mode", "nearest"), text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")];
            b.node("Resize", &[x, "", &scales], a)
        }
        12 => {
            let y = turned(b, x);
            activation(b, &y)
        }
        // A sequence of all pixels, and back.
        13 => {
            let to = b.stored(&Tensor::vec_i64(vec![0, 0, -1]));
            let mut y = b.node("Reshape", &[x, &to], vec![]);
            let dilation = 1 + b.random.below(3);
            y = b.dilated(&y, filters, &[3], dilation);
            if b.random.one_in(2) {
                y = b.node("MaxPool", &[&y], vec![ints("kernel_shape", &[3]), ints("pads", &[1, 1])]);
            }
            let back = b.stored(&Tensor::vec_i64(vec![0, filters as i64, h as i64, w as i64]));
            let y = b.node("Reshape", &[&y, &back], vec![]);
            activation(b, &y)
        }
        14 => {
            let (kernel, dilation) = (b.random.pick(&[[3, 3], [3, 1], [1, 5]]), 1 + b.random.below(3));
            let y = b.dilated(x, filters, &kernel, dilation);
            activation(b, &y)
        }
        15 => split(b, x),
        // A move that is read itself, and under another name.
        16 => {
            let y = turned(b, x);
            let same = match b.random.below(3) {
                0 => b.node("Identity", &[&y], vec![]),
                1 => b.node("Dropout", &[&y], vec![]),
                _ => {
                    let to = b.stored(&Tensor::vec_i64(vec![0, 0, 0, 0]));
                    b.node("Reshape", &[&y, &to], vec![])
                }
            };
            let parts = [vec![0], vec![1], vec![1]].map(|v| b.stored(&Tensor::vec_i64(v)));
            let first = b.node("Slice", &[&same, &parts[0], &parts[1], &parts[2]], vec![]);
            b.node("Concat", &[&y, &first], vec![int("axis", 1)])
        }
        // Padding of all kinds, read by a convolution and by something else.
        17 => {
            let x = if b.random.one_in(2) { turned(b, x) } else { x.to_owned() };
            let mode = b.random.pick(&["constant", "constant", "reflect", "edge"]);
            let most = if mode == "reflect" { h.min(w).min(3) } else { 3 };
            let [t, l, u, r] = [(); 4].map(|()| b.random.below(most) as i64);
            let pads = b.stored(&Tensor::vec_i64(vec![0, 0, t, l, 0, 0, u, r]));
            let fill = b.random.pick(&[0.0, 0.75]);
            let fill = b.stored(&Tensor::f32([], vec![fill]));
            let y = b.node("Pad", &[&x, &pads, &fill], vec![text("mode", mode)]);
            let z = layer(b, &y, filters, k, 1, 1);
            if b.random.one_in(2) { b.node("Concat", &[&y, &z], vec![int("axis", 1)]) } else { z }
        }
        // The larger and the smaller of two; of an activation and numbers of lower rank.
        18 => {
            let kind = b.random.pick(&["Max", "Min"]);
            let y = layer(b, x, filters, 3, 1, 1);
            let other = match b.random.below(3) {
                0 => b.stored(&Tensor::f32([], vec![0.25])),
                1 => b.tensor(&[filters, 1, 1], 0.0, 0.5),
                _ => layer(b, x, filters, 1, 1, 1),
            };
            let operands = if b.random.one_in(2) { [&y, &other] } else { [&other, &y] };
            b.node(kind, &[operands[0], operands[1]], vec![])
        }
        // An operand of lower rank, stored or computed, against a single channel.
        19 => {
            let y = layer(b, x, 1, 3, 1, 1);
            let other = if b.random.one_in(2) {
                b.tensor(&[1, h, w], 1.0, 0.5)
            } else {
                let z = layer(b, x, 1, 1, 1, 1);
                let axes = b.stored(&Tensor::vec_i64(vec![1]));
                b.node("Squeeze", &[&z, &axes], vec![])
            };
            let kind = b.random.pick(&["Add", "Sub", "Mul", "Max"]);
            let operands = if b.random.one_in(2) { [&y, &other] } else { [&other, &y] };
            let y = b.node(kind, &[operands[0], operands[1]], vec![]);
            activation(b, &y)
        }
        // All pixels to one, against every pixel.
        20 => {
            let spatial = || vec![ints("axes", &[2, 3])];
            let y = match b.random.below(3) {
                0 => b.node("GlobalMaxPool", &[x], vec![]),
                1 => b.node("ReduceMean", &[x], spatial()),
                _ => b.node("ReduceMax", &[x], spatial()),
            };
            let kind = b.random.pick(&["Add", "Sub", "Mul"]);
            b.node(kind, &[x, &y], vec![])
        }
        _ => {
            let y = layer(b, x, filters, k, stride, 1);
            activation(b, &y)
        }
    }
}
