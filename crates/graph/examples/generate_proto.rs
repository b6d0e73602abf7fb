//! Regenerates `src/proto/onnx.rs` from the vendored schema: `cargo run -p secateur-graph --example generate_proto`.
//! The generated file is checked in, so building needs neither `protoc` nor this step.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = root.join("proto");
    let descriptors = protox::compile(["onnx-ml.proto"], [&schema])?;
    let out = tempfile::tempdir()?;
    prost_build::Config::new().bytes(["."]).out_dir(out.path()).compile_fds(descriptors)?;
    let generated = std::fs::read_to_string(out.path().join("onnx.rs"))?;
    std::fs::write(root.join("src/proto/onnx.rs"), generated)?;
    Ok(())
}
