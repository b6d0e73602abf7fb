//! Transformers: heads, head width and the layers between them, in the forms that exporters give them.
#![allow(clippy::unwrap_used)]

mod support;

use secateur_graph::{Attention, Decision, InputShapes, Model, Slabs, cost, layer_model};
use support::text::{attention, parse, vision};
use support::{Analysed, Random, assert_twins, run};

fn analysed(text: &str, slabs: Slabs) -> Analysed {
    Analysed::with_slabs(parse(text), &InputShapes::batch(2), slabs).unwrap()
}

fn sizes(a: &Attention) -> (usize, usize) {
    (a.heads, a.query_width + a.value_width)
}

/// Cuts at random, checks the twin, and that the attentions came out as wide as their layers say.
fn cut(a: &Analysed, seed: u64) {
    let mut random = Random::new(seed + 31);
    let d = a.random_decision(0.4, 0.0, &mut random);
    assert_twins(a, &d, &mut random);
    let small = Analysed::with_slabs(a.apply(&d).unwrap(), &InputShapes::batch(2), a.groups.slabs).unwrap();
    let found: Vec<_> = Attention::find(&small.graph, &small.facts).iter().map(sizes).collect();
    let expected: Vec<_> = a.groups.attention().iter().map(|l| l.widths(|g| d.width(a.groups.group(g)))).collect();
    assert_eq!(found, expected, "{d:?}");
}

#[test]
fn a_vision_transformer_loses_features_head_width_heads_and_hidden_units() {
    let text = vision(12, 3, 4);
    let widths = analysed(&text, Slabs::Finest);
    let free: Vec<usize> = widths.groups.prunable().map(|g| g.size).collect();
    // Features; of each block the width of queries and keys, that of values, and the hidden units.
    assert_eq!(free, [12, 4, 4, 10, 4, 4, 10]);
    let heads = analysed(&text, Slabs::Parts);
    assert_eq!(heads.groups.prunable().map(|g| g.size).collect::<Vec<_>>(), [12, 3, 10, 3, 10]);
    for (a, dense) in [(&widths, (3, 8)), (&heads, (3, 8))] {
        assert_eq!(a.groups.attention().len(), 2);
        assert!(a.groups.attention().iter().all(|l| l.widths(|g| a.groups.group(g).size) == dense));
        (0..3).for_each(|seed| cut(a, seed));
    }
    assert_eq!(widths.groups.attention()[0].fixed_in, 3);
    assert_eq!(heads.groups.attention()[0].fixed_out, 8);
    // Only the features are under a statistic.
    assert_eq!(widths.groups.prunable().filter(|g| !g.approximations.is_empty()).count(), 1);
}

/// As in BERT: a mask is added that is the same for all heads, and the block is normalised behind each part.
#[test]
fn a_masked_encoder_is_cut_and_its_mask_is_left_alone() {
    let text = attention(8, 2, 6)
        .replace("in x Nx5x8", "in x Nx5x8\n in mask Nx1x1x5")
        .replace("p = softmax s axis=3", "r = number halves=5\n z = div s r\n w = add z mask\n p = softmax w axis=3");
    for slabs in [Slabs::Finest, Slabs::Parts] {
        let a = analysed(&text, slabs);
        assert_eq!(a.groups.attention().len(), 1);
        (0..3).for_each(|seed| cut(&a, seed));
    }
    // The mask is an input of the attention that is timed.
    let a = analysed(&text, Slabs::Finest);
    let unit = layer_model(&a.model, &a.graph, &a.facts, a.groups.attention()[0].node, 1, 7, true).unwrap();
    let inputs: Vec<_> = unit.graph_proto().input.iter().map(|i| i.name().to_owned()).collect();
    assert_eq!((inputs.len(), inputs[3].starts_with("mask")), (4, true));
}

/// As `torch.nn.MultiheadAttention` writes it: positions first, heads merged into the batch.
#[test]
fn heads_merged_into_the_batch_narrow_together() {
    let text = "in x 5x1x6
         i = linear x out=12
         q = linear i out=12
         k = linear i out=12
         v = linear i out=12
         qh = reshape q to=5,3,4
         kh = reshape k to=5,3,4
         vh = reshape v to=5,3,4
         qt = transpose qh perm=1,0,2
         kt = transpose kh perm=1,2,0
         vt = transpose vh perm=1,0,2
         s = matmul qt kt
         p = softmax s axis=2
         o = matmul p vt
         ot = transpose o perm=1,0,2
         oc = reshape ot to=5,1,12
         y = linear oc out=4
         out y";
    let a = analysed(text, Slabs::Finest);
    let l = &a.groups.attention()[0];
    assert_eq!((l.fixed_in, l.fixed_out, l.outputs.len()), (3, 0, 2));
    (0..3).for_each(|seed| cut(&a, seed));
}

/// As `scaled_dot_product_attention` with a mask is exported: rows of NaN are replaced, the scale is computed from the width.
#[test]
fn a_guard_against_rows_that_are_masked_all_over_freezes_nothing() {
    let text = attention(8, 2, 4).replace(
        "o = matmul p vt",
        "n = isnan p
         zero = number halves=0
         g = where n zero p
         o = matmul g vt",
    );
    for slabs in [Slabs::Finest, Slabs::Parts] {
        let a = analysed(&text, slabs);
        assert_eq!(a.groups.attention().len(), 1);
        assert!(a.groups.attention()[0].widths(|_| 1).0 <= 2);
        assert!(a.groups.prunable().count() >= 2, "{:?}", a.groups);
        (0..2).for_each(|seed| cut(&a, seed));
    }
}

/// `softmax(q·kᵀ/2)·v`, by the definition.
fn definition(q: &[f32], k: &[f32], v: &[f32], positions: usize, heads: usize, wq: usize, wv: usize) -> Vec<f32> {
    let mut out = vec![0.0; positions * heads * wv];
    for h in 0..heads {
        for t in 0..positions {
            let score = |s: usize| -> f32 { (0..wq).map(|d| q[(t * heads + h) * wq + d] * k[(s * heads + h) * wq + d]).sum::<f32>() * 0.5 };
            let scores: Vec<f32> = (0..positions).map(score).collect();
            let top = scores.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f32> = scores.iter().map(|s| (s - top).exp()).collect();
            let sum: f32 = weights.iter().sum();
            for d in 0..wv {
                out[(t * heads + h) * wv + d] = (0..positions).map(|s| weights[s] / sum * v[(s * heads + h) * wv + d]).sum();
            }
        }
    }
    out
}

#[test]
fn an_attention_of_other_sizes_is_timed_by_a_model_that_computes_it() {
    let a = Analysed::new(parse(&vision(12, 3, 4)), 1).unwrap();
    let node = a.groups.attention()[0].node;
    for (heads, width, wq, wv) in [(3, 8, 4, 4), (1, 8, 4, 4), (2, 5, 2, 3), (3, 2, 1, 1)] {
        let unit: Model = layer_model(&a.model, &a.graph, &a.facts, node, heads, width, true).unwrap();
        let inputs = Analysed::new(unit.clone(), 1).unwrap().inputs(&mut Random::new(3));
        let shapes: Vec<_> = inputs.iter().map(|i| i.0.clone()).collect();
        assert_eq!(shapes, [vec![1, 4, heads * wq], vec![1, 4, heads * wq], vec![1, 4, heads * wv]]);
        let found = run(&unit, &inputs).unwrap();
        let expected = definition(&inputs[0].1, &inputs[1].1, &inputs[2].1, 4, heads, wq, wv);
        assert_eq!(found[0].0, [1, 4, heads * wv]);
        assert!(found[0].1.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-5), "{heads} heads, width {width}");
    }
    let e = layer_model(&a.model, &a.graph, &a.facts, node, 0, 8, true).unwrap_err().to_string();
    assert!(e.contains("0 heads"), "{e}");
    // Blocks of one shape are timed once.
    let both: Vec<_> =
        a.groups.attention().iter().map(|l| layer_model(&a.model, &a.graph, &a.facts, l.node, 3, 8, true).unwrap()).collect();
    assert_eq!(both[0].to_bytes().unwrap(), both[1].to_bytes().unwrap());
}

#[test]
fn multiply_accumulates_of_attentions_are_those_of_their_products() {
    let a = Analysed::new(parse(&vision(12, 3, 4)), 2).unwrap();
    let costs = cost(&a.graph, &a.facts);
    for found in Attention::find(&a.graph, &a.facts) {
        let products = [found.scores, found.mix].map(|n| costs.per_node[n.index()].macs);
        assert_eq!(found.macs(), products.iter().sum::<u64>());
    }
}

/// What reads a value twice is timed with the layer that computes it.
#[test]
fn an_error_linear_unit_written_out_belongs_to_its_layer() {
    let a = Analysed::new(parse(&vision(12, 3, 4)), 1).unwrap();
    let node = a.graph.nodes.iter().find(|n| n.name == "b1_f").unwrap().id;
    let layer = layer_model(&a.model, &a.graph, &a.facts, node, 12, 6, true).unwrap();
    let ops: Vec<_> = layer.graph_proto().node.iter().map(|n| n.op_type().to_owned()).collect();
    assert_eq!(ops, ["MatMul", "Div", "Erf", "Add", "Mul", "Mul"]);
    let b = Analysed::new(layer, 1).unwrap();
    assert_eq!(run(&b.model, &b.inputs(&mut Random::new(1))).unwrap()[0].0, [1, 4, 6]);
}

#[test]
fn what_is_no_attention_is_not_taken_for_one() {
    // A product without a softmax; a softmax over the queries; a stored operand.
    for text in [
        attention(8, 2, 4).replace("p = softmax s axis=3", "p = relu s"),
        attention(8, 2, 4).replace("axis=3", "axis=2"),
        attention(8, 2, 4).replace("o = matmul p vt", "o = linear p out=4"),
    ] {
        let a = analysed(&text, Slabs::Finest);
        assert!(a.groups.attention().is_empty());
    }
}

/// Both kinds of slab, one after the other, are one cut.
#[test]
fn heads_go_first_and_the_width_of_those_that_stay_afterwards() {
    let a = analysed(&vision(12, 4, 4), Slabs::Parts);
    let heads: Vec<_> = a.groups.attention().iter().flat_map(|l| &l.inputs).map(|p| (p.0, vec![1, 3])).collect();
    let small = a.apply(&Decision { keep: heads.into_iter().collect(), ..Decision::keep_all() }).unwrap();
    let b = Analysed::with_slabs(small, &InputShapes::batch(2), Slabs::Finest).unwrap();
    assert!(b.groups.attention().iter().all(|l| l.widths(|g| b.groups.group(g).size) == (2, 8)));
    (0..2).for_each(|seed| cut(&b, seed));
}

/// As PyTorch exports it: the width to reshape to is read off the features, which have the same size by chance alone. With a branch
/// left out, what is computed in it is no business of the rest.
#[test]
fn a_width_read_off_the_features_becomes_a_number_and_a_branch_may_go_beside_it() {
    let mut text = vision(12, 3, 4);
    for n in ["b1", "b2"] {
        let joined = format!(
            "{n}_sh = shape {n}_n
             {n}_s0 = gather {n}_sh at=0 axis=0
             {n}_s1 = gather {n}_sh at=1 axis=0
             {n}_s2 = gather {n}_sh at=2 axis=0
             {n}_j = concat {n}_s0 {n}_s1 {n}_s2 axis=0
             {n}_oc = reshape {n}_ot {n}_j"
        );
        text = text.replace(&format!("{n}_oc = reshape {n}_ot to=0,0,12"), &joined);
    }
    let a = analysed(&text, Slabs::Finest);
    let features = a.groups.prunable().find(|g| g.size == 12).unwrap().id;
    for branch in a.groups.branches.iter().map(|b| Some(b.id)).chain([None]) {
        let d = Decision { keep: [(features, vec![0, 2, 3, 5, 6, 8, 11])].into(), removed_branches: branch.into_iter().collect() };
        assert_twins(&a, &d, &mut Random::new(7));
    }
    (0..3).for_each(|seed| cut(&a, seed));
}
