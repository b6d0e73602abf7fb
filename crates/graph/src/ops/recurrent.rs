//! `LSTM`, `GRU` and `RNN`.

use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::labels::Axis;
use crate::coupling::rules::{Coupling, Place};
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};
use crate::surgery::rewriter::Rewriter;

/// Which recurrence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RecurrentKind {
    Lstm,
    Gru,
    Rnn,
}

/// A recurrent layer over `D` directions with hidden size `H` and `G` gates.
///
/// Inputs: X `[T, N, I]`, W `[D, G·H, I]`, R `[D, G·H, H]`, optional B `[D, 2·G·H]`, sequence lengths, initial h and c
/// `[D, N, H]`, peepholes P `[D, 3·H]`. Outputs: Y `[T, D, N, H]`, last h and c `[D, N, H]`. With `batch_first`, N comes first
/// in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recurrent {
    /// Which recurrence.
    pub kind: RecurrentKind,
    /// Number of directions.
    pub directions: usize,
    /// The batch is the first axis (`layout` = 1).
    pub batch_first: bool,
}

impl Recurrent {
    pub(crate) fn parse(a: &Attributes) -> Option<Self> {
        let kind = match a.0.op_type() {
            "LSTM" => RecurrentKind::Lstm,
            "GRU" => RecurrentKind::Gru,
            "RNN" => RecurrentKind::Rnn,
            _ => return None,
        };
        let directions = if a.string("direction") == Some("bidirectional") { 2 } else { 1 };
        Some(Self { kind, directions, batch_first: a.int("layout").unwrap_or(0) == 1 })
    }

    /// The operator's ONNX name.
    pub fn name(&self) -> &'static str {
        match self.kind {
            RecurrentKind::Lstm => "LSTM",
            RecurrentKind::Gru => "GRU",
            RecurrentKind::Rnn => "RNN",
        }
    }

    /// Number of gates, each with `H` rows of the weights.
    pub fn gates(&self) -> usize {
        match self.kind {
            RecurrentKind::Lstm => 4,
            RecurrentKind::Gru => 3,
            RecurrentKind::Rnn => 1,
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let (Some(x), Some(w), Some(r)) = (i.fact(0), i.fact(1), i.fact(2)) else { return i.unknown() };
        let (&[a, b, features], &[dw, rows, wide], &[dr, rrows, hidden]) = (x.shape.as_slice(), w.shape.as_slice(), r.shape.as_slice())
        else {
            return i.error(format!("input {:?} and weights {:?} and {:?} are not of rank 3", x.shape, w.shape, r.shape));
        };
        let fits = dw == self.directions && dr == dw && wide == features && rows == self.gates() * hidden && rrows == rows;
        if !fits {
            return i.error(format!("input {:?} and weights {:?} and {:?} do not fit", x.shape, w.shape, r.shape));
        }
        let (time, batch) = if self.batch_first { (b, a) } else { (a, b) };
        let (all, last) = if self.batch_first {
            (vec![batch, time, dw, hidden], vec![batch, dw, hidden])
        } else {
            (vec![time, dw, batch, hidden], vec![dw, batch, hidden])
        };
        let mut out = vec![Some(Fact::new(x.dtype, all)), Some(Fact::new(x.dtype, last.clone())), Some(Fact::new(x.dtype, last))];
        out.truncate(i.node.outputs.len());
        Ok(out)
    }

    /// A hidden unit is one row of every gate in every direction, and one column of R.
    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let features = [c.input(0, 2), c.input(1, 2)];
        c.join(&features);
        c.role(1, 2, Role::Consumed);
        c.contract(0, 2);
        for axis in 0..2 {
            c.freeze(0, axis, "runs along it");
        }
        let hidden = c.get(2, 2);
        c.role(1, 1, Role::Produced);
        c.role(2, 1, Role::Produced);
        c.role(2, 2, Role::Consumed);
        c.role(3, 1, Role::Produced);
        c.role(7, 1, Role::Produced);
        // What the recurrence reads of itself is silenced in its weight.
        c.contract(2, 2);
        for (slot, axis) in [(1, 1), (2, 1), (3, 1), (7, 1)] {
            self.tie(c, &hidden, c.input(slot, axis));
        }
        for slot in [5, 6] {
            let rank = c.shape(slot).len();
            if rank == 3 {
                self.tie(c, &hidden, c.input(slot, 2));
                for axis in 0..2 {
                    c.freeze(slot, axis, "runs along it");
                }
            }
        }
        for slot in 1..4 {
            c.freeze(slot, 0, "has it as its directions");
        }
        c.freeze(7, 0, "has it as its directions");
        for slot in 0..c.node.outputs.len() {
            let rank = c.output_shape(slot).len();
            if rank > 0 {
                c.set(slot, rank - 1, hidden.clone());
            }
        }
        Ok(())
    }

    /// Row `g·H + j` belongs to hidden unit `j`.
    fn tie(&self, c: &mut Coupling, hidden: &Axis, place: Option<Place>) {
        match (hidden, c.at(place), place) {
            (Some(h), Some(rows), _) if !h.is_empty() => rows.iter().enumerate().for_each(|(k, &row)| c.labels.unify(h[k % h.len()], row)),
            (Some(h), None, Some(place)) => {
                let what = c.describe(place);
                c.freeze_labels(h, &format!("combines it with {what}"));
            }
            (None, Some(rows), _) => c.freeze_labels(&rows, "has a recurrent weight that is computed"),
            _ => {}
        }
    }

    pub(super) fn rewrite(&self, r: &mut Rewriter) -> Result<()> {
        if let (Some(old), Some(new)) = (r.old_shape(2).map(<[usize]>::to_vec), r.new_shape(2))
            && old != new
            && let Some(&hidden) = new.last()
        {
            r.set_int("hidden_size", hidden as i64);
        }
        Ok(())
    }

    /// Multiply-accumulates: every step multiplies the input with W and the state with R.
    pub(super) fn macs(x: &[usize], weights: &[Option<&[usize]>]) -> u64 {
        let steps = x.iter().take(2).product::<usize>();
        weights.iter().flatten().map(|w| (steps * w.iter().product::<usize>()) as u64).sum()
    }
}
