//! What attributes and operands of single operators mean, whatever numbers they hold, and which are refused.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use secateur_graph::ops::Op;
use secateur_graph::proto::{
    AttributeProto, NodeProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use secateur_graph::{Facts, Graph, InputShapes, Model, Result, Tensor};
use support::text::parse;

/// The shape of `value` in `model`; `None` where it is not known.
fn shape(model: &Model, value: &str) -> Result<Option<Vec<usize>>> {
    let graph = Graph::new(model)?;
    let facts = Facts::infer(model, &graph, &InputShapes::default())?;
    Ok(facts.shape(graph.find(value).unwrap()).map(<[usize]>::to_vec))
}

fn attribute(name: &str, of: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(of as i32), ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, AttributeType::Int) }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

fn string(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: Some(text.as_bytes().to_vec().into()), ..attribute(name, AttributeType::String) }
}

/// The node called `name`, to change it.
fn node<'m>(model: &'m mut Model, name: &str) -> &'m mut NodeProto {
    model.graph_proto_mut().node.iter_mut().find(|n| n.name() == name).unwrap()
}

/// Small numbers, and such as arithmetic of 64 bits does not hold sums and products of.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..12, 1 => prop::sample::select(vec![1 << 20, 1 << 31, (1 << 31) + 1, 1 << 40, 1 << 62, i64::MAX])]
}

/// More elements than this are refused wherever they occur.
const MOST: i128 = 1 << 40;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// In exact arithmetic; where that holds more than any machine, an error.
    #[test]
    fn windows_have_the_sizes_of_their_definition(
        size in 1usize..12, kernel in 1usize..5, before in number(), after in number(), stride in number(), dilation in number(),
    ) {
        let mut model = parse(&format!("in x 1x2x{size}x3\na = maxpool x k=1 stride=1\ny = relu a\nout y"));
        node(&mut model, "a").attribute = vec![
            ints("kernel_shape", &[kernel as i64, 1]),
            ints("strides", &[stride, 1]),
            ints("dilations", &[dilation, 1]),
            ints("pads", &[before, 0, after, 0]),
        ];
        let span = size as i128 + before as i128 + after as i128 - (dilation as i128 * (kernel as i128 - 1) + 1);
        let found = shape(&model, "y");
        if stride == 0 || dilation == 0 || span < 0 {
            prop_assert!(found.is_err(), "{:?}", found);
            return Ok(());
        }
        let rows = span / stride as i128 + 1;
        match found {
            Ok(found) => prop_assert_eq!(found.unwrap().iter().map(|&d| d as i128).collect::<Vec<_>>(), [1, 2, rows, 3]),
            Err(e) => {
                let long = [before, after, stride, dilation].iter().any(|&n| n > 1 << 31);
                prop_assert!(long || 6 * rows > MOST, "{e}");
            }
        }
    }

    /// Negative amounts crop, and no more than there is.
    #[test]
    fn padding_has_the_size_of_its_definition(size in 1usize..12, signs in any::<[bool; 2]>(), amounts in [number(), number()], least in any::<bool>()) {
        let mut amounts = [0, 1].map(|k| if signs[k] { -amounts[k] } else { amounts[k] });
        if least && signs[0] {
            amounts[0] = i64::MIN;
        }
        let mut model = parse(&format!("in x 1x2x{size}x3\na = pad x\ny = relu a\nout y"));
        model.set_tensor("a.pads", &Tensor::vec_i64(vec![0, 0, amounts[0], 0, 0, 0, amounts[1], 0])).unwrap();
        let cropped: i128 = size as i128 + amounts.iter().map(|&a| a.min(0) as i128).sum::<i128>();
        let rows: i128 = size as i128 + amounts.iter().map(|&a| a as i128).sum::<i128>();
        match shape(&model, "y") {
            Ok(found) => {
                prop_assert!(cropped >= 0);
                prop_assert_eq!(found.unwrap().iter().map(|&d| d as i128).collect::<Vec<_>>(), [1, 2, rows, 3]);
            }
            Err(e) => prop_assert!(cropped < 0 || 6 * rows > MOST, "{e}"),
        }
    }
}

/// Before opset 7 an operand met the axes of the other from `axis` on; since then both end together.
#[test]
fn old_broadcasting_is_refused_where_it_means_something_else() {
    let whole = [2usize, 3, 3, 3];
    for (axis, rank) in (0..4).flat_map(|a| (1..=4 - a).map(move |r| (a, r))) {
        let mut model = parse("in x 2x3x3x3\na = relu x\ny = add a b\nout y");
        let own = &whole[axis..axis + rank];
        model.add_initializer("b", &Tensor::f32(own, vec![0.5; own.iter().product()]));
        model.proto_mut().opset_import[0].version = Some(6);
        node(&mut model, "y").attribute = vec![int("broadcast", 1), int("axis", axis as i64)];
        match shape(&model, "y") {
            Ok(found) => assert_eq!((found.unwrap(), axis + rank), (whole.to_vec(), 4)),
            Err(e) => {
                assert_ne!(axis + rank, 4, "{e}");
                assert!(e.to_string().contains("version_converter"), "{e}");
            }
        }
    }
    // A slope per channel was of a single axis.
    let mut model = parse("in x 2x3x3x3\ny = prelu x\nout y");
    model.set_tensor("y.p", &Tensor::f32([3], vec![0.5; 3])).unwrap();
    model.proto_mut().opset_import[0].version = Some(6);
    assert!(shape(&model, "y").unwrap_err().to_string().contains("version_converter"));
}

#[test]
fn a_normalisation_by_the_batch_is_refused_with_the_remedy() {
    let mut model = parse("in x 1x3x4x4\ny = bn x\nout y");
    node(&mut model, "y").attribute.push(int("training_mode", 0));
    assert!(Graph::new(&model).is_ok());
    node(&mut model, "y").attribute[0].i = Some(1);
    let e = Graph::new(&model).unwrap_err().to_string();
    assert!(e.contains("`y`") && e.contains("model.eval()") && e.contains("training_mode to 0"), "{e}");
}

/// Sizes within which proportions are kept are not the sizes of the result.
#[test]
fn a_resize_that_keeps_proportions_has_no_known_shape() {
    let mut model = parse("in x 1x3x4x4\ns = constant values=1,3,8,6\na = resize x s\ny = relu a\nout y");
    let policy = |model: &mut Model, text: &str| node(model, "a").attribute.push(string("keep_aspect_ratio_policy", text));
    policy(&mut model, "stretch");
    assert_eq!(shape(&model, "y").unwrap(), Some(vec![1, 3, 8, 6]));
    node(&mut model, "a").attribute.pop();
    policy(&mut model, "not_larger");
    assert_eq!(shape(&model, "y").unwrap(), None);
    node(&mut model, "a").attribute.push(int("antialias", 1));
    let graph = Graph::new(&model).unwrap();
    assert!(graph.nodes.iter().any(|n| matches!(&n.op, Op::Resize(r) if r.antialias && r.keeps_proportions)));
}

#[test]
fn weights_that_are_empty_and_biases_that_do_not_fit_are_refused() {
    let refused = |text: &str, tensor: &str, shape_of_it: &[usize], part: &str| {
        let mut model = parse(text);
        model.set_tensor(tensor, &Tensor::f32(shape_of_it, vec![0.5; shape_of_it.iter().product()])).unwrap();
        let e = shape(&model, "y").unwrap_err().to_string();
        assert!(e.contains("`y`") && e.contains(part), "{e}");
    };
    let conv = "in x 1x3x4x4\ny = conv x out=5\nout y";
    refused(conv, "y.b", &[4], "bias [4] for 5 filters");
    refused(conv, "y.b", &[1, 5], "bias");
    refused(conv, "y.w", &[0, 3, 3, 3], "empty");
    refused("in x 1x4x4x4\ny = convt x out=6 group=2\nout y", "y.b", &[3], "bias [3] for 6 filters");
    refused("in x 1x4x4x4\ny = convt x out=6 group=3\nout y", "y.b", &[6], "3 partitions");
    refused("in x 1x4\ny = gemm x out=3\nout y", "y.w", &[0, 4], "empty");
    refused("in x 1x4\ny = linear x out=3\nout y", "y.w", &[4, 0], "empty");
}

#[test]
fn axes_are_within_the_rank() {
    for (text, rank) in [("softmax x", 4), ("layernorm x", 4)] {
        for axis in [rank, -rank - 1, i64::MAX, i64::MIN] {
            let mut model = parse(&format!("in x 1x3x4x4\ny = {text}\nout y"));
            node(&mut model, "y").attribute[0].i = Some(axis);
            let e = shape(&model, "y").unwrap_err().to_string();
            assert!(e.contains("out of range"), "{e}");
        }
    }
}

/// What a file declares of the result of an operator without a rule is believed, but not if no machine holds it.
#[test]
fn declared_shapes_beyond_any_machine_are_not_known() {
    for (size, known) in [(64, true), (1 << 40, false)] {
        let mut model = parse("in x 1x3x4x4\na = mystery x\ny = relu a\nout y");
        let dim = |n| Dimension { value: Some(dimension::Value::DimValue(n)), ..Default::default() };
        let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: vec![dim(size), dim(size)] }) };
        model.graph_proto_mut().value_info.push(ValueInfoProto {
            name: Some("a".into()),
            r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
            ..Default::default()
        });
        assert_eq!(shape(&model, "y").unwrap().is_some(), known);
    }
}
