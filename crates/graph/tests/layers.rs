//! Costs, and single layers as models of their own.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::{Model, NodeId, cost, layer_model};
use support::text::parse;
use support::{Analysed, Random, run};

fn node(a: &Analysed, name: &str) -> NodeId {
    a.graph.nodes.iter().find(|n| n.name == name).unwrap().id
}

fn layer(a: &Analysed, name: &str, i: usize, o: usize, epilogue: bool) -> Model {
    layer_model(&a.model, &a.graph, &a.facts, node(a, name), i, o, epilogue).unwrap()
}

fn ops(m: &Model) -> Vec<&str> {
    m.graph_proto().node.iter().map(|n| n.op_type()).collect()
}

fn shapes(m: Model, random: &mut Random) -> (Vec<Vec<usize>>, Vec<usize>) {
    let a = Analysed::new(m, 1).unwrap();
    let inputs = a.inputs(random);
    let out = run(&a.model, &inputs).unwrap();
    assert!(out[0].1.iter().all(|v| v.is_finite()));
    assert_eq!(a.facts.shape(a.graph.outputs[0]).unwrap(), out[0].0);
    (inputs.into_iter().map(|i| i.0).collect(), out[0].0.clone())
}

const NET: &str = "in x Nx3x8x8
    s = conv x out=8
    sr = relu s
    a = conv sr out=6 stride=2
    an = bn a
    ar = relu an
    b = conv ar out=8
    bn = bn b
    h = conv sr out=8 k=1 stride=2
    d = add bn h
    dr = relu d
    w = conv dr group=8
    wn = bn w
    wp = prelu wn
    f = flatten wp
    g = gemm f out=5
    gr = sigmoid g
    l = linear gr out=4
    out l";

#[test]
fn costs_are_those_of_the_formulas() {
    let a = Analysed::new(parse(NET), 2).unwrap();
    let c = cost(&a.graph, &a.facts);
    let of = |name: &str| c.per_node[node(&a, name).index()];
    // 2 images, 4×4 outputs, 6 channels, each over 8 channels of 3×3.
    assert_eq!(of("a").macs, 2 * 16 * 6 * 8 * 9);
    assert_eq!(of("a").params, 6 * 8 * 9 + 6);
    // Depthwise: one channel each.
    assert_eq!(of("w").macs, 2 * 16 * 8 * 9);
    // Scale and shift are learnt, mean and variance are not.
    assert_eq!(of("an").params, 12);
    assert_eq!(of("wp").params, 8);
    assert_eq!(of("g").macs, 2 * 128 * 5);
    assert_eq!(of("l").macs, 2 * 5 * 4);
    assert_eq!(c.macs, c.per_node.iter().map(|n| n.macs).sum::<u64>());
    assert_eq!(c.params, c.per_node.iter().map(|n| n.params).sum::<u64>());
}

#[test]
fn a_layer_model_has_the_widths_asked_for_and_the_layers_own_spatial_shape() {
    let a = Analysed::new(parse(NET), 2).unwrap();
    let mut random = Random::new(1);
    assert_eq!(shapes(layer(&a, "a", 5, 3, false), &mut random), (vec![vec![2, 5, 8, 8]], vec![2, 3, 4, 4]));
    assert_eq!(shapes(layer(&a, "w", 3, 3, true), &mut random), (vec![vec![2, 3, 4, 4]], vec![2, 3, 4, 4]));
    assert_eq!(shapes(layer(&a, "g", 48, 2, true), &mut random), (vec![vec![2, 48]], vec![2, 2]));
    assert_eq!(shapes(layer(&a, "l", 2, 4, true), &mut random), (vec![vec![2, 2]], vec![2, 4]));
}

#[test]
fn the_epilogue_is_what_a_runtime_fuses() {
    let a = Analysed::new(parse(NET), 2).unwrap();
    assert_eq!(ops(&layer(&a, "a", 8, 6, true)), ["Conv", "BatchNormalization", "Relu"]);
    assert_eq!(ops(&layer(&a, "a", 8, 6, false)), ["Conv"]);
    assert_eq!(ops(&layer(&a, "w", 8, 8, true)), ["Conv", "BatchNormalization", "PRelu"]);
    assert_eq!(ops(&layer(&a, "g", 128, 5, true)), ["Gemm", "Sigmoid"]);
    // The addition belongs to the operand computed last: the projection here.
    assert_eq!(ops(&layer(&a, "b", 6, 8, true)), ["Conv", "BatchNormalization"]);
    let h = layer(&a, "h", 8, 7, true);
    assert_eq!(ops(&h), ["Conv", "Add", "Relu"]);
    assert_eq!(shapes(h, &mut Random::new(3)), (vec![vec![2, 8, 8, 8], vec![2, 7, 4, 4]], vec![2, 7, 4, 4]));
    // A feature that others read too is not fused past.
    assert_eq!(ops(&layer(&a, "s", 3, 8, true)), ["Conv", "Relu"]);
}

#[test]
fn equal_layers_give_equal_bytes() {
    let a = Analysed::new(
        parse(
            "in x Nx3x8x8
             a = conv x out=6
             ar = relu a
             b = conv ar out=6
             br = relu b
             c = conv br out=6
             cr = relu c
             y = conv cr out=4
             out y",
        ),
        1,
    )
    .unwrap();
    let bytes = |name, i, o| layer(&a, name, i, o, true).to_bytes().unwrap();
    assert_eq!(bytes("b", 6, 6), bytes("c", 6, 6));
    assert_eq!(bytes("a", 6, 6), bytes("b", 6, 6));
    assert_ne!(bytes("b", 6, 5), bytes("b", 6, 6));
}

#[test]
fn widths_that_do_not_fit_are_refused() {
    let a = Analysed::new(parse(NET), 1).unwrap();
    let fail = |name: &str, i, o| layer_model(&a.model, &a.graph, &a.facts, node(&a, name), i, o, false).unwrap_err().to_string();
    assert!(fail("w", 4, 5).contains("`w`") && fail("w", 4, 5).contains("groups"));
    assert!(fail("a", 0, 3).contains("width 0"));
    assert!(fail("ar", 3, 3).contains("no layer"));
}

#[test]
fn transposed_and_grouped_layers_run_at_other_widths() {
    let a = Analysed::new(
        parse(
            "in x Nx8x6x6
             s = conv x out=8 group=2
             t = convt s out=6 k=3 stride=2 pad=1
             y = conv t out=4
             out y",
        ),
        1,
    )
    .unwrap();
    let mut random = Random::new(1);
    assert_eq!(shapes(layer(&a, "s", 4, 6, true), &mut random).1, [1, 6, 6, 6]);
    assert_eq!(shapes(layer(&a, "t", 5, 3, true), &mut random), (vec![vec![1, 5, 6, 6]], vec![1, 3, 11, 11]));
}
