//! The network on its way: analysed as it is now, with how it came from the dense one.

use crate::analysis::Analysis;
use crate::plan::Cut;

/// A network between dense and final.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The network as it is.
    pub analysis: Analysis,
    /// What was cut from the dense network so far, in its own terms.
    pub cut: Cut,
}

impl Stage {
    /// Nothing cut yet.
    pub fn dense(analysis: Analysis) -> Self {
        Self { analysis, cut: Cut::default() }
    }
}
