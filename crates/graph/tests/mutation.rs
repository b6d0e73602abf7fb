//! Damaged files are refused with a cause, or read: never a panic, a hang, or memory out of proportion. The longer run over
//! real files is `cargo run --release --example mutate`.
#![allow(clippy::unwrap_used)]

#[path = "support/mutate.rs"]
mod mutated;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use mutated::{Damage, Outcome, damage, inspect, judge, judge_by, mutate, one_input, tally};
use secateur_graph::{Data, Tensor};
use support::text::parse;

/// Networks with most operators in them.
const NETWORKS: [&str; 4] = [
    "in x Nx3x8x8
     a = conv x out=8
     n = bn a
     d = conv n group=8
     p, q = split d sizes=3,5
     r = slice d start=2 end=7
     c = concat p q r
     g = gap c
     e = conv g out=13 k=1
     t = sigmoid e
     m = mul c t
     u = resize m
     f = flatten u
     y = gemm f out=4
     out y",
    "in x Nx3x4x4
     a = conv x out=8
     r = reshape a to=0,2,4,4,4
     t = transpose r perm=0,2,1,3,4
     u = reshape t to=0,-1,4,4
     s = shape u
     k = gather s at=0 axis=0
     c = constant values=128
     j = concat k c axis=0
     f = reshape u j
     y = gemm f out=4
     out y",
    "in x 5x2x6
     a = linear x out=8
     l = lstm a hidden=4 directions=2
     t = transpose l perm=0,2,1,3
     r = reshape t to=0,0,-1
     n = layernorm r
     q = linear n out=8
     h = reshape q to=0,0,2,4
     v = transpose h perm=0,2,1,3
     w = transpose h perm=0,2,3,1
     m = matmul v w
     p = softmax m axis=3
     o = matmul p v
     y = mean o axes=1
     out y",
    "in x Nx3x8x8
     p = pad x spatial=1
     a = convt p out=6 group=3 k=2
     b = lrn a
     c = instancenorm b
     d = pad c before=1 after=1
     e = depthtospace d
     f = spacetodepth e
     g = tile f by=1,2,1,1
     h = gather g at=0,3,5
     i = prelu h
     m = maxpool i
     y = sum m axes=1
     out y",
];

#[test]
fn damaged_networks_are_read_or_refused() {
    for (k, text) in NETWORKS.iter().enumerate() {
        let file = parse(text).to_bytes().unwrap();
        assert_eq!(judge(file.clone()), Outcome::Read, "network {k}");
        let (read, refused) = tally(&format!("network {k}"), &file, 0..400, inspect);
        // Both happen, or the mutations are of no use.
        assert!(read > 20 && refused > 20, "network {k}: {read} read, {refused} refused");
    }
}

/// Seeds that are tried on every network, whatever ranges the other tests draw from: three and more of each kind of damage.
const KEPT: [u64; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 25, 29, 32, 33];

#[test]
fn kept_seeds_hold_every_kind_of_damage_and_are_read_or_refused() {
    let mut kinds: BTreeMap<Damage, usize> = BTreeMap::new();
    for seed in KEPT {
        *kinds.entry(damage(seed)).or_default() += 1;
    }
    for kind in [Damage::BitFlips, Damage::Truncation, Damage::MovedPiece, Damage::FieldEdits] {
        assert!(kinds.get(&kind).is_some_and(|&n| n >= 3), "{kind:?}: {kinds:?}");
    }
    for (k, text) in NETWORKS.iter().enumerate() {
        let file = parse(text).to_bytes().unwrap();
        for seed in KEPT {
            let damaged = mutate(&file, seed);
            let outcome = judge(damaged.clone());
            assert!(!matches!(outcome, Outcome::Broken(_)), "network {k}, seed {seed}: {outcome:?}");
            one_input(&damaged);
        }
        one_input(&file);
        one_input(&file[..file.len() / 2]);
    }
    one_input(&[]);
}

/// The limits are those that the judge holds a case to.
#[test]
fn what_takes_too_long_too_much_or_panics_is_broken() {
    let broken = |o: Outcome, why: &str| assert!(matches!(&o, Outcome::Broken(text) if text.contains(why)), "{o:?}");
    assert_eq!(mutated::LONGEST, Duration::from_secs(5));
    broken(
        judge_by(vec![0], Duration::from_millis(20), |_| {
            std::thread::sleep(Duration::from_millis(60));
            Ok(0)
        }),
        "it took",
    );
    broken(judge_by(vec![0], mutated::LONGEST, |_| panic!("on purpose")), "on purpose");
    if cfg!(target_os = "linux") && std::fs::write("/proc/self/clear_refs", "5").is_ok() {
        let greedy = |_| {
            let pages = vec![1u8; 300_000_000];
            Ok(pages.iter().step_by(4096).map(|&b| usize::from(b)).sum())
        };
        broken(judge_by(vec![0], mutated::LONGEST, greedy), "MB for 1 bytes");
    } else {
        println!("skipped: this system does not tell how much memory a process took");
    }
}

/// Found by long runs, kept small.
#[test]
fn what_long_runs_found_stays_mended() {
    // A layer whose output has no name.
    let mut model = parse(NETWORKS[0]);
    for node in &mut model.graph_proto_mut().node {
        if node.name() == "y" {
            node.output = vec![String::new()];
        }
    }
    model.graph_proto_mut().output[0].name = Some("f".into());
    assert_eq!(judge(model.to_bytes().unwrap()), Outcome::Read);
    // Constants that spread to a result much larger than they are.
    let outer = |op: &str| {
        let mut model = parse(
            "in x Nx3x8x8
             a = fill shape=65536,1
             b = fill shape=1,65536
             c = add a b
             y = conv x out=4
             out y c",
        );
        model.graph_proto_mut().node[2].op_type = Some(op.into());
        model
    };
    for op in ["Add", "Less"] {
        assert_eq!(judge(outer(op).to_bytes().unwrap()), Outcome::Read);
    }
    let mut model = outer("Where");
    let nodes = &mut model.graph_proto_mut().node;
    nodes[2].input = vec!["a".into(), "b".into(), "b".into()];
    for (node, value) in nodes.iter_mut().zip([Data::Bool(vec![true]), Data::I64(vec![3])]) {
        node.attribute[0].t = Some(Tensor { shape: vec![1], data: value }.encode(""));
    }
    assert_eq!(judge(model.to_bytes().unwrap()), Outcome::Read);
    // An input as long as an address space, cut by a Slice.
    let mut model = parse("in x Nx3x8x8\na = slice x axis=2 step=2\ny = conv a out=4\nout y");
    use secateur_graph::proto::{tensor_shape_proto::dimension::Value, type_proto};
    for size in [1i64 << 31, 1 << 40, i64::MAX] {
        let input = &mut model.graph_proto_mut().input[0];
        let Some(type_proto::Value::TensorType(t)) = input.r#type.as_mut().unwrap().value.as_mut() else { panic!() };
        t.shape.as_mut().unwrap().dim[2].value = Some(Value::DimValue(size));
        let Outcome::Refused(cause) = judge(model.to_bytes().unwrap()) else { panic!("{size} is not refused") };
        assert!(cause.contains("too long to follow") || cause.contains("more elements"), "{cause}");
    }
}

#[test]
fn damaged_real_files_are_read_or_refused() {
    let Some(folder) = std::env::var_os("SECATEUR_DATA") else {
        println!("skipped: SECATEUR_DATA is not set");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(std::path::Path::new(&folder).join("corpus")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let file = std::fs::read(path).unwrap();
        tally(&path.display().to_string(), &file, 0..4, inspect);
    }
}
