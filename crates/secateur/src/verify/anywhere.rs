//! The masked-twin check in whatever runtime can run the network, at several sizes of what its file leaves open.

use graph::{AssumedShape, Decision, InputShapes, Model};
use latency::{ElementType, InputSpec, Runtime};

use super::{TwinCheck, compare_at, open_axes};
use crate::analysis::Analysis;
use crate::error::{Error, Result};

/// Multiply-accumulates from which on ONNX Runtime checks a network where there is one: it is much the faster.
const LONG_RUN: u64 = 2_000_000_000;

/// The masked-twin check at the shapes of the analysis, and once more at other sizes of what the file leaves open.
pub(crate) fn check_anywhere(
    dense: &Analysis,
    decision: &Decision,
    twin: &Model,
    smaller: &Model,
    shapes: &InputShapes,
    assumed: &[AssumedShape],
    runtimes: &[Box<dyn Runtime>],
) -> Result<Vec<TwinCheck>> {
    let mut causes = Vec::new();
    let mut order: Vec<&Box<dyn Runtime>> = runtimes.iter().collect();
    if dense.costs().macs > LONG_RUN {
        order.sort_by_key(|r| r.name() != "ort");
    }
    for runtime in order {
        match compare_at(twin, smaller, &**runtime, &specs(dense)?) {
            Ok(check) => {
                let mut checks = vec![check];
                // A twin is made for the sizes of its facts.
                let other = other_sizes(dense, shapes, assumed);
                let named = decision.to_named(&dense.groups, &dense.graph);
                let again = other.and_then(|o| Decision::from_named(&named, &o.groups, &o.graph).ok().map(|d| (o, d)));
                if let Some((other, decision)) = again {
                    let inputs = specs(&other)?;
                    match compare_at(&other.masked_twin(&decision)?, smaller, &**runtime, &inputs) {
                        Ok(check) => checks.push(check),
                        Err(e @ Error::TwinMismatch { .. }) => return Err(e),
                        // The network itself may not run at these sizes.
                        Err(e) if runs(&dense.model, &**runtime, &inputs) => return Err(e),
                        Err(_) => {}
                    }
                }
                return Ok(checks);
            }
            Err(Error::Latency(e)) => causes.push(format!("  {}: {e}", runtime.name())),
            Err(e) => return Err(e),
        }
    }
    Err(Error::Unverifiable { model: dense.model.origin(), causes: causes.join("\n") })
}

fn runs(model: &Model, runtime: &dyn Runtime, inputs: &[InputSpec]) -> bool {
    model.to_bytes().is_ok_and(|b| runtime.prepare(&latency::ModelBytes::new("dense", b, inputs.to_vec())).is_ok())
}

/// The inputs at the shapes of `a`.
fn specs(a: &Analysis) -> Result<Vec<InputSpec>> {
    let spec = |&v: &graph::ValueId| {
        let name = &a.graph.value(v).name;
        let fact = a.facts.get(v).ok_or_else(|| Error::Setting(format!("the input `{name}` is no tensor of a known shape")))?;
        let dtype = ElementType::from_onnx(fact.dtype as i32)
            .ok_or_else(|| Error::Setting(format!("the input `{name}` has elements of type {}", fact.dtype.as_str_name())))?;
        Ok(InputSpec { name: name.clone(), shape: fact.shape.clone(), dtype })
    };
    a.graph.inputs.iter().map(spec).collect()
}

/// The network at another batch and larger sizes of what was assumed, where its shapes follow.
fn other_sizes(dense: &Analysis, shapes: &InputShapes, assumed: &[AssumedShape]) -> Option<Analysis> {
    let free_batch = dense.graph.inputs.iter().all(|&v| open_axes(&dense.model, &dense.graph.value(v).name).contains(&0));
    if !free_batch && assumed.is_empty() {
        return None;
    }
    let mut other = shapes.clone();
    if free_batch && shapes.batch.is_none() {
        other.batch = Some(2);
    }
    let larger = |a: &AssumedShape| {
        let grow = |(axis, &d): (usize, &usize)| {
            let open = open_axes(&dense.model, &a.input).contains(&axis);
            // Whole multiples keep what divides the size dividing it.
            if open && axis >= 2 && a.shape.len() >= 4 { d * 2 } else { d }
        };
        (a.input.clone(), a.shape.iter().enumerate().map(grow).collect())
    };
    other.shapes.extend(assumed.iter().map(larger));
    if free_batch {
        for (_, shape) in &mut other.shapes {
            if let Some(first) = shape.first_mut() {
                *first = 2;
            }
        }
    }
    Analysis::within(dense.model.clone(), &other, dense.scope.clone()).ok()
}
