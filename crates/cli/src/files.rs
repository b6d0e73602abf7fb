//! Models in and out, with messages for people who mistyped a name.

use std::path::{Path, PathBuf};

use graph::{InputShapes, Model};

use crate::arguments::ShapeArgs;
use crate::failure::{Failure, Result};

/// Reads a model.
///
/// # Errors
/// There is no such file, or it is no ONNX model this program can keep whole.
pub fn load_model(path: &Path) -> Result<Model> {
    if path.is_dir() {
        return Err(Failure::at(path, "is a folder; name the .onnx file in it"));
    }
    if !path.exists() {
        return Err(Failure::at(path, "there is no such file; name the ONNX file of a trained network"));
    }
    Ok(Model::load(path)?)
}

/// That nothing is in the way of a file to be written.
///
/// # Errors
/// It exists, or its folder does not.
pub fn must_be_new(path: &Path) -> Result<()> {
    if path.exists() {
        return Err(Failure::at(path, "it exists already and is not overwritten; choose another `--out` or remove it"));
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => Err(Failure::at(folder, "there is no such folder; make it first")),
        _ => Ok(()),
    }
}

/// A model as a runtime takes it, at the sizes given.
///
/// # Errors
/// As [`load_model`]; a dimension that is not given.
pub fn model_bytes(path: &Path, given: &ShapeArgs) -> Result<latency::ModelBytes> {
    let name = path.display().to_string();
    let mut bytes = secateur::model_bytes(&name, &load_model(path)?, given.batch as usize)?;
    for shape in &given.shape {
        if let Some(input) = bytes.inputs.iter_mut().find(|i| i.name == shape.0) {
            input.shape.clone_from(&shape.1);
        }
    }
    Ok(bytes)
}

/// How this program is started again to measure in a process of its own.
///
/// # Errors
/// The system does not tell where this program is.
pub fn worker() -> Result<latency::WorkerCommand> {
    let program = std::env::current_exe().map_err(|e| Failure::Other(format!("cannot find this program to start it again: {e}")))?;
    Ok(latency::WorkerCommand { program, arguments: vec!["worker".into()] })
}

/// Sizes of dynamic dimensions as the user gives them: `NAME=1,3,224,224`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub String, pub Vec<usize>);

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not NAME=D0,D1,… with sizes of at least 1, such as input=1,3,224,224");
        let (name, sizes) = text.rsplit_once('=').ok_or_else(wrong)?;
        let sizes: Result<Vec<usize>, _> = sizes.split([',', 'x']).map(|d| d.trim().parse()).collect();
        match sizes {
            Ok(sizes) if !name.is_empty() && !sizes.contains(&0) => Ok(Self(name.to_owned(), sizes)),
            _ => Err(wrong()),
        }
    }
}

/// The shapes to analyse a model at.
pub fn shapes(batch: usize, given: &[Shape]) -> InputShapes {
    InputShapes { batch: Some(batch), shapes: given.iter().map(|s| (s.0.clone(), s.1.clone())).collect() }
}

/// Takes back what a run left that ended before its first step was recorded, so that the corrected command can use the same
/// directory. Nothing else is touched.
pub fn forget_unstarted_run(directory: &Path) {
    let started = !directory.join("config.json").exists()
        || secateur::Run::open(directory).and_then(|r| r.journal.finished()).map_or(true, |steps| !steps.is_empty());
    if started {
        return;
    }
    let own: Vec<PathBuf> =
        ["config.json", "journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"].iter().map(|n| directory.join(n)).collect();
    for file in own {
        // What cannot be removed stays; the user is told by the next command.
        let _ = std::fs::remove_file(file);
    }
    let _ = std::fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_and_wrong_ones_explained() {
        assert_eq!("input=1,3,224,224".parse(), Ok(Shape("input".into(), vec![1, 3, 224, 224])));
        assert_eq!("a=b=2x3".parse(), Ok(Shape("a=b".into(), vec![2, 3])));
        for text in ["input", "input=", "=1", "input=1,0", "input=1,-1"] {
            assert!(text.parse::<Shape>().expect_err(text).contains("input=1,3,224,224"));
        }
    }
}
