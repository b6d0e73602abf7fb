//! `inspect`: what of a network can be pruned, and why the rest cannot.

mod survey;
mod text;

use graph::ops::Op;
use secateur::{Analysis, Scope};

use crate::arguments::{InspectArgs, Shared};
use crate::failure::Result;
use crate::files::{load_model, shapes};
use crate::output;

use survey::Survey;

/// Inspects.
///
/// # Errors
/// The file is no model, or its shapes are open.
pub fn run(a: &InspectArgs, shared: &Shared) -> Result<()> {
    let model = load_model(&a.model)?;
    let opset = model.opset();
    let (analysis, assumed) = Analysis::completed(model, &shapes(a.shapes.batch as usize, &a.shapes.shape), Scope::default())?;
    let survey = Survey { assumed, ..Survey::of(&analysis, &a.model, opset) };
    if shared.json { output::json("inspect", &survey) } else { output::say(&text::render(&survey, a.all)) }
}

/// What a layer is, as people call it: `Conv 3×3`, `depthwise 3×3`, `Gemm`.
fn kind(analysis: &Analysis, node: &graph::Node) -> String {
    let weight = node.input(1).and_then(|w| analysis.facts.shape(w)).unwrap_or(&[]);
    let kernel = |skip: usize| weight.iter().skip(skip).map(ToString::to_string).collect::<Vec<_>>().join("×");
    match &node.op {
        Op::Conv(c) if c.group > 1 && c.group == weight.first().copied().unwrap_or(0) => format!("depthwise {}", kernel(2)),
        Op::Conv(c) if c.group > 1 => format!("Conv {} in {} parts", kernel(2), c.group),
        Op::Conv(_) => format!("Conv {}", kernel(2)),
        Op::ConvTranspose(_) => format!("ConvTranspose {}", kernel(2)),
        other => other.name().to_owned(),
    }
}
