//! From steps to something that runs: kernels chosen, weights packed, memory placed.

use std::sync::Arc;

use crate::engine::{Compiled, Layer, Output, Task, Work};
use crate::error::{Error, Result};
use crate::kernels::{Access, Buffer, Convolution, Geometry, Isa, Team};
use crate::layout::{LANES, View};
use crate::lower::ELSEWHERE;
use crate::network::{Conv, Network, Operation, Port, Step};
use crate::ops::{Moves, Pooling};
use crate::place::{Places, place};
use crate::survivors::{Survivors, Taps};
use crate::tiling::cover;

/// Multiply-adds of 16 that are worth the time of handing them to a thread: a few microseconds of them.
const WORTH_A_THREAD: usize = 8192;

/// The `NCHW` view of a user's array.
fn plain_view(t: &View) -> View {
    let e = t.extent;
    View { extent: e, lanes: 1, base: 0, row: e.width, block: e.height * e.width, len: e.len() }
}

/// Makes `network` ready to run with the kernels of `isa`.
///
/// The work of a convolution is divided among the threads of `team`.
pub(crate) fn build(network: Network, isa: Isa, team: Option<Arc<Team>>) -> Result<Compiled> {
    let threads = team.as_deref().map_or(1, Team::threads);
    let places = place(&network);
    let mut buffers: Vec<Buffer> = places.buffers.iter().map(|&len| Buffer::zeros(len)).collect();
    let mut tasks = Vec::new();
    let mut layers = Vec::new();
    for step in &network.steps {
        let (to, view) = places.places[step.output.0];
        let inputs: Vec<(usize, View)> = step.inputs.iter().map(|t| places.places[t.0]).collect();
        let mut kept = None;
        let works = match &step.operation {
            Operation::Constant(values) => {
                Moves::copy(&plain_view(&view), &view).run(values, buffers[to].as_mut_slice());
                continue;
            }
            Operation::Load(i) => {
                let planar = (view.lanes == 1).then(|| Moves::copy(&plain_view(&view), &view));
                vec![(Work::Load { input: *i, planar }, vec![])]
            }
            Operation::Conv(conv) => {
                let (convolution, share) = convolution(isa, step, conv, &inputs, view)?;
                let convolution = convolution.divided(threads, WORTH_A_THREAD);
                kept = Some(share);
                vec![(Work::Convolution(Box::new(convolution)), inputs)]
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
            Operation::Softmax { axis, log } => vec![(Work::Softmax { axis: *axis, log: *log }, inputs)],
            Operation::Move { source, fill } => {
                let moves = Moves::new(&inputs[0].1, &view, *fill, |i| source[i].map(|s| s as usize));
                vec![(Work::Moves(moves), inputs)]
            }
            Operation::Concat { axis } => joins(step, *axis, &places, view),
        };
        for (work, inputs) in works {
            tasks.push(Task { work, inputs, output: (to, view) });
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

/// Chooses tiles and packs weights.
fn convolution(isa: Isa, step: &Step, conv: &Conv, inputs: &[(usize, View)], output: View) -> Result<(Convolution, (usize, usize))> {
    let input = inputs[0].1;
    let fail = |reason: &str| Error::Unsupported {
        node: step.name.clone(),
        op: step.operators.first().cloned().unwrap_or_default(),
        reason: reason.into(),
        remedy: ELSEWHERE.into(),
    };
    let taps = Taps { dilation_y: conv.dilation.0, dilation_x: conv.dilation.1 };
    let pack = |blocks| Survivors::pack(&conv.weights, taps, &input, blocks).ok_or_else(|| fail("its input is larger than 4 GiB"));
    let mut survivors = pack(1)?;
    let geometry = Geometry { input, pad: conv.pad, stride: conv.stride, output, residual: inputs.get(1).map(|i| i.1) };
    let access = Access { step: conv.stride.1 * input.lanes, vector: survivors.depthwise };
    let tiles = |blocks| cover(isa, access, blocks, output.extent.height, output.extent.width);
    let mut cover = tiles(1).ok_or_else(|| fail("there is no kernel for its step"))?;
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
    let made = Convolution::new(isa, &geometry, &survivors, &conv.weights.bias, &cover.tiles, conv.clamp);
    Ok((made.ok_or_else(|| fail("it reads or writes outside its operands"))?, survivors.kept))
}
