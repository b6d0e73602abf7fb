//! Reading the attributes of a node.

use crate::error::{Error, Result};
use crate::graph::display_name;
use crate::proto::{AttributeProto, NodeProto, TensorProto};

/// The attributes of a node, read by name with their defaults.
#[derive(Clone, Copy)]
pub struct Attributes<'n>(pub &'n NodeProto);

impl<'n> Attributes<'n> {
    fn get(&self, name: &str) -> Option<&'n AttributeProto> {
        self.0.attribute.iter().find(|a| a.name() == name)
    }

    /// An integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name).map(|a| a.i())
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.get(name).map(|a| a.ints.clone())
    }

    /// A list of sizes.
    ///
    /// # Errors
    /// A negative entry.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>> {
        let convert = |v: Vec<i64>| {
            v.into_iter().map(|x| usize::try_from(x).map_err(|_| self.error(format!("{name} holds {x}, which is negative")))).collect()
        };
        self.ints(name).map(convert).transpose()
    }

    /// A float.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.get(name).map(|a| a.f())
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.get(name).map(|a| a.floats.clone())
    }

    /// A string.
    pub fn string(&self, name: &str) -> Option<&'n str> {
        self.get(name).and_then(|a| std::str::from_utf8(a.s()).ok())
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Option<&'n TensorProto> {
        self.get(name).and_then(|a| a.t.as_ref())
    }

    /// An error located at the node.
    pub fn error(&self, reason: impl Into<String>) -> Error {
        Error::Node { node: display_name(self.0), op: self.0.op_type().to_owned(), reason: reason.into() }
    }
}
