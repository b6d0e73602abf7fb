#!/usr/bin/env python3
"""A transformer of 1.5 GB with random weights in one external file, to see what memory it takes:

    scripts/large_transformer.py DIR [--blocks 24] [--features 1024] [--vocabulary 40000]
    /usr/bin/time -v secateur inspect DIR/large.onnx
    /usr/bin/time -v secateur prune DIR/large.onnx --budget-params 70% --epochs 0 --target ort --out DIR/small

Weights are written one after the other. Needs onnx and numpy."""
import argparse, os
import numpy as np
import onnx
from onnx import TensorProto, helper


class Writer:
    def __init__(self, folder):
        self.file, self.at = open(os.path.join(folder, "large.bin"), "wb"), 0
        self.random, self.nodes, self.tensors, self.count = np.random.default_rng(0), [], [], 0

    def weight(self, name, *shape, scale=None):
        values = self.random.standard_normal(shape, np.float32)
        values *= scale if scale is not None else (1 / shape[0]) ** 0.5
        t = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in [("location", "large.bin"), ("offset", str(self.at)), ("length", str(values.nbytes))]:
            t.external_data.add(key=key, value=value)
        self.file.write(values.tobytes())
        self.at += values.nbytes
        self.tensors.append(t)
        return name

    def stored(self, name, values, dtype=np.float32):
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, op, *inputs, **attributes):
        self.count += 1
        output = f"{op}_{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def linear(self, x, name, rows, columns):
        y = self.node("MatMul", x, self.weight(f"{name}.weight", rows, columns))
        return self.node("Add", y, self.stored(f"{name}.bias", np.zeros(columns)))

    def norm(self, x, name, n):
        return self.node("LayerNormalization", x, self.stored(f"{name}.scale", np.ones(n)), self.stored(f"{name}.shift", np.zeros(n)), axis=-1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--blocks", type=int, default=24)
    p.add_argument("--features", type=int, default=1024)
    p.add_argument("--vocabulary", type=int, default=40000)
    p.add_argument("--tokens", type=int, default=32)
    a = p.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    w, f, t = Writer(a.folder), a.features, a.tokens
    heads = f // 64
    x = w.node("Gather", w.weight("words", a.vocabulary, f, scale=0.02), "ids", axis=0)
    split = w.stored("split", [0, 0, heads, 64], np.int64)
    join = w.stored("join", [0, 0, -1], np.int64)
    scale = w.stored("scale", 0.125)
    for k in range(a.blocks):
        n = w.norm(x, f"{k}.norm1", f)
        q, key, v = (w.node("Reshape", w.linear(n, f"{k}.{name}", f, f), split) for name in ("query", "key", "value"))
        q, key, v = (w.node("Transpose", q, perm=[0, 2, 1, 3]), w.node("Transpose", key, perm=[0, 2, 3, 1]), w.node("Transpose", v, perm=[0, 2, 1, 3]))
        s = w.node("Softmax", w.node("Mul", w.node("MatMul", q, key), scale), axis=-1)
        o = w.node("Reshape", w.node("Transpose", w.node("MatMul", s, v), perm=[0, 2, 1, 3]), join)
        x = w.node("Add", x, w.linear(o, f"{k}.out", f, f))
        h = w.node("Relu", w.linear(w.norm(x, f"{k}.norm2", f), f"{k}.up", f, 4 * f))
        x = w.node("Add", x, w.linear(h, f"{k}.down", 4 * f, f))
    w.linear(w.node("ReduceMean", w.norm(x, "norm", f), axes=[1], keepdims=0), "head", f, 1000)
    w.nodes[-1].output[0] = "logits"
    w.file.close()
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", t])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])
    graph = helper.make_graph(w.nodes, "large", [ids], [out], w.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with open(os.path.join(a.folder, "large.onnx"), "wb") as file:
        file.write(model.SerializeToString())
    print(f"{w.at:,} bytes of weights, {sum(int(np.prod(t.dims)) for t in w.tensors):,} elements")


if __name__ == "__main__":
    main()
