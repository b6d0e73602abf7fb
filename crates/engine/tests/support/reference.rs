//! Every operator written as its definition, on row-major arrays: slow, and simple enough to believe.

use std::collections::HashMap;

use graph::ops::{Binary, Op, PadMode, PoolKind, ReduceKind, Unary};
use graph::{Facts, Graph, Inference, InputShapes, Model, Node, ValueId, for_each_index, strides};

/// An array of any rank.
#[derive(Debug, Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Array {
    fn new(shape: &[usize], f: impl Fn(&[usize]) -> f32) -> Self {
        let mut values = Vec::new();
        for_each_index(shape, |i| values.push(f(i)));
        Self { shape: shape.to_vec(), values }
    }

    fn at(&self, index: &[usize]) -> f32 {
        self.values[index.iter().zip(strides(&self.shape)).map(|(i, s)| i * s).sum::<usize>()]
    }

    /// The element at an index of a shape this array spreads to.
    fn spread(&self, index: &[usize]) -> f32 {
        let lead = index.len() - self.shape.len();
        let own: Vec<usize> = self.shape.iter().zip(&index[lead..]).map(|(&n, &i)| if n == 1 { 0 } else { i }).collect();
        self.at(&own)
    }

    /// The element at a signed index; `None` outside.
    fn get(&self, index: &[i64]) -> Option<f32> {
        let inside = index.iter().zip(&self.shape).all(|(&i, &n)| (0..n as i64).contains(&i));
        inside.then(|| self.at(&index.iter().map(|&i| i as usize).collect::<Vec<_>>()))
    }
}

/// Outputs of `model` for `inputs` by name, batch 1.
pub fn run(model: &Model, inputs: &[(String, Vec<f32>)]) -> Vec<Array> {
    let graph = Graph::new(model).unwrap();
    let facts = Facts::infer(model, &graph, &InputShapes::batch(1)).unwrap();
    let mut values: HashMap<ValueId, Array> = HashMap::new();
    for v in &graph.inputs {
        let given = inputs.iter().find(|(n, _)| *n == graph.value(*v).name).unwrap();
        values.insert(*v, Array { shape: facts.shape(*v).unwrap().to_vec(), values: given.1.clone() });
    }
    for node in &graph.nodes {
        let operands: Vec<Option<Array>> = node.inputs.iter().map(|v| v.and_then(|v| value(v, &facts, &values))).collect();
        let known = node.inputs.iter().map(|v| v.and_then(|v| facts.get(v))).collect();
        let inference = Inference { model, node, inputs: known };
        for (slot, out) in node.outputs.iter().enumerate().filter_map(|(slot, v)| Some((slot, (*v)?))) {
            let shape = facts.shape(out).unwrap();
            let result = compute(node, slot, &inference, &operands, shape);
            assert_eq!(result.len(), shape.iter().product::<usize>());
            values.insert(out, Array { shape: shape.to_vec(), values: result });
        }
    }
    graph.outputs.iter().map(|v| values[v].clone()).collect()
}

fn value(v: ValueId, facts: &Facts, values: &HashMap<ValueId, Array>) -> Option<Array> {
    let stored = || {
        let t = facts.constant(v)?;
        Some(Array { shape: t.shape.clone(), values: t.to_f32()? })
    };
    values.get(&v).cloned().or_else(stored)
}

/// Result `slot` of `node`.
fn compute(node: &Node, slot: usize, i: &Inference, operands: &[Option<Array>], shape: &[usize]) -> Vec<f32> {
    let operand = |k: usize| operands[k].as_ref().unwrap();
    let has = |k: usize| operands.get(k).is_some_and(Option::is_some);
    let x = operand(0);
    match &node.op {
        Op::Conv(op) => {
            let w = operand(1);
            let pads = op.window.resolve_pads(&x.shape[2..], &w.shape[2..]);
            // A sequence is a single row.
            let two = |spatial: &[usize]| if let [w] = *spatial { (1, w) } else { (spatial[0], spatial[1]) };
            let axes = if w.shape.len() == 3 { [None, Some(0)] } else { [Some(0), Some(1)] };
            let (filters, per_group) = (w.shape[0], w.shape[1]);
            let ((kh, kw), (h, width), (rows, columns)) = (two(&w.shape[2..]), two(&x.shape[2..]), two(&shape[2..]));
            let mut out = Vec::new();
            for f in 0..filters {
                for y in 0..rows {
                    for column in 0..columns {
                        let mut sum = if has(2) { operand(2).values[f] as f64 } else { 0.0 };
                        for c in 0..per_group {
                            let channel = f / (filters / op.group) * per_group + c;
                            for ky in 0..kh {
                                for kx in 0..kw {
                                    let at = |o: usize, k: usize, axis: Option<usize>| {
                                        axis.map_or(0, |d| (o * op.window.stride(d) + k * op.window.dilation(d)).wrapping_sub(pads[d].0))
                                    };
                                    let (iy, ix) = (at(y, ky, axes[0]), at(column, kx, axes[1]));
                                    if iy < h && ix < width {
                                        let v = x.values[(channel * h + iy) * width + ix];
                                        sum += v as f64 * w.values[((f * per_group + c) * kh + ky) * kw + kx] as f64;
                                    }
                                }
                            }
                        }
                        out.push(sum as f32);
                    }
                }
            }
            out
        }
        Op::Gemm(g) => {
            let b = operand(1);
            let k = x.shape[1];
            Array::new(shape, |o| {
                let product = |j: usize| x.at(&[o[0], j]) * if g.trans_b { b.at(&[o[1], j]) } else { b.at(&[j, o[1]]) };
                g.alpha * (0..k).map(product).sum::<f32>() + if has(2) { g.beta * operand(2).spread(o) } else { 0.0 }
            })
            .values
        }
        Op::MatMul => Array::new(shape, |o| (0..x.shape[1]).map(|j| x.at(&[o[0], j]) * operand(1).at(&[j, o[1]])).sum()).values,
        Op::BatchNormalization(op) => {
            let p = |k: usize, c: usize| operand(k).values[c];
            Array::new(shape, |o| {
                let c = o[1];
                (x.at(o) - p(3, c)) / (p(4, c) + op.epsilon).sqrt() * p(1, c) + p(2, c)
            })
            .values
        }
        Op::Unary(u) => {
            let bound = |k: usize| has(k).then(|| operand(k).values[0]);
            x.values.iter().map(|&v| unary(*u, v, bound(1), bound(2))).collect()
        }
        Op::Binary(b) => {
            Array::new(shape, |o| {
                let (p, q) = (x.spread(o), operand(1).spread(o));
                match b {
                    Binary::Add | Binary::Sum => p + q,
                    Binary::Sub => p - q,
                    Binary::Mul => p * q,
                    Binary::Div => p / q,
                    Binary::Max => p.max(q),
                    Binary::Min => p.min(q),
                    other => panic!("{other:?}"),
                }
            })
            .values
        }
        Op::Pool(op) => {
            let w = &op.window;
            let pads = w.resolve_pads(&x.shape[2..], &w.kernel);
            Array::new(shape, |o| {
                let (mut sum, mut largest, mut inside, mut padded) = (0f64, f32::NEG_INFINITY, 0, 0);
                for_each_index(&w.kernel, |k| {
                    let mut at = vec![0, o[1] as i64];
                    let mut counts = true;
                    for d in 0..k.len() {
                        let p = (o[d + 2] * w.stride(d) + k[d] * w.dilation(d)) as i64 - pads[d].0 as i64;
                        counts &= p < (x.shape[d + 2] + pads[d].1) as i64;
                        at.push(p);
                    }
                    padded += usize::from(counts);
                    if let Some(v) = x.get(&at) {
                        inside += 1;
                        sum += v as f64;
                        largest = largest.max(v);
                    }
                });
                match op.kind {
                    PoolKind::Max => largest,
                    PoolKind::Average { include_pad } => (sum / if include_pad { padded } else { inside } as f64) as f32,
                }
            })
            .values
        }
        Op::Reduce(r) => {
            let pixels: usize = x.shape[2..].iter().product();
            let planes = x.values.chunks(pixels);
            match r.kind {
                ReduceKind::GlobalMaxPool | ReduceKind::Max => planes.map(|p| p.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b))).collect(),
                _ => planes.map(|p| (p.iter().map(|&v| v as f64).sum::<f64>() / pixels as f64) as f32).collect(),
            }
        }
        Op::Concat(op) => {
            let axis = usize::try_from(op.axis).unwrap();
            Array::new(shape, |o| {
                let mut at = o.to_vec();
                for part in operands.iter().flatten() {
                    if at[axis] < part.shape[axis] {
                        return part.at(&at);
                    }
                    at[axis] -= part.shape[axis];
                }
                panic!("{o:?} is in no part")
            })
            .values
        }
        Op::Split(op) => {
            let before: i64 = i.ints(1).unwrap()[..slot].iter().sum();
            Array::new(shape, |o| {
                let mut at = o.to_vec();
                at[usize::try_from(op.axis).unwrap()] += before as usize;
                x.at(&at)
            })
            .values
        }
        Op::Pad(op) => {
            let amounts = op.amounts(i, shape.len()).unwrap().unwrap();
            let fill = op.fill(i).unwrap();
            let taken = |mut at: i64, size: usize| {
                let last = size as i64 - 1;
                match op.mode {
                    PadMode::Constant => at,
                    PadMode::Edge => at.max(0).min(last),
                    PadMode::Wrap => at.rem_euclid(size as i64),
                    PadMode::Reflect => {
                        while at < 0 || at > last {
                            at = if at < 0 { -at } else { 2 * last - at };
                        }
                        at
                    }
                }
            };
            Array::new(shape, |o| {
                let at: Vec<i64> = o.iter().zip(&amounts).zip(&x.shape).map(|((&k, a), &size)| taken(k as i64 - a.0, size)).collect();
                x.get(&at).unwrap_or(fill)
            })
            .values
        }
        Op::Slice(op) => {
            let kept = op.coordinates(i, &x.shape).unwrap().unwrap();
            Array::new(shape, |o| x.at(&o.iter().zip(&kept).map(|(&k, c)| c[k]).collect::<Vec<_>>())).values
        }
        Op::Transpose(op) => {
            let perm = op.permutation(shape.len());
            Array::new(shape, |o| {
                let mut at = vec![0; o.len()];
                perm.iter().enumerate().for_each(|(d, &p)| at[p] = o[d]);
                x.at(&at)
            })
            .values
        }
        Op::Resize(_) => {
            let factor: Vec<usize> = shape.iter().zip(&x.shape).map(|(o, i)| o / i).collect();
            Array::new(shape, |o| x.at(&o.iter().zip(&factor).map(|(k, f)| k / f).collect::<Vec<_>>())).values
        }
        Op::Softmax(op) => {
            let total: f32 = x.values.iter().map(|v| v.exp()).sum();
            assert_eq!(x.shape.len(), 2);
            x.values.iter().map(|v| if op.log { v - total.ln() } else { v.exp() / total }).collect()
        }
        Op::Reshape(_) | Op::Flatten(_) | Op::Squeeze(_) => x.values.clone(),
        other => panic!("no reference for {}", other.name()),
    }
}

fn unary(u: Unary, x: f32, low: Option<f32>, high: Option<f32>) -> f32 {
    let hard = |v: f32| v.clamp(0.0, 1.0);
    match u {
        Unary::Relu => x.max(0.0),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        Unary::Clip { .. } => x.max(low.unwrap_or(f32::NEG_INFINITY)).min(high.unwrap_or(f32::INFINITY)),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::HardSigmoid { alpha, beta } => hard(alpha * x + beta),
        Unary::HardSwish => x * hard(x / 6.0 + 0.5),
        Unary::Elu { alpha } => {
            if x < 0.0 {
                alpha * (x.exp() - 1.0)
            } else {
                x
            }
        }
        Unary::Tanh => x.tanh(),
        Unary::Softplus => (1.0 + x.exp()).ln(),
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Identity | Unary::Dropout { .. } => x,
        other => panic!("{other:?}"),
    }
}
