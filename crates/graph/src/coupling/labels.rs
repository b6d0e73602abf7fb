//! One label per coordinate, and which labels are equal.

use std::rc::Rc;

use super::Frozen;

/// The label of a coordinate.
pub(crate) type Label = u32;

/// The labels of an axis; `None` where the axis is never pruned.
pub(crate) type Axis = Option<Rc<[Label]>>;

/// Longest axis whose coordinates get labels; no network has that many channels.
pub(crate) const LONGEST: usize = 1 << 22;

const FREE: u32 = u32::MAX;

/// Union-find over labels; a class remembers the first reason that froze it.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    parent: Vec<Label>,
    /// Index into `reasons`, at roots; `FREE` where nothing froze the class.
    frozen: Vec<u32>,
    reasons: Vec<Frozen>,
}

impl Labels {
    /// `count` new labels, each its own class.
    pub(crate) fn fresh(&mut self, count: usize) -> Rc<[Label]> {
        let start = self.parent.len() as Label;
        let new = start..start + count as Label;
        self.parent.extend(new.clone());
        self.frozen.resize(self.parent.len(), FREE);
        new.collect()
    }

    /// The class of `label`, by its smallest label.
    pub(crate) fn find(&mut self, label: Label) -> Label {
        let mut root = label;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        let mut at = label;
        while at != root {
            at = std::mem::replace(&mut self.parent[at as usize], root);
        }
        root
    }

    /// Makes two labels equal.
    pub(crate) fn unify(&mut self, a: Label, b: Label) {
        let (a, b) = (self.find(a), self.find(b));
        let (root, child) = if a < b { (a, b) } else { (b, a) };
        self.parent[child as usize] = root;
        self.frozen[root as usize] = self.frozen[root as usize].min(self.frozen[child as usize]);
    }

    /// Freezes the classes of `labels`.
    pub(crate) fn freeze(&mut self, labels: &[Label], why: Frozen) {
        let reason = self.reasons.len() as u32;
        self.reasons.push(why);
        for &l in labels {
            let root = self.find(l) as usize;
            self.frozen[root] = self.frozen[root].min(reason);
        }
    }

    /// What froze the class of `label`.
    pub(crate) fn frozen(&mut self, label: Label) -> Option<&Frozen> {
        let root = self.find(label);
        self.reasons.get(self.frozen[root as usize] as usize)
    }
}
