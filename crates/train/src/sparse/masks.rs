//! Masks by parameter.

use std::collections::BTreeMap;

use graph::scheme::Mask;

use super::Constraint;
use crate::error::{Error, Result};
use crate::network::{Network, Param};
use crate::optim::State;

/// Which weights of which parameters stay. As a [`Constraint`], removed weights are exactly zero at every step: they get no
/// gradient (so they do not count when gradients are clipped), no velocity and no decay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Masks {
    by_name: BTreeMap<String, Mask>,
}

impl Masks {
    /// Masks by parameter name, for `network`.
    ///
    /// # Errors
    /// A name that no parameter has, or a mask of another size.
    pub fn new(network: &Network, by_name: BTreeMap<String, Mask>) -> Result<Self> {
        for (name, mask) in &by_name {
            let found = network.params().iter().find(|p| p.name == *name).map(|p| p.values.len());
            if found != Some(mask.len()) {
                let has = found.map_or_else(|| "no such parameter".into(), |n| format!("one of {n} elements"));
                return Err(Error::Recipe(format!("a mask of {} flags for parameter `{name}`; the network has {has}", mask.len())));
            }
        }
        Ok(Self { by_name })
    }

    /// The masks by parameter name.
    pub fn by_name(&self) -> &BTreeMap<String, Mask> {
        &self.by_name
    }

    /// Sets what is removed to zero.
    pub fn apply(&self, network: &mut Network) {
        self.on_params(network.params_mut());
    }

    pub(super) fn set(&mut self, name: &str, mask: Mask) {
        self.by_name.insert(name.to_owned(), mask);
    }

    pub(super) fn on_params(&self, params: &mut [Param]) {
        for p in params {
            if let Some(mask) = self.by_name.get(&p.name) {
                mask.apply(&mut p.values);
            }
        }
    }

    pub(super) fn on_gradients(&self, params: &[Param], gradients: &mut [Vec<f32>]) {
        for (p, g) in params.iter().zip(gradients) {
            if let Some(mask) = self.by_name.get(&p.name) {
                mask.apply(g);
            }
        }
    }

    /// Zeros for what is removed in the parameters and in what the optimizer remembers of them.
    pub(super) fn hold(&self, params: &mut [Param], state: &mut State) {
        self.on_params(params);
        for (i, p) in params.iter().enumerate() {
            if let Some(mask) = self.by_name.get(&p.name) {
                mask.apply(&mut state.first[i]);
                mask.apply(&mut state.second[i]);
            }
        }
    }
}

impl Constraint for Masks {
    fn start(&mut self, params: &mut [Param], state: &mut State) {
        self.hold(params, state);
    }

    fn gradients(&mut self, params: &[Param], gradients: &mut [Vec<f32>]) -> f64 {
        self.on_gradients(params, gradients);
        0.0
    }

    fn after(&mut self, params: &mut [Param], _: &mut State, _: usize, _: usize) {
        self.on_params(params);
    }
}
