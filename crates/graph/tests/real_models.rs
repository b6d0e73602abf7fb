//! Over the real files, where `SECATEUR_DATA` names their folder: round trip, groups, and the masked-twin check.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::Model;
use support::{Analysed, Random, assert_twins};

#[test]
fn every_real_model_survives_round_trip_and_random_surgery() {
    let Some(folder) = std::env::var_os("SECATEUR_DATA") else {
        println!("skipped: SECATEUR_DATA is not set");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(std::path::Path::new(&folder).join("models")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let model = Model::load(path).unwrap();
        assert_eq!(Model::from_bytes(model.to_bytes().unwrap(), "again").unwrap().proto(), model.proto());
        let a = Analysed::new(model, 2).unwrap();
        println!(
            "{name}: {} groups, {} prunable, {} branches",
            a.groups.groups.len(),
            a.groups.prunable().count(),
            a.groups.branches.len()
        );
        for g in &a.groups.groups {
            match &g.frozen {
                Some(f) => println!("    frozen {:40} {:5}  {}", g.name, g.size, f.reason),
                None if std::env::var_os("SECATEUR_VERBOSE").is_some() => println!(
                    "    group  {:40} {:5}  {} members, {} writers, {} readers",
                    g.name,
                    g.size,
                    g.members.len(),
                    g.writers.len(),
                    g.readers.len()
                ),
                None => {}
            }
        }
        let mut random = Random::new(7);
        let d = a.random_decision(0.3, 0.0, &mut random);
        assert_twins(&a, &d, &mut random);
        let d = a.random_decision(0.3, 0.5, &mut random);
        println!("    and without {} branches", d.removed_branches.len());
        assert_twins(&a, &d, &mut random);
    }
}
