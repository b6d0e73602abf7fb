//! Starting the program, and a small network to start it on.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use graph::proto::{AttributeProto, attribute_proto::AttributeType};
use tempfile::TempDir;

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(o: &Output) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Self { code: o.status.code().unwrap_or(-1), out: text(&o.stdout), err: text(&o.stderr) }
    }

    /// The one JSON document on standard output.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not one JSON document ({e}):\n{}\n{}", self.out, self.err))
    }

    /// Fails unless the command ended with `code` and its message has all of `parts`.
    pub fn refused(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is missing in:\n{}", self.err);
        }
        assert!(!self.err.contains("panicked") && !self.err.contains("RUST_BACKTRACE"), "{}", self.err);
        self
    }

    pub fn done(&self) -> &Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }
}

/// A folder of its own for one test, with a cache that no other test sees.
pub struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A small residual network with ten classes, 3×32×32 in.
    pub fn network(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        secateur::residual_network(&[8, 16], 2, 10, 1).save(&path).expect("writes");
        path
    }

    /// The same with a node that the engine has no kernel for; the node's name.
    pub fn network_with_lrn(&self, name: &str) -> String {
        let mut model = secateur::residual_network(&[8, 16], 2, 10, 1);
        let node = model.graph_proto_mut().node.iter_mut().find(|n| n.op_type() == "Relu").expect("a Relu");
        let changed = node.name().to_owned();
        node.op_type = Some("LRN".into());
        let size = AttributeProto { name: Some("size".into()), r#type: Some(AttributeType::Int as i32), i: Some(3), ..Default::default() };
        node.attribute.push(size);
        model.save(self.path(name)).expect("writes");
        changed
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().expect("starts"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_secateur"));
        c.args(arguments).current_dir(self.folder.path()).env("SECATEUR_CACHE", self.folder.path().join("cache")).env("NO_COLOR", "1");
        // The lock of the measuring device lies there: with targets that do not really measure, nobody need wait.
        c.env("TMPDIR", self.folder.path());
        c.env_remove("ORT_DYLIB_PATH").env_remove("SECATEUR_LOG").env_remove("RUST_BACKTRACE");
        c
    }
}

/// A target whose latency is the size of the file: no noise, and what is smaller is faster.
pub const SIZE: &str = "command:stat -c %sus {model}";

/// Whether [`SIZE`] works here.
pub fn has_stat() -> bool {
    let there = Command::new("stat").args(["-c", "%s", "/"]).output().is_ok_and(|o| o.status.success());
    if !there {
        println!("skipped: needs `stat -c`");
    }
    there
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("reads")
}
