//! `Resize` and `Upsample`: nearest and linear, axis by axis.

use graph::Node;
use graph::ops::Resize;

use super::slice::select;
use crate::backend::Kernels;
use crate::error::Result;
use crate::run::{At, unsupported};

pub(super) fn check(node: &Node, op: &Resize) -> Result<()> {
    let known = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"];
    if !["nearest", "linear"].contains(&op.mode.as_str()) {
        return Err(unsupported(node, format!("mode `{}`; nearest and linear are supported", op.mode)));
    }
    if !known.contains(&op.coordinates.as_str()) {
        return Err(unsupported(node, format!("coordinate_transformation_mode `{}`; {} are supported", op.coordinates, known.join(", "))));
    }
    if op.antialias && op.mode != "nearest" {
        return Err(unsupported(node, "antialias is set; export the network without it".into()));
    }
    if op.keeps_proportions && op.slots.1.is_some_and(|slot| node.input(slot).is_some()) {
        return Err(unsupported(node, "keep_aspect_ratio_policy is set; `stretch` is supported, or scales instead of sizes".into()));
    }
    Ok(())
}

/// Input position of every output position (ONNX operator page, `coordinate_transformation_mode`).
fn positions(op: &Resize, input: usize, output: usize, scale: f32) -> Vec<f32> {
    (0..output)
        .map(|o| {
            let o = o as f32;
            match op.coordinates.as_str() {
                "align_corners" if output > 1 => o * (input as f32 - 1.0) / (output as f32 - 1.0),
                "align_corners" => 0.0,
                "asymmetric" => o / scale,
                "pytorch_half_pixel" if output <= 1 => 0.0,
                _ => (o + 0.5) / scale - 0.5,
            }
        })
        .collect()
}

fn nearest(op: &Resize, at: f32) -> f32 {
    match op.nearest.as_str() {
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        _ => (at - 0.5).ceil(),
    }
}

pub(super) fn forward<B: Kernels>(op: &Resize, at: &mut At<'_, '_, B>) -> Result<()> {
    check(at.node, op)?;
    let (shape, out) = (at.shape(0)?.to_vec(), at.output_shape(0)?.to_vec());
    let inference = at.inference();
    let given = op.scales.clone().or_else(|| inference.constant(op.slots.0).and_then(|t| t.to_f32())).filter(|s| !s.is_empty());
    let mut x = at.input(0)?;
    for axis in 0..shape.len() {
        let slot = match &op.axes {
            Some(axes) => axes.iter().position(|a| (*a + shape.len() as i64) as usize % shape.len() == axis),
            None => Some(axis),
        };
        let scale = given.as_ref().zip(slot).and_then(|(s, i)| s.get(i).copied()).unwrap_or(out[axis] as f32 / shape[axis] as f32);
        if shape[axis] == out[axis] && scale == 1.0 {
            continue;
        }
        let last = shape[axis] as f32 - 1.0;
        let from = positions(op, shape[axis], out[axis], scale);
        if op.mode == "nearest" {
            let kept: Vec<usize> = from.iter().map(|p| nearest(op, *p).clamp(0.0, last) as usize).collect();
            x = select::<B>(x, axis, &kept);
            continue;
        }
        let from: Vec<f32> = from.iter().map(|p| p.clamp(0.0, last)).collect();
        let low: Vec<usize> = from.iter().map(|p| p.floor() as usize).collect();
        let high: Vec<usize> = low.iter().map(|l| (l + 1).min(shape[axis] - 1)).collect();
        let share: Vec<f32> = from.iter().map(|p| p - p.floor()).collect();
        let mut along = vec![1; shape.len()];
        along[axis] = out[axis];
        let rest = at.tensor(&along, share.iter().map(|s| 1.0 - s).collect());
        let share = at.tensor(&along, share);
        let (a, b) = (select::<B>(x.clone(), axis, &low), select::<B>(x, axis, &high));
        x = B::float_add(B::float_mul(a, rest), B::float_mul(b, share));
    }
    at.set(0, x)
}
