//! Who may use whom: the table in ARCHITECTURE.md against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Rows of the table whose heading is `| crate | … | uses |`: names in backquotes in the first and last column.
fn stated() -> Edges {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = page.lines().skip_while(|l| !(l.starts_with("| crate ") && l.contains("| uses"))).skip(2).take_while(|l| l.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let crates = names(cells[0]);
        (crates.first().expect("a crate's name").clone(), names(cells.last().expect("a last column")))
    })
    .collect()
}

/// Normal dependencies between the workspace's members, by the names of their folders.
fn real() -> Edges {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let v: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = v["packages"].as_array().expect("packages");
    let folder = |p: &serde_json::Value| {
        let manifest = PathBuf::from(p["manifest_path"].as_str().expect("path"));
        manifest.parent().and_then(Path::file_name).expect("folder").to_string_lossy().into_owned()
    };
    let by_package: BTreeMap<&str, String> = packages.iter().map(|p| (p["name"].as_str().expect("name"), folder(p))).collect();
    packages
        .iter()
        .map(|p| {
            let used = p["dependencies"].as_array().expect("dependencies").iter().filter(|d| d["kind"].is_null());
            (folder(p), used.filter_map(|d| by_package.get(d["name"].as_str()?).cloned()).collect())
        })
        .collect()
}

#[test]
fn the_crates_use_what_the_architecture_says() {
    let (stated, real) = (stated(), real());
    assert!(stated.len() >= 6, "the table was not found in ARCHITECTURE.md: {stated:?}");
    assert_eq!(real, stated, "left: cargo metadata; right: ARCHITECTURE.md");
}
