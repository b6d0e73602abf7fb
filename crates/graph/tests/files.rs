//! Reading and writing: what went in comes out, and bad files are explained.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use secateur_graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto, attribute_proto::AttributeType,
    tensor_proto::DataLocation,
};
use secateur_graph::{Model, Tensor};
use support::text::parse;
use support::{Analysed, Random, assert_twins, difference, run};

fn small() -> Model {
    parse(
        "in x Nx3x4x4
         a = conv x out=6
         r = relu a
         y = conv r out=2
         out y",
    )
}

/// With everything a program might drop: metadata, documentation, attributes nobody knows, foreign domains.
fn decorated() -> Model {
    let mut model = small();
    let entry = |k: &str, v: &str| StringStringEntryProto { key: Some(k.into()), value: Some(v.into()) };
    let proto = model.proto_mut();
    proto.producer_name = Some("trainer".into());
    proto.doc_string = Some("notes".into());
    proto.metadata_props = vec![entry("classes", "cat,dog")];
    let graph = proto.graph.as_mut().unwrap();
    graph.doc_string = Some("graph notes".into());
    graph.node[1].doc_string = Some("node notes".into());
    graph.node[1].attribute.push(AttributeProto {
        name: Some("unknown_to_all".into()),
        r#type: Some(AttributeType::Floats as i32),
        floats: vec![1.5, -2.0],
        ..Default::default()
    });
    graph.initializer[0].doc_string = Some("weight notes".into());
    model
}

fn with_external(folder: &Path, location: &str, offset: usize) -> Model {
    let mut model = decorated();
    let mut data = vec![0u8; offset];
    for t in &mut model.graph_proto_mut().initializer {
        let raw = t.raw_data.take().unwrap();
        let entry = |k: &str, v: String| StringStringEntryProto { key: Some(k.into()), value: Some(v) };
        t.external_data =
            vec![entry("location", location.into()), entry("offset", data.len().to_string()), entry("length", raw.len().to_string())];
        t.data_location = Some(DataLocation::External as i32);
        data.extend_from_slice(&raw);
    }
    std::fs::write(folder.join(location), data).unwrap();
    model
}

fn write(folder: &Path, model: &Model) -> std::path::PathBuf {
    let path = folder.join("model.onnx");
    std::fs::write(&path, prost::Message::encode_to_vec(model.proto())).unwrap();
    path
}

fn values(model: &Model) -> Vec<Tensor> {
    ["a.w", "a.b", "y.w", "y.b"].iter().map(|n| model.tensor(n).unwrap().unwrap()).collect()
}

#[test]
fn a_file_that_was_only_read_and_written_is_equal() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &decorated());
    let model = Model::load(&path).unwrap();
    let copy = dir.path().join("copy.onnx");
    model.save(&copy).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
    assert_eq!(model.proto(), decorated().proto());
    let again = model.save(&copy).unwrap_err().to_string();
    assert!(again.contains("copy.onnx") && again.contains("exists already"), "{again}");
}

#[test]
fn external_data_keep_their_files_in_another_folder() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = write(from.path(), &with_external(from.path(), "weights.bin", 128));
    let model = Model::load(&path).unwrap();
    assert_eq!(values(&model), values(&decorated()));
    let copy = to.path().join("model.onnx");
    model.save(&copy).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
    assert_eq!(std::fs::read(from.path().join("weights.bin")).unwrap(), std::fs::read(to.path().join("weights.bin")).unwrap());
}

/// Two models whose data have files of one name, into one folder.
#[test]
fn no_saved_model_takes_the_data_of_another() {
    let to = tempfile::tempdir().unwrap();
    let from = tempfile::tempdir().unwrap();
    let path = write(from.path(), &with_external(from.path(), "weights.bin", 0));
    let models: Vec<Model> = [1.0, 2.0]
        .into_iter()
        .map(|bias| {
            let mut model = Model::load(&path).unwrap();
            model.set_tensor("a.b", &Tensor::f32([6], vec![bias; 6])).unwrap();
            model
        })
        .collect();
    let target = |k: usize| to.path().join(format!("{k}.onnx"));
    models.iter().enumerate().for_each(|(k, m)| m.save(target(k)).unwrap());
    for (k, m) in models.iter().enumerate() {
        assert_eq!(values(&Model::load(target(k)).unwrap()), values(m), "model {k}");
    }
    // Where both names are taken, nothing is written.
    let taken = to.path().join("2.onnx.data");
    std::fs::write(&taken, b"mine").unwrap();
    let e = models[0].save(target(2)).unwrap_err().to_string();
    assert!(e.contains("2.onnx.data") && e.contains("exists already"), "{e}");
    assert!(!target(2).exists() && std::fs::read(&taken).unwrap() == b"mine");
}

#[test]
fn external_data_written_beside_their_source_leave_it_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &with_external(dir.path(), "weights.bin", 0));
    let before = std::fs::read(dir.path().join("weights.bin")).unwrap();
    let model = Model::load(&path).unwrap();
    model.save(dir.path().join("second.onnx")).unwrap();
    assert_eq!(std::fs::read(dir.path().join("weights.bin")).unwrap(), before);
    let second = Model::load(dir.path().join("second.onnx")).unwrap();
    assert_eq!(values(&second), values(&model));
    assert!(dir.path().join("second.onnx.data").exists());
}

#[test]
fn a_model_with_external_data_is_pruned_and_saved_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), &with_external(dir.path(), "weights.bin", 0));
    let a = Analysed::new(Model::load(&path).unwrap(), 2).unwrap();
    let mut random = Random::new(1);
    let d = a.random_decision(0.5, 0.0, &mut random);
    assert_twins(&a, &d, &mut random);
    let small = a.apply(&d).unwrap();
    small.save(dir.path().join("small.onnx")).unwrap();
    let read = Model::load(dir.path().join("small.onnx")).unwrap();
    let inputs = a.inputs(&mut random);
    assert_eq!(difference(&run(&small, &inputs).unwrap(), &run(&read, &inputs).unwrap()), Ok(0.0));
}

#[test]
fn names_metadata_and_unknown_attributes_survive_surgery() {
    let a = Analysed::new(decorated(), 2).unwrap();
    let small = a.apply(&a.random_decision(0.5, 0.0, &mut Random::new(4))).unwrap();
    let (old, new) = (a.model.proto(), small.proto());
    assert_eq!(
        (&old.metadata_props, &old.producer_name, &old.doc_string, &old.opset_import),
        (&new.metadata_props, &new.producer_name, &new.doc_string, &new.opset_import)
    );
    let (old, new) = (a.model.graph_proto(), small.graph_proto());
    assert_eq!(old.node, new.node);
    assert_eq!(
        old.initializer.iter().map(|t| (t.name(), t.doc_string())).collect::<Vec<_>>(),
        new.initializer.iter().map(|t| (t.name(), t.doc_string())).collect::<Vec<_>>()
    );
    assert_eq!((&old.input, &old.output), (&new.input, &new.output));
}

/// Each message names the file (or the tensor) and says what to do.
fn refused(bytes: impl AsRef<[u8]>, parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    std::fs::write(&path, bytes).unwrap();
    explained(&Model::load(&path).unwrap_err().to_string(), parts);
}

fn explained(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is missing in: {message}");
    }
}

fn encode(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = small();
    change(model.proto_mut());
    prost::Message::encode_to_vec(model.proto())
}

#[test]
fn files_that_are_no_models_are_refused_with_the_reason() {
    let missing = Model::load("/nowhere/at/all.onnx").unwrap_err().to_string();
    explained(&missing, &["/nowhere/at/all.onnx"]);
    refused(b"", &["model.onnx", "empty"]);
    refused(b"PK\x03\x04 an archive, not a model", &["model.onnx", "not an ONNX model", "export the network again"]);
    let whole = encode(|_| {});
    refused(&whole[..whole.len() / 2], &["model.onnx", "end too early"]);
    refused(encode(|p| p.graph = None), &["model.onnx", "no graph"]);
    refused(encode(|p| p.ir_version = Some(999)), &["model.onnx", "IR version 999", "update secateur"]);
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let poison = |value: f32| {
        encode(|p| {
            let mut values: Vec<f32> = vec![0.5; 162];
            values[7] = value;
            let t = &mut p.graph.as_mut().unwrap().initializer[0];
            *t = TensorProto { name: t.name.clone(), ..Tensor::f32([6, 3, 3, 3], values).encode("") };
            t.name = Some("a.w".into());
        })
    };
    refused(poison(f32::NAN), &["`a.w`", "element 7", "earlier checkpoint"]);
    refused(poison(f32::INFINITY), &["`a.w`", "element 7"]);
}

#[test]
fn external_data_that_cannot_be_used_are_explained() {
    let load = |spoil: &dyn Fn(&Path, &mut Model)| {
        let dir = tempfile::tempdir().unwrap();
        let mut model = with_external(dir.path(), "weights.bin", 0);
        spoil(dir.path(), &mut model);
        Model::load(write(dir.path(), &model)).unwrap_err().to_string()
    };
    let relocate =
        |to: &'static str| move |_: &Path, m: &mut Model| m.graph_proto_mut().initializer[0].external_data[0].value = Some(to.into());
    explained(
        &load(&|d, _| std::fs::remove_file(d.join("weights.bin")).unwrap()),
        &["model.onnx", "`a.w`", "weights.bin", "put it beside the model"],
    );
    explained(&load(&relocate("../weights.bin")), &["`a.w`", "outside the model's folder"]);
    explained(&load(&relocate("/etc/passwd")), &["`a.w`", "outside the model's folder"]);
    explained(&load(&|d, _| std::fs::write(d.join("weights.bin"), [0; 16]).unwrap()), &["`a.w`", "too short", "copy it again"]);
    // Data of what is no initializer of the main graph: of a node, and of a sub-graph's node.
    let inside = |deep: bool| {
        move |_: &Path, m: &mut Model| {
            let t = TensorProto { name: Some("inner".into()), ..m.graph_proto().initializer[0].clone() };
            let value = AttributeProto { name: Some("value".into()), t: Some(t), ..Default::default() };
            let constant = NodeProto { op_type: Some("Constant".into()), attribute: vec![value], ..Default::default() };
            let graph = GraphProto { node: vec![constant.clone()], ..Default::default() };
            let branch = AttributeProto { name: Some("then_branch".into()), g: Some(graph), ..Default::default() };
            let holder = NodeProto { op_type: Some("If".into()), attribute: vec![branch], ..Default::default() };
            m.graph_proto_mut().node.push(if deep { holder } else { constant });
        }
    };
    for deep in [false, true] {
        explained(&load(&inside(deep)), &["model.onnx", "`inner`", "save_as_external_data=False"]);
    }
    let memory = Model::from_bytes(
        prost::Message::encode_to_vec(with_external(tempfile::tempdir().unwrap().path(), "w.bin", 0).proto()),
        "a stream",
    )
    .unwrap_err();
    explained(&memory.to_string(), &["a stream", "`a.w`", "load it from its folder"]);
}

#[test]
fn the_generated_schema_is_what_the_vendored_one_generates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["onnx-ml.proto"], [root.join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().bytes(["."]).out_dir(out.path()).compile_fds(descriptors).unwrap();
    let fresh = std::fs::read_to_string(out.path().join("onnx.rs")).unwrap();
    let kept = std::fs::read_to_string(root.join("src/proto/onnx.rs")).unwrap();
    assert!(
        fresh == kept,
        "src/proto/onnx.rs is not what proto/onnx-ml.proto generates; run `cargo run -p secateur-graph --example generate_proto`"
    );
}
