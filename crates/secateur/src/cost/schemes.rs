//! `t_l(scheme)`: every layer timed alone on the target, pruned to the schemes it could have.
//!
//! The weights are random, so the masks are: latency depends on where zeros are, not on values. Time is close to linear in the
//! share of the weights that stays, so a curve is timed at its ends and in the middle of what is left between them, and only
//! where the middle is not what was expected is it divided further.

use graph::scheme::{Regularity, Scheme, SchemeLayer, WeightShape};
use graph::{Data, Model, NodeId};
use latency::{ModelBytes, Pace, Probes};
use serde::{Deserialize, Serialize};

use super::table::first_of_family;
use super::{Calibration, Features, Measure, dense_layer};
use crate::analysis::Analysis;
use crate::error::{Error, Result};

/// The largest rate that is timed.
pub const LARGEST_RATE: f64 = 16.0;

/// Rates in the middle of intervals, level by level; of those that lie inside an interval that is not straight, all are timed.
const MIDDLES: [&[f64]; 3] = [&[4.0], &[2.0, 8.0], &[1.5, 3.0, 6.0, 10.0]];

/// Relative distance of a time from the straight line between its neighbours up to which the line is believed.
const STRAIGHT: f64 = 0.05;

/// Times of one layer under one regularity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeCurve {
    /// Which weights go together.
    pub regularity: Regularity,
    /// Rates, ascending, with seconds.
    pub points: Vec<(f64, f64)>,
}

/// Layers that are equal but for their weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeFamily {
    /// Name of its first layer.
    pub name: String,
    /// Seconds with all weights.
    pub dense_s: f64,
    /// One curve per regularity that one of its layers may have.
    pub curves: Vec<SchemeCurve>,
}

/// Latencies of the layers of a network under the schemes they could have, with the calibration to whole networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchemeTable {
    /// Timings.
    pub families: Vec<SchemeFamily>,
    /// Family of each layer.
    pub layer_family: Vec<usize>,
    /// Correction to whole networks.
    pub calibration: Calibration,
    /// Timings made, and found in the cache.
    pub probes: Probes,
}

/// A layer on its own, dense.
struct Single {
    model: Model,
    shape: WeightShape,
}

/// A time that is wanted: family, curve (none for the dense layer), rate.
type Wanted = (usize, Option<usize>, f64);

impl SchemeTable {
    /// Times `layers` of a network; those without `regularities` only dense. `measure` gets single-layer models and gives their
    /// latencies in order.
    ///
    /// # Errors
    /// A single-layer model cannot be made, or the runtime refuses it.
    pub fn profile(analysis: &Analysis, layers: &[SchemeLayer], regularities: &[Vec<Regularity>], measure: Measure<'_>) -> Result<Self> {
        let Analysis { model, graph, facts, .. } = analysis;
        let nodes: Vec<NodeId> = layers.iter().map(|l| l.node).collect();
        let first = first_of_family(model, graph, facts, &nodes)?;
        let mut table =
            Self { families: Vec::new(), layer_family: Vec::new(), calibration: Calibration::identity(1), probes: Probes::default() };
        let mut singles: Vec<Single> = Vec::new();
        let mut family_of_first: Vec<Option<usize>> = vec![None; layers.len()];
        for (l, layer) in layers.iter().enumerate() {
            let family = match family_of_first[first[l]] {
                Some(f) => f,
                None => {
                    singles.push(Single::of(analysis, layer)?);
                    table.families.push(SchemeFamily { name: layer.name.clone(), dense_s: 0.0, curves: Vec::new() });
                    table.families.len() - 1
                }
            };
            family_of_first[first[l]] = Some(family);
            table.layer_family.push(family);
            for &regularity in &regularities[l] {
                let curves = &mut table.families[family].curves;
                if curves.iter().all(|c| c.regularity != regularity) {
                    curves.push(SchemeCurve { regularity, points: Vec::new() });
                }
            }
        }
        let mut wanted: Vec<Wanted> = Vec::new();
        for (f, family) in table.families.iter().enumerate() {
            wanted.push((f, None, 1.0));
            for (c, curve) in family.curves.iter().enumerate() {
                let (least, most) = (curve.regularity.least_rate(), largest(curve.regularity, &singles[f].shape));
                // A curve that starts at a rate of 1 starts at the dense layer.
                wanted.extend([least, most].into_iter().filter(|&r| r > 1.0).map(|r| (f, Some(c), r)));
                wanted.extend(MIDDLES[0].iter().filter(|&&r| r > least && r < most).map(|&r| (f, Some(c), r)));
            }
        }
        let mut pace = None;
        for level in 1..=MIDDLES.len() {
            table.time(&wanted, &singles, &mut pace, &mut *measure)?;
            let bent = |&&(f, c, rate): &&Wanted| c.is_some_and(|c| table.families[f].curves[c].is_bent_at(rate));
            let bends: Vec<(usize, usize, f64)> = wanted.iter().filter(bent).filter_map(|&(f, c, r)| Some((f, c?, r))).collect();
            let mut next: Vec<Wanted> = Vec::new();
            for (f, c, rate) in bends {
                let (low, high) = table.families[f].curves[c].around(rate);
                let inside = MIDDLES.get(level).into_iter().flat_map(|m| m.iter()).filter(|&&r| r > low && r < high);
                next.extend(inside.map(|&r| (f, Some(c), r)));
            }
            wanted = next;
        }
        Ok(table)
    }

    /// Times what is wanted and enters it at `pace`, which the first call finds.
    fn time(&mut self, wanted: &[Wanted], singles: &[Single], pace: &mut Option<Pace>, measure: Measure<'_>) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut models = Vec::with_capacity(wanted.len());
        for &(f, c, rate) in wanted {
            let family = &self.families[f];
            let scheme = c.map_or(Ok(Scheme::DENSE), |c| Scheme::new(family.curves[c].regularity, rate))?;
            models.push(singles[f].under(&format!("{} {scheme}", family.name), &scheme)?);
        }
        let (measured, probes) = measure(&models)?;
        self.probes += probes;
        let pace = *pace.get_or_insert_with(|| Pace::of(&measured));
        for (&(f, c, rate), m) in wanted.iter().zip(&measured) {
            let seconds = pace.seconds(m);
            let family = &mut self.families[f];
            match c {
                None => {
                    family.dense_s = seconds;
                    for curve in family.curves.iter_mut().filter(|c| c.regularity.least_rate() == 1.0) {
                        curve.insert(1.0, seconds);
                    }
                }
                Some(c) => family.curves[c].insert(rate, seconds),
            }
        }
        Ok(())
    }

    /// Table time of layer `layer` under `scheme`, in seconds; between timed rates linear in the share of the weights that
    /// stays, beyond them as at the last. A regularity that was not timed is taken to gain nothing.
    pub fn table_s(&self, layer: usize, scheme: &Scheme) -> f64 {
        let family = &self.families[self.layer_family[layer]];
        let curve = family.curves.iter().find(|c| c.regularity == scheme.regularity && !scheme.is_dense());
        curve.map_or(family.dense_s, |c| c.seconds(scheme.rate))
    }

    /// Calibrated seconds that the layer adds to a whole network.
    pub fn cost(&self, layer: usize, scheme: &Scheme) -> f64 {
        self.calibration.scale[0] * self.table_s(layer, scheme) + self.calibration.per_layer_s[0]
    }

    /// What the calibration sees of a network whose layers have `schemes`: one sum. All layers are always there, so what each
    /// pays alone and not in a network (entering the runtime, changing layouts) is the same whatever they have, and would be
    /// divided among families at will.
    pub fn features(&self, schemes: &[Scheme]) -> Features {
        let seconds = schemes.iter().enumerate().map(|(layer, scheme)| self.table_s(layer, scheme)).sum();
        Features { table_s: vec![seconds], layers: vec![schemes.len()] }
    }
}

impl SchemeCurve {
    fn insert(&mut self, rate: f64, seconds: f64) {
        let at = self.points.partition_point(|p| p.0 < rate);
        if self.points.get(at).is_some_and(|p| p.0 == rate) {
            self.points[at].1 = seconds;
        } else {
            self.points.insert(at, (rate, seconds));
        }
    }

    /// Seconds at a rate.
    fn seconds(&self, rate: f64) -> f64 {
        let at = self.points.partition_point(|p| p.0 < rate);
        match (at.checked_sub(1).and_then(|k| self.points.get(k)), self.points.get(at)) {
            (Some(&(low, a)), Some(&(high, b))) => line((low, a), (high, b), rate),
            (Some(&(_, s)), None) | (None, Some(&(_, s))) => s,
            (None, None) => 0.0,
        }
    }

    /// The timed rates next to `rate`.
    fn around(&self, rate: f64) -> (f64, f64) {
        let below = self.points.iter().map(|p| p.0).rfind(|&r| r < rate);
        let above = self.points.iter().map(|p| p.0).find(|&r| r > rate);
        (below.unwrap_or(rate), above.unwrap_or(rate))
    }

    /// The time at `rate` is not what its neighbours made expect.
    fn is_bent_at(&self, rate: f64) -> bool {
        let Some(at) = self.points.iter().position(|p| p.0 == rate) else { return false };
        match (at.checked_sub(1).map(|k| self.points[k]), self.points.get(at + 1)) {
            (Some(low), Some(&high)) => (self.points[at].1 / line(low, high, rate) - 1.0).abs() > STRAIGHT,
            _ => false,
        }
    }
}

/// Between two points, linear in the share of weights that stays, 1/rate.
fn line(low: (f64, f64), high: (f64, f64), rate: f64) -> f64 {
    let share = |r: f64| 1.0 / r;
    let t = (share(low.0) - share(rate)) / (share(low.0) - share(high.0));
    low.1 + (high.1 - low.1) * t
}

/// The largest rate that a weight can have and that is timed.
fn largest(regularity: Regularity, shape: &WeightShape) -> f64 {
    (regularity.units(shape).sizes.len() as f64 * regularity.least_rate()).min(LARGEST_RATE)
}

impl Single {
    fn of(analysis: &Analysis, layer: &SchemeLayer) -> Result<Self> {
        let Analysis { model, graph, facts, .. } = analysis;
        let (i, o, _) = dense_layer(graph, facts, layer.node);
        let single = graph::layer_model(model, graph, facts, layer.node, i, o, true)?;
        // However the network stores a Gemm's weight, the single layer has a row per output.
        let transposed = matches!(graph.node(layer.node).op, graph::ops::Op::MatMul);
        Ok(Self { model: single, shape: WeightShape { transposed, ..layer.shape.clone() } })
    }

    /// The layer pruned to `scheme`.
    fn under(&self, name: &str, scheme: &Scheme) -> Result<ModelBytes> {
        let mut model = self.model.clone();
        prune_tensor(&mut model, "weight", &self.shape, scheme)?;
        let bytes = model.to_bytes()?;
        let inputs = latency::read_inputs(name, &bytes, 1)?;
        Ok(ModelBytes::new(name, bytes, inputs))
    }
}

/// Prunes one stored weight to `scheme`, in place.
///
/// # Errors
/// There is no such weight of floating type.
pub(crate) fn prune_tensor(model: &mut Model, tensor: &str, shape: &WeightShape, scheme: &Scheme) -> Result<()> {
    if scheme.is_dense() {
        return Ok(());
    }
    let (stored, mut values) = weight(model, tensor)?;
    scheme.project(&values, shape, graph::scheme::Balance::Layer).apply(&mut values);
    let pruned = stored.with_f32(values).ok_or_else(|| no_weight(tensor))?;
    Ok(model.set_tensor(tensor, &pruned)?)
}

/// A stored weight, and its values.
///
/// # Errors
/// There is none of floating type.
pub(crate) fn weight(model: &Model, tensor: &str) -> Result<(graph::Tensor, Vec<f32>)> {
    let stored = model.tensor(tensor).ok_or_else(|| no_weight(tensor))??;
    let floating = matches!(stored.data, Data::F32(_) | Data::F16(_) | Data::BF16(_) | Data::F64(_));
    let values = stored.to_f32().filter(|_| floating).ok_or_else(|| no_weight(tensor))?;
    Ok((stored, values))
}

fn no_weight(tensor: &str) -> Error {
    Error::Setting(format!("tensor `{tensor}` is no stored weight of floating type, so it cannot be pruned to a scheme"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(points: &[(f64, f64)]) -> SchemeCurve {
        SchemeCurve { regularity: Regularity::columns(), points: points.to_vec() }
    }

    fn table() -> SchemeTable {
        let family = SchemeFamily { name: "conv".into(), dense_s: 8.0, curves: vec![curve(&[(1.0, 8.0), (4.0, 2.0), (16.0, 1.0)])] };
        SchemeTable { families: vec![family], layer_family: vec![0, 0], calibration: Calibration::identity(1), probes: Probes::default() }
    }

    fn scheme(rate: f64) -> Scheme {
        Scheme::new(Regularity::columns(), rate).expect("a scheme")
    }

    #[test]
    fn timed_rates_are_exact_and_others_linear_in_what_stays() {
        let t = table();
        for (rate, s) in [(1.0, 8.0), (4.0, 2.0), (16.0, 1.0), (2.0, 4.0), (32.0, 1.0)] {
            assert!((t.table_s(1, &scheme(rate)) - s).abs() < 1e-12, "{rate}");
        }
        assert_eq!(t.table_s(0, &Scheme::new(Regularity::Unstructured, 4.0).expect("a scheme")), 8.0);
        assert_eq!(t.features(&[scheme(4.0), Scheme::DENSE]).table_s, [10.0]);
    }

    proptest! {
        #[test]
        fn a_straight_curve_is_not_divided_and_a_step_is(low in 1.0f64..9.0, high in 0.1f64..1.0) {
            let middle = line((1.0, low), (16.0, high), 4.0);
            prop_assert!(!curve(&[(1.0, low), (4.0, middle), (16.0, high)]).is_bent_at(4.0));
            prop_assert!(curve(&[(1.0, low), (4.0, low), (16.0, high * 0.5)]).is_bent_at(4.0));
        }
    }
}
