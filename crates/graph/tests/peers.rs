//! What breaks in other pruning tools, each with the test that covers it here, and the cases that have no test elsewhere.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::{Decision, InputShapes, Role, Slabs};
use support::text::parse;
use support::{Analysed, Random, assert_twins};

/// The reported failure, and the test for it: `file::test`.
const PAINS: &[(&str, &str)] = &[
    ("reused modules", "coupling::a_module_used_twice_is_one_group_on_both_uses"),
    ("concat of unequal widths then split", "coupling::concat_of_unequal_widths_then_split_elsewhere"),
    ("split, bottlenecks, and concat of all parts (C2f of YOLOv8)", "peers::parts_of_a_split_are_joined_with_what_is_computed_from_them"),
    ("Slice-based focus layers (YOLOv5/YOLOX)", "coupling::focus_slices_of_the_input_are_frozen_and_what_follows_is_not"),
    ("strided slices of a feature map", "peers::a_focus_layer_inside_the_network_keeps_its_channels_together"),
    ("channel shuffle", "coupling::a_channel_shuffle_couples_the_same_position_of_each_half"),
    ("channel shuffle by split and stack (ShuffleNetV2)", "peers::a_shuffle_of_two_branches_is_followed_back_to_both"),
    ("squeeze-and-excitation gates", "coupling::squeeze_and_excitation_gates_join_the_channels_they_scale"),
    ("depthwise multipliers", "coupling::depthwise_convolutions_tie_input_to_output_also_with_a_multiplier"),
    ("grouped convolutions", "coupling::grouped_convolutions_go_by_partition_or_by_slab_whichever_is_finer"),
    ("a width pruned to 1", "coupling::a_width_can_go_down_to_one"),
    ("a flattened conv feature into a linear layer", "coupling::a_flattened_feature_map_takes_all_its_columns_along"),
    ("flattened with channels last", "peers::a_feature_map_flattened_with_channels_last_takes_every_nth_column"),
    ("shared weights used by two nodes", "coupling::a_weight_shared_by_two_heads_stays_one_tensor"),
    ("BatchNorm on a concat", "coupling::batch_norm_on_a_concat_is_cut_in_both_parts"),
    ("Resize", "coupling::resizing_and_pooling_carry_channels"),
    ("Upsample", "structures::old_operator_sets_are_pruned_in_their_own_form"),
    ("Pad on channels (option A shortcuts in CIFAR ResNets)", "coupling::padded_shortcuts_split_the_wider_stage_into_groups"),
    ("detection heads whose output count must stay", "coupling::detection_heads_keep_their_outputs"),
    ("initializers listed as graph inputs (IR < 4)", "coupling::initializers_listed_as_inputs_are_cut_in_both_places"),
    ("parameters that no module wraps", "coupling::per_channel_parameters_of_elementwise_nodes_are_sliced"),
    ("parts that must not be pruned have to be listed by hand (ignored_layers)", "coupling::detection_heads_keep_their_outputs"),
    ("the pruner walks chains pattern by pattern and declines the whole", "coupling::an_operator_without_a_rule_freezes_what_it_touches"),
    ("Resize to the size of another feature map", "forms::a_resize_to_computed_sizes_follows"),
    ("num_heads has to be told", "structures::attention_offers_the_width_of_its_heads_or_the_heads"),
    ("the head width of a fused query-key-value projection", "peers::a_fused_projection_loses_the_same_unit_of_queries_and_keys"),
    ("heads of a fused projection", "peers::a_fused_projection_loses_a_head_of_queries_keys_and_values"),
    ("a skip connection ends the chain", "coupling::a_residual_addition_couples_its_operands_and_offers_the_branch"),
    ("a dimension is guessed where the operator is unknown", "coupling::an_operator_without_a_rule_freezes_what_it_touches"),
];

#[test]
fn every_pain_has_its_test() {
    let files = [
        ("coupling", include_str!("coupling.rs")),
        ("structures", include_str!("structures.rs")),
        ("peers", include_str!("peers.rs")),
        ("forms", include_str!("forms.rs")),
    ];
    for (pain, test) in PAINS {
        let (file, name) = test.split_once("::").unwrap();
        let text = files.iter().find(|f| f.0 == file).unwrap_or_else(|| panic!("{pain}: no file {file}")).1;
        assert!(text.contains(&format!("#[test]\nfn {name}()")), "{pain}: there is no test {test}");
    }
}

fn analysed(text: &str) -> Analysed {
    let a = Analysed::with(parse(text), &InputShapes::batch(2)).unwrap();
    for seed in 0..4 {
        let mut random = Random::new(seed + 11);
        let d = a.random_decision(0.5, 0.5, &mut random);
        assert_twins(&a, &d, &mut random);
    }
    a
}

/// Sizes of the groups that can be pruned and that a tensor's axis belongs to.
fn sizes(a: &Analysed, tensor: &str, axis: usize) -> Vec<usize> {
    let here = |g: &&secateur_graph::Group| g.members.iter().any(|m| a.graph.value(m.value).name == tensor && m.axis == axis);
    let mut all: Vec<usize> = a.groups.prunable().filter(here).map(|g| g.size).collect();
    all.sort_unstable();
    all
}

#[test]
fn parts_of_a_split_are_joined_with_what_is_computed_from_them() {
    let a = analysed(
        "in x Nx3x8x8
         s = conv x out=8
         p, q = split s sizes=4,4
         b = conv q out=4
         r = relu b
         c = conv r out=4
         d = add q c
         e = conv d out=4
         f = add d e
         j = concat p q d f
         y = conv j out=4
         out y",
    );
    // The first half of s is free; its second half lives with every bottleneck.
    assert_eq!(sizes(&a, "s.w", 0), [4, 4]);
    assert_eq!(sizes(&a, "b.w", 0), [4]);
    assert_eq!(sizes(&a, "j", 1), [4, 4]);
    let shared = a.groups.prunable().find(|g| g.members.iter().any(|m| a.graph.value(m.value).name == "e.w" && m.axis == 0)).unwrap();
    let read = shared.members.iter().find(|m| a.graph.value(m.value).name == "y.w").unwrap();
    assert_eq!((read.role, read.coordinates[0].len()), (Role::Consumed, 3));
}

#[test]
fn a_focus_layer_inside_the_network_keeps_its_channels_together() {
    let a = analysed(
        "in x Nx3x8x8
         s = conv x out=6
         a = slice s axis=2 step=2
         b = slice s axis=2 start=1 step=2
         c = slice a axis=3 step=2
         d = slice a axis=3 start=1 step=2
         e = slice b axis=3 step=2
         f = slice b axis=3 start=1 step=2
         j = concat c d e f
         y = conv j out=4
         out y",
    );
    let g = a.groups.prunable().next().unwrap();
    assert_eq!((g.size, a.groups.prunable().count()), (6, 1));
    let read = g.members.iter().find(|m| a.graph.value(m.value).name == "y.w").unwrap();
    assert_eq!(read.coordinates[1], [1, 7, 13, 19]);
}

#[test]
fn a_shuffle_of_two_branches_is_followed_back_to_both() {
    let a = analysed(
        "in x Nx3x4x4
         s = conv x out=8
         p, q = split s sizes=4,4
         b = conv q out=4
         j = concat p b
         r = reshape j to=0,2,4,4,4
         t = transpose r perm=0,2,1,3,4
         u = reshape t to=0,-1,4,4
         v, w = split u sizes=4,4
         c = conv w out=4
         k = concat v c
         y = conv k out=4
         out y",
    );
    assert!(!sizes(&a, "s.w", 0).is_empty() && !sizes(&a, "b.w", 0).is_empty(), "{:?}", a.groups);
}

#[test]
fn a_feature_map_flattened_with_channels_last_takes_every_nth_column() {
    let a = analysed(
        "in x Nx3x4x4
         a = conv x out=5
         t = transpose a perm=0,2,3,1
         f = flatten t
         y = gemm f out=4
         out y",
    );
    let g = a.groups.prunable().next().unwrap();
    let read = g.members.iter().find(|m| a.graph.value(m.value).name == "y.w").unwrap();
    assert_eq!(read.coordinates[2], (0..16).map(|p| p * 5 + 2).collect::<Vec<_>>());
}

/// One projection to queries, keys and values, as ViT and GPT export it.
const FUSED: &str = "in x Nx5x6
         i = linear x out=8
         p = linear i out=24
         r = reshape p to=0,0,3,2,4
         t = transpose r perm=2,0,3,1,4
         q3 = slice t axis=0 start=0 end=1
         k3 = slice t axis=0 start=1 end=2
         v3 = slice t axis=0 start=2 end=3
         q = squeeze q3 axes=0
         k = squeeze k3 axes=0
         v = squeeze v3 axes=0
         kt = transpose k perm=0,1,3,2
         s = matmul q kt
         m = softmax s axis=3
         o = matmul m v
         ot = transpose o perm=0,2,1,3
         oc = reshape ot to=0,0,8
         y = linear oc out=4
         out y";

#[test]
fn a_fused_projection_loses_the_same_unit_of_queries_and_keys() {
    let a = analysed(FUSED);
    // A unit of the width goes in all heads, and in queries, keys and values alike.
    assert_eq!(sizes(&a, "p.w", 1), [4]);
    let g = a.groups.prunable().find(|g| g.members.iter().any(|m| a.graph.value(m.value).name == "y.w")).unwrap();
    let anchor = g.anchor().unwrap();
    assert_eq!(anchor.coordinates[1], [1, 5, 9, 13, 17, 21]);
}

#[test]
fn a_fused_projection_loses_a_head_of_queries_keys_and_values() {
    let a = Analysed::with_slabs(parse(FUSED), &InputShapes::batch(2), Slabs::Parts).unwrap();
    let g = a.groups.prunable().find(|g| g.members.iter().any(|m| a.graph.value(m.value).name == "y.w")).unwrap();
    assert_eq!(g.size, 2);
    assert_eq!(g.anchor().unwrap().coordinates[1], [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]);
    let d = Decision { keep: [(g.id, vec![1])].into(), ..Decision::keep_all() };
    assert_twins(&a, &d, &mut Random::new(3));
}

/// A plan made for one network says so when it is given another.
#[test]
fn a_decision_for_another_network_is_refused_by_name() {
    let a = analysed("in x Nx3x8x8\na = conv x out=6\ny = conv a out=4\nout y");
    let b = Analysed::new(parse("in x Nx3x8x8\nc = conv x out=6\ny = conv c out=4\nout y"), 2).unwrap();
    let d = Decision { keep: [(a.groups.groups[1].id, vec![0, 1])].into(), ..Decision::keep_all() };
    let e = Decision::from_named(&d.to_named(&a.groups, &a.graph), &b.groups, &b.graph).unwrap_err().to_string();
    assert!(e.contains("`a.w`") && e.contains("another model"), "{e}");
}
