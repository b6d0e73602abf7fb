//! From steps to something that runs: kernels chosen, weights packed, memory placed.

use std::sync::Arc;

use crate::engine::{Compiled, Layer, Output, Task, Work};
use crate::error::{Error, Result};
use crate::kernels::{Access, Buffer, Convolution, Geometry, Isa, Pair, PlanarConvolution, Team, channels_per_pass};
use crate::layout::{LANES, View};
use crate::layouts::{choose_layouts, planar_filters};
use crate::lower::ELSEWHERE;
use crate::network::{Conv, Network, Operation, Port, Step};
use crate::ops::{Moves, Pooling};
use crate::pairs::join_pairs;
use crate::place::{MIDDLE_BLOCKS, Places, place};
use crate::sorted::{Sorted, Structure};
use crate::strides::split_strides;
use crate::survivors::{Survivors, Taps};
use crate::tiling::cover;

/// Multiply-adds of 16 that are worth the time of handing them to a thread: a few microseconds of them.
const WORTH_A_THREAD: usize = 8192;

/// Makes `network` ready to run with the kernels of `isa`.
///
/// The work of a convolution is divided among the threads of `team`.
pub(crate) fn build(mut network: Network, isa: Isa, team: Option<Arc<Team>>) -> Result<Compiled> {
    let threads = team.as_deref().map_or(1, Team::threads);
    split_strides(&mut network);
    let planar = choose_layouts(&mut network, isa);
    join_pairs(&mut network, &planar);
    let places = place(&network, &planar, threads);
    let mut buffers: Vec<Buffer> = places.buffers.iter().map(|&len| Buffer::zeros(len)).collect();
    let mut tasks = Vec::new();
    let mut layers = Vec::new();
    for step in &network.steps {
        let (to, view) = places.places[step.output.0];
        let mut inputs: Vec<(usize, View)> = step.inputs.iter().map(|t| places.places[t.0]).collect();
        let (mut kept, mut middle) = (None, None);
        let works = match &step.operation {
            Operation::Constant(values) => {
                Moves::copy(&View::plain(view.extent), &view).run(values, buffers[to].as_mut_slice());
                continue;
            }
            Operation::Load(i) => {
                let planar = (view.lanes == 1).then(|| Moves::copy(&View::plain(view.extent), &view));
                vec![(Work::Load { input: *i, planar }, vec![])]
            }
            Operation::Conv(conv) => {
                let (work, share) = convolution(isa, step, conv, &inputs, view)?;
                kept = Some(share);
                vec![(divided(work, threads), inputs)]
            }
            Operation::Pair(convs) => {
                let (buffer, between) = inputs.remove(1);
                middle = Some(buffer);
                let (work, share) = pair(isa, step, convs, inputs[0].1, between, view)?;
                kept = Some(share);
                vec![(divided(work, threads), inputs)]
            }
            Operation::Pool { kind, window, pad, pad_end } => {
                let pooling = Pooling {
                    kind: *kind,
                    kernel: (window.kernel[0], window.kernel[1]),
                    stride: (window.stride(0), window.stride(1)),
                    dilation: (window.dilation(0), window.dilation(1)),
                    pad: *pad,
                    pad_end: *pad_end,
                };
                vec![(Work::Pool(pooling), inputs)]
            }
            Operation::GlobalPool { maximum } => vec![(Work::GlobalPool { maximum: *maximum }, inputs)],
            Operation::Map(f) => vec![(Work::Map(*f), inputs)],
            Operation::Affine { scale, shift, clamp } => {
                let fill = |v: &[f32]| {
                    let mut v = v.to_vec();
                    v.resize(v.len().next_multiple_of(LANES), 0.0);
                    v
                };
                vec![(Work::Affine { scale: fill(scale), shift: fill(shift), clamp: *clamp }, inputs)]
            }
            Operation::Binary { function, clamp } => vec![(Work::Binary { function: *function, clamp: *clamp }, inputs)],
            Operation::Reorder => vec![(Work::Reorder, inputs)],
            Operation::Softmax { axis, log } => vec![(Work::Softmax { axis: *axis, log: *log }, inputs)],
            Operation::Move { source, fill } => {
                let moves = Moves::new(&inputs[0].1, &view, *fill, |i| source[i].map(|s| s as usize));
                vec![(Work::Moves(moves), inputs)]
            }
            Operation::Concat { axis } => joins(step, *axis, &places, view),
        };
        for (work, inputs) in works {
            tasks.push(Task { work, inputs, middle, output: (to, view) });
            layers.push(Layer { name: step.name.clone(), operators: step.operators.clone(), kept });
        }
    }
    let port = |p: &Port| vec![0f32; p.shape.iter().product()];
    let inputs: Vec<Vec<f32>> = network.inputs.iter().map(port).collect();
    let outputs = network
        .outputs
        .iter()
        .map(|(p, t)| {
            let (buffer, view) = places.places[t.0];
            Output { buffer, view, values: port(p) }
        })
        .collect();
    let output_ports = network.outputs.into_iter().map(|(p, _)| p).collect();
    Ok(Compiled { isa, team, buffers, tasks, layers, input_ports: network.inputs, inputs, output_ports, outputs })
}

/// Convolutions divided among `threads` threads.
fn divided(work: Work, threads: usize) -> Work {
    match work {
        _ if threads < 2 => work,
        Work::Convolution(c) => Work::Convolution(Box::new(c.divided(threads, WORTH_A_THREAD))),
        Work::Planar(c) => Work::Planar(Box::new(c.divided(threads, WORTH_A_THREAD))),
        Work::Pair(p) => Work::Pair(Box::new(p.divided(threads, WORTH_A_THREAD))),
        other => other,
    }
}

/// Copies of the parts that were not computed in place.
fn joins(step: &Step, axis: usize, places: &Places, view: View) -> Vec<(Work, Vec<(usize, View)>)> {
    let mut first = [0; 3];
    let mut works = Vec::new();
    for t in &step.inputs {
        let (buffer, from) = places.places[t.0];
        let in_place = places.joined[t.0] && buffer == places.places[step.output.0].0;
        if !in_place {
            works.push((Work::Moves(Moves::into_part(&from, &view, first)), vec![(buffer, from)]));
        }
        first[axis] += [from.extent.channels, from.extent.height, from.extent.width][axis];
    }
    works
}

/// The error for a convolution that cannot be made.
fn fail(step: &Step, reason: &str) -> Error {
    Error::Unsupported {
        node: step.name.clone(),
        op: step.operators.first().cloned().unwrap_or_default(),
        reason: reason.into(),
        remedy: ELSEWHERE.into(),
    }
}

const LARGE: &str = "its input is larger than 4 GiB";
const OUTSIDE: &str = "it reads or writes outside its operands";

fn taps(conv: &Conv) -> Taps {
    Taps { dilation_y: conv.dilation.0, dilation_x: conv.dilation.1 }
}

/// Chooses kernels and packs weights. Returns units of 16 filters kept, and how many there are, too.
fn convolution(isa: Isa, step: &Step, conv: &Conv, inputs: &[(usize, View)], output: View) -> Result<(Work, (usize, usize))> {
    let geometry = Geometry { input: inputs[0].1, pad: conv.pad, stride: conv.stride, output, residual: inputs.get(1).map(|i| i.1) };
    if output.lanes == LANES {
        let (made, kept) = blocked(isa, step, conv, &geometry, false)?;
        return Ok((Work::Convolution(Box::new(made)), kept));
    }
    let [filters, channels, kh, kw] = conv.weights.shape;
    let structure = Structure::of(&conv.weights);
    let width = planar_filters(isa, structure);
    let reach = (kh - 1) * conv.dilation.0 * geometry.input.row + (kw - 1) * conv.dilation.1;
    let survivors = if width == 4 { structure.fours } else { structure.eights };
    let each = survivors as f64 / (channels * filters.div_ceil(width)) as f64;
    let per_pass = channels_per_pass(isa, width, &geometry.input, reach, each);
    let sorted = Sorted::pack(&conv.weights, taps(conv), &geometry.input, width, per_pass);
    let sorted = sorted.ok_or_else(|| fail(step, LARGE))?;
    let made = PlanarConvolution::new(isa, &geometry, &sorted, &conv.weights.bias, conv.clamp);
    let kept = (structure.sixteens, filters.div_ceil(LANES) * channels * kh * kw);
    Ok((Work::Planar(Box::new(made.ok_or_else(|| fail(step, OUTSIDE))?)), kept))
}

/// A convolution and the depthwise one after it.
fn pair(isa: Isa, step: &Step, convs: &[Conv; 2], input: View, between: View, output: View) -> Result<(Work, (usize, usize))> {
    let [first, second] = convs;
    let geometry = |conv: &Conv, input, output| Geometry { input, pad: conv.pad, stride: conv.stride, output, residual: None };
    let (a, kept) = blocked(isa, step, first, &geometry(first, input, between), true)?;
    let (b, kept_too) = blocked(isa, step, second, &geometry(second, between, output), true)?;
    let below = (second.weights.shape[2] - 1) * second.dilation.0;
    let reads = |y: usize| {
        let first = y * second.stride.0;
        (first.saturating_sub(second.pad.0), (first + below).saturating_sub(second.pad.0))
    };
    let made = Pair::new(a, b, reads, isa.band_bytes()).filter(|p| p.middle_len() <= MIDDLE_BLOCKS * between.block);
    let made = made.ok_or_else(|| fail(step, OUTSIDE))?;
    Ok((Work::Pair(Box::new(made)), (kept.0 + kept_too.0, kept.1 + kept_too.1)))
}

/// A convolution with filters in the lanes, of one pass over the channels where something depends on it.
fn blocked(isa: Isa, step: &Step, conv: &Conv, geometry: &Geometry, one_pass: bool) -> Result<(Convolution, (usize, usize))> {
    let Geometry { input, output, .. } = geometry;
    let pack = |blocks| Survivors::pack(&conv.weights, taps(conv), input, blocks).ok_or_else(|| fail(step, LARGE));
    let mut survivors = pack(1)?;
    let access = Access { step: conv.stride.1 * input.lanes, vector: survivors.depthwise };
    let tiles = |blocks| cover(isa, access, blocks, output.extent.height, output.extent.width);
    let mut cover = tiles(1).ok_or_else(|| fail(step, "there is no kernel for its step"))?;
    // Two blocks with the same survivors share the loads of the input.
    if output.blocks().is_multiple_of(2)
        && !output.extent.is_vector()
        && let Some(pairs) = tiles(2).filter(|p| p.cost < 2 * cover.cost)
    {
        let paired = pack(2)?;
        if paired.kept.0 == survivors.kept.0 {
            (survivors, cover) = (paired, pairs);
        }
    }
    let made = Convolution::new(isa, geometry, &survivors, &conv.weights.bias, &cover.tiles, conv.clamp, one_pass);
    Ok((made.ok_or_else(|| fail(step, OUTSIDE))?, survivors.kept))
}
