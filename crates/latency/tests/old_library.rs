//! A library that is too old, and one that is none. In its own process: a process keeps the first
//! library it loads.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use secateur_latency::{Error, OrtLibrary};

/// Just enough of ONNX Runtime's C interface to say that it is 1.17.
const SOURCE: &str = r#"
static const char *version(void) { return "1.17.3"; }
static const void *api(unsigned v) { return 0; }
static const struct { const void *(*get_api)(unsigned); const char *(*get_version)(void); }
    base = { api, version };
const void *OrtGetApiBase(void) { return &base; }
"#;

fn load(path: &Path) -> Error {
    OrtLibrary::load(Some(path)).map(|_| ()).unwrap_err()
}

#[test]
fn old_broken_and_missing_libraries_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("nothing.so"));
    assert!(matches!(missing, Error::LibraryNotFound { .. }), "{missing:?}");
    assert!(missing.to_string().contains("nothing.so"));

    let text = folder.path().join("text.so");
    std::fs::write(&text, "text").unwrap();
    let broken = load(&text);
    assert!(matches!(broken, Error::LibraryUnusable { .. }), "{broken:?}");
    assert!(broken.to_string().contains("text.so") && broken.to_string().contains("--library"));

    let source = folder.path().join("old.c");
    let library = folder.path().join("libonnxruntime.so.1.17.3");
    std::fs::write(&source, SOURCE).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no C compiler to build an old library with");
        return;
    }
    let old = load(&library);
    assert!(matches!(old, Error::LibraryTooOld { .. }), "{old:?}");
    let text = old.to_string();
    assert!(text.contains("1.17.3") && text.contains("1.22") && text.contains("pip install -U"), "{text}");
}
