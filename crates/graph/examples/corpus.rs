//! What of real files can be pruned, and why the rest cannot.
//!
//! `cargo run --release --workspace --example corpus -- [--cut DIR] [--keep SHARE] [--reasons] [--parts] FILE…`: a line per file, the
//! reasons of what is frozen with the weights they hold (`--parts` prunes heads instead of their width); with `--cut`, the file with a share of every group removed and its
//! masked twin go to DIR, to be compared by `scripts/verify_twins.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use secateur_graph::{Decision, Facts, Graph, Groups, InputShapes, Model, Slabs, coverage, surgery};

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let (mut cut, mut keep, mut reasons, mut files, mut slabs) = (None::<PathBuf>, 0.7, false, Vec::new(), Slabs::default());
    while let Some(a) = args.next() {
        match a.as_str() {
            "--cut" => cut = args.next().map(PathBuf::from),
            "--keep" => keep = args.next().and_then(|k| k.parse().ok()).unwrap_or(keep),
            "--reasons" => reasons = true,
            "--parts" => slabs = Slabs::Parts,
            _ => files.push(PathBuf::from(a)),
        }
    }
    for file in files {
        if let Err(e) = survey(&file, cut.as_deref(), keep, reasons, slabs) {
            println!("{}: {e}", name(&file));
        }
    }
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn survey(file: &Path, cut: Option<&Path>, keep: f64, reasons: bool, slabs: Slabs) -> Result<(), secateur_graph::Error> {
    let started = Instant::now();
    let model = Model::load(file)?;
    let graph = Graph::new(&model)?;
    let (shapes, assumed) = InputShapes::default().completed(&model, &graph)?;
    let facts = Facts::infer(&model, &graph, &shapes)?;
    let groups = Groups::with_slabs(&model, &graph, &facts, slabs)?;
    let taken = started.elapsed().as_secs_f64();
    let c = coverage(&graph, &facts, &groups);
    println!(
        "{:58} params {:9.0} prunable {:5.1} %  MACs {:6.1} M prunable {:5.1} %  groups {:3} of {:3}  {taken:.2} s",
        name(file),
        c.params,
        100.0 * c.params_share(),
        c.macs / 1e6,
        100.0 * c.macs_share(),
        groups.prunable().count(),
        groups.groups.len()
    );
    for a in &assumed {
        println!("    assumed {} {:?}", a.input, a.shape);
    }
    for g in groups.groups.iter().filter(|_| reasons) {
        for a in &g.approximations {
            println!("    {} channels approximate: {}", g.size, a.reason);
        }
    }
    if reasons {
        let mut by: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for g in &groups.groups {
            let Some(f) = &g.frozen else { continue };
            let weights: usize = g.parameters().filter_map(|m| facts.shape(m.value)).map(|s| s.iter().product::<usize>()).sum();
            let entry = by.entry(&f.reason).or_default();
            *entry = (entry.0 + g.size, entry.1 + weights);
        }
        let mut by: Vec<_> = by.into_iter().collect();
        by.sort_by_key(|b| std::cmp::Reverse(b.1.1));
        for (reason, (channels, weights)) in by.into_iter().take(12) {
            println!("    {channels:6} channels, tensors of {weights:8}: {reason}");
        }
    }
    let folder = cut;
    if let Some(folder) = folder {
        let shapes: BTreeMap<String, Vec<usize>> =
            graph.inputs.iter().filter_map(|&v| Some((graph.value(v).name.clone(), facts.shape(v)?.to_vec()))).collect();
        let text = shapes.iter().map(|(n, s)| format!("{n}\t{}\n", s.iter().map(usize::to_string).collect::<Vec<_>>().join(",")));
        let _ = std::fs::write(folder.join(format!("{}.shapes", name(file))), text.collect::<String>());
    }
    let Some(folder) = folder else { return Ok(()) };
    let decision = Decision {
        keep: groups
            .prunable()
            .map(|g| {
                let stay = ((g.size as f64 * keep).round() as usize).clamp(g.min_keep, g.size);
                // Spread over the group, so that an order that is not kept would show.
                (g.id, (0..stay).map(|k| k * g.size / stay).collect())
            })
            .collect(),
        ..Decision::default()
    };
    for (kind, result) in [
        ("pruned", surgery::apply(&model, &graph, &facts, &groups, &decision)?),
        ("twin", surgery::masked_twin(&model, &graph, &facts, &groups, &decision)?),
    ] {
        result.replace(folder.join(format!("{}.{kind}.onnx", name(file))))?;
    }
    Ok(())
}
