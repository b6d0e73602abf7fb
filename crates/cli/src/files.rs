//! What commands share of models, runs and runtimes, with messages for people who mistyped a name.

use std::path::{Path, PathBuf};

use graph::{InputShapes, Model};
use latency::{Runtime, TargetKind, TargetSpec};
use secateur::Run;

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

/// That nothing is in the way of a file to be written, whose name `flag` gave.
///
/// # Errors
/// It exists, or its folder does not.
pub fn must_be_new(path: &Path, flag: &str) -> Result<()> {
    if path.exists() {
        return Err(Failure::at(path, format!("it exists already and is not overwritten; choose another `{flag}` or remove it")));
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => Err(Failure::at(folder, "there is no such folder; make it first")),
        _ => Ok(()),
    }
}

/// Models as a runtime takes them, at the sizes given.
///
/// # Errors
/// As [`load_model`]; a dimension that is left open and not given; a shape for an input that none of them has.
pub fn model_bytes(paths: &[PathBuf], given: &ShapeArgs) -> Result<Vec<latency::ModelBytes>> {
    let models: Vec<latency::ModelBytes> = paths.iter().map(|path| bytes_of(path, given)).collect::<Result<_>>()?;
    for shape in &given.shape {
        if !models.iter().any(|m| m.inputs.iter().any(|i| i.name == shape.0)) {
            return Err(Failure::Usage(format!("--shape {}=…: no model given has an input of this name", shape.0)));
        }
    }
    Ok(models)
}

fn bytes_of(path: &Path, given: &ShapeArgs) -> Result<latency::ModelBytes> {
    let model = load_model(path)?;
    let mut bytes = secateur::model_bytes(&path.display().to_string(), &model, given.batch as usize)?;
    for input in &mut bytes.inputs {
        if let Some(shape) = given.shape.iter().find(|s| s.0 == input.name) {
            input.shape.clone_from(&shape.1);
            continue;
        }
        // The first dimension is the batch; what else is open decides the latency, and is not guessed.
        if let Some(axis) = secateur::open_axes(&model, &input.name).into_iter().find(|&axis| axis > 0) {
            let wanted: Vec<String> =
                input.shape.iter().enumerate().map(|(k, d)| if k == axis { "?".into() } else { d.to_string() }).collect();
            let (path, name) = (path.display(), &input.name);
            return Err(Failure::Usage(format!(
                "{path}: the file leaves dimension {axis} of its input `{name}` open; give its sizes: --shape {name}={}",
                wanted.join(",")
            )));
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

/// The runtimes that may check what is made of `model`, `target` first. One that is not installed is no error as long as another
/// can.
pub fn checking_runtimes(model: &Model, target: &TargetSpec) -> Vec<Box<dyn Runtime>> {
    let others = [TargetSpec::tract(), TargetSpec::ort()];
    let mut wanted: Vec<&TargetSpec> = std::iter::once(target).chain(others.iter().filter(|o| o.kind != target.kind)).collect();
    // The engine packs a copy of the weights: for what is too large to be stored in one file, it comes last.
    wanted.sort_by_key(|t| model.has_external_data() && t.kind == TargetKind::Engine);
    wanted.into_iter().filter_map(|t| latency::runtime(t).ok()).collect()
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

/// Removes the directory of a run that nobody will go on with.
///
/// # Errors
/// It cannot be removed.
pub fn forget_run(directory: &Path) -> Result<()> {
    if !directory.join("journal.sqlite").exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(directory).map_err(|e| cannot_forget(directory, &e))
}

/// Removes what a run left in a directory that was there before it.
fn empty_run(directory: &Path) -> Result<()> {
    let remove = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        if entry.file_type()?.is_dir() { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) }
    };
    std::fs::read_dir(directory).and_then(|mut all| all.try_for_each(remove)).map_err(|e| cannot_forget(directory, &e))
}

fn cannot_forget(directory: &Path, e: &std::io::Error) -> Failure {
    Failure::at(directory, format!("what this run left cannot be removed: {e}"))
}

/// Does the work of a run in `directory`. What a new one left that nobody can go on with is taken back, so that the corrected
/// command can use the same directory.
///
/// # Errors
/// Those of `work`; what the run left cannot be removed.
pub fn in_run<T>(directory: &Path, work: impl FnOnce() -> secateur::Result<T>) -> Result<T> {
    let (existed, free) = (directory.exists(), Run::must_be_free(directory).is_ok());
    let done = work();
    if let Err(e) = &done
        && free
        && is_useless(directory, e)
    {
        if existed { empty_run(directory)? } else { forget_run(directory)? }
    }
    Ok(done?)
}

/// Going on with the run in `directory`, which `e` ended, would end the same way: nothing was recorded, or its settings do not do.
/// One that the user stopped goes on from wherever it was. The latency table is kept elsewhere.
pub fn is_useless(directory: &Path, e: &secateur::Error) -> bool {
    use secateur::Error as E;
    if !directory.join("journal.sqlite").exists() || matches!(e, E::Interrupted { .. }) {
        return false;
    }
    let hopeless = matches!(e, E::Setting(_) | E::BelowFloor { .. } | E::AboveDense { .. });
    hopeless || Run::open(directory).and_then(|r| r.journal.finished()).is_ok_and(|steps| steps.is_empty())
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
