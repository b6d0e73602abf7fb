//! Laws over random graphs and random decisions.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use secateur_graph::{Decision, InputShapes, Slabs};
use support::text::parse;
use support::{Analysed, Random, assert_twins};

/// A random network in the text form: a trunk that grows by random operators, all loose ends read by linear layers.
fn network(seed: u64, length: usize) -> String {
    let mut random = Random::new(seed);
    let mut lines = vec!["in x Nx3x8x8".to_owned()];
    // (name, channels, size, read by something)
    let mut values: Vec<(String, usize, usize, bool)> = Vec::new();
    let mut count = 0;
    let stem = |random: &mut Random| [4, 6, 8][random.below(3)];
    let c = stem(&mut random);
    lines.push(format!("v0 = conv x out={c}"));
    values.push(("v0".into(), c, 8, false));
    while count < length {
        count += 1;
        let name = format!("v{count}");
        let at = values.len() - 1 - random.below(values.len().min(3));
        let (x, c, s, _) = values[at].clone();
        let mut used = vec![at];
        let mut made = vec![(name.clone(), c, s)];
        let line = match random.below(26) {
            0 | 1 => {
                let (out, k) = (stem(&mut random), [1, 3][random.below(2)]);
                made[0].1 = out;
                format!("{name} = conv {x} out={out} k={k}")
            }
            2 => {
                let m = 1 + random.below(2);
                made[0].1 = c * m;
                format!("{name} = conv {x} out={} group={c}", c * m)
            }
            3 => {
                // Any number of partitions, narrower or wider than they are many.
                let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
                let group = divisors[random.below(divisors.len())];
                let out = group * (1 + random.below(3));
                made[0].1 = out;
                format!("{name} = {} {x} out={out} group={group}", ["conv", "convt"][random.below(2)])
            }
            4 => format!("{name} = bn {x}"),
            5 => format!("{name} = relu {x}"),
            6 => format!("{name} = prelu {x}"),
            7 | 8 => match values.iter().position(|v| v.0 != x && v.1 == c && v.2 == s) {
                Some(other) => {
                    used.push(other);
                    let op = ["add", "mul", "add"][random.below(3)];
                    format!("{name} = {op} {x} {}", values[other].0)
                }
                None => {
                    made[0].1 = c;
                    format!("{name}_f = conv {x} out={c}\n{name} = add {x} {name}_f")
                }
            },
            9 => match values.iter().position(|v| v.2 == s && v.1 + c <= 24) {
                Some(other) => {
                    used.push(other);
                    made[0].1 = c + values[other].1;
                    format!("{name} = concat {x} {}", values[other].0)
                }
                None => format!("{name} = sigmoid {x}"),
            },
            10 if c >= 4 => {
                let cut = 1 + random.below(c - 1);
                made = vec![(name.clone(), cut, s), (format!("{name}_b"), c - cut, s)];
                format!("{name}, {name}_b = split {x} sizes={cut},{}", c - cut)
            }
            11 if c >= 4 => {
                let start = random.below(c / 2);
                made[0].1 = c - start;
                format!("{name} = slice {x} start={start}")
            }
            12 => {
                let (b, a) = (random.below(3), 1 + random.below(2));
                made[0].1 = c + b + a;
                format!("{name}_p = pad {x} before={b} after={a}\n{name}_c = conv {x} out={}\n{name} = add {name}_c {name}_p", c + a + b)
            }
            13 => {
                if s >= 4 {
                    made[0].2 = s / 2;
                    format!("{name} = {} {x}", ["maxpool", "avgpool"][random.below(2)])
                } else {
                    format!("{name} = maxpool {x} k=3 stride=1 pad=1")
                }
            }
            14 => {
                format!(
                    "{name}_g = gap {x}\n{name}_1 = conv {name}_g out=2 k=1\n{name}_r = relu {name}_1\n{name}_2 = conv {name}_r out={c} k=1\n{name}_s = sigmoid {name}_2\n{name} = mul {x} {name}_s"
                )
            }
            15 if c % 2 == 0 => {
                format!(
                    "{name}_a = reshape {x} to=0,2,{},{s},{s}\n{name}_t = transpose {name}_a perm=0,2,1,3,4\n{name} = reshape {name}_t to=0,-1,{s},{s}",
                    c / 2
                )
            }
            16 => format!(
                "{name}_t = transpose {x} perm=0,2,3,1\n{name}_m = linear {name}_t out={c}\n{name} = transpose {name}_m perm=0,3,1,2"
            ),
            17 => format!("{name}_t = transpose {x} perm=0,2,3,1\n{name}_n = layernorm {name}_t\n{name} = transpose {name}_n perm=0,3,1,2"),
            18 => format!("{name} = {} {x}", ["lrn", "instancenorm"][random.below(2)]),
            19 if c % 4 == 0 && s <= 4 => {
                (made[0].1, made[0].2) = (c / 4, s * 2);
                format!("{name} = depthtospace {x} mode={}", ["DCR", "CRD"][random.below(2)])
            }
            20 if s >= 4 && c <= 8 => {
                (made[0].1, made[0].2) = (c * 4, s / 2);
                format!("{name} = spacetodepth {x}")
            }
            21 if s <= 4 => {
                let (kind, hidden) = (["lstm", "gru"][random.below(2)], 2 + random.below(4));
                made[0].1 = hidden;
                format!(
                    "{name}_a = reshape {x} to=0,0,{}\n{name}_t = transpose {name}_a perm=2,0,1\n{name}_l = {kind} {name}_t hidden={hidden}\n{name}_s = squeeze {name}_l axes=1\n{name}_u = transpose {name}_s perm=1,2,0\n{name} = reshape {name}_u to=0,-1,{s},{s}",
                    s * s
                )
            }
            22 if s <= 4 => {
                let hidden = 2 + random.below(4);
                made[0].1 = 2 * hidden;
                format!(
                    "{name}_a = reshape {x} to=0,0,{}\n{name}_t = transpose {name}_a perm=2,0,1\n{name}_l = lstm {name}_t hidden={hidden} directions=2\n{name}_s = transpose {name}_l perm=2,1,3,0\n{name} = reshape {name}_s to=0,-1,{s},{s}",
                    s * s
                )
            }
            23 if c % 2 == 0 => {
                let (d, t) = (c / 2, s * s);
                format!(
                    "{name}_a = reshape {x} to=0,0,{t}\n{name}_t = transpose {name}_a perm=0,2,1\n{name}_q = linear {name}_t out={c}\n{name}_k = linear {name}_t out={c}\n{name}_v = linear {name}_t out={c}\n{name}_qh = reshape {name}_q to=0,0,2,{d}\n{name}_kh = reshape {name}_k to=0,0,2,{d}\n{name}_vh = reshape {name}_v to=0,0,2,{d}\n{name}_qt = transpose {name}_qh perm=0,2,1,3\n{name}_kt = transpose {name}_kh perm=0,2,3,1\n{name}_vt = transpose {name}_vh perm=0,2,1,3\n{name}_s = matmul {name}_qt {name}_kt\n{name}_p = softmax {name}_s axis=3\n{name}_o = matmul {name}_p {name}_vt\n{name}_ot = transpose {name}_o perm=0,2,1,3\n{name}_oc = reshape {name}_ot to=0,0,{c}\n{name}_y = linear {name}_oc out={c}\n{name}_u = transpose {name}_y perm=0,2,1\n{name} = reshape {name}_u to=0,-1,{s},{s}"
                )
            }
            24 => format!("{name}_m = mean {x} axes=1\n{name}_g = sigmoid {name}_m\n{name} = mul {x} {name}_g"),
            25 if c <= 8 => {
                made[0].1 = 2 * c;
                format!("{name} = tile {x} by=1,2,1,1")
            }
            _ => format!("{name} = hardswish {x}"),
        };
        lines.extend(line.lines().map(str::to_owned));
        used.into_iter().for_each(|u| values[u].3 = true);
        values.extend(made.into_iter().map(|(n, c, s)| (n, c, s, false)));
    }
    let mut heads = Vec::new();
    for (name, ..) in values.iter().filter(|v| !v.3) {
        let pooled = if random.below(2) == 0 {
            lines.push(format!("{name}_gap = gap {name}"));
            format!("{name}_gap")
        } else {
            name.clone()
        };
        lines.push(format!("{name}_flat = flatten {pooled}"));
        heads.push(format!("{name}_flat"));
    }
    lines.push(if heads.len() > 1 { format!("all = concat {}", heads.join(" ")) } else { format!("all = relu {}", heads[0]) });
    lines.extend(["h = gemm all out=6".to_owned(), "hr = relu h".into(), "y = gemm hr out=5".into(), "out y".into()]);
    lines.join("\n")
}

/// 64 of each, or as many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 64 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_smaller_model_computes_what_its_masked_twin_computes(seed in any::<u64>(), length in 1usize..12, share in 0.1f64..0.9) {
        let text = network(seed, length);
        println!("{text}\n");
        let a = Analysed::new(parse(&text), 2).unwrap();
        let mut random = Random::new(seed ^ 1);
        let d = a.random_decision(share, 0.5, &mut random);
        assert_twins(&a, &d, &mut random);
    }

    #[test]
    fn whole_parts_are_removed_as_exactly(seed in any::<u64>(), length in 1usize..12, share in 0.1f64..0.9) {
        let text = network(seed, length);
        println!("{text}\n");
        let a = Analysed::with_slabs(parse(&text), &InputShapes::batch(2), Slabs::Parts).unwrap();
        let mut random = Random::new(seed ^ 5);
        let d = a.random_decision(share, 0.0, &mut random);
        assert_twins(&a, &d, &mut random);
        prop_assert_eq!(&Decision::from_named(&d.to_named(&a.groups, &a.graph), &a.groups, &a.graph).unwrap(), &d);
    }

    #[test]
    fn keeping_everything_changes_nothing(seed in any::<u64>(), length in 1usize..12) {
        let a = Analysed::new(parse(&network(seed, length)), 2).unwrap();
        let all = Decision { keep: a.groups.groups.iter().map(|g| (g.id, (0..g.size).collect())).collect(), ..Decision::keep_all() };
        let small = a.apply(&all).unwrap();
        let twin = a.twin(&all).unwrap();
        prop_assert_eq!(small.proto(), a.model.proto());
        prop_assert_eq!(twin.proto(), a.model.proto());
        prop_assert_eq!(all.normalised(&a.groups), Decision::keep_all());
    }

    #[test]
    fn two_decisions_one_after_the_other_are_their_composition(seed in any::<u64>(), length in 1usize..12) {
        let text = network(seed, length);
        let a = Analysed::new(parse(&text), 2).unwrap();
        let mut random = Random::new(seed ^ 2);
        let first = a.random_decision(0.4, 0.0, &mut random);
        let b = Analysed::new(a.apply(&first).unwrap(), 2).unwrap();
        // A depthwise layer left with one channel is an ordinary one, and of the axes of a shuffle the other may be the
        // longer now: then the smaller model is coupled otherwise, and the law does not speak of it.
        let places = |m: &Analysed, i: usize| m.groups.groups[i].members.iter().map(|p| (m.graph.value(p.value).name.clone(), p.axis, p.coordinates[0].len())).collect::<Vec<_>>();
        let left: Vec<_> = a.groups.groups.iter().map(|g| (g.name.clone(), first.width(g), places(&a, g.id.index()))).collect();
        let found: Vec<_> = b.groups.groups.iter().map(|g| (g.name.clone(), g.size, places(&b, g.id.index()))).collect();
        prop_assume!(left == found);
        let then = b.random_decision(0.4, 0.5, &mut random);
        let both = first.compose(&then).unwrap();
        prop_assert!(canonical(&b.apply(&then).unwrap()) == canonical(&a.apply(&both).unwrap()), "{text}\n{first:?}\n{then:?}");
    }

    #[test]
    fn a_decision_survives_being_written_by_names(seed in any::<u64>(), length in 1usize..12) {
        let a = Analysed::new(parse(&network(seed, length)), 2).unwrap();
        let d = a.random_decision(0.4, 0.5, &mut Random::new(seed ^ 3));
        let named = d.to_named(&a.groups, &a.graph);
        let json = serde_json::to_string(&named).unwrap();
        let back = Decision::from_named(&serde_json::from_str(&json).unwrap(), &a.groups, &a.graph).unwrap();
        prop_assert_eq!(&back, &d);
        prop_assert_eq!(serde_json::from_str::<Decision>(&serde_json::to_string(&d).unwrap()).unwrap(), d);
    }

    #[test]
    fn widths_of_layers_are_what_surgery_leaves(seed in any::<u64>(), length in 1usize..12) {
        let a = Analysed::new(parse(&network(seed, length)), 2).unwrap();
        let d = a.random_decision(0.4, 0.0, &mut Random::new(seed ^ 4));
        let b = Analysed::new(a.apply(&d).unwrap(), 2).unwrap();
        for layer in a.groups.layers() {
            let node = a.graph.node(layer.node);
            let (i, o) = layer.widths(|g| d.width(a.groups.group(g)));
            let axis = |name: &str| {
                let s = b.facts.shape(b.graph.find(name).unwrap()).unwrap().to_vec();
                if matches!(node.op, secateur_graph::ops::Op::MatMul) { s[s.len() - 1] } else { s[1] }
            };
            let x = &a.graph.value(node.input(0).unwrap()).name;
            let y = &a.graph.value(node.output(0).unwrap()).name;
            prop_assert_eq!((i, o), (axis(x), axis(y)), "{}", node.name);
        }
        let (before, after) = (secateur_graph::cost(&a.graph, &a.facts), secateur_graph::cost(&b.graph, &b.facts));
        prop_assert!(after.macs <= before.macs && after.params <= before.params);
    }
}

/// The message without the names of replaced integer operands, which count how often they were replaced.
fn canonical(m: &secateur_graph::Model) -> secateur_graph::proto::ModelProto {
    let mut p = m.proto().clone();
    let g = p.graph.as_mut().unwrap();
    let strip = |n: &mut String| {
        while let Some(at) = n.rfind("_pruned") {
            n.truncate(at);
        }
    };
    g.node.iter_mut().flat_map(|n| &mut n.input).for_each(strip);
    for t in &mut g.initializer {
        let mut name = t.name().to_owned();
        strip(&mut name);
        t.name = Some(name);
    }
    g.initializer.sort_by(|a, b| a.name().cmp(b.name()));
    p
}
