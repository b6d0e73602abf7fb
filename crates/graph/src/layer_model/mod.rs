//! One layer as a model of its own, to measure what it costs at other widths.

mod attention;
mod builder;
mod epilogue;
mod grouping;

use builder::{Builder, declare, int, ints};
pub use grouping::{Grouping, grouping};

use crate::attention::Attention;
use crate::coupling::layer_axes;
use crate::error::Result;
use crate::facts::Facts;
use crate::graph::{Graph, Node, NodeId, ValueId};
use crate::model::Model;
use crate::ops::{Op, Window};
use crate::proto::{AttributeProto, GraphProto};

/// The layer at `node` with `in_width` input and `out_width` output channels, as a self-contained model: the spatial shape
/// and the batch of the facts, seeded random weights, names and attributes in one canonical form, so that layers of equal
/// shape give equal bytes.
///
/// With `epilogue`, what a runtime fuses into the layer comes along: `BatchNormalization`, per-channel scales and shifts, an
/// activation, and the residual addition (as a second input) where this layer is the later of its operands, with the
/// activation after it.
///
/// Widths of a grouped convolution scale the number of partitions where those are pruned (depthwise: both widths go
/// together), and the partitions themselves otherwise.
///
/// At the product of queries and keys of an [`Attention`], the model is the whole of it, with `in_width` heads whose
/// queries and values are `out_width` wide together.
///
/// # Errors
/// `node` is no layer with a stored weight and no attention, its shapes are not known, a width is 0, or the widths do not fit its groups.
pub fn layer_model(
    model: &Model,
    graph: &Graph,
    facts: &Facts,
    node: NodeId,
    in_width: usize,
    out_width: usize,
    epilogue: bool,
) -> Result<Model> {
    if let Some(attention) = Attention::at(graph, facts, node) {
        return attention::attention_model(model, graph, facts, &attention, in_width, out_width);
    }
    let node = graph.node(node);
    let rank = |v: ValueId| facts.shape(v).map_or(0, <[usize]>::len);
    let Some(((x, x_axis), (y, y_axis))) = layer_axes(graph, node.id, rank) else {
        return Err(node.error("it is no layer with a stored weight"));
    };
    let weight = node.input(1).ok_or_else(|| node.error("it has no weight"))?;
    let (Some(input), Some(output), Some(w)) = (facts.get(x), facts.get(y), facts.shape(weight)) else {
        return Err(node.error("its shapes are not known"));
    };
    if in_width == 0 || out_width == 0 {
        return Err(node.error("a layer of width 0"));
    }
    let mut shape = input.shape.clone();
    shape[x_axis] = in_width;
    let mut b = Builder {
        graph: GraphProto::default(),
        dtype: input.dtype,
        seed: 0,
        last: String::new(),
        wide: output.shape[y_axis],
        narrow: out_width,
        axis: y_axis,
    };
    let bias = node.input(2).is_some();
    match &node.op {
        Op::Conv(conv) => {
            let (inputs, outputs) = (w[1], w[0] / conv.group);
            let group = groups(node, conv.group, inputs, outputs, in_width, out_width)?;
            b.parameter("weight", [&[out_width, in_width / group], &w[2..]].concat(), fan(in_width / group, &w[2..]));
            let pads = conv.window.resolve_pads(&input.shape[2..], &w[2..]);
            b.layer("Conv", bias, window(&conv.window, group, &w[2..], &pads));
        }
        Op::ConvTranspose(conv) => {
            let group = groups(node, conv.group, w[0] / conv.group, w[1], in_width, out_width)?;
            b.parameter("weight", [&[in_width, out_width / group], &w[2..]].concat(), fan(in_width / group, &w[2..]));
            let pads: Vec<(usize, usize)> = (0..w.len() - 2).map(|d| conv.axis(d, input.shape[d + 2], w[d + 2]).1).collect();
            let mut attributes = window(&conv.window, group, &w[2..], &pads);
            if !conv.output_padding.is_empty() {
                attributes.push(ints("output_padding", &conv.output_padding));
            }
            b.layer("ConvTranspose", bias, attributes);
        }
        Op::Gemm(_) => {
            // However the file stores it: one row per output.
            shape = vec![input.shape[1 - x_axis], in_width];
            b.parameter("weight", vec![out_width, in_width], fan(in_width, &[]));
            b.layer("Gemm", bias, vec![int("transB", 1)]);
        }
        _ => {
            b.parameter("weight", vec![in_width, out_width], fan(in_width, &[]));
            b.layer("MatMul", false, Vec::new());
        }
    }
    b.graph.input.push(declare("input", b.dtype, &shape));
    let last = if epilogue { b.epilogue(model, graph, facts, y)? } else { y };
    let shape = b.resize(facts.shape(last).unwrap_or(&output.shape));
    Ok(b.finish(model, "layer", &shape))
}

/// The number of partitions at these widths.
fn groups(node: &Node, group: usize, inputs: usize, outputs: usize, in_width: usize, out_width: usize) -> Result<usize> {
    let Some(grouping) = Grouping::of(group, inputs, outputs) else { return Ok(1) };
    grouping.partitions(in_width, out_width).ok_or_else(|| {
        node.error(format!("widths {in_width} and {out_width} do not fit its {group} groups of {inputs} inputs and {outputs} outputs"))
    })
}

fn fan(channels: usize, kernel: &[usize]) -> f32 {
    (3.0 / (channels * kernel.iter().product::<usize>()).max(1) as f32).sqrt()
}

/// A window's attributes, every default written out.
fn window(w: &Window, group: usize, kernel: &[usize], pads: &[(usize, usize)]) -> Vec<AttributeProto> {
    let axes = 0..kernel.len();
    let starts_then_ends: Vec<usize> = pads.iter().map(|p| p.0).chain(pads.iter().map(|p| p.1)).collect();
    vec![
        ints("dilations", &axes.clone().map(|d| w.dilation(d)).collect::<Vec<_>>()),
        int("group", group as i64),
        ints("kernel_shape", kernel),
        ints("pads", &starts_then_ends),
        ints("strides", &axes.map(|d| w.stride(d)).collect::<Vec<_>>()),
    ]
}
