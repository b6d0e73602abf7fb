//! A training saved between two steps: parameters, running statistics, optimizer, position.
//! Written beside its place and renamed, so that a kill leaves the old one or the new one.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::Network;
use crate::optim::State;

const MAGIC: &[u8; 8] = b"SECATRN1";

/// A saved training. What is random follows from the recipe's seed and the number of steps done.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub done: usize,
    /// Batches dropped.
    pub dropped: usize,
    /// What the constraint remembers; empty without one.
    pub constraint: Vec<f32>,
    head: Head,
    values: Vec<Vec<f32>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Head {
    done: usize,
    dropped: usize,
    optimizer_steps: u64,
    /// Numbers of the constraint, after all tensors.
    #[serde(default)]
    constraint: usize,
    /// Name and length of every tensor that follows.
    tensors: Vec<(String, usize)>,
}

fn tensors<'a>(network: &'a Network, state: &'a State) -> Vec<(String, &'a [f32])> {
    let mut all: Vec<(String, &[f32])> = Vec::new();
    for (i, p) in network.params().iter().enumerate() {
        all.push((p.name.clone(), &p.values));
        all.push((format!("{}#first", p.name), &state.first[i]));
        all.push((format!("{}#second", p.name), &state.second[i]));
    }
    for r in network.running() {
        all.push((r.names[0].clone(), &r.mean));
        all.push((r.names[1].clone(), &r.variance));
    }
    all
}

impl Checkpoint {
    /// The present state of a training.
    pub fn of(network: &Network, state: &State, done: usize, dropped: usize, constraint: Vec<f32>) -> Self {
        let all = tensors(network, state);
        let tensors = all.iter().map(|(n, v)| (n.clone(), v.len())).collect();
        let head = Head { done, dropped, optimizer_steps: state.steps, constraint: constraint.len(), tensors };
        Self { done, dropped, constraint, head, values: all.into_iter().map(|(_, v)| v.to_vec()).collect() }
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// The folder cannot be written, the disk is full.
    pub fn save(&self, path: &Path) -> Result<()> {
        let io = |source: std::io::Error| Error::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        let head = serde_json::to_vec(&self.head).map_err(|e| io(e.into()))?;
        let mut write = std::io::BufWriter::new(file.as_file_mut());
        let mut all = || -> std::io::Result<()> {
            write.write_all(MAGIC)?;
            write.write_all(&(head.len() as u64).to_le_bytes())?;
            write.write_all(&head)?;
            for values in self.values.iter().chain([&self.constraint]) {
                for v in values {
                    write.write_all(&v.to_le_bytes())?;
                }
            }
            write.flush()
        };
        all().map_err(io)?;
        drop(write);
        file.as_file().sync_all().map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Not a checkpoint, or damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let bad = |reason: &str| Error::Checkpoint { path: path.to_owned(), reason: format!("{reason}; remove the file to start afresh") };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("it is not a checkpoint of this program"))?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| bad("it ends too early"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (head, mut rest) = rest.split_at_checked(length).ok_or_else(|| bad("it ends too early"))?;
        let head: Head = serde_json::from_slice(head).map_err(|_| bad("its head is damaged"))?;
        let mut values = Vec::with_capacity(head.tensors.len());
        for count in head.tensors.iter().map(|(_, n)| n).chain([&head.constraint]) {
            let bytes = count.checked_mul(4).and_then(|n| rest.split_at_checked(n));
            let (part, after) = bytes.ok_or_else(|| bad("it ends too early"))?;
            values.push(part.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect());
            rest = after;
        }
        if !rest.is_empty() {
            return Err(bad("it is longer than its head says"));
        }
        let constraint = values.pop().unwrap_or_default();
        Ok(Self { done: head.done, dropped: head.dropped, constraint, head, values })
    }

    /// Puts the saved state into a network and optimizer; gives the number of steps done.
    ///
    /// # Errors
    /// The checkpoint belongs to another network.
    pub fn restore(&self, path: &Path, network: &mut Network, state: &mut State) -> Result<usize> {
        let expected: Vec<(String, usize)> = tensors(network, state).into_iter().map(|(n, v)| (n, v.len())).collect();
        if expected != self.head.tensors {
            let reason =
                "it belongs to another network (names or sizes of tensors differ); remove it or give the network it was made from".into();
            return Err(Error::Checkpoint { path: path.to_owned(), reason });
        }
        let mut values = self.values.iter();
        let mut next = || values.next().cloned().unwrap_or_default();
        for (i, p) in network.params_mut().iter_mut().enumerate() {
            p.values = next();
            state.first[i] = next();
            state.second[i] = next();
        }
        for r in network.running_mut() {
            r.mean = next();
            r.variance = next();
        }
        state.steps = self.head.optimizer_steps;
        Ok(self.done)
    }
}
