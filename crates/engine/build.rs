//! A revision of the engine for latency tables: measurements of other kernels are not taken for those of these.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=src");
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    files.sort();
    let hash =
        files.iter().fold(0xcbf2_9ce4_8422_2325, |h, f| fnv(fnv(h, f.to_string_lossy().as_bytes()), &std::fs::read(f).unwrap_or_default()));
    println!("cargo:rustc-env=SECATEUR_ENGINE_REVISION={:08x}", (hash >> 32) ^ (hash & 0xffff_ffff));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Fowler, Noll and Vo's hash, variant 1a.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}
