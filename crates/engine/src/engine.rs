//! Compiling a model and running it.

use std::sync::Arc;

use graph::{InputShapes, Model, NodeId};

use crate::build::build;
use crate::error::{Error, Result};
use crate::kernels::{Buffer, Clamp, Convolution, Isa, Pair, PlanarConvolution, Team, accelerate};
use crate::layout::View;
use crate::lower::{lower, refused};
use crate::network::Port;
use crate::ops::{self, Arithmetic, Function, Moves, Pooling};

/// Compiles models for one instruction set.
#[derive(Debug, Clone)]
pub struct Engine {
    isa: Isa,
    team: Option<Arc<Team>>,
}

impl Default for Engine {
    fn default() -> Self {
        Self { isa: Isa::best(), team: None }
    }
}

impl Engine {
    /// With the fastest kernels of this CPU.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the kernels of `isa`.
    ///
    /// # Errors
    /// The CPU does not run them.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        let available = Isa::available();
        if available.contains(&isa) {
            return Ok(Self { isa, team: None });
        }
        let available = available.iter().map(|i| i.name()).collect::<Vec<_>>().join(", ");
        Err(Error::Isa { isa: isa.name(), available })
    }

    /// The same with convolutions divided among `threads` threads, the one that calls [`Compiled::run`] included. They are
    /// started now, on the cores this thread may use, and serve all models of this engine and its clones in turn. Results do not
    /// depend on how many there are.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn with_threads(self, threads: usize) -> Result<Self> {
        let team = if threads > 1 { Some(Team::new(threads)) } else { None };
        let team = team.transpose().map_err(|e| Error::Threads { threads, cause: e.to_string() })?;
        Ok(Self { team: team.map(Arc::new), ..self })
    }

    /// The kernels in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Makes `model` ready to run on inputs of `shapes` (batch 1): constants folded, operators fused, zero weights left out,
    /// memory allocated.
    ///
    /// # Errors
    /// A graph that is not sound, shapes that are not given, a batch other than 1; a node that there is no kernel for, with what
    /// to use instead.
    pub fn compile(&self, model: &Model, shapes: &InputShapes) -> Result<Compiled> {
        build(lower(model, shapes)?, self.isa, self.team.clone())
    }

    /// The nodes of `model` that [`Engine::compile`] would refuse on inputs of `shapes`, each with the reason, and layers whose weights
    /// are large external tensors, which are not read for that. What is left can be compiled as models of its own whose inputs are the
    /// results of these nodes.
    ///
    /// # Errors
    /// A graph that is not sound, shapes that are not given.
    pub fn refused(&self, model: &Model, shapes: &InputShapes) -> Result<Vec<(NodeId, Error)>> {
        refused(model, shapes)
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// An input as blocks, or by moves where it stays planar.
    Load {
        input: usize,
        planar: Option<Moves>,
    },
    Convolution(Box<Convolution>),
    Planar(Box<PlanarConvolution>),
    Pair(Box<Pair>),
    /// From planar to blocked or the other way round.
    Reorder,
    Pool(Pooling),
    GlobalPool {
        maximum: bool,
    },
    Map(Function),
    Affine {
        scale: Vec<f32>,
        shift: Vec<f32>,
        clamp: Clamp,
    },
    Binary {
        function: Arithmetic,
        clamp: Clamp,
    },
    Softmax {
        axis: usize,
        log: bool,
    },
    Moves(Moves),
}

/// Work with the buffers it is on.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub work: Work,
    pub inputs: Vec<(usize, View)>,
    /// The buffer between the two convolutions of a pair.
    pub middle: Option<usize>,
    pub output: (usize, View),
}

/// Where a result is, and where the user reads it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub buffer: usize,
    pub view: View,
    pub values: Vec<f32>,
}

/// What one step of a compiled model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name of the node; of the first where several were fused.
    pub name: String,
    /// ONNX operators in it, in order; empty for the copy of an input, or to another layout or other axes.
    pub operators: Vec<String>,
    /// Of a convolution or linear layer: units of 16 filters × 1 channel × 1 kernel position that are computed, of those that a
    /// dense layer has.
    pub kept: Option<(usize, usize)>,
}

/// A model ready to run. Running allocates nothing.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub(crate) isa: Isa,
    pub(crate) team: Option<Arc<Team>>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) input_ports: Vec<Port>,
    pub(crate) inputs: Vec<Vec<f32>>,
    pub(crate) output_ports: Vec<Port>,
    pub(crate) outputs: Vec<Output>,
}

impl Compiled {
    /// The kernels in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Names and shapes of the inputs.
    pub fn inputs(&self) -> &[Port] {
        &self.input_ports
    }

    /// Names and shapes of the outputs.
    pub fn outputs(&self) -> &[Port] {
        &self.output_ports
    }

    /// The steps, in the order in which they run.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Puts `values` (row-major, in the shape of the port) at the input called `name`.
    ///
    /// # Errors
    /// No such input, or another number of elements.
    pub fn set_input(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let fail = |reason: String| Error::Input {
            name: name.to_owned(),
            reason,
            inputs: self.input_ports.iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect::<Vec<_>>().join(", "),
        };
        let i = self.input_ports.iter().position(|p| p.name == name).ok_or_else(|| fail("there is none of this name".into()))?;
        if values.len() != self.inputs[i].len() {
            return Err(fail(format!("{} elements given, {} wanted", values.len(), self.inputs[i].len())));
        }
        self.inputs[i].copy_from_slice(values);
        Ok(())
    }

    /// Elements of input `i`, row-major in the shape of its port, to be written before a run; a run leaves them as they are.
    ///
    /// # Panics
    /// There is no input `i`.
    pub fn input_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.inputs[i]
    }

    /// Runs all steps on what [`Compiled::set_input`] put there.
    pub fn run(&mut self) {
        for i in 0..self.tasks.len() {
            self.run_step(i);
        }
        self.collect();
    }

    /// Runs step `i` of [`Compiled::layers`] on what the steps before it left; for timing steps one by one.
    ///
    /// # Panics
    /// There is no step `i`.
    pub fn run_step(&mut self, i: usize) {
        let task = &self.tasks[i];
        let (at, to) = &task.output;
        // Taken out while it is written: no step reads the buffer it writes.
        let mut output = std::mem::take(&mut self.buffers[*at]);
        let mut middle = task.middle.map(|m| std::mem::take(&mut self.buffers[m])).unwrap_or_default();
        let next = self.tasks[i + 1..].iter().find_map(|t| if let Work::Convolution(c) = &t.work { Some(&**c) } else { None });
        let scratch = middle.as_mut_slice();
        let on = (self.isa, self.team.as_deref());
        execute(on, task, next, to, &self.buffers, &self.inputs, scratch, output.as_mut_slice());
        self.buffers[*at] = output;
        if let Some(m) = task.middle {
            self.buffers[m] = middle;
        }
    }

    /// Copies the results to where [`Compiled::output`] reads them.
    fn collect(&mut self) {
        for o in &mut self.outputs {
            let from = self.buffers[o.buffer].as_slice();
            ops::from_blocks(self.isa, from, &o.view, &mut o.values, &View::plain(o.view.extent));
        }
    }

    /// Elements of output `i` after a run, row-major in the shape of its port.
    ///
    /// # Panics
    /// There is no output `i`.
    pub fn output(&self, i: usize) -> &[f32] {
        &self.outputs[i].values
    }
}

#[allow(clippy::too_many_arguments)]
fn execute(
    (isa, team): (Isa, Option<&Team>),
    task: &Task,
    next: Option<&Convolution>,
    to: &View,
    buffers: &[Buffer],
    inputs: &[Vec<f32>],
    middle: &mut [f32],
    output: &mut [f32],
) {
    let operand = |i: usize| {
        let (buffer, view) = &task.inputs[i];
        (buffers[*buffer].as_slice(), view)
    };
    match &task.work {
        Work::Load { input, planar: Some(moves) } => moves.run(&inputs[*input], output),
        Work::Load { input, planar: None } => {
            let x = &inputs[*input];
            ops::into_blocks(isa, x, &View::plain(to.extent), output, to);
        }
        Work::Convolution(c) => c.run(operand(0).0, output, task.inputs.get(1).map(|(b, _)| buffers[*b].as_slice()), next, team),
        Work::Planar(c) => c.run(operand(0).0, output, task.inputs.get(1).map(|(b, _)| buffers[*b].as_slice()), team),
        Work::Pair(p) => p.run(operand(0).0, middle, output, team),
        Work::Reorder => {
            let (x, from) = operand(0);
            let copy = if from.lanes == 1 { ops::into_blocks } else { ops::from_blocks };
            copy(isa, x, from, output, to);
        }
        Work::Pool(p) => {
            let (x, from) = operand(0);
            accelerate(
                isa,
                #[inline(always)]
                || ops::pool(p, x, from, output, to),
            );
        }
        Work::GlobalPool { maximum } => {
            let (x, from) = operand(0);
            accelerate(
                isa,
                #[inline(always)]
                || ops::global_pool(*maximum, x, from, output, to),
            );
        }
        Work::Map(f) => {
            let (x, from) = operand(0);
            accelerate(
                isa,
                #[inline(always)]
                || ops::map(*f, x, from, output, to),
            );
        }
        Work::Affine { scale, shift, clamp } => {
            let (x, from) = operand(0);
            accelerate(
                isa,
                #[inline(always)]
                || ops::affine(scale, shift, *clamp, x, from, output, to),
            );
        }
        Work::Binary { function, clamp } => {
            let (a, b) = (operand(0), operand(1));
            accelerate(
                isa,
                #[inline(always)]
                || ops::binary(*function, *clamp, a, b, output, to),
            );
        }
        Work::Softmax { axis, log } => {
            let (x, from) = operand(0);
            ops::softmax(*log, *axis, x, from, output, to);
        }
        Work::Moves(moves) => moves.run(operand(0).0, output),
    }
}
