//! The structures of real networks in the forms that exporters and operator sets give them, each with the test that covers it.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::proto::{
    AttributeProto, GraphProto, NodeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto::dimension::Value as Dim,
    type_proto,
};
use secateur_graph::{Data, Decision, InputShapes, Model, Tensor};
use support::text::{parse, render};
use support::{Analysed, Random, assert_twins, difference, run};

/// What has to be pruned, and the tests for it: `file::test`.
const STRUCTURES: &[(&str, &[&str])] = &[
    ("LSTM, GRU, RNN: hidden size", &["structures::a_hidden_unit_of_a_recurrence_is_a_row_of_every_gate_and_a_column_of_the_state"]),
    ("recurrence in both directions", &["structures::both_directions_lose_the_same_hidden_unit"]),
    (
        "recurrence with a computed initial state",
        &["structures::an_initial_state_filled_to_a_computed_shape_follows_and_the_batch_stays_free"],
    ),
    ("attention: head width", &["coupling::attention_heads_narrow_together"]),
    ("attention: heads", &["structures::attention_offers_the_width_of_its_heads_or_the_heads"]),
    (
        "attention with a fused projection",
        &[
            "peers::a_fused_projection_loses_the_same_unit_of_queries_and_keys",
            "peers::a_fused_projection_loses_a_head_of_queries_keys_and_values",
        ],
    ),
    (
        "LayerNormalization as a declared approximation",
        &["structures::normalisations_over_channels_are_declared_and_the_twin_takes_them_over_those_that_stay"],
    ),
    (
        "grouped convolution of any group count",
        &["coupling::grouped_convolutions_go_by_partition_or_by_slab_whichever_is_finer", "forms::any_number_of_partitions_is_cut_exactly"],
    ),
    (
        "channel shuffle",
        &[
            "coupling::a_channel_shuffle_couples_the_same_position_of_each_half",
            "peers::a_shuffle_of_two_branches_is_followed_back_to_both",
        ],
    ),
    (
        "Slice-based focus layers",
        &[
            "coupling::focus_slices_of_the_input_are_frozen_and_what_follows_is_not",
            "peers::a_focus_layer_inside_the_network_keeps_its_channels_together",
        ],
    ),
    (
        "ConvTranspose",
        &["coupling::grouped_convolutions_go_by_partition_or_by_slab_whichever_is_finer", "forms::any_number_of_partitions_is_cut_exactly"],
    ),
    ("Resize", &["coupling::resizing_and_pooling_carry_channels", "forms::a_resize_to_computed_sizes_follows"]),
    ("Upsample", &["structures::old_operator_sets_are_pruned_in_their_own_form"]),
    ("If", &["structures::what_a_sub_graph_reads_is_frozen_and_the_rest_is_not"]),
    ("Loop and Scan", &["forms::what_loops_read_is_frozen_their_bodies_stay_and_the_rest_is_cut"]),
    (
        "operator sets from 8 on",
        &["forms::every_operator_set_gives_the_same_groups", "structures::old_operator_sets_are_pruned_in_their_own_form"],
    ),
    ("initializers listed as inputs", &["coupling::initializers_listed_as_inputs_are_cut_in_both_places"]),
    (
        "shapes computed in the graph",
        &[
            "coupling::a_computed_reshape_target_follows_or_is_replaced_with_the_batch_left_free",
            "coupling::a_number_computed_from_a_channel_count_stays_what_it_was",
            "coupling::a_number_computed_from_a_channel_count_and_an_open_size_freezes_its_group",
            "structures::a_target_joined_from_computed_parts_is_right_at_other_batches",
        ],
    ),
    ("BatchNorm folded and not", &["forms::folded_or_not_a_normalisation_makes_no_difference"]),
    ("several inputs and outputs", &["structures::several_inputs_and_outputs_freeze_only_what_reaches_them"]),
    ("dynamic axes", &["structures::open_sizes_are_taken_and_told", "forms::what_was_cut_at_one_size_is_right_at_others"]),
    (
        "weights in half precision",
        &["structures::half_precision_weights_stay_half_precision", "forms::a_network_in_half_precision_computes_what_its_twin_computes"],
    ),
];

#[test]
fn every_structure_has_its_test() {
    let files = [
        ("coupling", include_str!("coupling.rs")),
        ("structures", include_str!("structures.rs")),
        ("peers", include_str!("peers.rs")),
        ("forms", include_str!("forms.rs")),
    ];
    for (structure, tests) in STRUCTURES {
        for test in *tests {
            let (file, name) = test.split_once("::").unwrap();
            let text = files.iter().find(|f| f.0 == file).unwrap_or_else(|| panic!("{structure}: no file {file}")).1;
            assert!(text.contains(&format!("#[test]\nfn {name}()")), "{structure}: there is no test {test}");
        }
    }
}

fn attribute(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(of as i32), ..Default::default() }
}

fn ints(name: &str, values: Vec<i64>) -> AttributeProto {
    AttributeProto { ints: values, ..attribute(name, AttributeType::Ints) }
}

fn twins(a: &Analysed, seeds: u64) {
    for seed in 0..seeds {
        let mut random = Random::new(seed + 21);
        let d = a.random_decision(0.5, 0.5, &mut random);
        assert_twins(a, &d, &mut random);
    }
}

/// `g` partitions of `i` inputs and `o` outputs each: channels go by partition where there are more of those than positions.
#[test]
fn any_number_of_partitions_is_cut_exactly() {
    for kind in ["conv", "convt"] {
        for g in 1..=6 {
            for (i, o) in [(1, 1), (1, 3), (2, 1), (2, 4), (3, 3)] {
                let text = format!(
                    "in x Nx3x4x4
                     a = conv x out={} k=1
                     p = {kind} a group={g} out={}
                     y = conv p out=4 k=1
                     out y",
                    g * i,
                    g * o
                );
                let a = Analysed::new(parse(&text), 2).unwrap();
                let sizes: Vec<usize> = a.groups.prunable().map(|g| g.size).collect();
                let free = a.groups.groups.iter().filter(|g| g.frozen.is_none()).count();
                assert!(free > 0, "{kind} {g}×({i}→{o}): {:?}", a.groups);
                assert!(sizes.iter().all(|&s| s == g || s == i || s == o || s == g * i || s == g * o), "{kind} {g}×({i}→{o}): {sizes:?}");
                twins(&a, 1);
            }
        }
    }
}

/// The form of `Resize` that PyTorch writes for `interpolate(x, size=y.shape[2:])`.
#[test]
fn a_resize_to_computed_sizes_follows() {
    let a = Analysed::new(
        parse(
            "in x Nx3x8x8
             a = conv x out=6
             s = conv a out=8 stride=2
             shape_of_s = shape s
             channels = slice shape_of_s axis=0 start=0 end=2
             shape_of_a = shape a
             space = slice shape_of_a axis=0 start=2 end=4
             sizes = concat channels space axis=0
             u = resize s sizes
             j = concat a u
             y = conv j out=4
             out y",
        ),
        2,
    )
    .unwrap();
    assert_eq!(a.groups.prunable().map(|g| g.size).collect::<Vec<_>>(), [6, 8]);
    twins(&a, 4);
}

/// `for` and `scan` over a feature map: bodies are frozen inside, what they read is too, and layers elsewhere are not.
#[test]
fn what_loops_read_is_frozen_their_bodies_stay_and_the_rest_is_cut() {
    let value = |name: &str| ValueInfoProto { name: Some(name.into()), ..Default::default() };
    let node = |op: &str, inputs: &[&str], outputs: &[&str]| NodeProto {
        name: Some(format!("{op}_node")),
        op_type: Some(op.into()),
        input: inputs.iter().map(|&s| s.to_owned()).collect(),
        output: outputs.iter().map(|&s| s.to_owned()).collect(),
        ..Default::default()
    };
    for op in ["Loop", "Scan"] {
        let mut model = parse(
            "in x 1x3x8x8
             a = conv x out=6
             r = relu a
             b = conv r out=5
             c = conv b out=7
             y = conv c out=4
             out y",
        );
        model.add_initializer("steps", &Tensor::i64([], vec![2]));
        model.add_initializer("go", &Tensor::new(vec![], Data::Bool(vec![true])));
        model.add_initializer("start", &Tensor::f32([1], vec![0.0]));
        let mut body = GraphProto { name: Some("body".into()), ..Default::default() };
        let mut outer = if op == "Loop" {
            // Adds the feature map of the outer graph to the state, which the outer graph does not pass in.
            body.input = vec![value("k"), value("on"), value("state")];
            body.node = vec![node("Identity", &["on"], &["still"]), node("Add", &["state", "b"], &["next"])];
            body.output = vec![value("still"), value("next")];
            node("Loop", &["steps", "go", "start"], &["z"])
        } else {
            body.input = vec![value("state"), value("row")];
            body.node = vec![node("Add", &["state", "b"], &["next"]), node("Relu", &["row"], &["out"])];
            body.output = vec![value("next"), value("out")];
            node("Scan", &["start", "b"], &["z", "rows"])
        };
        let held = body.clone();
        outer.attribute = vec![AttributeProto { g: Some(body), ..attribute("body", AttributeType::Graph) }];
        if op == "Scan" {
            outer.attribute.push(AttributeProto { i: Some(1), ..attribute("num_scan_inputs", AttributeType::Int) });
        }
        let g = model.graph_proto_mut();
        g.node.push(outer);
        g.output.push(value("z"));
        let a = Analysed::new(model, 1).unwrap();
        assert_eq!(
            render(&a.graph, &a.groups),
            "3: a.w/1 frozen\n6: a.w/0 b.w/1\n5: b.w/0 c.w/1 frozen\n7: c.w/0 y.w/1\n4: y.w/0 frozen\n",
            "{op}"
        );
        let why = a.groups.groups[2].frozen.clone().unwrap().reason;
        assert_eq!(why, format!("node `{op}_node` reads it, and there is no rule for the operator {op}"));
        let ids: Vec<_> = a.groups.prunable().map(|g| g.id).collect();
        let d = Decision { keep: [(ids[0], vec![1, 2]), (ids[1], vec![0, 3, 6])].into(), ..Decision::keep_all() };
        let small = a.apply(&d).unwrap();
        let shape = |name: &str| small.tensor(name).unwrap().unwrap().shape;
        assert_eq!((shape("b.w"), shape("c.w"), shape("y.w")), (vec![5, 2, 3, 3], vec![3, 5, 3, 3], vec![4, 3, 3, 3]));
        assert_eq!(small.graph_proto().node.last().unwrap().attribute[0].g.as_ref().unwrap(), &held);
    }
}

/// Rewrites a model of operator set 17 into an older one: operands that were attributes then become attributes.
fn older(model: &Model, opset: i64) -> Model {
    let mut old = model.clone();
    old.proto_mut().opset_import[0].version = Some(opset);
    let constant = |name: &str| model.tensor(name).unwrap().unwrap().to_i64().unwrap();
    for node in &mut old.graph_proto_mut().node {
        let operands: &[&str] = match node.op_type() {
            "Slice" if opset < 10 => &["", "starts", "ends", "axes", ""],
            "Pad" if opset < 11 => &["", "pads", ""],
            "Squeeze" | "Unsqueeze" | "ReduceSum" if opset < 13 => &["", "axes"],
            "Split" if opset < 13 => &["", "split"],
            _ => continue,
        };
        for (slot, name) in operands.iter().enumerate().skip(1).filter(|(slot, name)| *slot < node.input.len() && !name.is_empty()) {
            let value = constant(&node.input[slot]);
            node.attribute.push(ints(name, value));
        }
        node.input.truncate(1);
    }
    let used: std::collections::HashSet<String> = old.graph_proto().node.iter().flat_map(|n| n.input.clone()).collect();
    old.graph_proto_mut().initializer.retain(|t| used.contains(t.name()));
    old
}

#[test]
fn every_operator_set_gives_the_same_groups() {
    let new = parse(
        "in x Nx3x8x8
         a = conv x out=8
         n = bn a
         p, q = split n sizes=3,5
         s = slice q start=1 end=4
         m = add p s
         w = pad m before=1 after=2
         b = conv x out=6
         j = add w b
         e = unsqueeze j axes=1
         f = squeeze e axes=1
         t = sum f axes=2,3 keep=0
         g = gemm t out=6
         y = softmax g axis=1
         out y",
    );
    let text = |m: &Model| {
        let a = Analysed::new(m.clone(), 2).unwrap();
        twins(&a, 2);
        render(&a.graph, &a.groups)
    };
    let expected = text(&new);
    assert!(expected.matches('\n').count() > expected.matches("frozen").count() + 2, "{expected}");
    for opset in 8..17 {
        assert_eq!(text(&older(&new, opset)), expected, "operator set {opset}");
    }
}

#[test]
fn folded_or_not_a_normalisation_makes_no_difference() {
    let plain = parse(
        "in x Nx3x6x6
         a = conv x out=8
         n = bn a
         r = relu n
         y = conv r out=4
         out y",
    );
    let mut folded = parse(
        "in x Nx3x6x6
         a = conv x out=8
         r = relu a
         y = conv r out=4
         out y",
    );
    let of = |name: &str| plain.tensor(name).unwrap().unwrap();
    let v = |name: &str| of(name).to_f32().unwrap();
    let factor: Vec<f32> = v("n.scale").iter().zip(v("n.var")).map(|(s, var)| s / (var + 1e-5).sqrt()).collect();
    let weight = v("a.w").iter().enumerate().map(|(k, w)| w * factor[k / 27]).collect();
    let bias = (0..8).map(|c| (v("a.b")[c] - v("n.mean")[c]) * factor[c] + v("n.shift")[c]).collect();
    folded.set_tensor("a.w", &Tensor::f32(of("a.w").shape, weight)).unwrap();
    folded.set_tensor("a.b", &Tensor::f32([8], bias)).unwrap();
    for name in ["y.w", "y.b"] {
        folded.set_tensor(name, &of(name)).unwrap();
    }
    let (plain, folded) = (Analysed::new(plain, 2).unwrap(), Analysed::new(folded, 2).unwrap());
    assert_eq!(render(&plain.graph, &plain.groups).replace(" n.scale/0", ""), render(&folded.graph, &folded.groups));
    let d = Decision { keep: [(plain.groups.groups[1].id, vec![0, 2, 3, 7])].into(), ..Decision::keep_all() };
    let inputs = plain.inputs(&mut Random::new(9));
    let (a, b) = (run(&plain.apply(&d).unwrap(), &inputs).unwrap(), run(&folded.apply(&d).unwrap(), &inputs).unwrap());
    assert!(difference(&a, &b).unwrap() < 1e-5);
    twins(&folded, 2);
}

/// Names for sizes of an input, which the text form writes as numbers.
fn open(model: &mut Model, axes: &[(usize, &str)]) {
    let input = &mut model.graph_proto_mut().input[0];
    let Some(type_proto::Value::TensorType(t)) = input.r#type.as_mut().unwrap().value.as_mut() else { panic!() };
    for &(axis, name) in axes {
        t.shape.as_mut().unwrap().dim[axis].value = Some(Dim::DimParam(name.into()));
    }
}

#[test]
fn what_was_cut_at_one_size_is_right_at_others() {
    let mut model = parse(
        "in x Nx3x8x8
         a = conv x out=6
         s = conv a out=8 stride=2
         of = shape a
         c = constant values=-1,8
         n = slice of axis=0 start=0 end=1
         t = concat n c axis=0
         k = transpose s perm=0,2,3,1
         f = reshape k t
         m = mean f axes=1 keep=0
         y = gemm m out=4
         out y",
    );
    // [N, H·W, 8]
    open(&mut model, &[(2, "H"), (3, "W")]);
    let at = |batch: usize, h: usize, w: usize| {
        let shapes = InputShapes { batch: Some(batch), shapes: vec![("x".into(), vec![batch, 3, h, w])] };
        Analysed::with(model.clone(), &shapes).unwrap()
    };
    let first = at(1, 8, 8);
    assert_eq!(first.groups.prunable().map(|g| g.size).collect::<Vec<_>>(), [6, 8]);
    let d = first.random_decision(0.5, 0.0, &mut Random::new(4));
    let small = first.apply(&d).unwrap();
    for (batch, h, w) in [(1, 8, 8), (3, 12, 16), (2, 5, 7)] {
        let other = at(batch, h, w);
        let same = Decision::from_named(&d.to_named(&first.groups, &first.graph), &other.groups, &other.graph).unwrap();
        let inputs = other.inputs(&mut Random::new(5));
        let (expected, found) = (run(&other.twin(&same).unwrap(), &inputs).unwrap(), run(&small, &inputs).unwrap());
        assert!(difference(&expected, &found).unwrap() < 1e-5, "{batch}×3×{h}×{w}");
    }
}

#[test]
fn a_network_in_half_precision_computes_what_its_twin_computes() {
    let mut model = parse(
        "in x Nx3x6x6
         h = cast_half x
         a = conv h out=8
         r = relu a
         d = conv r group=8
         e = conv d out=8
         s = add e r
         p = gap s
         f = flatten p
         g = linear f out=4
         y = cast_float g
         out y",
    );
    let names: Vec<String> = model.initializers().map(|t| t.name().to_owned()).collect();
    for name in names {
        let t = model.tensor(&name).unwrap().unwrap();
        let half = t.to_f32().unwrap().into_iter().map(half::f16::from_f32).collect();
        model.set_tensor(&name, &Tensor::new(t.shape, Data::F16(half))).unwrap();
    }
    let a = Analysed::new(model, 2).unwrap();
    assert_eq!(a.groups.prunable().count(), 1);
    for seed in 0..3 {
        let mut random = Random::new(seed + 1);
        let d = a.random_decision(0.5, 0.5, &mut random);
        let inputs = a.inputs(&mut random);
        let (expected, found) = (run(&a.twin(&d).unwrap(), &inputs).unwrap(), run(&a.apply(&d).unwrap(), &inputs).unwrap());
        // Sums in half precision, in another order.
        assert!(difference(&expected, &found).unwrap() < 1e-2);
    }
}
