//! Regularities, schemes, projection and the validator.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use secateur_graph::scheme::{
    Balance, Direction, Extent, KEPT_OF_KERNEL, LIBRARY, LayerScheme, Mask, Regularity, Scheme, SchemeLayer, Threshold, WeightShape,
    Weighted, clear_schemes, global, masked_weights, read_schemes, reorder, valley, write_schemes,
};
use secateur_graph::{Facts, Graph, InputShapes, Model};
use support::{Random, text};

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![Just(Extent::All), (1usize..9).prop_map(|n| Extent::Of(n.try_into().expect("positive")))]
}

fn regularity() -> impl Strategy<Value = Regularity> {
    prop_oneof![
        Just(Regularity::Dense),
        Just(Regularity::Filter),
        Just(Regularity::Channel),
        Just(Regularity::Unstructured),
        Just(Regularity::Pattern),
        (extent(), extent()).prop_map(|(filters, channels)| Regularity::BlockPunched { filters, channels }),
        (extent(), extent(), any::<bool>()).prop_map(|(outputs, inputs, row)| Regularity::BlockBased {
            outputs,
            inputs,
            direction: if row { Direction::Row } else { Direction::Column },
        }),
    ]
}

fn shape() -> impl Strategy<Value = WeightShape> {
    let kernel = prop_oneof![Just(vec![1, 1]), Just(vec![3, 3]), Just(vec![2, 3])];
    let conv = (1usize..4, 1usize..12, 1usize..10, kernel)
        .prop_map(|(p, f, c, k)| WeightShape::conv(&[&[p * f, c], &k[..]].concat(), p).expect("a convolution"));
    let linear = (1usize..20, 1usize..20, any::<bool>()).prop_map(|(o, i, t)| WeightShape::linear(o, i, t));
    prop_oneof![conv, linear]
}

/// A shape, a regularity it can have, and weights.
fn layer() -> impl Strategy<Value = (WeightShape, Regularity, Vec<f32>)> {
    (shape(), regularity(), any::<u64>())
        .prop_filter("fits", |(s, r, _)| r.fits(s).is_ok())
        .prop_map(|(s, r, seed)| (s.clone(), r, Random::new(seed).floats(s.len())))
}

/// The definition of the regularities, weight against weight: what is removed together.
fn together(r: Regularity, shape: &WeightShape, a: usize, b: usize) -> bool {
    let ((f, c, k), (g, d, l)) = (shape.place(a), shape.place(b));
    let part = shape.partition_filters();
    let same_block = |m: Extent, n: Extent| {
        let row = |f: usize| (f / part, f % part / m.on(part));
        let column = |c: usize| c / n.on(shape.channels);
        row(f) == row(g) && column(c) == column(d)
    };
    match r {
        Regularity::Dense => true,
        Regularity::Filter => f == g,
        Regularity::Channel => f / part == g / part && c == d,
        Regularity::Unstructured => a == b,
        Regularity::Pattern => f == g && c == d,
        Regularity::BlockPunched { filters, channels } => same_block(filters, channels) && k == l,
        Regularity::BlockBased { outputs, inputs, direction: Direction::Row } => same_block(outputs, inputs) && f == g,
        Regularity::BlockBased { outputs, inputs, direction: Direction::Column } => same_block(outputs, inputs) && c == d,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_text_form_round_trips(r in regularity(), sixteenths in 36u32..640) {
        prop_assert_eq!(r.to_string().parse::<Regularity>().expect("reads its own print"), r);
        let rate = if r == Regularity::Dense { 1.0 } else { f64::from(sixteenths) / 16.0 };
        let scheme = Scheme::new(r, rate).expect("a scheme");
        prop_assert_eq!(scheme.to_string().parse::<Scheme>().expect("reads its own print"), scheme);
        let json = serde_json::to_string(&scheme).expect("serialises");
        prop_assert_eq!(serde_json::from_str::<Scheme>(&json).expect("reads its own JSON"), scheme);
    }

    #[test]
    fn units_are_the_partition_that_the_definition_says((shape, r, _) in layer()) {
        let units = r.units(&shape);
        prop_assert_eq!(units.of.len(), shape.len());
        prop_assert_eq!(units.sizes.iter().sum::<u32>() as usize, shape.len());
        for a in 0..shape.len() {
            prop_assert_eq!(shape.index(shape.place(a).0, shape.place(a).1, shape.place(a).2), a);
            for b in 0..a {
                prop_assert_eq!(units.of[a] == units.of[b], together(r, &shape, a, b), "weights {} and {}", a, b);
            }
        }
        prop_assert!(units.rows.iter().all(|&row| (row as usize) < units.row_count));
    }

    #[test]
    fn a_projection_has_its_regularity_and_nearly_its_rate((shape, r, weights) in layer(), rate in 1.0f64..12.0, balanced in any::<bool>()) {
        let Ok(scheme) = Scheme::new(r, if r == Regularity::Dense { 1.0 } else { rate.max(r.least_rate()) }) else { unreachable!() };
        let balance = if balanced { Balance::BlockRow } else { Balance::Layer };
        let mask = scheme.project(&weights, &shape, balance);
        if let Err(violation) = r.validate(&shape, &mask) {
            return Err(TestCaseError::fail(violation.to_string()));
        }
        let mut masked = weights.clone();
        mask.apply(&mut masked);
        prop_assert!(mask.holds(&masked));
        prop_assert!(scheme.validate(&shape, &masked).is_ok(), "{:?}", scheme.validate(&shape, &masked));
        prop_assert!(mask.kept() > 0);
        let units = r.units(&shape);
        let largest = f64::from(units.sizes.iter().max().copied().unwrap_or(0));
        let rows = if balanced { units.row_count } else { 1 };
        let missed = (mask.sparsity() - scheme.removed_share()).abs() * shape.len() as f64;
        prop_assert!(missed <= largest * rows as f64 + 1e-6, "{} weights off", missed);
    }

    #[test]
    fn what_a_rate_removes_a_higher_one_removes_too((shape, r, weights) in layer(), rate in 2.25f64..6.0, more in 1.0f64..3.0) {
        prop_assume!(r != Regularity::Dense);
        let at = |rate| Scheme::new(r, rate).expect("a scheme").project(&weights, &shape, Balance::Layer);
        let (low, high) = (at(rate), at(rate * more));
        prop_assert!(low.keep.iter().zip(&high.keep).all(|(l, h)| *l || !h));
    }

    #[test]
    fn what_stays_is_stronger_than_what_goes((shape, r, weights) in layer(), rate in 1.0f64..8.0) {
        prop_assume!(!matches!(r, Regularity::Dense | Regularity::Pattern));
        let mask = Scheme::new(r, rate).expect("a scheme").project(&weights, &shape, Balance::Layer);
        let mut scores: [Vec<f64>; 2] = Default::default();
        for a in 0..shape.len() {
            // Root mean square over the unit, from the definition.
            let unit: Vec<f64> = (0..shape.len()).filter(|&b| together(r, &shape, a, b)).map(|b| f64::from(weights[b]).powi(2)).collect();
            scores[usize::from(mask.keep[a])].push((unit.iter().sum::<f64>() / unit.len() as f64).sqrt());
        }
        let strongest_gone = scores[0].iter().copied().fold(0.0, f64::max);
        let weakest_kept = scores[1].iter().copied().fold(f64::INFINITY, f64::min);
        prop_assert!(strongest_gone <= weakest_kept + 1e-12);
    }

    #[test]
    fn one_flag_inside_of_a_unit_is_found((shape, r, weights) in layer(), at in any::<prop::sample::Index>()) {
        prop_assume!(!matches!(r, Regularity::Dense | Regularity::Pattern));
        let mut mask = Scheme::new(r, 2.0).expect("a scheme").project(&weights, &shape, Balance::Layer);
        let units = r.units(&shape);
        let at = at.index(shape.len());
        prop_assume!(units.sizes[units.of[at] as usize] > 1);
        mask.keep[at] = !mask.keep[at];
        let violation = r.validate(&shape, &mask).expect_err("the unit is divided");
        // The place in words covers the weight.
        let (f, c, _) = shape.place(at);
        let numbers: Vec<usize> = violation.place.split(|ch: char| !ch.is_ascii_digit()).filter_map(|t| t.parse().ok()).collect();
        prop_assert!(!numbers.is_empty() && violation.place.contains("filter") | violation.place.contains("output"), "{}", violation);
        prop_assert!(numbers.iter().any(|&n| n <= f) && numbers.iter().any(|&n| n <= c || n <= f), "{}", violation);
    }

    #[test]
    fn balanced_block_rows_lose_equally(seed in any::<u64>(), rate in 1.0f64..6.0) {
        let shape = WeightShape::conv(&[16, 8, 3, 3], 1).expect("a convolution");
        let weights = Random::new(seed).floats(shape.len());
        let r = Regularity::block_punched(4, 1).expect("a block");
        let mask = Scheme::new(r, rate).expect("a scheme").project(&weights, &shape, Balance::BlockRow);
        let kept: Vec<usize> = mask.keep.chunks(shape.len() / 4).map(|row| row.iter().filter(|k| **k).count()).collect();
        prop_assert!(kept.iter().all(|k| *k == kept[0]), "{:?}", kept);
    }
}

#[test]
fn a_hand_made_block_is_punched_where_it_is_weakest() {
    // Two filters of one block, one channel, 1×3 kernel: columns of norm 2, 1, 3.
    let shape = WeightShape::conv(&[2, 1, 1, 3], 1).expect("a convolution");
    let weights = [0.0, 0.6, 3.0, 2.0, -0.8, 0.0];
    let scheme = Scheme::new(Regularity::block_punched(2, 1).expect("a block"), 1.5).expect("a scheme");
    let mask = scheme.project(&weights, &shape, Balance::Layer);
    assert_eq!(mask.keep, [true, false, true, true, false, true]);
}

#[test]
fn patterns_keep_the_centre_and_the_strongest_three() {
    let shape = WeightShape::conv(&[1, 2, 3, 3], 1).expect("a convolution");
    let strong = [9.0, 1.0, 8.0, 1.0, 0.1, 1.0, 1.0, 7.0, 1.0];
    let weak = strong.map(|w| w * 0.1);
    let weights = [strong, weak].concat();
    let cross = [true, false, true, false, true, false, false, true, false];
    let at = |rate| Scheme::new(Regularity::Pattern, rate).expect("a scheme").project(&weights, &shape, Balance::Layer).keep;
    assert_eq!(at(2.25), [cross, cross].concat());
    assert_eq!(at(4.5), [cross, [false; 9]].concat());
}

#[test]
fn a_layer_uses_eight_patterns_and_the_validator_counts_them() {
    let shape = WeightShape::conv(&[32, 32, 3, 3], 1).expect("a convolution");
    let weights = Random::new(5).floats(shape.len());
    let mask = Scheme::new(Regularity::Pattern, 4.5).expect("a scheme").project(&weights, &shape, Balance::Layer);
    let mut used: Vec<&[bool]> = mask.keep.chunks(9).filter(|k| k.iter().any(|k| *k)).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), LIBRARY);
    assert!(used.iter().all(|p| p[4] && p.iter().filter(|k| **k).count() == KEPT_OF_KERNEL));
    // Every kernel's own strongest three make many more patterns.
    let own = |k: &[f32]| {
        let mut order: Vec<usize> = (0..9).filter(|&i| i != 4).collect();
        order.sort_by(|&a, &b| k[b].abs().total_cmp(&k[a].abs()));
        (0..9).map(|i| i == 4 || order[..3].contains(&i)).collect::<Vec<bool>>()
    };
    let free = Mask { keep: weights.chunks(9).flat_map(own).collect() };
    let violation = Regularity::Pattern.validate(&shape, &free).expect_err("too many patterns");
    assert!(violation.to_string().contains("9th pattern"), "{violation}");
    let mut off_centre = mask.clone();
    let kernel = off_centre.keep.chunks_mut(9).find(|k| k[4]).expect("a kernel that stays");
    kernel[4] = false;
    let violation = Regularity::Pattern.validate(&shape, &off_centre).expect_err("no centre");
    assert!(violation.to_string().contains("not the centre"), "{violation}");
}

#[test]
fn a_weight_that_misses_its_rate_is_refused() {
    let shape = WeightShape::conv(&[16, 8, 3, 3], 1).expect("a convolution");
    let weights = Random::new(1).floats(shape.len());
    let fine = Scheme::new(Regularity::Unstructured, 4.0).expect("a scheme");
    let coarse = Scheme::new(Regularity::block_punched(16, 1).expect("a block"), 4.0).expect("a scheme");
    let mut masked = weights.clone();
    fine.project(&weights, &shape, Balance::Layer).apply(&mut masked);
    assert!(fine.validate(&shape, &masked).is_ok());
    let violation = coarse.validate(&shape, &masked).expect_err("single zeros are no blocks");
    assert!(violation.to_string().contains("whole units"), "{violation}");
}

#[test]
fn bad_schemes_are_explained() {
    for (text, said) in [
        ("blocks", "block-punched:16x1"),
        ("block-punched:0x1", "no regularity"),
        ("block-punched:16", "no regularity"),
        ("block-based:4x4:diagonal", "row or column"),
        ("filter:3", "no regularity"),
        ("unstructured@0.5", "removes three quarters"),
        ("unstructured@many", "no number"),
        ("pattern@2", "2.25"),
        ("dense@4", "its rate is 1"),
    ] {
        let e = text.parse::<Scheme>().expect_err(text).to_string();
        assert!(e.contains(said), "{text}: {e}");
    }
}

#[test]
fn layers_say_what_they_can_have() {
    let model = text::parse(
        "in x 1x3x8x8
         stem = conv x out=16 k=3
         r = relu stem
         wide = conv r out=32 k=3
         deep = conv wide out=32 group=32
         narrow = conv deep out=16 k=1
         p = gap narrow
         f = flatten p
         y = gemm f out=10
         out y",
    );
    let graph = Graph::new(&model).expect("graph");
    let facts = Facts::infer(&model, &graph, &InputShapes::batch(1)).expect("facts");
    let layers = SchemeLayer::all(&graph, &facts);
    let legal = |name: &str, r: &str| {
        let layer = layers.iter().find(|l| l.name == name).unwrap_or_else(|| panic!("no layer {name}"));
        layer.legal(r.parse().expect(r)).map_err(|e| e.to_string())
    };
    for r in ["dense", "filter", "unstructured", "pattern", "block-punched:16x1"] {
        assert_eq!(legal("wide", r), Ok(()));
        assert_eq!(legal("stem", r).is_ok(), r == "dense");
        assert_eq!(legal("deep", r).is_ok(), r == "dense");
        assert_eq!(legal("narrow", r).is_ok(), r != "pattern");
    }
    assert_eq!(legal("y", "block-based:4x4:row"), Ok(()));
    assert!(legal("stem", "filter").expect_err("stem").contains("first convolution"));
    assert!(legal("deep", "filter").expect_err("depthwise").contains("depthwise"));
    assert!(legal("wide", "block-based:4x4").expect_err("conv").contains("block-punched"));
    assert!(legal("narrow", "pattern").expect_err("1x1").contains("3x3"));
    let narrow = layers.iter().find(|l| l.name == "narrow").expect("narrow");
    assert!(narrow.is_tiny());
    let scheme = Scheme::new(Regularity::Filter, 20.0).expect("a scheme");
    assert!(narrow.legal_scheme(&scheme).expect_err("16 filters").to_string().contains("at most"));
}

#[test]
fn schemes_travel_in_the_metadata() {
    let mut model = text::parse("in x 1x3x8x8\ny = conv x out=4 k=3\nout y");
    assert!(read_schemes(&model).expect("none").is_empty());
    let before = model.clone();
    let written = vec![LayerScheme { tensor: "y.w".into(), scheme: "block-punched:4x1@3".parse().expect("a scheme") }];
    write_schemes(&mut model, &written);
    write_schemes(&mut model, &written);
    assert_eq!(read_schemes(&model).expect("reads"), written);
    clear_schemes(&mut model);
    assert_eq!(model, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn projecting_again_changes_nothing((shape, r, weights) in layer(), rate in 2.25f64..8.0) {
        prop_assume!(r != Regularity::Dense);
        let scheme = Scheme::new(r, rate).expect("a scheme");
        let mask = scheme.project(&weights, &shape, Balance::Layer);
        let mut masked = weights.clone();
        mask.apply(&mut masked);
        prop_assert_eq!(scheme.project(&masked, &shape, Balance::Layer), mask);
    }

    #[test]
    fn one_threshold_for_all_layers_reaches_the_rate(layers in prop::collection::vec(layer(), 1..4), rate in 1.0f64..10.0) {
        let views: Vec<Weighted> =
            layers.iter().map(|(shape, regularity, weights)| Weighted { weights, shape, regularity: *regularity }).collect();
        let masks = global(&views, Threshold::Rate(rate));
        let all: usize = layers.iter().map(|l| l.2.len()).sum();
        let kept: usize = masks.iter().map(Mask::kept).sum();
        let (mut slack, mut least) = (1.0, 0.0);
        for ((shape, r, weights), mask) in layers.iter().zip(&masks) {
            prop_assert!(r.validate(shape, mask).is_ok());
            let units = r.units(shape);
            let largest = f64::from(units.sizes.iter().max().copied().unwrap_or(0));
            slack = f64::max(slack, largest);
            least += if *r == Regularity::Dense { weights.len() as f64 } else { largest };
        }
        // The strongest unit of a layer stays in any case; patterns remove 5 of 9 in any case.
        let wanted = all as f64 / rate;
        prop_assert!((kept as f64) <= wanted.max(least) + slack, "{} kept, {} wanted", kept, wanted);
        let fixed = views.iter().all(|v| v.regularity != Regularity::Pattern);
        prop_assert!(!fixed || kept as f64 + slack >= wanted, "{} kept, {} wanted", kept, wanted);
    }
}

#[test]
fn the_valley_lies_between_two_hills() {
    let mut random = Random::new(9);
    let mut hill = |center: f64, n: usize| -> Vec<f64> {
        (0..n).map(|_| center * f64::from(0.3 * (random.unit() + random.unit() + random.unit())).exp()).collect()
    };
    let (low, high) = (hill(1e-4, 700), hill(0.1, 300));
    let cut = valley(&[low.clone(), high.clone()].concat()).expect("two hills");
    assert!(low.iter().all(|s| *s < cut) && high.iter().all(|s| *s > cut), "{cut}");
    assert_eq!(valley(&high), None);
    assert_eq!(valley(&[]), None);
    assert_eq!(valley(&[1.0; 40]), None);
}

/// Two blocks of filters with opposite supports, interleaved: reordering brings them apart, and nothing is lost.
#[test]
fn reordering_brings_similar_filters_together_and_changes_nothing() {
    let mut model = text::parse(
        "in x 1x4x6x6
         stem = conv x out=8 k=3
         r = relu stem
         a = conv r out=8 k=3
         b = bn a
         c = relu b
         d = conv c out=8 k=3
         s = add d c
         e = conv s out=4 k=1
         out e",
    );
    // Filter f of `a` uses the even channels if f is even, else the odd ones.
    let weight = model.tensor("a.w").unwrap().unwrap();
    let values: Vec<f32> = weight.to_f32().unwrap();
    let values = values.iter().enumerate().map(|(i, w)| if (i / 72 + i / 9 % 8) % 2 == 0 { *w } else { w * 0.01 }).collect();
    model.set_tensor("a.w", &weight.with_f32(values).unwrap()).unwrap();
    let a = support::Analysed::new(model, 1).unwrap();
    let scheme = Scheme::new(Regularity::block_punched(4, 1).unwrap(), 2.0).unwrap();
    let layers = SchemeLayer::all(&a.graph, &a.facts);
    let schemes: Vec<(SchemeLayer, Scheme)> = layers.into_iter().filter(|l| l.only_dense.is_none()).map(|l| (l, scheme)).collect();
    let (reordered, groups) = reorder(&a.model, &a.graph, &a.facts, &a.groups, &schemes, Balance::Layer).unwrap();
    assert!(!groups.is_empty() && groups.iter().all(|g| g.kept.1 > g.kept.0), "{groups:?}");
    let inputs = a.inputs(&mut Random::new(4));
    let (before, after) = (support::run(&a.model, &inputs).unwrap(), support::run(&reordered, &inputs).unwrap());
    assert!(support::difference(&before, &after).unwrap() < 1e-5);
    // `a` alone: the two kinds of filters no longer share a block, so that half of it costs nearly nothing.
    let (layer, _) = schemes.iter().find(|(l, _)| l.name == "a").unwrap();
    let kept = |model: &Model| {
        let weights = model.tensor("a.w").unwrap().unwrap().to_f32().unwrap();
        let mask = scheme.project(&weights, &layer.shape, Balance::Layer);
        let norm = |keep: bool| weights.iter().zip(&mask.keep).filter(|(_, k)| !keep || **k).map(|(w, _)| w * w).sum::<f32>();
        norm(true) / norm(false)
    };
    assert!(kept(&a.model) < 0.8 && kept(&reordered) > 0.9, "{} {}", kept(&a.model), kept(&reordered));
}

#[test]
fn any_order_of_any_group_changes_nothing() {
    let a = support::Analysed::new(
        text::parse(
            "in x 2x4x8x8
             a = conv x out=8 k=3
             n = bn a
             p = prelu n
             g = conv p out=8 k=3 group=2
             d = conv g out=8 k=3 group=8
             s = add d p
             c = concat s a
             u, v = split c sizes=8,8
             m = mul u v
             q = gap m
             f = flatten q
             y = gemm f out=5
             out y",
        ),
        2,
    )
    .unwrap();
    let mut random = Random::new(7);
    let mut orders = std::collections::BTreeMap::new();
    for g in a.groups.groups.iter().filter(|g| secateur_graph::surgery::can_permute(&a.graph, &a.groups, g).is_ok()) {
        let mut order: Vec<usize> = (0..g.size).collect();
        (1..order.len()).rev().for_each(|k| order.swap(k, random.below(k + 1)));
        orders.insert(g.id, order);
    }
    assert!(orders.values().any(|o| o.len() > 1));
    let permuted = secateur_graph::surgery::permute(&a.model, &a.graph, &a.facts, &a.groups, &orders).unwrap();
    assert_ne!(permuted, a.model);
    let inputs = a.inputs(&mut random);
    let worst = support::difference(&support::run(&a.model, &inputs).unwrap(), &support::run(&permuted, &inputs).unwrap()).unwrap();
    assert!(worst < 1e-5, "{worst}");
    // Neighbours matter to LRN.
    let lrn = support::Analysed::new(text::parse("in x 1x4x6x6\na = conv x out=8 k=3\nb = lrn a\nc = conv b out=4 k=1\nout c"), 1).unwrap();
    let refused = lrn.groups.groups.iter().filter_map(|g| secateur_graph::surgery::can_permute(&lrn.graph, &lrn.groups, g).err());
    assert!(refused.into_iter().any(|why| why.contains("LRN")));
}

#[test]
fn zeros_compute_what_masked_weights_compute() {
    let a = support::Analysed::new(
        text::parse(
            "in x 1x3x8x8\ns = conv x out=8 k=3\nr = relu s\na = conv r out=8 k=3\np = gap a\nf = flatten p\ny = gemm f out=5\nout y",
        ),
        1,
    )
    .unwrap();
    let scheme: Scheme = "unstructured@3".parse().unwrap();
    let mut pruned = a.model.clone();
    let mut masks = std::collections::BTreeMap::new();
    for l in SchemeLayer::all(&a.graph, &a.facts).into_iter().filter(|l| l.only_dense.is_none()) {
        let tensor = a.model.tensor(&l.tensor).unwrap().unwrap();
        let mut weights = tensor.to_f32().unwrap();
        let mask = scheme.project(&weights, &l.shape, Balance::Layer);
        mask.apply(&mut weights);
        pruned.set_tensor(&l.tensor, &tensor.with_f32(weights).unwrap()).unwrap();
        masks.insert(l.tensor, mask);
    }
    assert_eq!(masks.len(), 2);
    let twin = masked_weights(&a.model, &masks).unwrap();
    let inputs = a.inputs(&mut Random::new(4));
    let (expected, found) = (support::run(&twin, &inputs).unwrap(), support::run(&pruned, &inputs).unwrap());
    assert!(support::difference(&expected, &found).unwrap() < 1e-6);
    assert!(support::difference(&expected, &support::run(&a.model, &inputs).unwrap()).unwrap() > 1e-2);
    let wrong = std::collections::BTreeMap::from([("nobody".to_owned(), Mask::all(3))]);
    assert!(masked_weights(&a.model, &wrong).unwrap_err().to_string().contains("nobody"));
}
