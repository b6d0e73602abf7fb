//! Graphs in a few lines with the groups beside them. Each case is also cut at random and compared with its masked twin.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::{Decision, InputShapes, Model};
use support::text::{attention, parse, render};
use support::{Analysed, Random, assert_twins};

/// Checks groups (a line each: `channels: tensor/axis …`) and that random decisions give the masked twin's result.
fn check(text: &str, expected: &str) -> Analysed {
    let a = Analysed::with(parse(text), &InputShapes::batch(2)).unwrap();
    let trim = |s: &str| s.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(trim(&render(&a.graph, &a.groups)), trim(expected), "groups of\n{text}");
    for seed in 0..3 {
        let mut random = Random::new(seed + 1);
        let d = a.random_decision(0.5, 0.5, &mut random);
        assert_twins(&a, &d, &mut random);
    }
    a
}

fn reason(a: &Analysed, tensor: &str) -> String {
    let has = |g: &&secateur_graph::Group| g.parameters().any(|m| a.graph.value(m.value).name == tensor && g.frozen.is_some());
    a.groups.groups.iter().find(has).and_then(|g| g.frozen.clone()).unwrap_or_else(|| panic!("{tensor} is not frozen")).reason
}

#[test]
fn a_chain_couples_each_layer_with_the_next() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=8
         n = bn a
         r = relu n
         y = conv r out=4
         out y",
        "3: a.w/1 frozen
         8: a.w/0 n.scale/0 y.w/1
         4: y.w/0 frozen",
    );
    assert_eq!(reason(&a, "a.w"), "node `a` (Conv) combines it with the graph input `x`");
    assert_eq!(reason(&a, "y.w"), "it reaches the graph output `y`");
    assert!(a.groups.group(a.groups.groups[1].id).writers.len() == 1);
}

#[test]
fn a_residual_addition_couples_its_operands_and_offers_the_branch() {
    let a = check(
        "in x Nx3x8x8
         s = conv x out=8
         r = relu s
         a = conv r out=6
         b = relu a
         c = conv b out=8
         d = add c r
         y = conv d out=4
         out y",
        "3: s.w/1 frozen
         8: s.w/0 a.w/1 c.w/0 y.w/1
         6: a.w/0 c.w/1
         4: y.w/0 frozen",
    );
    let branch = &a.groups.branches[0];
    assert_eq!(branch.name, "d");
    let names: Vec<_> = branch.nodes.iter().map(|&n| a.graph.node(n).name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    assert_eq!(branch.inner.iter().map(|&g| a.groups.group(g).name.as_str()).collect::<Vec<_>>(), ["a"]);
}

/// Option A shortcuts of CIFAR ResNets: channels of zeros around the narrower operand.
#[test]
fn padded_shortcuts_split_the_wider_stage_into_groups() {
    let a = check(
        "in x Nx3x8x8
         s = conv x out=4
         r = relu s
         a = conv r out=8 stride=2
         h = slice r axis=2 step=2
         v = slice h axis=3 step=2
         p = pad v before=2 after=2
         d = add a p
         y = conv d out=4
         out y",
        "3: s.w/1 frozen
         4: s.w/0 a.w/0 a.w/1 y.w/1
         4: a.w/0 y.w/1
         4: y.w/0 frozen",
    );
    let layer = a.groups.layers().iter().find(|l| a.graph.node(l.node).name == "a").unwrap();
    assert_eq!(layer.outputs.len(), 2);
    assert_eq!(layer.widths(|g| a.groups.group(g).size - 1), (3, 6));
    assert_eq!(a.groups.branches.len(), 1);
}

#[test]
fn depthwise_convolutions_tie_input_to_output_also_with_a_multiplier() {
    check(
        "in x Nx3x8x8
         a = conv x out=6
         d = conv a group=6
         m = conv d group=6 out=12
         y = conv m out=4
         out y",
        "3: a.w/1 frozen
         6: a.w/0 d.w/0 m.w/0×2 y.w/1×2
         4: y.w/0 frozen",
    );
}

#[test]
fn grouped_convolutions_go_by_partition_or_by_slab_whichever_is_finer() {
    // Eight partitions of one or two channels: a channel is a partition. Two partitions of four: a channel is a position.
    check(
        "in x Nx3x8x8
         a = conv x out=16
         p = conv a group=8 out=8
         s = conv p group=2 out=6
         y = conv s out=4
         out y",
        "3: a.w/1 frozen
         4: a.w/0×4 p.w/0×2 s.w/1
         3: s.w/0×2 y.w/1×2
         4: y.w/0 frozen",
    );
    check(
        "in x Nx4x6x6
         a = conv x out=6
         t = convt a group=6 out=12 k=2 stride=2 pad=0
         u = convt t group=2 out=8 k=2 stride=2 pad=0
         w = convt u out=5 k=1
         y = conv w out=4
         out y",
        "4: a.w/1 frozen
         3: a.w/0×2 t.w/0×2 u.w/0×4
         4: u.w/1 w.w/0×2
         5: w.w/1 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn concat_of_unequal_widths_then_split_elsewhere() {
    check(
        "in x Nx3x8x8
         a = conv x out=3
         b = conv x out=7
         c = concat a b
         n = bn c
         p, q = split n sizes=5,5
         s = add p q
         y = conv s out=4
         out y",
        // The halves are a0-2 b0-1 and b2-6: a's channels meet b2-4, and b0-1 meet b5-6.
        "3: a.w/1 frozen
         3: a.w/0 b.w/0 n.scale/0×2 y.w/1
         3: b.w/1 frozen
         2: b.w/0×2 n.scale/0×2 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn batch_norm_on_a_concat_is_cut_in_both_parts() {
    check(
        "in x Nx3x8x8
         a = conv x out=4
         b = conv a out=5
         c = concat a b
         n = bn c
         r = relu n
         y = conv r out=4
         out y",
        "3: a.w/1 frozen
         4: a.w/0 b.w/1 n.scale/0 y.w/1
         5: b.w/0 n.scale/0 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn a_flattened_feature_map_takes_all_its_columns_along() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=5
         p = maxpool a
         f = flatten p
         g = gemm f out=6
         r = relu g
         y = gemm r out=4
         out y",
        "3: a.w/1 frozen
         5: a.w/0 g.w/1×16
         6: g.w/0 y.w/1
         4: y.w/0 frozen",
    );
    let layer = a.groups.layers().iter().find(|l| a.graph.node(l.node).name == "g").unwrap();
    assert_eq!((layer.inputs[0].1, layer.widths(|_| 2)), (16, (32, 2)));
}

#[test]
fn a_reshape_target_with_zeros_minus_one_or_sizes_is_rewritten() {
    for to in ["0,-1", "2,80", "-1,80"] {
        let text = format!(
            "in x 2x3x4x4
             a = conv x out=5
             f = reshape a to={to}
             g = gemm f out=4
             out g"
        );
        check(&text, "3: a.w/1 frozen\n5: a.w/0 g.w/1×16\n4: g.w/0 frozen");
    }
}

#[test]
fn a_computed_reshape_target_follows_or_is_replaced_with_the_batch_left_free() {
    // From the operand's shape: [N, C·16] with C·16 stored.
    let a = check(
        "in x Nx3x4x4
         a = conv x out=5
         s = shape a
         n = gather s at=0 axis=0
         constant_k = constant values=80
         t = concat n constant_k axis=0
         f = reshape a t
         g = gemm f out=4
         out g",
        "3: a.w/1 frozen
         5: a.w/0 g.w/1×16
         4: g.w/0 frozen",
    );
    let d = Decision { keep: [(a.groups.groups[1].id, vec![0, 2])].into(), ..Decision::keep_all() };
    let small = a.apply(&d).unwrap();
    let other_batch = Analysed::new(small, 7).unwrap();
    assert_eq!(other_batch.facts.shape(other_batch.graph.outputs[0]).unwrap(), [7, 4]);
}

/// The number is the original's: what the network computes with does not change with its width.
#[test]
fn a_number_computed_from_a_channel_count_stays_what_it_was() {
    let a = check(
        "in x Nx3x4x4
         a = conv x out=5
         s = shape a
         c = gather s at=1 axis=0
         k = cast_float c
         d = div a k
         y = conv d out=4
         out y",
        "3: a.w/1 frozen
         5: a.w/0 y.w/1
         4: y.w/0 frozen",
    );
    let d = Decision { keep: [(a.groups.groups[1].id, vec![0, 2])].into(), ..Decision::keep_all() };
    let small = a.apply(&d).unwrap();
    assert_eq!(small.tensor("k_was").unwrap().unwrap().to_f32().unwrap(), [5.0]);
}

#[test]
fn a_number_computed_from_a_channel_count_and_an_open_size_freezes_its_group() {
    let a = check(
        "in x Nx3x4x4
         a = conv x out=5
         s = shape a
         c = sum s axes=0 keep=0
         k = cast_float c
         d = div a k
         y = conv d out=4
         out y",
        "3: a.w/1 frozen
         5: a.w/0 y.w/1 frozen
         4: y.w/0 frozen",
    );
    assert!(reason(&a, "y.w").contains("depends on channel counts"), "{}", reason(&a, "y.w"));
}

#[test]
fn squeeze_and_excitation_gates_join_the_channels_they_scale() {
    check(
        "in x Nx3x8x8
         a = conv x out=8
         p = gap a
         q = conv p out=2 k=1
         r = relu q
         e = conv r out=8 k=1
         g = sigmoid e
         m = mul a g
         y = conv m out=4
         out y",
        "3: a.w/1 frozen
         8: a.w/0 q.w/1 e.w/0 y.w/1
         2: q.w/0 e.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn a_channel_shuffle_couples_the_same_position_of_each_half() {
    check(
        "in x Nx3x4x4
         a = conv x out=8
         s = reshape a to=0,2,4,4,4
         t = transpose s perm=0,2,1,3,4
         u = reshape t to=0,-1,4,4
         y = conv u out=4
         out y",
        "3: a.w/1 frozen
         4: a.w/0×2 y.w/1×2
         4: y.w/0 frozen",
    );
}

/// The focus layer of YOLOv5: strided slices of the image, joined on the channel axis.
#[test]
fn focus_slices_of_the_input_are_frozen_and_what_follows_is_not() {
    let a = check(
        "in x Nx3x8x8
         a = slice x axis=2 step=2
         b = slice x axis=2 start=1 step=2
         c = concat a b
         d = conv c out=6
         r = relu d
         y = conv r out=4
         out y",
        "6: d.w/1 frozen
         6: d.w/0 y.w/1
         4: y.w/0 frozen",
    );
    assert!(reason(&a, "d.w").contains("graph input `x`"), "{}", reason(&a, "d.w"));
}

#[test]
fn a_module_used_twice_is_one_group_on_both_uses() {
    check(
        "in x Nx3x8x8
         a = conv x out=6
         b = conv a out=6 bias=0
         r = relu b
         c = conv r share=b
         y = conv c out=4
         out y",
        "3: a.w/1 frozen
         6: a.w/0 b.w/0 b.w/1 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn a_weight_shared_by_two_heads_stays_one_tensor() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=5
         b = conv x out=5
         h = conv a out=4 bias=0
         i = conv b share=h
         out h i",
        "3: a.w/1 frozen
         5: a.w/0 b.w/0 h.w/1
         3: b.w/1 frozen
         4: h.w/0 frozen",
    );
    let d = a.random_decision(0.5, 0.0, &mut Random::new(1));
    let small = a.apply(&d).unwrap();
    assert_eq!(small.initializers().filter(|t| t.name() == "h.w").count(), 1);
}

#[test]
fn resizing_and_pooling_carry_channels() {
    check(
        "in x Nx3x8x8
         a = conv x out=5
         u = resize a
         p = avgpool u
         q = maxpool p k=3 stride=1 pad=1
         y = conv q out=4
         out y",
        "3: a.w/1 frozen
         5: a.w/0 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn detection_heads_keep_their_outputs() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=6
         b = conv a out=8 k=1
         t = transpose b perm=0,2,3,1
         r = reshape t to=0,-1,4
         s = softmax r axis=2
         c = conv a out=4 k=1
         out s c",
        "3: a.w/1 frozen
         6: a.w/0 b.w/1 c.w/1
         2: b.w/0×4 frozen
         4: c.w/0 frozen",
    );
    assert_eq!(reason(&a, "c.w"), "it reaches the graph output `c`");
}

#[test]
fn an_operator_without_a_rule_freezes_what_it_touches() {
    let a = Analysed::new(
        parse(
            "in x Nx3x8x8
             a = conv x out=6
             m = mystery a
             b = conv a out=5
             y = conv b out=4
             out y m",
        ),
        2,
    )
    .unwrap();
    assert_eq!(render(&a.graph, &a.groups), "3: a.w/1 frozen\n6: a.w/0 b.w/1 frozen\n5: b.w/0 y.w/1\n4: y.w/0 frozen\n");
    assert_eq!(reason(&a, "b.w"), "node `m` reads it, and there is no rule for the operator test:Mystery");
}

#[test]
fn a_width_can_go_down_to_one() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=6
         d = conv a group=6
         n = bn d
         g = gap n
         s = squeeze g
         y = gemm s out=4
         out y",
        "3: a.w/1 frozen
         6: a.w/0 d.w/0 n.scale/0 y.w/1
         4: y.w/0 frozen",
    );
    let d = Decision { keep: [(a.groups.groups[1].id, vec![3])].into(), ..Decision::keep_all() };
    assert_twins(&a, &d, &mut Random::new(2));
    let none = Decision { keep: [(a.groups.groups[1].id, vec![])].into(), ..Decision::keep_all() };
    assert!(a.apply(&none).unwrap_err().to_string().contains("at least 1 must stay"));
}

#[test]
fn attention_heads_narrow_together() {
    let a = check(
        &attention(8, 2, 4),
        "8: i.w/0 frozen
         8: i.w/1 q.w/0 k.w/0 v.w/0
         4: q.w/1×2 k.w/1×2
         4: v.w/1×2 y.w/0×2
         4: y.w/1 frozen",
    );
    assert!(a.groups.branches.is_empty());
}

#[test]
fn per_channel_parameters_of_elementwise_nodes_are_sliced() {
    check(
        "in x Nx3x8x8
         a = conv x out=6
         p = prelu a
         s = scale p
         t = shift s
         h = hardswish t
         e = exp h
         y = conv e out=4
         out y",
        "3: a.w/1 frozen
         6: a.w/0 p.p/0 s.p/0 t.p/0 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn slices_and_gathers_of_channels_are_rewritten() {
    check(
        "in x Nx3x8x8
         a = conv x out=8
         l = slice a start=0 end=3
         r = slice a start=-5
         g = gather a at=7,0,3
         h = concat l r g
         y = conv h out=4
         out y",
        "3: a.w/1 frozen
         1: a.w/0 y.w/1×2
         2: a.w/0 y.w/1
         2: a.w/0 y.w/1×2
         3: a.w/0 y.w/1
         4: y.w/0 frozen",
    );
}

#[test]
fn sums_over_channels_are_exact_and_means_are_declared_approximations() {
    let a = check(
        "in x Nx3x8x8
         a = conv x out=6
         s = sum a axes=1
         b = conv a out=5
         m = mean b axes=1
         y = add s m
         out y",
        "3: a.w/1 frozen
         6: a.w/0 b.w/1
         5: b.w/0",
    );
    let declared: Vec<_> = a.groups.groups.iter().map(|g| g.approximations.len()).collect();
    assert_eq!(declared, [0, 0, 1]);
    let reason = &a.groups.groups[2].approximations[0].reason;
    assert_eq!(reason, "node `m` (ReduceMean) takes a statistic over them, from then on over those that stay");
}

/// Before IR version 4, initializers had to be listed as inputs too.
#[test]
fn initializers_listed_as_inputs_are_cut_in_both_places() {
    let mut model: Model = parse(
        "in x Nx3x8x8
         a = conv x out=6
         y = conv a out=4
         out y",
    );
    model.proto_mut().ir_version = Some(3);
    let listed: Vec<_> = model.initializers().map(|t| (t.name().to_owned(), t.dims.clone())).collect();
    for (name, dims) in listed {
        let text = dims.iter().map(i64::to_string).collect::<Vec<_>>();
        let line = format!("in {name} {}\n", text.join("x"));
        let info = parse(&line).graph_proto().input[0].clone();
        model.graph_proto_mut().input.push(info);
    }
    let a = Analysed::new(model, 2).unwrap();
    assert_eq!(a.graph.inputs.len(), 1);
    let d = Decision { keep: [(a.groups.groups[1].id, vec![1, 4])].into(), ..Decision::keep_all() };
    let small = a.apply(&d).unwrap();
    let again = Analysed::new(small, 2).unwrap();
    assert_eq!(again.facts.shape(again.graph.find("y.w").unwrap()).unwrap(), [4, 2, 3, 3]);
    let declared = again.model.graph_proto().input.iter().find(|i| i.name() == "y.w").unwrap();
    assert_eq!(format!("{:?}", declared.r#type).matches("DimValue(2)").count(), 1);
    assert_twins(&a, &d, &mut Random::new(5));
}
