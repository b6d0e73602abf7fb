//! An attention as a model of its own.

use super::builder::{Builder, declare, int, ints};
use super::epilogue::constant_beside;
use crate::attention::Attention;
use crate::error::Result;
use crate::facts::Facts;
use crate::graph::Graph;
use crate::model::Model;
use crate::ops::Op;
use crate::proto::GraphProto;
use crate::tensor::Tensor;

/// `attention` with `heads` heads whose queries and values are `width` wide together, split as they are in the network.
///
/// Inputs are queries, keys and values as the layers before compute them, `[batch, positions, heads·width]`, and whatever a mask
/// is computed from; the output is what the layer behind reads. So moving heads to the front and back is timed, too, in one
/// form whatever form the network has.
///
/// # Errors
/// A width below 2, no heads, or shapes that are not known.
pub(super) fn attention_model(
    model: &Model,
    graph: &Graph,
    facts: &Facts,
    attention: &Attention,
    heads: usize,
    width: usize,
) -> Result<Model> {
    let a = attention;
    let scores = graph.node(a.scores);
    if heads == 0 || width < 2 {
        return Err(scores.error(format!("an attention of {heads} heads whose queries and values are {width} wide together")));
    }
    let dense = a.query_width + a.value_width;
    let values = ((width * a.value_width + dense / 2) / dense).clamp(1, width - 1);
    let queries = width - values;
    let dtype = scores.output(0).and_then(|v| facts.get(v)).map(|f| f.dtype).ok_or_else(|| scores.error("its type is not known"))?;
    let mut b = Builder { graph: GraphProto::default(), dtype, seed: 0, last: String::new(), wide: 0, narrow: 0, axis: 0 };
    let operand = |b: &mut Builder, name: &str, positions: usize, width: usize, perm: [usize; 4]| {
        b.graph.input.push(declare(name, dtype, &[a.batch, positions, heads * width]));
        let target = format!("{name}_heads");
        b.stored(&target, &Tensor::vec_i64([a.batch, positions, heads, width].map(|d| d as i64).to_vec()));
        b.push("Reshape", vec![name.into(), target], Vec::new());
        let last = b.last.clone();
        b.push("Transpose", vec![last], vec![ints("perm", &perm)]);
        b.last.clone()
    };
    let q = operand(&mut b, "queries", a.queries, queries, [0, 2, 1, 3]);
    let k = operand(&mut b, "keys", a.keys, queries, [0, 2, 3, 1]);
    let v = operand(&mut b, "values", a.keys, values, [0, 2, 1, 3]);
    b.push("MatMul", vec![q, k], Vec::new());
    for &(id, slot) in &a.between {
        let node = graph.node(id);
        if let Op::Softmax(_) = node.op {
            let x = b.last.clone();
            b.push("Softmax", vec![x], vec![int("axis", 3)]);
        } else if constant_beside(facts, node, slot) {
            b.elementwise(model, node, slot, facts);
        } else if let Op::Binary(op) = &node.op {
            // A mask: the same for all heads, or one for each.
            let Some(shape) = node.input(1 - slot).and_then(|v| facts.shape(v)) else { continue };
            let mut shape: Vec<usize> = shape.to_vec();
            if let Some(own) = shape.len().checked_sub(3).filter(|&d| shape[d] == a.heads && a.heads > 1) {
                shape[own] = heads;
            }
            if shape.len() == 3 && a.batch == 1 {
                shape.insert(0, 1);
            }
            let name = format!("mask{}", b.graph.node.len());
            b.graph.input.push(declare(&name, dtype, &shape));
            let x = b.last.clone();
            let input = if slot == 0 { vec![x, name] } else { vec![name, x] };
            b.push(op.name(), input, Vec::new());
        }
    }
    let p = b.last.clone();
    b.push("MatMul", vec![p, v], Vec::new());
    let last = b.last.clone();
    b.push("Transpose", vec![last], vec![ints("perm", &[0, 2, 1, 3])]);
    let shape = [a.batch, a.queries, heads * values];
    b.stored("joined", &Tensor::vec_i64(shape.map(|d| d as i64).to_vec()));
    let last = b.last.clone();
    b.push("Reshape", vec![last, "joined".into()], Vec::new());
    Ok(b.finish(model, "attention", &shape))
}
