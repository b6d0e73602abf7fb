//! Finding, checking and loading the ONNX Runtime library, once per process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use ort::environment::Environment;
use ort::logging::LogLevel;

use super::telemetry;
use crate::error::Error;

/// The oldest ONNX Runtime that works.
pub const MINIMUM_VERSION: &str = "1.22";

/// A loaded ONNX Runtime library.
#[derive(Debug)]
pub struct OrtLibrary {
    /// The file.
    pub path: PathBuf,
    /// Its version, such as `1.31.1`.
    pub version: String,
    pub(super) environment: Environment,
}

static LOADED: OnceLock<OrtLibrary> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

impl OrtLibrary {
    /// Loads `explicit`, or the first library found. The first success is kept for the life of the
    /// process.
    ///
    /// # Errors
    /// [`Error::LibraryNotFound`] with every place tried, [`Error::LibraryTooOld`],
    /// [`Error::LibraryUnusable`], [`Error::LibraryAlreadyLoaded`].
    pub fn load(explicit: Option<&Path>) -> Result<&'static Self, Error> {
        let _guard = LOADING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(loaded) = LOADED.get() {
            return match explicit.map(canonical).transpose()? {
                Some(asked) if asked != loaded.path => Err(Error::LibraryAlreadyLoaded { loaded: loaded.path.clone(), asked }),
                _ => Ok(loaded),
            };
        }
        let path = find(explicit)?;
        let library = open(path)?;
        Ok(LOADED.get_or_init(|| library))
    }
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|e| Error::LibraryNotFound { tried: vec![format!("{} (--library): {e}", path.display())] })
}

fn open(path: PathBuf) -> Result<OrtLibrary, Error> {
    telemetry::disable();
    let builder = ort::init_from(&path).map_err(|e| match e {
        ort::LoadDynamicError::BadVersion { version_str, path } => {
            Error::LibraryTooOld { path, version: version_str, minimum: MINIMUM_VERSION.into() }
        }
        other => Error::LibraryUnusable { path: path.clone(), cause: other.to_string() },
    })?;
    let environment = builder
        .with_name("secateur")
        .with_telemetry(false)
        .with_logger(Arc::new(|level, _category: &str, id: &str, at: &str, message: &str| match level {
            LogLevel::Fatal | LogLevel::Error => tracing::error!(target: "ort", id, at, "{message}"),
            LogLevel::Warning => tracing::warn!(target: "ort", id, at, "{message}"),
            LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "ort", id, at, "{message}"),
        }))
        .build()
        .map_err(|e| Error::LibraryUnusable { path: path.clone(), cause: e.to_string() })?;
    environment.set_log_level(LogLevel::Warning);
    let version = version_in_file(&path).unwrap_or_else(|| ort::info().to_string());
    Ok(OrtLibrary { path, version, environment })
}

/// The version the linker stamped into the file (`VERS_1.31.1`), else the one in its name.
fn version_in_file(path: &Path) -> Option<String> {
    let digits = |bytes: &[u8]| -> Option<String> {
        let end = bytes.iter().position(|b| !b.is_ascii_digit() && *b != b'.')?;
        let text = String::from_utf8(bytes[..end].to_vec()).ok()?;
        (text.split('.').count() >= 3).then(|| text.trim_end_matches('.').to_string())
    };
    let bytes = std::fs::read(path).ok()?;
    let stamp = b"VERS_1.";
    bytes.windows(stamp.len()).enumerate().filter(|(_, window)| window == stamp).find_map(|(at, _)| digits(&bytes[at + 5..])).or_else(
        || {
            let name = path.file_name()?.to_string_lossy().into_owned();
            let (_, version) = name.split_once(".so.")?;
            Some(version.to_string())
        },
    )
}

/// The library to load, or everything that was tried.
fn find(explicit: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(path) = explicit {
        return canonical(path);
    }
    if let Some(value) = std::env::var_os("ORT_DYLIB_PATH").filter(|v| !v.is_empty()) {
        return PathBuf::from(&value)
            .canonicalize()
            .map_err(|e| Error::LibraryNotFound { tried: vec![format!("{} (ORT_DYLIB_PATH): {e}", value.to_string_lossy())] });
    }
    let mut tried = vec!["--library: not given".to_string(), "ORT_DYLIB_PATH: not set".to_string()];
    let mut seen = BTreeSet::new();
    for (folder, origin) in folders() {
        if !seen.insert(folder.clone()) {
            continue;
        }
        match library_in(&folder) {
            Some(path) => return path.canonicalize().map_err(|cause| Error::Io { path, cause }),
            None => tried.push(format!("{} ({origin}): no {}", folder.display(), file_prefix())),
        }
    }
    Err(Error::LibraryNotFound { tried })
}

fn file_prefix() -> &'static str {
    if cfg!(target_os = "windows") {
        "onnxruntime.dll"
    } else if cfg!(target_os = "macos") {
        "libonnxruntime*.dylib"
    } else {
        "libonnxruntime.so*"
    }
}

fn is_library(name: &str) -> bool {
    if cfg!(target_os = "windows") {
        name == "onnxruntime.dll"
    } else if cfg!(target_os = "macos") {
        name.starts_with("libonnxruntime") && name.ends_with(".dylib") && !name.contains("providers")
    } else {
        name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.")
    }
}

/// The library in a folder; the highest name where there are several.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| is_library(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    names.sort();
    names.pop()
}

/// The folders to look in, in order, with where each idea came from.
fn folders() -> Vec<(PathBuf, &'static str)> {
    let mut folders = Vec::new();
    for python in ["python3", "python"] {
        if let Some(capi) = python_package(python) {
            folders.push((capi, "the Python package onnxruntime"));
            break;
        }
    }
    for site in site_packages() {
        folders.push((site.join("onnxruntime/capi"), "site-packages"));
    }
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        let paths = std::env::split_paths(&paths).filter(|p| !p.as_os_str().is_empty());
        folders.extend(paths.map(|p| (p, "LD_LIBRARY_PATH")));
    }
    for path in [
        "/usr/local/lib",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/opt/onnxruntime/lib",
        "/opt/homebrew/lib",
    ] {
        folders.push((PathBuf::from(path), "system"));
    }
    folders
}

/// Asks Python where its `onnxruntime` is, without importing it.
fn python_package(python: &str) -> Option<PathBuf> {
    let script = "import importlib.util as u; s = u.find_spec('onnxruntime'); \
                  print(s.submodule_search_locations[0] if s else '')";
    let output = Command::new(python).args(["-c", script]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let folder = text.trim();
    (output.status.success() && !folder.is_empty()).then(|| Path::new(folder).join("capi"))
}

/// Folders in which Python packages commonly are.
fn site_packages() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(|p| PathBuf::from(p).join("lib")).collect();
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        roots.push(home.join(".local/lib"));
        roots.extend(children(&home.join(".pyenv/versions")).into_iter().map(|v| v.join("lib")));
    }
    roots.extend(["/usr/local/lib", "/usr/lib"].map(PathBuf::from));
    roots
        .iter()
        .flat_map(|root| children(root))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3")))
        .flat_map(|p| [p.join("site-packages"), p.join("dist-packages")])
        .collect()
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explicit_file_that_is_missing_is_named_and_nothing_else_is_tried() {
        let error = find(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::LibraryNotFound { .. }));
        assert!(text.contains("/nowhere/libonnxruntime.so") && text.contains("--library"), "{text}");
        assert!(text.contains("pip install onnxruntime"), "{text}");
    }

    #[test]
    fn library_names() {
        if cfg!(target_os = "linux") {
            assert!(is_library("libonnxruntime.so.1.31.1"));
            assert!(is_library("libonnxruntime.so"));
            assert!(!is_library("libonnxruntime_providers_shared.so"));
        }
    }

    #[test]
    fn a_version_is_read_from_the_stamp_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so.1.99");
        std::fs::write(&file, b"\0\0VERS_1.30.2\0OrtGetApiBase\0").unwrap();
        assert_eq!(version_in_file(&file).as_deref(), Some("1.30.2"));
        std::fs::write(&file, b"nothing").unwrap();
        assert_eq!(version_in_file(&file).as_deref(), Some("1.99"));
    }

    #[test]
    fn a_file_that_is_no_library_is_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libonnxruntime.so");
        std::fs::write(&file, b"text").unwrap();
        let error = ort::init_from(&file).map(|_| ()).unwrap_err();
        assert!(matches!(error, ort::LoadDynamicError::Dlopen { .. }));
    }
}
