//! The engine against ONNX Runtime on the shared networks, with every instruction set of this CPU.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use graph::{InputShapes, Model};
use secateur_engine::{Engine, Error, Isa};
use support::{Random, difference};

/// Networks that must run; the others may be refused by name.
const MUST_RUN: [&str; 12] = [
    "cifar10_resnet20_akamaster",
    "cifar10_resnet32_akamaster",
    "cifar10_resnet56_akamaster",
    "cifar10_resnet8_mlperftiny",
    "imagenet_mobilenetv1_0.25_keras",
    "imagenet_mobilenetv1_0.5_160_coral_qat",
    "imagenet_mobilenetv2_1.0_coral_ptq",
    "imagenet_squeezenet1.1_ncnn",
    "kws_dscnn_mlperftiny_bnfolded",
    "toycar_ad_autoencoder_mlperftiny",
    "vww96_mobilenetv1_0.25_mlperftiny",
    "widerface_retinaface_mnet0.25",
];

#[test]
fn shared_networks_compute_what_onnx_runtime_computes() {
    let Some(data) = std::env::var_os("SECATEUR_DATA").map(PathBuf::from) else {
        println!("skipped: SECATEUR_DATA is not set");
        return;
    };
    let python = Command::new("python3").args(["-c", "import onnxruntime, numpy"]).output();
    if !python.is_ok_and(|o| o.status.success()) {
        println!("skipped: python3 with onnxruntime and numpy is not there");
        return;
    }
    let mut ran = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(data.join("models")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let model = Model::load(path).unwrap();
        if let Err(e) = Engine::new().compile(&model, &InputShapes::batch(1)) {
            assert!(matches!(e, Error::Unsupported { .. } | Error::Value { .. }), "{name}: {e}");
            println!("refused: {name}: {e}");
            continue;
        }
        let expected = expected(path, &model);
        for isa in Isa::available() {
            let mut compiled = Engine::with_isa(isa).unwrap().compile(&model, &InputShapes::batch(1)).unwrap();
            for (name, values) in inputs(&model) {
                compiled.set_input(&name, &values).unwrap();
            }
            compiled.run();
            for (i, e) in expected.iter().enumerate() {
                let d = difference(e, compiled.output(i));
                assert!(d < 1e-4, "{name} with {isa:?}: output {i} differs by {d}");
            }
        }
        ran.push(name);
    }
    let missing: Vec<_> = MUST_RUN.iter().filter(|m| !ran.iter().any(|r| r == *m)).collect();
    assert!(missing.is_empty(), "not run: {missing:?}");
}

/// Random inputs, the same at every call.
fn inputs(model: &Model) -> Vec<(String, Vec<f32>)> {
    let compiled = Engine::new().compile(model, &InputShapes::batch(1)).unwrap();
    let mut random = Random::new(5);
    compiled.inputs().iter().map(|p| (p.name.clone(), random.floats(p.shape.iter().product()))).collect()
}

fn expected(path: &Path, model: &Model) -> Vec<Vec<f32>> {
    let folder = std::env::temp_dir().join(format!("secateur-engine-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let compiled = Engine::new().compile(model, &InputShapes::batch(1)).unwrap();
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference_outputs.py")).arg(path).arg(&folder);
    for ((name, values), port) in inputs(model).into_iter().zip(compiled.inputs()) {
        let file = folder.join(format!("{name}.in"));
        std::fs::write(&file, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        let shape = port.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        command.arg(format!("{name}={}={shape}", file.display()));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |i| {
        let bytes = std::fs::read(folder.join(format!("{i}.f32"))).unwrap();
        bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let outputs = (0..compiled.outputs().len()).map(read).collect();
    std::fs::remove_dir_all(&folder).unwrap();
    outputs
}
