//! The partition of a weight into what is removed together.

use super::regularity::{Direction, Regularity};
use super::shape::WeightShape;

/// A partition of a layer's weights: every weight belongs to one unit. Units lie in block rows, which different threads would
/// work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// The unit of every weight, in the order they are stored.
    pub of: Vec<u32>,
    /// Weights of every unit.
    pub sizes: Vec<u32>,
    /// The block row of every unit.
    pub rows: Vec<u32>,
    /// Number of block rows.
    pub row_count: usize,
}

impl Regularity {
    /// What of a weight of this shape is removed together. Blocks at an edge are smaller; they never reach over a partition.
    /// For `dense` the one unit is the whole weight; for `pattern` the units are the kernels, of which connectivity removes
    /// whole ones.
    pub fn units(self, shape: &WeightShape) -> Units {
        let part = shape.partition_filters().max(1);
        let blocks = |size: usize, block: usize| size.div_ceil(block.max(1));
        // Each regularity numbers its units; block row and unit of a weight follow from where it is.
        let (channels, positions) = (shape.channels, shape.positions());
        let block = |m: usize, n: usize| {
            let (rows, columns) = (blocks(part, m), blocks(channels, n));
            move |f: usize, c: usize| {
                let row = (f / part) * rows + (f % part) / m;
                (row, row * columns + c / n)
            }
        };
        match self {
            Self::Dense => number(shape, |_, _, _| (0, 0)),
            Self::Filter => number(shape, |f, _, _| (0, f)),
            Self::Channel => number(shape, |f, c, _| (0, (f / part) * channels + c)),
            Self::BlockPunched { filters, channels: n } => {
                let at = block(filters.on(part), n.on(channels));
                number(shape, move |f, c, k| {
                    let (row, b) = at(f, c);
                    (row, b * positions + k)
                })
            }
            Self::BlockBased { outputs, inputs, direction } => {
                let (m, n) = (outputs.on(part), inputs.on(channels));
                let (at, across) = (block(m, n), blocks(channels, n));
                number(shape, move |f, c, k| match direction {
                    Direction::Column => (at(f, c).0, (at(f, c).0 * channels + c) * positions + k),
                    Direction::Row => (at(f, c).0, (f * across + c / n) * positions + k),
                })
            }
            Self::Pattern => number(shape, |f, c, _| (f, f * channels + c)),
            Self::Unstructured => number(shape, |f, c, k| (f, (f * channels + c) * positions + k)),
        }
    }
}

/// Numbers the units in the order their weights are stored; `place` gives block row and any distinct key below the number of weights.
fn number(shape: &WeightShape, place: impl Fn(usize, usize, usize) -> (usize, usize)) -> Units {
    const NONE: u32 = u32::MAX;
    let mut unit_of_key: Vec<u32> = Vec::new();
    let mut units = Units { of: Vec::with_capacity(shape.len()), sizes: Vec::new(), rows: Vec::new(), row_count: 0 };
    for (_, f, c, k) in shape.places() {
        let (row, key) = place(f, c, k);
        if unit_of_key.len() <= key {
            unit_of_key.resize(key + 1, NONE);
        }
        if unit_of_key[key] == NONE {
            unit_of_key[key] = units.sizes.len() as u32;
            units.sizes.push(0);
            units.rows.push(row as u32);
            units.row_count = units.row_count.max(row + 1);
        }
        let unit = unit_of_key[key];
        units.sizes[unit as usize] += 1;
        units.of.push(unit);
    }
    units
}

impl Units {
    /// Number of units.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// No units.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The score of every unit: `‖W_u‖₂ / √|u|`, the root of the mean square of its weights.
    pub fn scores(&self, weights: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0f64; self.len()];
        for (w, &u) in weights.iter().zip(&self.of) {
            sums[u as usize] += f64::from(*w) * f64::from(*w);
        }
        sums.iter().zip(&self.sizes).map(|(s, &n)| (s / f64::from(n.max(1))).sqrt()).collect()
    }

    /// Where a unit is, in words: `filters 0–15, channel 3, kernel position 4`.
    pub fn describe(&self, unit: usize, shape: &WeightShape) -> String {
        let mut spans = [(usize::MAX, 0); 3];
        for (i, f, c, k) in shape.places() {
            if self.of[i] as usize == unit {
                for (span, at) in spans.iter_mut().zip([f, c, k]) {
                    *span = (span.0.min(at), span.1.max(at));
                }
            }
        }
        let names = if shape.is_linear() { ["output", "input", ""] } else { ["filter", "channel", "kernel position"] };
        let words = names
            .iter()
            .zip(spans)
            .filter(|(n, _)| !n.is_empty())
            .map(|(name, (first, last))| if first == last { format!("{name} {first}") } else { format!("{name}s {first}–{last}") });
        words.collect::<Vec<_>>().join(", ")
    }
}
