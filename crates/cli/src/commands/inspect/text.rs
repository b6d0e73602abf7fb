//! The survey for people: the answer first, equal things summed up, tables that add up.

use super::survey::{AttentionRow, BranchRow, GroupRow, LayerRow, SchemeRow, Survey};
use crate::numbers::{count, operations, percent, thousands};
use crate::output::table;

/// Renders `s`; `all` shows everything on a line of its own.
pub fn render(s: &Survey, all: bool) -> String {
    let free: Vec<&GroupRow> = s.groups.iter().filter(|g| g.frozen.is_none()).collect();
    let frozen: Vec<&GroupRow> = s.groups.iter().filter(|g| g.frozen.is_some()).collect();
    let mut parts = vec![answer(s, free.len(), frozen.len())];
    if !free.is_empty() {
        parts.push(format!(
            "Groups that can be pruned (channels of a group go together in all layers that write it)\n{}",
            groups(&free, all)
        ));
    }
    if !frozen.is_empty() {
        parts.push(format!("Frozen groups\n{}", frozen_groups(&frozen, all)));
    }
    if !s.branches.is_empty() {
        parts.push(format!("Residual branches that can be removed\n{}", branches(s, all)));
    }
    if !s.layers.is_empty() {
        parts.push(format!("Layers\n{}", layers(s, all)));
    }
    if !s.attentions.is_empty() {
        parts.push(format!(
            "Attentions (`prune` removes heads, or narrows all heads of one together; --keep heads, --keep head-width)\n{}",
            attentions(s, all)
        ));
    }
    if !s.schemes.is_empty() {
        parts.push(format!("Schemes (weights that were removed are zeros)\n{}", schemes(&s.schemes, all)));
    }
    if !s.opaque.is_empty() {
        let list: Vec<String> = s.opaque.iter().map(|(n, k)| if *k == 1 { n.clone() } else { format!("{n} ({k} times)") }).collect();
        parts.push(format!("Operators without a rule, kept as they are; channels that reach them are frozen: {}", list.join(", ")));
    }
    parts.join("\n\n")
}

fn answer(s: &Survey, free: usize, frozen: usize) -> String {
    let can = match (free, s.branches.len()) {
        (0, 0) => "nothing can be pruned".to_owned(),
        (g, 0) => format!("{} can be pruned", count(g, "group")),
        (0, b) => format!("{} can be removed", count(b, "residual branch")),
        (g, b) => format!("{} can be pruned, {} removed", count(g, "group"), count(b, "residual branch")),
    };
    let shape = |p: &super::survey::Port| match &p.shape {
        Some(d) => format!("{} {d:?}", p.name),
        None => format!("{} [unknown]", p.name),
    };
    let ports = |v: &[super::survey::Port]| v.iter().map(shape).collect::<Vec<_>>().join(", ");
    let assumed: String = s
        .assumed
        .iter()
        .map(|a| {
            let dims: Vec<String> = a.shape.iter().map(ToString::to_string).collect();
            format!("\n  the file leaves the size of `{0}` open; taken here: --shape {0}={1}", a.input, dims.join(","))
        })
        .collect();
    format!(
        "{}: {can}; {frozen} frozen; {} of the layers' weights and {} of their MACs can go\n  {} parameters, {} MACs, {}, {}, opset {}\n  {} → {}{assumed}",
        s.model.display(),
        percent(s.prunable_params),
        percent(s.prunable_macs),
        thousands(s.params),
        operations(s.macs),
        count(s.layers.len(), "layer"),
        count(s.nodes, "node"),
        s.opset,
        ports(&s.inputs),
        ports(&s.outputs)
    )
}

/// Items that look alike on a line, in order of first appearance.
fn alike<'a, T, K: PartialEq>(items: &[&'a T], all: bool, key: impl Fn(&T) -> K) -> Vec<Vec<&'a T>> {
    let mut sets: Vec<(K, Vec<&'a T>)> = Vec::new();
    for &item in items {
        let k = key(item);
        match sets.iter_mut().find(|(other, _)| !all && *other == k) {
            Some((_, set)) => set.push(item),
            None => sets.push((k, vec![item])),
        }
    }
    sets.into_iter().map(|s| s.1).collect()
}

fn named<T>(set: &[&T], name: impl Fn(&T) -> &str) -> String {
    match set {
        [] => String::new(),
        [one] => name(one).to_owned(),
        [one, two] => format!("{}, {}", name(one), name(two)),
        [first, .., last] => format!("{} … {}", name(first), name(last)),
    }
}

fn groups(free: &[&GroupRow], all: bool) -> String {
    let sets = alike(free, all, |g| (g.channels, g.written_by.len(), g.read_by.len(), g.min_keep, g.constraints.clone()));
    let mut rows: Vec<Vec<String>> = sets
        .iter()
        .map(|set| {
            let g = set[0];
            vec![
                named(set, |g| &g.name),
                set.len().to_string(),
                g.channels.to_string(),
                thousands((g.channels * set.len()) as u64),
                g.written_by.len().to_string(),
                g.read_by.len().to_string(),
                g.constraints.join("; "),
            ]
        })
        .collect();
    rows.push(total(&[free.len().to_string(), String::new(), thousands(free.iter().map(|g| g.channels as u64).sum())], 6));
    table(&["first written by", "groups", "channels each", "channels", "written by", "read by", "constraint"], &rows, &[6])
}

fn attentions(s: &Survey, all: bool) -> String {
    let items: Vec<&AttentionRow> = s.attentions.iter().collect();
    let sets = alike(&items, all, |a| (a.heads, a.query_width, a.value_width, a.macs));
    let row = |set: &Vec<&AttentionRow>| {
        let a = set[0];
        let sizes = [set.len(), a.heads, a.query_width, a.value_width].map(|n| n.to_string());
        [vec![named(set, |a| &a.name)], sizes.to_vec(), vec![operations(a.macs * set.len() as u64)]].concat()
    };
    let mut rows: Vec<Vec<String>> = sets.iter().map(row).collect();
    let macs = operations(s.attentions.iter().map(|a| a.macs).sum());
    rows.push(total(&[s.attentions.len().to_string(), String::new(), String::new(), String::new(), macs], 5));
    table(&["queries and keys meet in", "attentions", "heads", "their width", "width of values", "MACs"], &rows, &[])
}

fn total(cells: &[String], columns: usize) -> Vec<String> {
    let mut row = vec!["total".to_owned()];
    row.extend(cells.iter().cloned());
    row.resize(columns + 1, String::new());
    row
}

fn frozen_groups(frozen: &[&GroupRow], all: bool) -> String {
    let reason = |g: &GroupRow| g.frozen.as_ref().map_or(String::new(), |f| f.reason.clone());
    let sets = alike(frozen, all, reason);
    let mut rows: Vec<Vec<String>> = sets
        .iter()
        .map(|set| {
            let channels: usize = set.iter().map(|g| g.channels).sum();
            vec![named(set, |g| &g.name), set.len().to_string(), thousands(channels as u64), reason(set[0])]
        })
        .collect();
    rows.push(total(&[frozen.len().to_string(), thousands(frozen.iter().map(|g| g.channels as u64).sum())], 3));
    table(&["group", "groups", "channels", "because"], &rows, &[3])
}

fn branches(s: &Survey, all: bool) -> String {
    let items: Vec<&BranchRow> = s.branches.iter().collect();
    let sets = alike(&items, all, |b| (b.layers.len(), b.params, b.macs));
    let share = |macs: u64| percent(macs as f64 / s.macs.max(1) as f64);
    let rows: Vec<Vec<String>> = sets
        .iter()
        .map(|set| {
            let b = set[0];
            vec![
                named(set, |b| &b.name),
                set.len().to_string(),
                b.layers.len().to_string(),
                thousands(b.params),
                operations(b.macs),
                share(b.macs),
            ]
        })
        .collect();
    // No total: a branch may lie in another.
    table(&["up to the addition", "branches", "layers each", "parameters each", "MACs each", "of the network"], &rows, &[])
}

fn layers(s: &Survey, all: bool) -> String {
    let items: Vec<&LayerRow> = s.layers.iter().collect();
    let sets = if all { alike(&items, true, |_| String::new()) } else { alike(&items, false, |l| l.kind.clone()) };
    let share = |macs: u64| percent(macs as f64 / s.macs.max(1) as f64);
    let row = |name: String, kind: String, n: usize, params: u64, macs: u64| {
        if all {
            vec![name, kind, thousands(params), operations(macs), share(macs)]
        } else {
            vec![kind, n.to_string(), thousands(params), operations(macs), share(macs)]
        }
    };
    let mut rows = Vec::new();
    for set in &sets {
        let l = set[0];
        let (params, macs) = (set.iter().map(|l| l.params).sum(), set.iter().map(|l| l.macs).sum());
        rows.push(row(
            l.name.clone(),
            format!("{}{}", l.kind, if all { format!(" {}→{}", l.input_width, l.output_width) } else { String::new() }),
            set.len(),
            params,
            macs,
        ));
    }
    let (params, macs): (u64, u64) = (s.layers.iter().map(|l| l.params).sum(), s.layers.iter().map(|l| l.macs).sum());
    if s.params > params || s.macs > macs {
        let (p, m) = (s.params.saturating_sub(params), s.macs.saturating_sub(macs));
        rows.push(row("normalisation and others".into(), if all { String::new() } else { "normalisation and others".into() }, 0, p, m));
        if let (false, Some(last)) = (all, rows.last_mut()) {
            last[1] = "–".into();
        }
    }
    rows.push(row(
        "total".into(),
        if all { String::new() } else { "total".into() },
        s.layers.len(),
        s.params.max(params),
        s.macs.max(macs),
    ));
    let second = if all { ["layer", "kind"] } else { ["kind", "layers"] };
    table(&[second[0], second[1], "parameters", "MACs", "of MACs"], &rows, if all { &[1] } else { &[] })
}

fn schemes(rows: &[SchemeRow], all: bool) -> String {
    let items: Vec<&SchemeRow> = rows.iter().collect();
    let sets = alike(&items, all, |r| (r.scheme.to_string(), r.broken.clone()));
    let line = |name: String, n: usize, scheme: String, weights: usize, kept: usize, proof: String| {
        let rate = format!("{:.2}", weights as f64 / kept.max(1) as f64);
        vec![name, n.to_string(), scheme, thousands(weights as u64), thousands(kept as u64), rate, proof]
    };
    let sum = |set: &[&SchemeRow]| set.iter().fold((0, 0), |(w, k), r| (w + r.weights, k + r.kept));
    let mut lines: Vec<Vec<String>> = sets
        .iter()
        .map(|set| {
            let (weights, kept) = sum(set);
            let proof = set[0].broken.as_ref().map_or_else(|| "proven".to_owned(), |b| format!("NOT SO: {b}"));
            line(named(set, |r| &r.layer), set.len(), set[0].scheme.to_string(), weights, kept, proof)
        })
        .collect();
    let (weights, kept) = sum(&items);
    lines.push(line("total".into(), rows.len(), String::new(), weights, kept, String::new()));
    table(&["layer", "layers", "scheme", "weights", "not zero", "rate", ""], &lines, &[2, 6])
}
