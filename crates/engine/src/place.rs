//! Where every activation lies: layouts, halos, and buffers shared by activations that are not needed at the same time.

use std::collections::HashMap;

use crate::layout::{Extent, Halo, LANES, Layout, View};
use crate::network::{Conv, Network, Operation, TensorId};

/// Blocks of channels stored of the activation between two convolutions that are computed together, by each thread.
pub(crate) const MIDDLE_BLOCKS: usize = 2;

/// Activations with their places.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Per tensor: its buffer, and itself in it.
    pub places: Vec<(usize, View)>,
    /// Elements per buffer.
    pub buffers: Vec<usize>,
    /// Tensors that were computed where the join wants them.
    pub joined: Vec<bool>,
}

/// Chooses places. Halos are zero from the start and written by nobody, which holds because a buffer is only ever shared by
/// activations of one layout.
///
/// `planar` says which activations are; those of equal rows and columns get equal halos, so that pixels can be counted through their
/// rows alike.
pub(crate) fn place(network: &Network, planar: &[bool], threads: usize) -> Places {
    let mut layouts = layouts(network, planar);
    let part_of = parts(network, &mut layouts);
    let (buffer_of, buffers) = buffers(network, &layouts, &part_of, threads);
    let places = (0..network.tensors.len())
        .map(|t| match part_of[t] {
            Some((o, channel)) => {
                let whole = layouts[o.0].view();
                let base = whole.base + channel / LANES * whole.block;
                (buffer_of[o.0], View { extent: network.tensors[t], base, ..whole })
            }
            None => (buffer_of[t], layouts[t].view()),
        })
        .collect();
    Places { places, buffers, joined: part_of.iter().map(Option::is_some).collect() }
}

/// The layout of every tensor, with the zeros around it that convolutions read.
fn layouts(network: &Network, planar: &[bool]) -> Vec<Layout> {
    let layout = |(&extent, &planar): (&Extent, &bool)| Layout { extent, halo: Halo::default(), lanes: if planar { 1 } else { LANES } };
    let mut layouts: Vec<Layout> = network.tensors.iter().zip(planar).map(layout).collect();
    for step in &network.steps {
        let (conv, t) = match &step.operation {
            Operation::Conv(conv) => (&**conv, step.inputs[0]),
            // The first reads single pixels; the second reads what is between.
            Operation::Pair(convs) => (&convs[1], step.inputs[1]),
            _ => continue,
        };
        let halo = halo(conv, network.extent(t), network.extent(step.output));
        layouts[t.0].halo = layouts[t.0].halo.join(halo);
    }
    let mut halos: HashMap<(usize, usize), Halo> = HashMap::new();
    for l in layouts.iter().filter(|l| l.lanes == 1) {
        let halo = halos.entry((l.extent.height, l.extent.width)).or_default();
        *halo = halo.join(l.halo);
    }
    for l in layouts.iter_mut().filter(|l| l.lanes == 1) {
        l.halo = halos[&(l.extent.height, l.extent.width)];
    }
    layouts
}

/// Which tensors are computed where a join wants them: the join, and their first channel in it. The join takes over their halos.
fn parts(network: &Network, layouts: &mut [Layout]) -> Vec<Option<(TensorId, usize)>> {
    let mut part_of: Vec<Option<(TensorId, usize)>> = vec![None; network.tensors.len()];
    for step in network.steps.iter().filter(|s| s.operation == Operation::Concat { axis: 0 }) {
        let mut channel = 0;
        for &t in &step.inputs {
            let e = network.extent(t);
            if channel % LANES == 0 && can_join(network, layouts, &part_of, t, step.output, &step.inputs) && pads_fit(network, step, t) {
                part_of[t.0] = Some((step.output, channel));
            }
            channel += e.channels;
        }
        let parts = step.inputs.iter().filter(|t| part_of[t.0].is_some_and(|(o, _)| o == step.output));
        let halo = parts.fold(layouts[step.output.0].halo, |h, t| h.join(layouts[t.0].halo));
        layouts[step.output.0].halo = halo;
    }
    part_of
}

/// The buffer of every tensor that is no part of another, and how long the buffers are. Tensors of one layout that are not needed at
/// the same time share one.
fn buffers(network: &Network, layouts: &[Layout], part_of: &[Option<(TensorId, usize)>], threads: usize) -> (Vec<usize>, Vec<usize>) {
    let n = network.tensors.len();
    let owner = |t: TensorId| part_of[t.0].map_or(t, |(o, _)| o);
    let mut last_use = vec![0; n];
    let mut first_use = vec![usize::MAX; n];
    for (i, step) in network.steps.iter().enumerate() {
        for &t in &step.inputs {
            last_use[owner(t).0] = i;
        }
        let o = owner(step.output).0;
        first_use[o] = first_use[o].min(i);
        last_use[o] = last_use[o].max(i);
    }
    // Constants are written once, for all runs; outputs are read when a run is over.
    let constants = network.steps.iter().filter(|s| matches!(s.operation, Operation::Constant(_))).map(|s| s.output);
    for t in constants.chain(network.outputs.iter().map(|(_, t)| *t)) {
        last_use[owner(t).0] = usize::MAX;
    }
    let mut buffers = Vec::new();
    let mut free: HashMap<Layout, Vec<usize>> = HashMap::new();
    let mut buffer_of = vec![usize::MAX; n];
    // Parts of activations between two convolutions that are computed together; used within one step, so all of one layout share.
    let mut between: HashMap<Layout, usize> = HashMap::new();
    for (i, step) in network.steps.iter().enumerate() {
        if let Operation::Pair(_) = step.operation {
            let t = step.inputs[1].0;
            buffer_of[t] = *between.entry(layouts[t]).or_insert_with(|| {
                buffers.push(threads * MIDDLE_BLOCKS * layouts[t].block());
                buffers.len() - 1
            });
        }
        let t = owner(step.output).0;
        if first_use[t] == i {
            let constant = matches!(step.operation, Operation::Constant(_));
            let shared = if constant { None } else { free.get_mut(&layouts[t]).and_then(Vec::pop) };
            buffer_of[t] = shared.unwrap_or_else(|| {
                buffers.push(layouts[t].len());
                buffers.len() - 1
            });
        }
        let mut done: Vec<usize> = step.inputs.iter().map(|&t| owner(t).0).chain([t]).filter(|&t| last_use[t] == i).collect();
        if let Operation::Pair(_) = step.operation {
            done.retain(|&t| t != step.inputs[1].0);
        }
        done.sort_unstable();
        done.dedup();
        for t in done {
            free.entry(layouts[t]).or_default().push(buffer_of[t]);
        }
    }
    (buffer_of, buffers)
}

/// The zeros that a convolution reads around its input.
fn halo(conv: &Conv, input: Extent, output: Extent) -> Halo {
    let [_, _, kh, kw] = conv.weights.shape;
    let after = |out: usize, stride: usize, dilation: usize, kernel: usize, pad: usize, size: usize| {
        ((out - 1) * stride + dilation * (kernel - 1) + 1).saturating_sub(pad + size)
    };
    Halo {
        top: conv.pad.0,
        left: conv.pad.1,
        bottom: after(output.height, conv.stride.0, conv.dilation.0, kh, conv.pad.0, input.height),
        right: after(output.width, conv.stride.1, conv.dilation.1, kw, conv.pad.1, input.width),
    }
}

/// `t` can be computed inside the join `output`: nothing reads and writes the join's buffer in one step.
fn can_join(
    network: &Network,
    layouts: &[Layout],
    part_of: &[Option<(TensorId, usize)>],
    t: TensorId,
    output: TensorId,
    parts: &[TensorId],
) -> bool {
    let Some(producer) = network.steps.iter().find(|s| s.output == t) else { return false };
    let inside = |r: &TensorId| *r == output || (parts.contains(r) && part_of[r.0].is_some_and(|(o, _)| o == output));
    let reads_itself = network.steps.iter().any(|s| parts.contains(&s.output) && s.inputs.contains(&t));
    let outer = part_of[output.0].is_some();
    layouts[t.0].lanes == LANES
        && part_of[t.0].is_none()
        && !outer
        && !reads_itself
        && !matches!(producer.operation, Operation::Constant(_) | Operation::Load(_) | Operation::Concat { .. })
        && !producer.inputs.iter().any(inside)
        && parts.iter().filter(|p| **p == t).count() == 1
        && !network.outputs.iter().any(|(_, o)| *o == t)
}

/// What is computed for the unused lanes of the last block does not spoil a part that follows in it.
fn pads_fit(network: &Network, step: &crate::network::Step, t: TensorId) -> bool {
    network.extent(t).channels.is_multiple_of(LANES) || step.inputs.last() == Some(&t)
}
