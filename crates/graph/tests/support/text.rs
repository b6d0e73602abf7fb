//! A small text form for graphs in tests. One node per line: `result = operator operands… key=value…`; weights are seeded
//! random tensors named after the result (`a.w`, `a.b`). `in` declares an input, `out` the outputs.
//!
//! ```text
//! in x 1x3x8x8
//! a = conv x out=8
//! r = relu a
//! y = conv r out=4
//! out y
//! ```

use secateur_graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use secateur_graph::{Facts, Graph, Groups, InputShapes, Model, Role, Tensor};

use super::Random;

/// Builds the model of a text.
pub fn parse(text: &str) -> Model {
    let mut b = Builder { model: empty(), random: Random::new(3) };
    for line in text.lines().map(|l| l.split('#').next().unwrap().trim()).filter(|l| !l.is_empty()) {
        b.line(line);
    }
    b.model
}

fn empty() -> Model {
    let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(17) };
    let other = OperatorSetIdProto { domain: Some("test".into()), version: Some(1) };
    Model::from_proto(ModelProto {
        ir_version: Some(8),
        opset_import: vec![opset, other],
        graph: Some(GraphProto { name: Some("text".into()), ..Default::default() }),
        ..Default::default()
    })
}

struct Builder {
    model: Model,
    random: Random,
}

struct Line<'l> {
    results: Vec<&'l str>,
    op: &'l str,
    operands: Vec<&'l str>,
    options: Vec<(&'l str, &'l str)>,
}

impl<'l> Line<'l> {
    fn get(&self, key: &str) -> Option<&'l str> {
        self.options.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    fn int(&self, key: &str, default: i64) -> i64 {
        self.get(key).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{key}={v}")))
    }

    fn ints(&self, key: &str) -> Vec<i64> {
        let text = self.get(key).unwrap_or_else(|| panic!("{} needs {key}=", self.op));
        text.split(',').map(|v| v.parse().unwrap()).collect()
    }
}

impl Builder {
    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.clone().next().unwrap() {
            "in" => {
                words.next();
                let name = words.next().unwrap();
                let dims: Vec<&str> = words.next().unwrap().split('x').collect();
                self.model.graph_proto_mut().input.push(declare(name, &dims));
            }
            "out" => {
                for name in words.skip(1) {
                    let info = ValueInfoProto { name: Some(name.into()), ..declare(name, &[]) };
                    self.model.graph_proto_mut().output.push(ValueInfoProto {
                        r#type: Some(TypeProto {
                            value: Some(type_proto::Value::TensorType(type_proto::Tensor { elem_type: Some(1), shape: None })),
                            ..Default::default()
                        }),
                        ..info
                    });
                }
            }
            _ => {
                let (left, right) = line.split_once('=').unwrap();
                let results = left.split(',').map(str::trim).collect();
                let mut words = right.split_whitespace();
                let op = words.next().unwrap();
                let (options, operands): (Vec<&str>, Vec<&str>) = words.partition(|w| w.contains('='));
                let options = options.into_iter().map(|o| o.split_once('=').unwrap()).collect();
                self.node(&Line { results, op, operands, options });
            }
        }
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        let graph = Graph::new(&self.model).unwrap();
        let facts = Facts::infer(&self.model, &graph, &InputShapes::batch(2)).unwrap();
        facts.shape(graph.find(name).unwrap_or_else(|| panic!("no value {name}"))).unwrap_or_else(|| panic!("shape of {name}")).to_vec()
    }

    fn tensor(&mut self, name: String, shape: Vec<usize>, center: f32, spread: f32) -> String {
        let n = shape.iter().product();
        let values = self.random.floats(n).into_iter().map(|v| center + spread * v).collect();
        self.model.add_initializer(&name, &Tensor::f32(shape, values));
        name
    }

    fn constant(&mut self, name: String, values: Vec<i64>) -> String {
        self.model.add_initializer(&name, &Tensor::vec_i64(values));
        name
    }

    fn push(&mut self, op: &str, input: Vec<String>, results: &[&str], attribute: Vec<AttributeProto>) {
        let output = results.iter().map(|r| (*r).to_owned()).collect();
        self.model.graph_proto_mut().node.push(NodeProto {
            name: Some(results[0].to_owned()),
            op_type: Some(op.into()),
            input,
            output,
            attribute,
            ..Default::default()
        });
    }

    fn node(&mut self, l: &Line) {
        let name = l.results[0];
        let mut input: Vec<String> = l.operands.iter().map(|o| (*o).to_owned()).collect();
        let axis = |default| l.int("axis", default);
        let (op, attribute) = match l.op {
            "conv" | "convt" => {
                let x = self.shape(l.operands[0]);
                let (out, k, group) = (l.int("out", x[1] as i64) as usize, l.int("k", 3) as usize, l.int("group", 1) as usize);
                let shape = if l.op == "conv" { vec![out, x[1] / group, k, k] } else { vec![x[1], out / group, k, k] };
                let bound = (3.0 / (x[1] / group * k * k) as f32).sqrt();
                match l.get("share") {
                    Some(other) => input.push(format!("{other}.w")),
                    None => {
                        input.push(self.tensor(format!("{name}.w"), shape, 0.0, bound));
                        if l.int("bias", 1) == 1 {
                            input.push(self.tensor(format!("{name}.b"), vec![out], 0.0, 0.5));
                        }
                    }
                }
                let (s, p) = (l.int("stride", 1), l.int("pad", k as i64 / 2));
                (
                    if l.op == "conv" { "Conv" } else { "ConvTranspose" },
                    vec![ints("kernel_shape", &[k as i64; 2]), ints("strides", &[s, s]), ints("pads", &[p; 4]), int("group", group as i64)],
                )
            }
            "bn" => {
                let c = self.shape(l.operands[0])[1];
                for (part, center) in [("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("var", 1.0)] {
                    input.push(self.tensor(format!("{name}.{part}"), vec![c], center, 0.5));
                }
                ("BatchNormalization", vec![])
            }
            "relu" => ("Relu", vec![]),
            "sigmoid" => ("Sigmoid", vec![]),
            "hardswish" => ("HardSwish", vec![]),
            "exp" => ("Exp", vec![]),
            "erf" => ("Erf", vec![]),
            "isnan" => ("IsNaN", vec![]),
            "where" => ("Where", vec![]),
            "lrelu" => ("LeakyRelu", vec![]),
            "shape" => ("Shape", vec![]),
            "cast_float" => ("Cast", vec![int("to", 1)]),
            "cast_half" => ("Cast", vec![int("to", 10)]),
            "prelu" | "scale" | "shift" => {
                let x = self.shape(l.operands[0]);
                let mut shape = vec![1; x.len() - 1];
                shape[0] = x[1];
                input.push(self.tensor(format!("{name}.p"), shape, 0.5, 0.5));
                (["PRelu", "Mul", "Add"][["prelu", "scale", "shift"].iter().position(|o| *o == l.op).unwrap()], vec![])
            }
            "add" => ("Add", vec![]),
            "sub" => ("Sub", vec![]),
            "mul" => ("Mul", vec![]),
            "div" => ("Div", vec![]),
            "matmul" => ("MatMul", vec![]),
            "concat" => ("Concat", vec![int("axis", axis(1))]),
            "split" => {
                if l.get("sizes").is_some() {
                    input.push(self.constant(format!("{name}.sizes"), l.ints("sizes")));
                }
                ("Split", vec![int("axis", axis(1))])
            }
            "slice" => {
                for (part, value) in
                    [("start", l.int("start", 0)), ("end", l.int("end", i64::MAX)), ("axis", axis(1)), ("step", l.int("step", 1))]
                {
                    input.push(self.constant(format!("{name}.{part}"), vec![value]));
                }
                ("Slice", vec![])
            }
            "gather" => {
                let at = l.ints("at");
                let scalar = l.int("scalar", 0) == 1;
                let tensor = if scalar { Tensor::i64([], at) } else { Tensor::vec_i64(at) };
                self.model.add_initializer(&format!("{name}.at"), &tensor);
                input.push(format!("{name}.at"));
                ("Gather", vec![int("axis", axis(1))])
            }
            "pad" => {
                let (b, a, s) = (l.int("before", 0), l.int("after", 0), l.int("spatial", 0));
                input.push(self.constant(format!("{name}.pads"), vec![0, b, s, s, 0, a, s, s]));
                ("Pad", vec![])
            }
            "maxpool" | "avgpool" => {
                let (k, s, p) = (l.int("k", 2), l.int("stride", 2), l.int("pad", 0));
                (
                    if l.op == "maxpool" { "MaxPool" } else { "AveragePool" },
                    vec![ints("kernel_shape", &[k, k]), ints("strides", &[s, s]), ints("pads", &[p; 4])],
                )
            }
            "gap" => ("GlobalAveragePool", vec![]),
            "mean" => ("ReduceMean", vec![ints("axes", &l.ints("axes")), int("keepdims", l.int("keep", 1))]),
            "sum" => {
                input.push(self.constant(format!("{name}.axes"), l.ints("axes")));
                ("ReduceSum", vec![int("keepdims", l.int("keep", 1))])
            }
            "flatten" => ("Flatten", vec![int("axis", axis(1))]),
            "squeeze" if l.get("axes").is_none() => ("Squeeze", vec![]),
            "squeeze" | "unsqueeze" => {
                input.push(self.constant(format!("{name}.axes"), l.ints("axes")));
                (if l.op == "squeeze" { "Squeeze" } else { "Unsqueeze" }, vec![])
            }
            "gemm" => {
                let k = self.shape(l.operands[0])[1];
                let out = l.int("out", 4) as usize;
                input.push(self.tensor(format!("{name}.w"), vec![out, k], 0.0, (3.0 / k as f32).sqrt()));
                input.push(self.tensor(format!("{name}.b"), vec![out], 0.0, 0.5));
                ("Gemm", vec![int("transB", 1)])
            }
            "linear" => {
                let k = *self.shape(l.operands[0]).last().unwrap();
                input.push(self.tensor(format!("{name}.w"), vec![k, l.int("out", 4) as usize], 0.0, (3.0 / k as f32).sqrt()));
                ("MatMul", vec![])
            }
            "reshape" => {
                // A second operand is a computed target.
                if l.get("to").is_some() {
                    input.push(self.constant(format!("{name}.to"), l.ints("to")));
                }
                ("Reshape", vec![])
            }
            "transpose" => ("Transpose", vec![ints("perm", &l.ints("perm"))]),
            "softmax" => ("Softmax", vec![int("axis", axis(1))]),
            "layernorm" => {
                let c = *self.shape(l.operands[0]).last().unwrap();
                input.push(self.tensor(format!("{name}.scale"), vec![c], 1.0, 0.5));
                ("LayerNormalization", vec![int("axis", -1)])
            }
            "lrn" => ("LRN", vec![int("size", l.int("size", 3)), float("alpha", 0.5), float("bias", 1.0)]),
            "instancenorm" => {
                let c = self.shape(l.operands[0])[1];
                input.push(self.tensor(format!("{name}.scale"), vec![c], 1.0, 0.5));
                input.push(self.tensor(format!("{name}.shift"), vec![c], 0.0, 0.5));
                ("InstanceNormalization", vec![])
            }
            "depthtospace" | "spacetodepth" => {
                let mut attributes = vec![int("blocksize", l.int("block", 2))];
                if let Some(mode) = l.get("mode") {
                    attributes.push(string("mode", mode));
                }
                (if l.op == "depthtospace" { "DepthToSpace" } else { "SpaceToDepth" }, attributes)
            }
            "tile" => {
                input.push(self.constant(format!("{name}.repeats"), l.ints("by")));
                ("Tile", vec![])
            }
            "fill" => {
                // An operand is a computed shape.
                if l.get("shape").is_some() {
                    input.push(self.constant(format!("{name}.shape"), l.ints("shape")));
                }
                let value = Tensor::f32([1], vec![l.int("value", 0) as f32]).encode("");
                let attribute = AttributeProto {
                    name: Some("value".into()),
                    r#type: Some(AttributeType::Tensor as i32),
                    t: Some(value),
                    ..Default::default()
                };
                ("ConstantOfShape", vec![attribute])
            }
            "lstm" | "gru" | "rnn" => {
                let features = self.shape(l.operands[0])[2];
                let (hidden, directions) = (l.int("hidden", 4) as usize, l.int("directions", 1) as usize);
                let gates = [4, 3, 1][["lstm", "gru", "rnn"].iter().position(|o| *o == l.op).unwrap()];
                let states: Vec<String> = input.drain(1..).collect();
                input.push(self.tensor(format!("{name}.w"), vec![directions, gates * hidden, features], 0.0, 0.7));
                input.push(self.tensor(format!("{name}.r"), vec![directions, gates * hidden, hidden], 0.0, 0.7));
                input.push(self.tensor(format!("{name}.b"), vec![directions, 2 * gates * hidden], 0.0, 0.5));
                if !states.is_empty() {
                    input.push(String::new());
                    input.extend(states);
                }
                let mut attributes = vec![int("hidden_size", hidden as i64)];
                if directions == 2 {
                    attributes.push(string("direction", "bidirectional"));
                }
                (["LSTM", "GRU", "RNN"][["lstm", "gru", "rnn"].iter().position(|o| *o == l.op).unwrap()], attributes)
            }
            "resize" => {
                // A second operand is the computed sizes.
                let sizes = (input.len() == 2).then(|| input.remove(1));
                let s = l.int("scale", 2) as f32;
                match sizes {
                    Some(sizes) => input.extend([String::new(), String::new(), sizes]),
                    None => {
                        self.model.add_initializer(&format!("{name}.scales"), &Tensor::f32([4], vec![1.0, 1.0, s, s]));
                        input.extend([String::new(), format!("{name}.scales")]);
                    }
                }
                (
                    "Resize",
                    vec![
                        string("mode", "nearest"),
                        string("coordinate_transformation_mode", "asymmetric"),
                        string("nearest_mode", "floor"),
                    ],
                )
            }
            "mystery" => {
                self.push("Mystery", input, &l.results, vec![]);
                self.model.graph_proto_mut().node.last_mut().unwrap().domain = Some("test".into());
                return;
            }
            // Half of a whole number.
            "number" => {
                let halves = l.int("halves", 1) as f32;
                self.model.add_initializer(name, &Tensor::f32([], vec![halves / 2.0]));
                return;
            }
            "constant" => {
                let name = self.constant(name.to_owned(), l.ints("values"));
                assert_eq!(name, l.results[0]);
                return;
            }
            other => panic!("no operator {other} in the text form"),
        };
        self.push(op, input, &l.results, attribute);
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Int as i32), i: Some(i), ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Ints as i32), ints: values.to_vec(), ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), r#type: Some(AttributeType::Float as i32), f: Some(f), ..Default::default() }
}

fn string(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.into()),
        r#type: Some(AttributeType::String as i32),
        s: Some(value.to_owned().into()),
        ..Default::default()
    }
}

fn declare(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| match d.parse() {
        Ok(n) => Dimension { value: Some(dimension::Value::DimValue(n)), ..Default::default() },
        Err(_) => Dimension { value: Some(dimension::Value::DimParam((*d).to_owned())), ..Default::default() },
    };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(TensorShapeProto { dim: dims.iter().map(dim).collect() }) };
    ValueInfoProto {
        name: Some(name.into()),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() }),
        ..Default::default()
    }
}

/// The groups as text: `channels: parameters`, each parameter as `tensor/axis` (`×n` where a channel has n coordinates).
/// Tensors of a normalisation other than the first are left out; frozen groups end in `frozen`.
pub fn render(graph: &Graph, groups: &Groups) -> String {
    let mut out = String::new();
    for g in &groups.groups {
        let mut parts = vec![format!("{}:", g.size)];
        for m in g.members.iter().filter(|m| m.role != Role::Carried) {
            let name = &graph.value(m.value).name;
            if [".shift", ".mean", ".var", ".b"].iter().any(|s| name.ends_with(s)) {
                continue;
            }
            let count = m.coordinates[0].len();
            parts.push(if count == 1 { format!("{name}/{}", m.axis) } else { format!("{name}/{}×{count}", m.axis) });
        }
        if g.frozen.is_some() {
            parts.push("frozen".into());
        }
        out.push_str(&parts.join(" "));
        out.push('\n');
    }
    out
}

/// Self-attention over inputs of `features` features, with `heads` heads of `width`, in the text form.
pub fn attention(features: usize, heads: usize, width: usize) -> String {
    let all = heads * width;
    format!(
        "in x Nx5x{features}
         i = linear x out={all}
         q = linear i out={all}
         k = linear i out={all}
         v = linear i out={all}
         qh = reshape q to=0,0,{heads},{width}
         kh = reshape k to=0,0,{heads},{width}
         vh = reshape v to=0,0,{heads},{width}
         qt = transpose qh perm=0,2,1,3
         kt = transpose kh perm=0,2,3,1
         vt = transpose vh perm=0,2,1,3
         s = matmul qt kt
         p = softmax s axis=3
         o = matmul p vt
         ot = transpose o perm=0,2,1,3
         oc = reshape ot to=0,0,{all}
         y = linear oc out=4
         out y"
    )
}

/// A vision transformer of two blocks, in the text form: normalised before each part, error linear units written out, a class token's row read
/// in the end. `features` features, `heads` heads of `width`.
pub fn vision(features: usize, heads: usize, width: usize) -> String {
    let all = heads * width;
    let block = |x: &str, n: &str| {
        format!(
            "{n}_n = layernorm {x}
             {n}_q = linear {n}_n out={all}
             {n}_k = linear {n}_n out={all}
             {n}_v = linear {n}_n out={all}
             {n}_qh = reshape {n}_q to=0,0,{heads},{width}
             {n}_kh = reshape {n}_k to=0,0,{heads},{width}
             {n}_vh = reshape {n}_v to=0,0,{heads},{width}
             {n}_qt = transpose {n}_qh perm=0,2,1,3
             {n}_kt = transpose {n}_kh perm=0,2,3,1
             {n}_vt = transpose {n}_vh perm=0,2,1,3
             {n}_s = matmul {n}_qt {n}_kt
             {n}_c = number halves=1
             {n}_d = mul {n}_s {n}_c
             {n}_p = softmax {n}_d axis=3
             {n}_o = matmul {n}_p {n}_vt
             {n}_ot = transpose {n}_o perm=0,2,1,3
             {n}_oc = reshape {n}_ot to=0,0,{all}
             {n}_y = linear {n}_oc out={features}
             {n}_a = add {x} {n}_y
             {n}_m = layernorm {n}_a
             {n}_f = linear {n}_m out=10
             {n}_r = number halves=3
             {n}_g = div {n}_f {n}_r
             {n}_e = erf {n}_g
             {n}_1 = number halves=2
             {n}_h = add {n}_e {n}_1
             {n}_w = mul {n}_f {n}_h
             {n}_2 = number halves=1
             {n}_u = mul {n}_w {n}_2
             {n}_z = linear {n}_u out={features}
             {n} = add {n}_a {n}_z\n"
        )
    };
    format!(
        "in x Nx3x8x8
         e = conv x out={features} k=4 stride=4 pad=0
         f = reshape e to=0,0,-1
         t = transpose f perm=0,2,1
         {}{}l = layernorm b2
         c = slice l axis=1 start=0 end=1
         s = squeeze c axes=1
         y = gemm s out=5
         out y",
        block("t", "b1"),
        block("b1", "b2")
    )
}
