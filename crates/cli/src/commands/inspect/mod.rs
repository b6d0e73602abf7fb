//! `inspect`: what of a network can be pruned, and why the rest cannot.

mod survey;
mod text;

use graph::ops::Op;
use graph::scheme::{SchemeLayer, read_schemes};
use secateur::{Analysis, Scope};

use crate::arguments::{InspectArgs, Shared};
use crate::failure::Result;
use crate::files::{load_model, shapes};
use crate::output;

use survey::{SchemeRow, Survey};

/// Inspects.
///
/// # Errors
/// The file is no model, or its shapes are open.
pub fn run(a: &InspectArgs, shared: &Shared) -> Result<()> {
    let model = load_model(&a.model)?;
    let opset = model.opset();
    let (analysis, assumed) = Analysis::completed(model, &shapes(a.shapes.batch as usize, &a.shapes.shape), Scope::default())?;
    let survey = Survey { assumed, schemes: schemes(&analysis)?, ..Survey::of(&analysis, &a.model, opset) };
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

/// The schemes that the file says its layers have, and whether they have them.
fn schemes(a: &Analysis) -> Result<Vec<SchemeRow>> {
    let layers = SchemeLayer::all(&a.graph, &a.facts);
    let row = |s: graph::scheme::LayerScheme| {
        let layer = layers.iter().find(|l| l.tensor == s.tensor);
        let weights = layer.and_then(|l| a.facts.constant(l.weight)).and_then(graph::Tensor::to_f32).unwrap_or_default();
        let broken = match layer {
            None => Some("the network has no layer with this weight".to_owned()),
            Some(l) => s.scheme.validate(&l.shape, &weights).err().map(|v| v.to_string()),
        };
        SchemeRow {
            layer: layer.map_or_else(|| s.tensor.clone(), |l| l.name.clone()),
            scheme: s.scheme,
            weights: weights.len(),
            kept: weights.iter().filter(|w| **w != 0.0).count(),
            broken,
        }
    };
    Ok(read_schemes(&a.model)?.into_iter().map(row).collect())
}
