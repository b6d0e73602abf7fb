//! Structures of real files in a few lines: recurrence, normalisations, attention, computed shapes, old files, halves.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::proto::{GraphProto, NodeProto, ValueInfoProto};
use secateur_graph::{Data, Decision, Error, InputShapes, Model, Slabs, Tensor};
use support::text::{attention, parse, render};
use support::{Analysed, Random, assert_twins, difference, run};

/// Checks groups (a line each: `channels: tensor/axis …`) and that random decisions give the masked twin's result.
fn check(text: &str, expected: &str) -> Analysed {
    check_model(parse(text), expected)
}

fn check_model(model: Model, expected: &str) -> Analysed {
    let a = Analysed::with(model, &InputShapes::batch(2)).unwrap();
    let trim = |s: &str| s.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(trim(&render(&a.graph, &a.groups)), trim(expected));
    twins(&a);
    a
}

fn twins(a: &Analysed) {
    for seed in 0..4 {
        let mut random = Random::new(seed + 1);
        let d = a.random_decision(0.5, 0.5, &mut random);
        assert_twins(a, &d, &mut random);
    }
}

#[test]
fn a_hidden_unit_of_a_recurrence_is_a_row_of_every_gate_and_a_column_of_the_state() {
    for (kind, gates) in [("lstm", 4), ("gru", 3), ("rnn", 1)] {
        let a = check(
            &format!(
                "in x 5x2x6
                 a = linear x out=8
                 l = {kind} a hidden=4
                 s = squeeze l axes=1
                 y = linear s out=3
                 out y"
            ),
            &format!(
                "6: a.w/0 frozen
                 8: a.w/1 l.w/2
                 4: l.w/1{0} l.r/1{0} l.r/2 y.w/0
                 3: y.w/1 frozen",
                if gates == 1 { String::new() } else { format!("×{gates}") }
            ),
        );
        let group = a.groups.groups.iter().find(|g| g.size == 4).unwrap();
        let d = Decision { keep: [(group.id, vec![1, 3])].into(), ..Decision::keep_all() };
        let small = a.apply(&d).unwrap();
        let node = small.graph_proto().node.iter().find(|n| n.name() == "l").unwrap();
        assert_eq!(node.attribute.iter().find(|a| a.name() == "hidden_size").unwrap().i(), 2);
    }
}

#[test]
fn both_directions_lose_the_same_hidden_unit() {
    check(
        "in x 5x2x6
         l = lstm x hidden=4 directions=2
         t = transpose l perm=0,2,1,3
         r = reshape t to=0,0,-1
         y = linear r out=3
         out y",
        "4: l.w/1×4 l.r/1×4 l.r/2 y.w/0×2
         6: l.w/2 frozen
         3: y.w/1 frozen",
    );
}

/// As PyTorch writes it: the initial state is filled to a shape joined from the batch of the input and the hidden size.
#[test]
fn an_initial_state_filled_to_a_computed_shape_follows_and_the_batch_stays_free() {
    let a = Analysed::new(
        parse(
            "in x Nx5x6
             t = transpose x perm=1,0,2
             s = shape t
             n = gather s at=1 axis=0
             one = constant values=1
             h = constant values=4
             j = concat one n h axis=0
             z = fill j
             l = lstm t z z hidden=4
             q = squeeze l axes=1
             y = linear q out=3
             out y",
        ),
        2,
    )
    .unwrap();
    twins(&a);
    let group = a.groups.groups.iter().find(|g| g.size == 4).unwrap();
    assert!(group.frozen.is_none(), "{group:?}");
    let small = a.apply(&Decision { keep: [(group.id, vec![0, 2])].into(), ..Decision::keep_all() }).unwrap();
    let wider = Analysed::new(small, 7).unwrap();
    assert_eq!(wider.facts.shape(wider.graph.find("l").unwrap()).unwrap(), [5, 1, 7, 2]);
    assert_eq!(wider.facts.shape(wider.graph.inputs[0]).unwrap()[0], 7);
}

#[test]
fn a_state_that_the_user_feeds_freezes_the_hidden_size_and_says_so() {
    let a = check(
        "in x 5x2x6
         in h 1x2x4
         a = linear x out=8
         l = gru a h hidden=4
         s = squeeze l axes=1
         y = linear s out=3
         out y",
        "6: a.w/0 frozen
         8: a.w/1 l.w/2
         4: l.w/1×3 l.r/1×3 l.r/2 y.w/0 frozen
         3: y.w/1 frozen",
    );
    let why = a.groups.groups.iter().find(|g| g.size == 4).unwrap().frozen.clone().unwrap().reason;
    assert_eq!(why, "node `l` (GRU) combines it with the graph input `h`");
}

#[test]
fn normalisations_over_channels_are_declared_and_the_twin_takes_them_over_those_that_stay() {
    let a = check(
        "in x Nx5x6
         a = linear x out=8
         n = layernorm a
         y = linear n out=3
         out y",
        "6: a.w/0 frozen
         8: a.w/1 n.scale/0 y.w/0
         3: y.w/1 frozen",
    );
    assert_eq!(a.groups.groups[1].approximations.len(), 1);
    // Written out, as exporters before opset 17 do.
    let b = check(
        "in x Nx5x6
         a = linear x out=8
         m = mean a axes=2
         c = sub a m
         q = mul c c
         v = mean q axes=2
         e = exp v
         n = div c e
         y = linear n out=3
         out y",
        "6: a.w/0 frozen
         8: a.w/1 y.w/0
         3: y.w/1 frozen",
    );
    assert_eq!(b.groups.groups[1].approximations.len(), 2);
    let c = check(
        "in x Nx3x8x8
         a = conv x out=8
         n = lrn a
         y = conv n out=4
         out y",
        "3: a.w/1 frozen
         8: a.w/0 y.w/1
         4: y.w/0 frozen",
    );
    assert!(c.groups.groups[1].approximations[0].reason.contains("LRN"));
}

#[test]
fn statistics_per_channel_need_no_approximation() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=8
         n = instancenorm a
         y = conv n out=4
         out y",
        "3: a.w/1 frozen
         8: a.w/0 n.scale/0 y.w/1
         4: y.w/0 frozen",
    );
    assert!(a.groups.groups.iter().all(|g| g.approximations.is_empty()));
}

/// Group normalisation as PyTorch exports it: reshaped so that each group is one channel of an instance normalisation.
#[test]
fn a_group_normalisation_written_as_an_instance_normalisation_keeps_equal_groups() {
    let mut model = parse(
        "in x Nx3x4x4
         a = conv x out=8
         r = reshape a to=0,2,-1
         n = instancenorm r
         s = reshape n to=0,8,4,4
         t = scale s
         y = conv t out=4
         out y",
    );
    // Its own scale and shift are ones and zeros per group.
    for (name, value) in [("n.scale", 1.0), ("n.shift", 0.0)] {
        model.set_tensor(name, &Tensor::f32([2], vec![value; 2])).unwrap();
    }
    let a = Analysed::new(model, 2).unwrap();
    let group = a.groups.groups.iter().find(|g| g.frozen.is_none()).unwrap();
    assert_eq!(group.size, 4);
    assert!(!group.approximations.is_empty());
    twins(&a);
}

#[test]
fn channels_become_space_in_blocks() {
    for (mode, first) in [("DCR", vec![0, 2, 4, 6]), ("CRD", vec![0, 1, 2, 3])] {
        let a = check(
            &format!(
                "in x Nx3x4x4
                 a = conv x out=8
                 d = depthtospace a mode={mode}
                 y = conv d out=4
                 out y"
            ),
            "3: a.w/1 frozen
             2: a.w/0×4 y.w/1
             4: y.w/0 frozen",
        );
        assert_eq!(a.groups.groups[1].anchor().unwrap().coordinates[0], first);
    }
    check(
        "in x Nx3x4x4
         a = conv x out=5
         d = spacetodepth a
         y = conv d out=4
         out y",
        "3: a.w/1 frozen
         5: a.w/0 y.w/1×4
         4: y.w/0 frozen",
    );
    check(
        "in x Nx3x4x4
         a = conv x out=5
         d = tile a by=1,3,1,2
         y = conv d out=4
         out y",
        "3: a.w/1 frozen
         5: a.w/0 y.w/1×3
         4: y.w/0 frozen",
    );
}

#[test]
fn attention_offers_the_width_of_its_heads_or_the_heads() {
    let text = attention(6, 3, 4);
    let widths = check(
        &text,
        "6: i.w/0 frozen
         12: i.w/1 q.w/0 k.w/0 v.w/0
         4: q.w/1×3 k.w/1×3
         4: v.w/1×3 y.w/0×3
         4: y.w/1 frozen",
    );
    let heads = Analysed::with_slabs(parse(&text), &InputShapes::batch(2), Slabs::Parts).unwrap();
    let trim = |s: &str| s.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    assert_eq!(
        trim(render(&heads.graph, &heads.groups).trim()),
        trim(
            "6: i.w/0 frozen
             12: i.w/1 q.w/0 k.w/0 v.w/0
             3: q.w/1×4 k.w/1×4 v.w/1×4 y.w/0×4
             4: y.w/1 frozen"
        )
    );
    twins(&heads);
    // Heads first, then the width of those that stay.
    let two = Decision { keep: [(heads.groups.groups[2].id, vec![0, 2])].into(), ..Decision::keep_all() };
    let small = Analysed::new(heads.apply(&two).unwrap(), 2).unwrap();
    let g = &small.groups.groups[2];
    assert_eq!((g.size, g.anchor().unwrap().coordinates[0].len()), (4, 2));
    twins(&small);
    // By names, a decision says what its slabs are.
    let named = two.to_named(&heads.groups, &heads.graph);
    assert_eq!(named.slabs, Slabs::Parts);
    assert_eq!(Decision::from_named(&named, &heads.groups, &heads.graph).unwrap(), two);
    assert!(Decision::from_named(&named, &widths.groups, &widths.graph).is_err());
}

#[test]
fn open_sizes_are_taken_and_told() {
    let text = "in x Nx3xHxW
         a = conv x out=8 stride=2
         y = conv a out=4 stride=2
         out y";
    let text = text.replace("NxHxW", "N");
    let mut model = parse(&text.replace("Nx3xHxW", "Nx3x8x8"));
    use secateur_graph::proto::{tensor_shape_proto::dimension::Value, type_proto};
    let input = &mut model.graph_proto_mut().input[0];
    let Some(type_proto::Value::TensorType(t)) = input.r#type.as_mut().unwrap().value.as_mut() else { panic!() };
    for (axis, name) in [(2, "H"), (3, "W")] {
        t.shape.as_mut().unwrap().dim[axis].value = Some(Value::DimParam(name.into()));
    }
    let graph = secateur_graph::Graph::new(&model).unwrap();
    let e = Analysed::with(model.clone(), &InputShapes::default()).err().unwrap();
    assert!(matches!(&e, Error::UnboundDimension { dim, .. } if dim == "H"), "{e}");
    let (shapes, assumed) = InputShapes::default().completed(&model, &graph).unwrap();
    assert_eq!(assumed.len(), 1);
    assert_eq!((assumed[0].input.as_str(), assumed[0].shape.as_slice()), ("x", &[1, 3, 224, 224][..]));
    let a = Analysed::with(model, &shapes).unwrap();
    assert_eq!(a.groups.prunable().count(), 1);
    // What is given is not guessed.
    let given = InputShapes { batch: None, shapes: vec![("x".into(), vec![1, 3, 32, 48])] };
    assert!(given.completed(&a.model, &a.graph).unwrap().1.is_empty());
}

/// With a batch of one, batch times positions looks like positions alone; the parts that the target is joined from say which.
#[test]
fn a_target_joined_from_computed_parts_is_right_at_other_batches() {
    let text = "in x Nx5x8
         y = linear x out=12
         s = shape y
         n = gather s at=0 axis=0
         t = gather s at=1 axis=0
         m = mul n t
         c = constant values=12
         j = concat m c axis=0
         f = reshape y j
         g = gemm f out=4
         out g";
    let one = Analysed::new(parse(text), 1).unwrap();
    let group = one.groups.prunable().next().unwrap();
    assert_eq!((group.size, one.groups.prunable().count()), (12, 1));
    let d = Decision { keep: [(group.id, vec![1, 2, 7, 10])].into(), ..Decision::keep_all() };
    let small = one.apply(&d).unwrap();
    // The stored part is another number, the computed one is computed still.
    let joined = small.graph_proto().node.iter().find(|n| n.op_type() == "Concat").unwrap();
    assert_eq!((joined.input[0].as_str(), small.tensor(&joined.input[1]).unwrap().unwrap().to_i64().unwrap()), ("m", vec![4]));
    let three = Analysed::new(parse(text), 3).unwrap();
    let again = Decision::from_named(&d.to_named(&one.groups, &one.graph), &three.groups, &three.graph).unwrap();
    let inputs = three.inputs(&mut Random::new(1));
    let (expected, found) = (run(&three.twin(&again).unwrap(), &inputs).unwrap(), run(&small, &inputs).unwrap());
    assert!(difference(&expected, &found).unwrap() < 1e-5);
}

/// A sub-graph is frozen inside, and so is what it reads; the rest is not.
#[test]
fn what_a_sub_graph_reads_is_frozen_and_the_rest_is_not() {
    let mut model = parse(
        "in x 1x3x8x8
         a = conv x out=6
         r = relu a
         b = conv r out=5
         y = conv b out=4
         out y",
    );
    let branch = |op: &str| GraphProto {
        name: Some(op.into()),
        node: vec![NodeProto {
            op_type: Some(op.into()),
            input: vec!["b".into()],
            output: vec![format!("{op}_out")],
            ..Default::default()
        }],
        output: vec![ValueInfoProto { name: Some(format!("{op}_out")), ..Default::default() }],
        ..Default::default()
    };
    use secateur_graph::proto::{AttributeProto, attribute_proto::AttributeType};
    let attribute = |name: &str, g| AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Graph as i32),
        g: Some(g),
        ..Default::default()
    };
    model.add_initializer("flag", &Tensor::new(vec![], Data::Bool(vec![true])));
    let g = model.graph_proto_mut();
    g.node.push(NodeProto {
        name: Some("choice".into()),
        op_type: Some("If".into()),
        input: vec!["flag".into()],
        output: vec!["z".into()],
        attribute: vec![attribute("then_branch", branch("Relu")), attribute("else_branch", branch("Sigmoid"))],
        ..Default::default()
    });
    g.output.push(ValueInfoProto { name: Some("z".into()), ..g.output[0].clone() });
    let a = Analysed::new(model, 1).unwrap();
    assert_eq!(render(&a.graph, &a.groups), "3: a.w/1 frozen\n6: a.w/0 b.w/1\n5: b.w/0 y.w/1 frozen\n4: y.w/0 frozen\n");
    let why = a.groups.groups[2].frozen.clone().unwrap().reason;
    assert_eq!(why, "node `choice` reads it, and there is no rule for the operator If");
    let small = a.apply(&Decision { keep: [(a.groups.groups[1].id, vec![1, 2])].into(), ..Decision::keep_all() }).unwrap();
    assert_eq!(small.tensor("b.w").unwrap().unwrap().shape, [5, 2, 3, 3]);
    assert_eq!(small.graph_proto().node.last().unwrap(), a.model.graph_proto().node.last().unwrap());
}

#[test]
fn several_inputs_and_outputs_freeze_only_what_reaches_them() {
    check(
        "in x Nx3x8x8
         in z Nx2x8x8
         a = conv x out=6
         b = conv z out=6
         s = add a b
         c = conv s out=5
         y = conv c out=4
         w = conv c out=3
         out y w",
        "3: a.w/1 frozen
         6: a.w/0 b.w/0 c.w/1
         2: b.w/1 frozen
         5: c.w/0 y.w/1 w.w/1
         4: y.w/0 frozen
         3: w.w/0 frozen",
    );
}

#[test]
fn half_precision_weights_stay_half_precision() {
    let mut model = parse(
        "in x Nx3x6x6
         a = conv x out=8
         n = bn a
         r = relu n
         y = conv r out=4
         out y",
    );
    let names: Vec<String> = model.initializers().map(|t| t.name().to_owned()).collect();
    for name in names {
        let t = model.tensor(&name).unwrap().unwrap();
        let half = t.to_f32().unwrap().into_iter().map(half_of).collect();
        model.set_tensor(&name, &Tensor::new(t.shape, Data::F16(half))).unwrap();
    }
    let g = model.graph_proto_mut();
    for i in g.input.iter_mut().chain(&mut g.output) {
        use secateur_graph::proto::type_proto::Value;
        if let Some(Value::TensorType(t)) = i.r#type.as_mut().and_then(|t| t.value.as_mut()) {
            t.elem_type = Some(10);
        }
    }
    let a = Analysed::new(model, 2).unwrap();
    let d = Decision { keep: [(a.groups.groups[1].id, vec![0, 3, 7])].into(), ..Decision::keep_all() };
    let (small, twin) = (a.apply(&d).unwrap(), a.twin(&d).unwrap());
    let w = small.tensor("y.w").unwrap().unwrap();
    assert_eq!((w.shape.as_slice(), w.data.dtype()), (&[4, 3, 3, 3][..], secateur_graph::proto::tensor_proto::DataType::Float16));
    let mask = twin.initializers().find(|t| t.name().ends_with("/mask")).unwrap();
    assert_eq!(mask.data_type(), 10);
}

fn half_of(x: f32) -> half::f16 {
    half::f16::from_f32(x)
}

/// `Upsample` of opset 8 with its scales as an attribute, and `Slice` of opset 9 with its bounds as attributes.
#[test]
fn old_operator_sets_are_pruned_in_their_own_form() {
    use secateur_graph::proto::{AttributeProto, attribute_proto::AttributeType};
    let mut model = parse(
        "in x 1x3x4x4
         a = conv x out=6
         u = relu a
         s = relu u
         y = conv s out=4
         out y",
    );
    let p = model.proto_mut();
    p.opset_import[0].version = Some(8);
    p.ir_version = Some(3);
    let g = p.graph.as_mut().unwrap();
    let floats = |name: &str, v: &[f32]| AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Floats as i32),
        floats: v.to_vec(),
        ..Default::default()
    };
    let ints = |name: &str, v: &[i64]| AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::Ints as i32),
        ints: v.to_vec(),
        ..Default::default()
    };
    g.node[1].op_type = Some("Upsample".into());
    g.node[1].attribute = vec![floats("scales", &[1.0, 1.0, 2.0, 2.0])];
    g.node[2].op_type = Some("Slice".into());
    g.node[2].attribute = vec![ints("axes", &[1]), ints("starts", &[1]), ints("ends", &[5])];
    let w = model.tensor("y.w").unwrap().unwrap().select(1, &[0, 1, 2, 3]);
    model.set_tensor("y.w", &w).unwrap();
    let a = Analysed::new(model, 1).unwrap();
    assert_eq!(
        render(&a.graph, &a.groups),
        "3: a.w/1 frozen\n1: a.w/0\n4: a.w/0 y.w/1\n1: a.w/0\n4: y.w/0 frozen\n"
            .replace("1: a.w/0\n4: a.w/0 y.w/1\n1: a.w/0", "2: a.w/0\n4: a.w/0 y.w/1")
    );
    let d = Decision { keep: [(a.groups.groups[1].id, vec![0]), (a.groups.groups[2].id, vec![1, 3])].into(), ..Decision::keep_all() };
    let (small, twin) = (a.apply(&d).unwrap(), a.twin(&d).unwrap());
    let slice = small.graph_proto().node.iter().find(|n| n.op_type() == "Slice").unwrap();
    let of = |name: &str| slice.attribute.iter().find(|a| a.name() == name).unwrap().ints.clone();
    assert_eq!((of("starts"), of("ends")), (vec![1], vec![3]));
    // Before IR version 4 every initializer is listed as an input.
    let listed = |m: &Model| {
        m.initializers().filter(|t| t.name().contains("mask")).all(|t| m.graph_proto().input.iter().any(|i| i.name() == t.name()))
    };
    assert!(listed(&twin));
}
