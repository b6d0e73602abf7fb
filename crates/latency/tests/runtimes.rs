//! ONNX Runtime and the embedded runtime on small and real models.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_latency::{
    Candidate, Error, InputSpec, ModelBytes, Protocol, Runtime, TargetSpec, Tensor, interleave, runtime, sentinel_model,
};
use support::{gemm, ort_or_skip, real_or_skip};

fn tract() -> Box<dyn Runtime> {
    runtime(&TargetSpec::tract()).unwrap()
}

fn engine() -> Box<dyn Runtime> {
    runtime(&TargetSpec::engine()).unwrap()
}

fn largest_difference(a: &[Tensor], b: &[Tensor]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .flat_map(|(a, b)| {
            assert_eq!(a.shape, b.shape);
            a.as_f32().unwrap().iter().zip(b.as_f32().unwrap()).map(|(x, y)| (x - y).abs())
        })
        .fold(0.0, f32::max)
}

fn outputs(runtime: &dyn Runtime, model: &ModelBytes, seed: u64) -> Vec<Tensor> {
    let inputs: Vec<Tensor> = model.inputs.iter().map(|i| Tensor::seeded(i, seed)).collect();
    runtime.prepare(model).unwrap().run_with(&inputs).unwrap()
}

#[test]
fn gemm_is_computed_as_defined() {
    let model = gemm(3, 2, ["x", "w", "b", "y"], 1);
    for runtime in [tract(), engine()] {
        computes_an_affine_map(runtime.prepare(&model).unwrap());
    }
}

fn computes_an_affine_map(mut prepared: Box<dyn secateur_latency::Prepared>) {
    let at = |x: [f32; 3], prepared: &mut Box<dyn secateur_latency::Prepared>| {
        let out = prepared.run_with(&[Tensor::f32([1, 3], x.to_vec())]).unwrap();
        assert_eq!(out[0].shape, [1, 2]);
        out[0].as_f32().unwrap().to_vec()
    };
    // Affine: f(x) − f(0) is additive.
    let zero = at([0.0; 3], &mut prepared);
    let a = at([1.0, 0.0, 0.0], &mut prepared);
    let b = at([0.0, 2.0, 0.0], &mut prepared);
    let sum = at([1.0, 2.0, 0.0], &mut prepared);
    for i in 0..2 {
        assert!((sum[i] - (a[i] + b[i] - zero[i])).abs() < 1e-5);
    }
}

#[test]
fn embedded_runtimes_give_the_same_outputs() {
    for model in [sentinel_model(), gemm(17, 9, ["a", "b", "c", "d"], 3)] {
        let mut prepared = engine().prepare(&model).unwrap();
        let inputs: Vec<Tensor> = model.inputs.iter().map(|i| Tensor::seeded(i, 5)).collect();
        let expected = outputs(tract().as_ref(), &model, 5);
        // Again after a run on the bound inputs: nothing of one run reaches the next.
        for _ in 0..2 {
            let difference = largest_difference(&expected, &prepared.run_with(&inputs).unwrap());
            assert!(difference < 1e-4, "{}: {difference}", model.name);
            prepared.run().unwrap();
        }
    }
}

#[test]
fn both_runtimes_give_the_same_outputs() {
    let Some(ort) = ort_or_skip("both_runtimes_give_the_same_outputs") else { return };
    for model in [sentinel_model(), gemm(17, 9, ["a", "b", "c", "d"], 3)] {
        let difference = largest_difference(&outputs(ort.as_ref(), &model, 5), &outputs(tract().as_ref(), &model, 5));
        assert!(difference < 1e-4, "{}: {difference}", model.name);
    }
}

#[test]
fn real_models_agree_between_runtimes_and_are_measured() {
    let test = "real_models_agree_between_runtimes_and_are_measured";
    let Some(ort) = ort_or_skip(test) else { return };
    let Some(model) = real_or_skip(test, "cifar10_resnet20_akamaster.onnx") else { return };
    let difference = largest_difference(&outputs(ort.as_ref(), &model, 1), &outputs(tract().as_ref(), &model, 1));
    assert!(difference < 1e-3, "{difference}");
    let mut candidates = [Candidate::new(ort.as_ref(), &model).unwrap(), Candidate::new(tract().as_ref(), &model).unwrap()];
    let mut sentinel = Candidate::new(ort.as_ref(), &sentinel_model()).unwrap();
    let m = interleave(&mut candidates, Some(&mut sentinel), &Protocol::table()).unwrap();
    assert_eq!((m[0].runtime.name.as_str(), m[1].runtime.name.as_str()), ("ort", "tract"));
    assert_eq!(m[0].model_key, m[1].model_key);
    assert!(m[0].median_s > 1e-5 && m[0].median_s < 1.0, "{:?}", m[0].median_s);
    assert!(m[0].median_s < m[1].median_s, "ONNX Runtime is the faster one");
    let again: secateur_latency::Measurement = serde_json::from_str(&serde_json::to_string(&m[0]).unwrap()).unwrap();
    assert_eq!((&again.machine, &again.runtime, &again.protocol, again.n), (&m[0].machine, &m[0].runtime, &m[0].protocol, m[0].n));
    // JSON keeps all but the last bit of a number.
    let pairs = again.samples.iter().chain([&again.median_s]).zip(m[0].samples.iter().chain([&m[0].median_s]));
    assert!(pairs.into_iter().all(|(a, b)| (a / b - 1.0).abs() < 1e-15), "{again:?}");
}

fn rejections(runtime: &dyn Runtime) {
    let good = gemm(3, 2, ["x", "w", "b", "y"], 1);
    let name = runtime.name().to_string();
    let prepare = |model: &ModelBytes| runtime.prepare(model).map(|_| ()).unwrap_err();

    let garbage = ModelBytes::new("garbage.onnx", *b"not a model", Vec::new());
    let error = prepare(&garbage);
    assert!(matches!(error, Error::ModelRejected { .. }), "{error:?}");
    assert!(error.to_string().contains("garbage.onnx") && error.to_string().contains(&name));

    let mut other_name = good.clone();
    other_name.inputs = vec![InputSpec::f32("z", [1, 3])];
    let error = prepare(&other_name);
    assert!(matches!(error, Error::InputMismatch { .. }), "{error:?}");
    assert!(error.to_string().contains("`z`"), "{error}");

    let mut none = good.clone();
    none.inputs.clear();
    assert!(prepare(&none).to_string().contains("`x`"));

    let mut other_shape = good.clone();
    other_shape.inputs = vec![InputSpec::f32("x", [1, 5])];
    assert!(matches!(prepare(&other_shape), Error::ModelRejected { .. }));

    let mut prepared = runtime.prepare(&good).unwrap();
    let error = prepared.run_with(&[Tensor::f32([1, 4], vec![0.0; 4])]).unwrap_err();
    assert!(error.to_string().contains("[1, 4]") && error.to_string().contains("[1, 3]"), "{error}");
    let error = prepared.run_with(&[Tensor::f32([1, 3], vec![0.0; 2])]).unwrap_err();
    assert!(matches!(error, Error::InputMismatch { .. }));
    assert!(prepared.run_with(&[]).is_err());
}

#[test]
fn embedded_runtimes_reject_bad_models_and_inputs() {
    rejections(tract().as_ref());
    rejections(engine().as_ref());
}

#[test]
fn ort_rejects_bad_models_and_inputs() {
    if let Some(ort) = ort_or_skip("ort_rejects_bad_models_and_inputs") {
        rejections(ort.as_ref());
    }
}

#[test]
fn a_provider_is_never_replaced_silently() {
    if ort_or_skip("a_provider_is_never_replaced_silently").is_none() {
        return;
    }
    let error = |text: &str| runtime(&text.parse().unwrap()).map(|_| ()).unwrap_err();
    let unknown = error("ort,provider=abacus");
    assert!(matches!(unknown, Error::ProviderUnknown { .. }));
    assert!(unknown.to_string().contains("abacus") && unknown.to_string().contains("cuda"));
    match runtime(&"ort,provider=coreml".parse().unwrap()) {
        Ok(_) => eprintln!("skipped: this ONNX Runtime has CoreML"),
        Err(e) => {
            assert!(matches!(e, Error::ProviderUnavailable { .. }), "{e:?}");
            assert!(e.to_string().contains("coreml") && e.to_string().contains("cpu"), "{e}");
        }
    }
    let stray = error("ort,provider.device_id=0");
    assert!(matches!(stray, Error::OptionUnsupported { .. }), "{stray:?}");
}

#[test]
fn a_process_loads_one_library() {
    let Some(_) = ort_or_skip("a_process_loads_one_library") else { return };
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("libonnxruntime.so");
    std::fs::write(&other, b"another").unwrap();
    let mut spec = TargetSpec::ort();
    spec.options.library = Some(other.clone());
    let error = runtime(&spec).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::LibraryAlreadyLoaded { .. }), "{error:?}");
    assert!(error.to_string().contains(&*other.to_string_lossy()));
}

#[test]
fn identities_say_what_may_change_a_latency() {
    let identity = tract().identity();
    assert_eq!((identity.name.as_str(), identity.provider.as_str()), ("tract", "cpu"));
    let identity = engine().identity();
    assert_eq!((identity.name.as_str(), identity.provider.as_str()), ("engine", "cpu"));
    assert!(["avx512", "avx2", "neon", "plain"].contains(&identity.options["kernels"].as_str()), "{identity}");
    if let Some(ort) = ort_or_skip("identities_say_what_may_change_a_latency") {
        let identity = ort.identity();
        assert!(identity.version.starts_with("1."), "{identity}");
        assert_eq!(identity.options["threads"], "1");
        let two = runtime(&"ort,threads=2,optimization=basic".parse().unwrap()).unwrap();
        assert_ne!(two.identity(), identity);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn affinity_holds_while_measuring_and_ends_after() {
    let cores = secateur_latency::allowed_cores();
    let mut spec = TargetSpec::engine();
    spec.options.affinity = Some(vec![cores[0]]);
    let runtime = runtime(&spec).unwrap();
    let mut candidates = [Candidate::new(runtime.as_ref(), &sentinel_model()).unwrap()];
    let m = &interleave(&mut candidates, None, &Protocol::table()).unwrap()[0];
    assert!(m.runtime.options["affinity"].contains(&cores[0].to_string()));
    assert_eq!(secateur_latency::allowed_cores(), cores);
}
