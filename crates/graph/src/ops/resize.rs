//! `Resize` and `Upsample`.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::resolve_axis;
use crate::facts::{Inference, Outputs};
use crate::surgery::rewriter::Rewriter;

/// Spatial resampling. Scales and sizes are the inputs of the operator (or an attribute, `Upsample` before opset 9).
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// `nearest`, `linear` or `cubic`.
    pub mode: String,
    /// How output positions map to input positions.
    pub coordinates: String,
    /// How `nearest` rounds.
    pub nearest: String,
    /// Scales as an attribute.
    pub scales: Option<Vec<f32>>,
    /// Input slots of scales and sizes.
    pub slots: (usize, Option<usize>),
    /// The axes that scales and sizes are for; all where not given.
    pub axes: Option<Vec<i64>>,
    /// `linear` and `cubic` take in all input positions where they make smaller.
    pub antialias: bool,
    /// Sizes are bounds within or around which proportions are kept.
    pub keeps_proportions: bool,
}

impl Resize {
    pub(crate) fn parse(a: &Attributes) -> Self {
        let text = |name: &str, default: &str| a.string(name).unwrap_or(default).to_owned();
        let upsample = a.0.op_type() == "Upsample";
        // Resize-10 has two inputs (X, scales) like Upsample; from 11 on (X, roi, scales, sizes).
        let old = upsample || a.0.input.len() == 2;
        Self {
            mode: text("mode", "nearest"),
            coordinates: if old { "asymmetric".into() } else { text("coordinate_transformation_mode", "half_pixel") },
            nearest: if old { "floor".into() } else { text("nearest_mode", "round_prefer_floor") },
            scales: a.floats("scales"),
            slots: if old { (1, None) } else { (2, Some(3)) },
            axes: a.ints("axes"),
            antialias: a.int("antialias").unwrap_or(0) != 0,
            keeps_proportions: text("keep_aspect_ratio_policy", "stretch") != "stretch",
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let rank = x.shape.len();
        let axes: Vec<usize> = match &self.axes {
            Some(a) => a.iter().map(|&a| crate::facts::resolve_axis(i.node, a, rank)).collect::<Result<_>>()?,
            None => (0..rank).collect(),
        };
        let sizes = self.slots.1.and_then(|s| i.ints(s)).filter(|s| !s.is_empty());
        let scales = || self.scales.clone().or_else(|| i.constant(self.slots.0).and_then(|t| t.to_f32())).filter(|s| !s.is_empty());
        let mut shape = x.shape.clone();
        if let Some(sizes) = sizes.filter(|s| s.len() == axes.len()) {
            if self.keeps_proportions {
                return i.unknown();
            }
            for (&axis, &s) in axes.iter().zip(&sizes) {
                shape[axis] = s.max(0) as usize;
            }
        } else if let Some(scales) = scales().filter(|s| s.len() == axes.len()) {
            for (&axis, &s) in axes.iter().zip(&scales) {
                shape[axis] = (x.shape[axis] as f32 * s).floor() as usize;
            }
        } else {
            return i.unknown();
        }
        i.one(x.dtype, shape)
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let (x, out) = (c.shape(0), c.output_shape(0));
        for axis in 0..x.len() {
            if x[axis] == out[axis] && axis < 2 {
                let labels = c.get(0, axis);
                c.set(0, axis, labels);
            } else {
                c.freeze(0, axis, "resamples along it");
            }
        }
        Ok(())
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        let (Some(slot), Some(expected)) = (self.slots.1, r.expected_output(0)) else { return Ok(()) };
        let Some(sizes) = r.old_ints(slot).filter(|s| !s.is_empty()) else { return Ok(()) };
        let rank = expected.len();
        let axes: Vec<usize> = match &self.axes {
            Some(a) => a.iter().map(|&a| resolve_axis(r.node, a, rank)).collect::<Result<_>>()?,
            None => (0..rank).collect(),
        };
        if axes.iter().all(|&a| r.kept_output(0, a).is_none()) || axes.len() != sizes.len() {
            return Ok(());
        }
        r.want_ints(slot, axes.iter().map(|&a| expected[a] as i64).collect())
    }
}
