//! `Gemm`.

use crate::attributes::Attributes;
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
        i.one(a.dtype, vec![m, n])
    }
}
