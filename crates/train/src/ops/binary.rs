//! Elementwise operators of several operands with broadcasting.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Shape, TensorMetadata};
use graph::Node;
use graph::ops::Binary;

use crate::backend::Kernels;
use crate::error::Result;
use crate::run::{At, unsupported};

pub(super) fn check(node: &Node, op: Binary) -> Result<()> {
    match op {
        Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::Sum
        | Binary::Mean
        | Binary::PRelu
        | Binary::Max
        | Binary::Min
        | Binary::Pow => Ok(()),
        Binary::Mod
        | Binary::Equal
        | Binary::Greater
        | Binary::GreaterOrEqual
        | Binary::Less
        | Binary::LessOrEqual
        | Binary::And
        | Binary::Or => Err(unsupported(node, "it has no gradient; only its use on constants is supported".into())),
    }
}

fn at_rank<B: Kernels>(tensor: FloatTensor<B>, rank: usize) -> FloatTensor<B> {
    let mut shape = tensor.shape().to_vec();
    if shape.len() == rank {
        return tensor;
    }
    while shape.len() < rank {
        shape.insert(0, 1);
    }
    B::float_reshape(tensor, Shape::from(shape))
}

pub(super) fn forward<B: Kernels>(op: Binary, at: &mut At<'_, '_, B>) -> Result<()> {
    check(at.node, op)?;
    let rank = at.output_shape(0)?.len().max(1);
    let count = at.node.inputs.len();
    let mut y = at_rank::<B>(at.input(0)?, rank);
    for slot in 1..count {
        let b = at_rank::<B>(at.input(slot)?, rank);
        y = match op {
            Binary::Sub => B::float_sub(y, b),
            Binary::Mul => B::float_mul(y, b),
            Binary::Div => B::float_div(y, b),
            Binary::Pow => power::<B>(at, y, b)?,
            Binary::PRelu => {
                let positive = B::relu(y.clone());
                B::float_add(positive.clone(), B::float_mul(B::float_sub(y, positive), b))
            }
            // max(a, b) = b + relu(a − b), min(a, b) = a − relu(a − b).
            Binary::Max => B::float_add(b.clone(), B::relu(B::float_sub(y, b))),
            Binary::Min => B::float_sub(y.clone(), B::relu(B::float_sub(y, b))),
            _ => B::float_add(y, b),
        };
    }
    if op == Binary::Mean {
        y = B::float_div_scalar(y, (count as f32).into());
    }
    let out = at.output_shape(0)?.to_vec();
    at.set(0, if out.is_empty() { B::float_reshape(y, Shape::from(out)) } else { y })
}

fn power<B: Kernels>(at: &At<'_, '_, B>, base: FloatTensor<B>, exponent: FloatTensor<B>) -> Result<FloatTensor<B>> {
    let constant =
        at.inference().constant(1).and_then(|t| t.to_f32().or_else(|| t.to_i64().map(|v| v.iter().map(|x| *x as f32).collect())));
    Ok(match constant.as_deref() {
        Some([e]) => B::float_powf_scalar(base, (*e).into()),
        _ => B::float_powf(base, exponent),
    })
}
