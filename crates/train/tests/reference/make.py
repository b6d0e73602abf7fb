"""Makes operators.json: small graphs with outputs from ONNX Runtime and gradients from PyTorch.

    python crates/train/tests/reference/make.py

Every graph computes y = op(input + p, …): the gradient of the parameter p is that of the
operator's input. The loss is the sum of y times fixed numbers. Needs numpy, onnx, onnxruntime, torch.
"""
import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(7)
CASES = []


def case(name, shape, torch_op, nodes, params=(), ints=(), opset=17, mode="eval", spread=1.0, running=()):
    """`nodes(h, y)` gives the ONNX nodes from h to y; `torch_op(h, *params)` is the same in PyTorch."""
    p = (rng.standard_normal(shape) * spread).astype(np.float32)
    values = [("p", p)] + [(n, v.astype(np.float32)) for n, v in params]
    initializers = [numpy_helper.from_array(v, n) for n, v in values]
    initializers += [numpy_helper.from_array(v.astype(np.float32), n) for n, v in running]
    initializers += [numpy_helper.from_array(np.array(v, dtype=np.int64), n) for n, v in ints]
    body = [helper.make_node("Add", ["input", "p"], ["h"])] + nodes("h", "y")
    graph = helper.make_graph(
        body, name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    x = rng.standard_normal(shape).astype(np.float32) * np.float32(0.5)
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for _, v in values]
    y = torch_op(torch.tensor(x, dtype=torch.float64) + leaves[0], *leaves[1:])
    if mode == "eval":
        out = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"input": x})[0]
        assert out.shape == tuple(y.shape), (name, out.shape, y.shape)
        assert np.allclose(out, y.detach().numpy(), atol=2e-4, rtol=2e-4), (name, np.abs(out - y.detach().numpy()).max())
    else:
        out = y.detach().numpy()
    c = rng.standard_normal(y.shape).astype(np.float32)
    (y * torch.tensor(c, dtype=torch.float64)).sum().backward()
    short = lambda a: [float(f"{v:.7g}") for v in np.asarray(a, dtype=np.float64).ravel()]
    CASES.append({
        "name": name, "mode": mode, "model": model.SerializeToString().hex(),
        "shape": list(shape), "input": short(x), "outputs": short(out), "seed": short(c),
        "gradients": {n: short(leaf.grad.numpy()) for (n, _), leaf in zip(values, leaves)},
    })


def one(op, inputs=(), **attributes):
    return lambda h, y: [helper.make_node(op, [h, *inputs], [y], **attributes)]


def normal(*shape):
    return rng.standard_normal(shape)


# Convolutions
def conv(name, shape, weight, bias=True, **a):
    pads = a.pop("pads", [0] * 2 * (len(shape) - 2))
    strides, dilations = a.pop("strides", [1] * (len(shape) - 2)), a.pop("dilations", [1] * (len(shape) - 2))
    group = a.pop("group", 1)
    d = len(shape) - 2
    widths = [v for i in reversed(range(d)) for v in (pads[i], pads[d + i])]
    run = F.conv2d if d == 2 else F.conv1d
    case(name, shape,
         lambda h, w, *b: run(F.pad(h, widths), w, *(b or (None,)), stride=strides, dilation=dilations, groups=group),
         one("Conv", ["w", "b"] if bias else ["w"], pads=pads, strides=strides, dilations=dilations, group=group),
         [("w", normal(*weight))] + ([("b", normal(weight[0]))] if bias else []))


conv("conv", (2, 3, 6, 5), (4, 3, 3, 3), pads=[1, 1, 1, 1])
conv("conv strided, asymmetric pads", (2, 3, 7, 8), (4, 3, 3, 3), pads=[0, 1, 2, 0], strides=[2, 2], bias=False)
conv("conv dilated", (1, 2, 9, 8), (3, 2, 3, 2), dilations=[2, 3], pads=[2, 1, 2, 1])
conv("conv grouped", (2, 4, 5, 5), (6, 2, 3, 3), group=2, pads=[1, 1, 1, 1])
conv("conv depthwise", (2, 4, 6, 6), (4, 1, 3, 3), group=4, strides=[2, 2], pads=[0, 0, 1, 1])
conv("conv pointwise", (2, 5, 4, 4), (3, 5, 1, 1))
conv("conv along one axis", (2, 3, 11), (4, 3, 3), pads=[1, 1], strides=[2])
case("conv transposed", (2, 3, 4, 5), lambda h, w, b: F.conv_transpose2d(h, w, b, stride=2, padding=1, output_padding=1),
     one("ConvTranspose", ["w", "b"], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]), [("w", normal(3, 2, 3, 3)), ("b", normal(2))])
case("conv transposed, grouped", (1, 4, 3, 3), lambda h, w: F.conv_transpose2d(h, w, stride=1, groups=2),
     one("ConvTranspose", ["w"], group=2), [("w", normal(4, 3, 2, 2))])

# Normalisations
BN = [("scale", normal(3)), ("shift", normal(3))]
MEAN, VAR = rng.standard_normal(3).astype(np.float32), rng.uniform(0.5, 2, 3).astype(np.float32)
BN_RUNNING = [("mean", MEAN), ("var", VAR)]
t64 = lambda a: torch.tensor(a, dtype=torch.float64)
case("batch normalisation, evaluation", (3, 3, 4, 4), lambda h, s, b: F.batch_norm(h, t64(MEAN), t64(VAR), s, b, False, eps=1e-5),
     one("BatchNormalization", ["scale", "shift", "mean", "var"]), BN, running=BN_RUNNING)
bn_train = lambda h, s, b: F.batch_norm(h, None, None, s, b, True, eps=1e-5)
case("batch normalisation, training", (3, 3, 4, 4), bn_train, one("BatchNormalization", ["scale", "shift", "mean", "var"]), BN, mode="train", running=BN_RUNNING)
bn_node = lambda h, y: helper.make_node("BatchNormalization", [h, "scale", "shift", "mean", "var"], [y])
case("batch normalisation and Relu, training", (3, 3, 5, 5), lambda *a: F.relu(bn_train(*a)),
     lambda h, y: [bn_node(h, "n"), helper.make_node("Relu", ["n"], [y])], BN, mode="train", running=BN_RUNNING)
case("batch normalisation, sum and Relu, training", (3, 3, 5, 5), lambda h, s, b, w: F.relu(bn_train(F.conv2d(h, w, padding=1), s, b) + h),
     lambda h, y: [helper.make_node("Conv", [h, "w"], ["c"], pads=[1, 1, 1, 1]), bn_node("c", "n"), helper.make_node("Add", ["n", h], ["a"]), helper.make_node("Relu", ["a"], [y])],
     BN + [("w", normal(3, 3, 3, 3))], mode="train", running=BN_RUNNING)
case("conv, batch normalisation, sum and Relu, evaluation", (2, 3, 5, 5),
     lambda h, s, b, w: F.relu(h + F.batch_norm(F.conv2d(h, w, padding=1), t64(MEAN), t64(VAR), s, b, False, eps=1e-5)),
     lambda h, y: [helper.make_node("Conv", [h, "w"], ["c"], pads=[1, 1, 1, 1]), bn_node("c", "n"), helper.make_node("Add", [h, "n"], ["a"]), helper.make_node("Relu", ["a"], [y])],
     BN + [("w", normal(3, 3, 3, 3))], running=BN_RUNNING)
case("layer normalisation", (2, 3, 8), lambda h, s, b: F.layer_norm(h, (8,), s, b), one("LayerNormalization", ["s", "b"], axis=-1), [("s", normal(8)), ("b", normal(8))])
case("layer normalisation over two axes", (2, 3, 4), lambda h, s, b: F.layer_norm(h, (3, 4), s, b), one("LayerNormalization", ["s", "b"], axis=1), [("s", normal(3, 4)), ("b", normal(3, 4))])

# Elementwise
S = (2, 3, 4)
case("relu", S, F.relu, one("Relu"))
case("relu6 as clip", S, F.relu6, lambda h, y: [helper.make_node("Constant", [], ["lo"], value_float=0.0), helper.make_node("Constant", [], ["hi"], value_float=6.0), helper.make_node("Clip", [h, "lo", "hi"], [y])], spread=5.0)
case("leaky relu", S, lambda h: F.leaky_relu(h, 0.1), one("LeakyRelu", alpha=0.1))
case("prelu", S, lambda h, a: torch.where(h > 0, h, a * h), one("PRelu", ["a"]), [("a", normal(3, 1))])
case("sigmoid", S, torch.sigmoid, one("Sigmoid"))
case("hard sigmoid", S, lambda h: (0.2 * h + 0.5).clamp(0, 1), one("HardSigmoid"), spread=3.0)
case("hard swish", S, F.hardswish, one("HardSwish"), spread=3.0)
case("silu", S, F.silu, lambda h, y: [helper.make_node("Sigmoid", [h], ["s"]), helper.make_node("Mul", [h, "s"], [y])])
case("tanh", S, torch.tanh, one("Tanh"))
case("gelu", S, F.gelu, one("Gelu"), opset=20)
case("gelu by tanh", S, lambda h: F.gelu(h, approximate="tanh"), one("Gelu", approximate="tanh"), opset=20)
case("erf", S, torch.erf, one("Erf"))
case("elu", S, F.elu, one("Elu"))
case("softplus", S, F.softplus, one("Softplus"))
case("exp", S, torch.exp, one("Exp"))
case("sqrt", S, lambda h: torch.sqrt(h * h + 1), lambda h, y: [helper.make_node("Mul", [h, h], ["q"]), helper.make_node("Constant", [], ["one"], value_float=1.0), helper.make_node("Add", ["q", "one"], ["r"]), helper.make_node("Sqrt", ["r"], [y])])
case("identity, cast, dropout", S, lambda h: h * 1.0, lambda h, y: [helper.make_node("Identity", [h], ["i"]), helper.make_node("Cast", ["i"], ["c"], to=1), helper.make_node("Dropout", ["c"], [y])])

# Broadcasting
for op, run in [("Add", torch.add), ("Sub", torch.sub), ("Mul", torch.mul), ("Div", torch.div)]:
    case(f"{op.lower()} with broadcasting", S, run, one(op, ["b"]), [("b", np.abs(normal(3, 1)) + 0.5)])
case("sub from a broadcast operand", S, lambda h, b: b - h, lambda h, y: [helper.make_node("Sub", ["b", h], [y])], [("b", normal(1, 4))])

# Moving data
case("concat", S, lambda h: torch.cat([h, 2 * h], 1), lambda h, y: [helper.make_node("Add", [h, h], ["d"]), helper.make_node("Concat", [h, "d"], [y], axis=1)])
case("split", (2, 5, 3), lambda h: h[:, :2] * h[:, 3:], lambda h, y: [helper.make_node("Split", [h, "parts"], ["a", "unused", "b"], axis=1), helper.make_node("Mul", ["a", "b"], [y])], ints=[("parts", [2, 1, 2])])
case("slice with steps", (2, 3, 6, 7), lambda h: h[:, :, ::2, 1:6:3], one("Slice", ["st", "en", "ax", "sp"]), ints=[("st", [0, 1]), ("en", [2**31, 6]), ("ax", [2, 3]), ("sp", [2, 3])])
case("slice backwards", S, lambda h: torch.flip(h, [2]), one("Slice", ["st", "en", "ax", "sp"]), ints=[("st", [-1]), ("en", [-(2**31)]), ("ax", [2]), ("sp", [-1])])
case("gather", S, lambda h: h[:, [2, 0, 2]], one("Gather", ["i"], axis=1), ints=[("i", [2, 0, 2])])
case("pad", (1, 2, 3, 3), lambda h: F.pad(h, (1, 2, 0, 1, 1, 1)), one("Pad", ["n"]), ints=[("n", [0, 1, 0, 1, 0, 1, 1, 2])])
case("pad by reflection", (1, 2, 4, 4), lambda h: F.pad(h, (1, 2, 2, 1), mode="reflect"), one("Pad", ["n"], mode="reflect"), ints=[("n", [0, 0, 2, 1, 0, 0, 1, 2])])
case("pad by the border", (1, 2, 4, 4), lambda h: F.pad(h, (1, 2, 2, 1), mode="replicate"), one("Pad", ["n"], mode="edge"), ints=[("n", [0, 0, 2, 1, 0, 0, 1, 2])])
case("reshape, transpose, flatten", (2, 3, 4, 2), lambda h: h.permute(0, 2, 3, 1).reshape(2, 8, 3).flatten(1),
     lambda h, y: [helper.make_node("Transpose", [h], ["t"], perm=[0, 2, 3, 1]), helper.make_node("Reshape", ["t", "s"], ["r"]), helper.make_node("Flatten", ["r"], [y])], ints=[("s", [0, -1, 3])])
case("squeeze and unsqueeze", (2, 1, 4), lambda h: h.squeeze(1).unsqueeze(0), lambda h, y: [helper.make_node("Squeeze", [h, "one"], ["q"]), helper.make_node("Unsqueeze", ["q", "zero"], [y])], ints=[("one", [1]), ("zero", [0])])
case("expand", (2, 1, 3), lambda h: h.expand(2, 4, 3), one("Expand", ["s"]), ints=[("s", [2, 4, 3])])

# Pooling and reductions
P = (2, 2, 7, 6)
case("max pool", P, lambda h: F.max_pool2d(h, 2), one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]))
case("max pool, padded and overlapping", P, lambda h: F.max_pool2d(h, 3, 2, 1), one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
case("max pool, rounded up", P, lambda h: F.max_pool2d(h, 3, 2, ceil_mode=True), one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1))
case("average pool", P, lambda h: F.avg_pool2d(h, 2), one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]))
case("average pool without its padding", P, lambda h: F.avg_pool2d(h, 3, 2, 1, count_include_pad=False), one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
case("average pool with its padding", P, lambda h: F.avg_pool2d(h, 3, 2, 1), one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1))
case("average pool, rounded up", P, lambda h: F.avg_pool2d(h, 3, 2, ceil_mode=True, count_include_pad=False), one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), opset=19)
case("average pool along one axis", (2, 3, 9), lambda h: F.avg_pool1d(h, 3), one("AveragePool", kernel_shape=[3], strides=[3]))
case("global average pool", P, lambda h: h.mean((2, 3), keepdim=True), one("GlobalAveragePool"))
case("reduce mean", P, lambda h: h.mean((1, 3)), one("ReduceMean", axes=[1, 3], keepdims=0))
case("reduce sum", P, lambda h: h.sum(2, keepdim=True), one("ReduceSum", ["ax"]), ints=[("ax", [2])])
case("reduce max", P, lambda h: h.amax(3), one("ReduceMax", axes=[3], keepdims=0))

# Matrices
case("gemm", (3, 4), lambda h, w, b: 0.5 * h @ w.T + 2 * b, one("Gemm", ["w", "b"], transB=1, alpha=0.5, beta=2.0), [("w", normal(5, 4)), ("b", normal(5))])
case("matmul, batched", (2, 3, 4), lambda h, w: h @ w, one("MatMul", ["w"]), [("w", normal(4, 5))])
case("softmax", S, lambda h: h.softmax(-1), one("Softmax"))
case("log softmax", S, lambda h: h.log_softmax(1), one("LogSoftmax", axis=1))

# Resampling
R = (1, 2, 3, 4)
case("resize nearest, twice", R, lambda h: F.interpolate(h, scale_factor=2, mode="nearest"), lambda h, y: [helper.make_node("Constant", [], ["sc"], value_floats=[1.0, 1.0, 2.0, 2.0]), helper.make_node("Resize", [h, "", "sc"], [y], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")])
case("resize linear", R, lambda h: F.interpolate(h, size=(6, 7), mode="bilinear", align_corners=False), one("Resize", ["", "", "sz"], mode="linear", coordinate_transformation_mode="half_pixel"), ints=[("sz", [1, 2, 6, 7])])
case("resize linear, corners aligned", R, lambda h: F.interpolate(h, size=(5, 8), mode="bilinear", align_corners=True), one("Resize", ["", "", "sz"], mode="linear", coordinate_transformation_mode="align_corners"), ints=[("sz", [1, 2, 5, 8])])

path = pathlib.Path(__file__).with_name("operators.json")
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in CASES) + "\n]\n")
print(len(CASES), "cases", path.stat().st_size // 1024, "KiB")
