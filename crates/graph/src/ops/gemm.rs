//! `Gemm`.

use crate::attributes::Attributes;
use crate::coupling::Role;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Inference, Outputs};

/// `alpha·A'·B' + beta·C` with `A'` of `[M, K]`, `B'` of `[K, N]`, `C` broadcast to `[M, N]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of `C`.
    pub beta: f32,
    /// `A` is stored as `[K, M]`.
    pub trans_a: bool,
    /// `B` is stored as `[N, K]`.
    pub trans_b: bool,
}

impl Gemm {
    pub(crate) fn parse(a: &Attributes) -> Self {
        Self {
            alpha: a.float("alpha").unwrap_or(1.0),
            beta: a.float("beta").unwrap_or(1.0),
            trans_a: a.int("transA").unwrap_or(0) != 0,
            trans_b: a.int("transB").unwrap_or(0) != 0,
        }
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let (Some(a), Some(b)) = (i.fact(0), i.fact(1)) else { return i.unknown() };
        let (&[a0, a1], &[b0, b1]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return i.error(format!("operands {:?} and {:?} are not matrices", a.shape, b.shape));
        };
        let (m, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (k2, n) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        if k != k2 {
            return i.error(format!("operands {:?} and {:?} do not contract: {k} against {k2}", a.shape, b.shape));
        }
        if b.shape.contains(&0) {
            return i.error(format!("operand {:?} is empty", b.shape));
        }
        i.one(a.dtype, vec![m, n])
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        let (m, k) = if self.trans_a { (1, 0) } else { (0, 1) };
        let (k2, n) = if self.trans_b { (1, 0) } else { (0, 1) };
        let (a, b) = (c.input(0, k), c.input(1, k2));
        c.join(&[a, b]);
        c.role(0, k, Role::Consumed);
        c.role(1, k2, Role::Consumed);
        c.role(1, n, Role::Produced);
        c.contract(usize::from(a.is_some_and(|p| c.is_parameter(p.0))), if a.is_some_and(|p| c.is_parameter(p.0)) { k2 } else { k });
        for (axis, source) in [(0, c.get(0, m)), (1, c.get(1, n))] {
            c.set(0, axis, source);
            let bias = c.shape(2);
            let Some(own) = (axis + bias.len()).checked_sub(2).filter(|&o| bias[o] == c.output_shape(0)[axis]) else { continue };
            let places = [c.output(0, axis), c.input(2, own)];
            c.join(&places);
            if axis == 1 {
                c.role(2, own, Role::Produced);
            }
        }
        Ok(())
    }

    /// Multiply-accumulates: M·N·K.
    pub(super) fn macs(&self, a: &[usize], out: &[usize]) -> u64 {
        (out.iter().product::<usize>() * a[usize::from(!self.trans_a)]) as u64
    }
}
