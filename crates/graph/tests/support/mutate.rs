//! Damaged files: bit flips, truncations, and edits of decoded fields that keep the message readable.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use prost::Message;
use secateur_graph::proto::{AttributeProto, GraphProto, ModelProto, tensor_shape_proto::dimension::Value as Dim, type_proto};
use secateur_graph::{Decision, Facts, Graph, Groups, InputShapes, Model, surgery};

/// What reading a damaged file may take.
pub const LONGEST: Duration = Duration::from_secs(5);

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, all: &'a mut [T]) -> Option<&'a mut T> {
        let at = self.below(all.len());
        all.get_mut(at)
    }

    /// Numbers that break things.
    fn number(&mut self) -> i64 {
        const ODD: [i64; 14] = [0, 1, -1, 2, 3, -2, 7, 255, 65_536, 1 << 31, -(1 << 31), 1 << 40, i64::MAX, i64::MIN];
        ODD[self.below(ODD.len())]
    }
}

/// Ways to damage a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// A few bits are turned.
    BitFlips,
    /// The end is missing.
    Truncation,
    /// A piece is written over another.
    MovedPiece,
    /// Decoded fields are changed; the message stays readable.
    FieldEdits,
}

/// What `seed` does to a file.
pub fn damage(seed: u64) -> Damage {
    match Dice(seed).below(8) {
        0 => Damage::BitFlips,
        1 => Damage::Truncation,
        2 => Damage::MovedPiece,
        _ => Damage::FieldEdits,
    }
}

/// One mutation of `file`, decided by `seed`.
pub fn mutate(file: &[u8], seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    dice.next();
    let mut bytes = file.to_vec();
    match damage(seed) {
        Damage::BitFlips => {
            for _ in 0..1 + dice.below(8) {
                let at = dice.below(bytes.len());
                if let Some(b) = bytes.get_mut(at) {
                    *b ^= 1 << dice.below(8);
                }
            }
        }
        Damage::Truncation => bytes.truncate(dice.below(file.len())),
        Damage::MovedPiece => {
            let (from, to, n) = (dice.below(file.len()), dice.below(file.len()), 1 + dice.below(64));
            let piece: Vec<u8> = file[from..(from + n).min(file.len())].to_vec();
            for (k, b) in piece.into_iter().enumerate() {
                if let Some(place) = bytes.get_mut(to + k) {
                    *place = b;
                }
            }
        }
        Damage::FieldEdits => {
            if let Ok(mut model) = ModelProto::decode(file) {
                for _ in 0..1 + dice.below(3) {
                    edit(&mut model, &mut dice);
                }
                bytes = model.encode_to_vec();
            }
        }
    }
    bytes
}

fn edit(model: &mut ModelProto, dice: &mut Dice) {
    if dice.below(20) == 0 {
        match dice.below(3) {
            0 => model.ir_version = Some(dice.number()),
            1 => model.opset_import.clear(),
            _ => {
                let version = 1 + dice.below(24) as i64;
                if let Some(o) = dice.pick(&mut model.opset_import) {
                    o.version = Some(version);
                }
            }
        }
        return;
    }
    let Some(g) = model.graph.as_mut() else { return };
    match dice.below(5) {
        0 | 1 => edit_node(g, dice),
        2 => edit_tensor(g, dice),
        3 => {
            let number = dice.number();
            let kind = dice.below(20) as i32;
            let count = g.input.len() + g.output.len() + g.value_info.len();
            let at = dice.below(count);
            let mut all: Vec<_> = g.input.iter_mut().chain(&mut g.output).chain(&mut g.value_info).collect();
            let Some(info) = all.get_mut(at) else { return };
            let Some(type_proto::Value::TensorType(t)) = info.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
                info.r#type = None;
                return;
            };
            match (dice.below(4), t.shape.as_mut()) {
                (0, _) => t.elem_type = Some(kind),
                (1, _) => t.shape = None,
                (_, Some(shape)) => {
                    if let Some(d) = dice.pick(&mut shape.dim) {
                        d.value = Some(Dim::DimValue(number));
                    }
                }
                _ => {}
            }
        }
        _ => {
            let n = g.node.len();
            let (a, b) = (dice.below(n), dice.below(n));
            match dice.below(4) {
                0 if n > 0 => {
                    g.node.remove(a);
                }
                1 if n > 0 => g.node.swap(a, b),
                2 if n > 0 => g.node.push(g.node[a].clone()),
                _ => {
                    let k = g.initializer.len();
                    if k > 0 {
                        g.initializer.remove(dice.below(k));
                    }
                }
            }
        }
    }
}

fn edit_node(g: &mut GraphProto, dice: &mut Dice) {
    let other = g.node.get(dice.below(g.node.len())).cloned().unwrap_or_default();
    let value = other.input.first().or(other.output.first()).cloned().unwrap_or_default();
    let number = dice.number();
    let Some(node) = dice.pick(&mut g.node) else { return };
    match dice.below(9) {
        0 => node.op_type = other.op_type,
        1 => {
            if let Some(i) = dice.pick(&mut node.input) {
                *i = value;
            }
        }
        2 => {
            node.input.pop();
        }
        3 => node.input.push(value),
        4 => {
            if let Some(o) = dice.pick(&mut node.output) {
                *o = if dice.below(2) == 0 { String::new() } else { value };
            }
        }
        5 => node.attribute = other.attribute,
        6 => {
            if let Some(a) = dice.pick(&mut node.attribute) {
                a.r#type = Some(dice.below(14) as i32);
            }
        }
        7 => {
            node.attribute.push(AttributeProto { name: Some("axis".into()), i: Some(number), r#type: Some(2), ..Default::default() });
        }
        _ => {
            let many = dice.below(9);
            if let Some(a) = dice.pick(&mut node.attribute) {
                match (a.ints.is_empty(), many) {
                    (false, 0) => a.ints.clear(),
                    (false, 1) => a.ints.push(number),
                    (false, _) => {
                        if let Some(i) = dice.pick(&mut a.ints) {
                            *i = number;
                        }
                    }
                    (true, _) => a.i = Some(number),
                }
            }
        }
    }
}

fn edit_tensor(g: &mut GraphProto, dice: &mut Dice) {
    let number = dice.number();
    let constants = g.node.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.t.as_mut());
    let mut all: Vec<_> = g.initializer.iter_mut().chain(constants).collect();
    let Some(t) = dice.pick(&mut all) else { return };
    match dice.below(7) {
        0 => t.dims.push(number),
        1 => {
            t.dims.pop();
        }
        2 | 3 => {
            if let Some(d) = dice.pick(&mut t.dims) {
                *d = number;
            }
        }
        4 => t.data_type = Some(dice.below(20) as i32),
        5 => {
            if let Some(raw) = t.raw_data.as_mut() {
                raw.truncate(dice.below(raw.len() + 1));
            }
        }
        _ => {
            // Another number among small integers, which are shapes and bounds.
            if t.data_type == Some(7) {
                if let Some(raw) = t.raw_data.as_ref().filter(|r| r.len() >= 8) {
                    let mut raw = raw.to_vec();
                    let at = dice.below(raw.len() / 8) * 8;
                    raw[at..at + 8].copy_from_slice(&number.to_le_bytes());
                    t.raw_data = Some(raw.into());
                } else if let Some(i) = dice.pick(&mut t.int64_data) {
                    *i = number;
                }
            }
        }
    }
}

/// Everything that is done with a file before a runtime sees it.
pub fn inspect(bytes: Vec<u8>) -> secateur_graph::Result<usize> {
    let model = Model::from_bytes(bytes, "mutated")?;
    let graph = Graph::new(&model)?;
    let (shapes, _) = InputShapes::default().completed(&model, &graph)?;
    let facts = Facts::infer(&model, &graph, &shapes)?;
    let groups = Groups::analyse(&model, &graph, &facts)?;
    let keep = groups.prunable().map(|g| (g.id, (0..g.size.div_ceil(2)).collect())).collect();
    let decision = Decision { keep, ..Decision::default() };
    surgery::masked_twin(&model, &graph, &facts, &groups, &decision)?;
    surgery::apply(&model, &graph, &facts, &groups, &decision)?;
    Ok(groups.groups.len())
}

/// How a file was taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Read and cut.
    Read,
    /// Refused, with the cause.
    Refused(String),
    /// What must not happen.
    Broken(String),
}

/// One input of the fuzz target: whatever the bytes are, they are read or refused with a cause. Time and memory are for the
/// fuzzer to limit.
///
/// # Panics
/// An error without a cause.
pub fn one_input(bytes: &[u8]) {
    if let Err(e) = inspect(bytes.to_vec()) {
        assert!(e.to_string().len() >= SHORTEST_CAUSE, "an error without a cause: `{e}`");
    }
}

/// Characters of the shortest error that tells anything.
const SHORTEST_CAUSE: usize = 8;

/// Inspects `bytes` and judges: no panic, no hang, no memory above ten times the file and 200 MB, every error with a cause.
pub fn judge(bytes: Vec<u8>) -> Outcome {
    judge_by(bytes, LONGEST, inspect)
}

static JUDGING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// As [`judge`], of anything that is done with bytes.
pub fn judge_by(
    bytes: Vec<u8>,
    longest: Duration,
    work: impl FnOnce(Vec<u8>) -> secateur_graph::Result<usize> + std::panic::UnwindSafe,
) -> Outcome {
    // The high-water mark of memory is the process's: one at a time, or another one's reset hides it.
    let _alone = JUDGING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let size = bytes.len() as u64;
    let before = memory(true);
    let started = Instant::now();
    let result = std::panic::catch_unwind(|| work(bytes));
    let taken = started.elapsed();
    let peak = memory(false).saturating_sub(before);
    match result {
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Outcome::Broken(format!("panic: {}", text.unwrap_or_default()))
        }
        _ if taken > longest => Outcome::Broken(format!("it took {taken:?}")),
        _ if peak > 10 * size + 200_000_000 => Outcome::Broken(format!("it took {} MB for {size} bytes", peak / 1_000_000)),
        Ok(Err(e)) if e.to_string().len() < SHORTEST_CAUSE => Outcome::Broken(format!("an error without a cause: `{e}`")),
        Ok(Err(e)) => Outcome::Refused(e.to_string()),
        Ok(Ok(_)) => Outcome::Read,
    }
}

/// How many of the files that `seeds` make of `file` are read by `work`, and how many it refuses.
///
/// # Panics
/// Some are broken: all of them are listed.
pub fn tally(name: &str, file: &[u8], seeds: std::ops::Range<u64>, work: fn(Vec<u8>) -> secateur_graph::Result<usize>) -> (usize, usize) {
    let (mut read, mut refused, mut broken) = (0, 0, Vec::new());
    for seed in seeds {
        match judge_by(mutate(file, seed), LONGEST, work) {
            Outcome::Read => read += 1,
            Outcome::Refused(_) => refused += 1,
            Outcome::Broken(why) => broken.push(format!("{name}, seed {seed}: {why}")),
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    (read, refused)
}

/// Resident memory: now, the high-water mark reset to it, or the high-water mark. 0 where the system does not tell.
fn memory(now: bool) -> u64 {
    if now && std::fs::write("/proc/self/clear_refs", "5").is_err() {
        return 0;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(if now { "VmRSS:" } else { "VmHWM:" }));
    line.and_then(|l| l.split_whitespace().nth(1)).and_then(|k| k.parse::<u64>().ok()).unwrap_or(0) * 1000
}
