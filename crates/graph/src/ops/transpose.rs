//! `Transpose`.

use crate::attributes::Attributes;
use crate::coupling::rules::Coupling;
use crate::error::Result;
use crate::facts::{Fact, Inference, Outputs};

/// Axes permuted: axis `d` of the result is axis `perm[d]` of the operand; reversed where not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transpose {
    /// The permutation.
    pub perm: Option<Vec<usize>>,
}

impl Transpose {
    pub(crate) fn parse(a: &Attributes) -> Result<Self> {
        Ok(Self { perm: a.sizes("perm")? })
    }

    /// The permutation for an operand of rank `rank`.
    pub fn permutation(&self, rank: usize) -> Vec<usize> {
        self.perm.clone().unwrap_or_else(|| (0..rank).rev().collect())
    }

    pub(super) fn infer(&self, i: &Inference) -> Result<Outputs> {
        let Some(x) = i.fact(0) else { return i.unknown() };
        let perm = self.permutation(x.shape.len());
        let mut sorted = perm.clone();
        sorted.sort_unstable();
        if sorted != (0..x.shape.len()).collect::<Vec<_>>() {
            return i.error(format!("{perm:?} is not a permutation of the axes of {:?}", x.shape));
        }
        match x.constant.as_deref() {
            Some(c) => Ok(vec![Some(Fact::constant(c.transpose(&perm)))]),
            None => i.one(x.dtype, perm.iter().map(|&p| x.shape[p]).collect()),
        }
    }

    pub(super) fn couple(&self, c: &mut Coupling) -> Result<()> {
        for (to, from) in self.permutation(c.shape(0).len()).into_iter().enumerate() {
            let labels = c.get(0, from);
            c.set(0, to, labels);
        }
        Ok(())
    }
}
