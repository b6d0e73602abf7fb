#!/usr/bin/env python3
"""Write networks with random weights for speed measurements, dense and block-punched.

usage: engine_models.py OUT_DIR [--rates 0,0.5,0.75] [--block 16] [--only resnet50,...]

Networks: resnet18, resnet50, vgg16, mobilenetv2 (224x224), and the 11 single layers of the kernel table (`layer_*`). With a rate,
every convolution except the first and the depthwise ones loses that share of its units (BLOCK filters x 1 channel x 1 kernel
position), at random, in equal numbers per block; linear layers lose theirs in the same way.
needs: pip install onnx numpy
"""
import argparse
import os
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    def __init__(self, name, shape, rate, block, seed=0):
        self.name, self.rate, self.block = name, rate, block
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.n = [], [], 0
        self.shape, self.channels = shape, shape[1]
        self.first = True

    def fresh(self, kind):
        self.n += 1
        return f"{kind}{self.n}"

    def tensor(self, name, value):
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def punched(self, w):
        """Units of `block` filters x 1 channel x 1 position removed at random, equal numbers per block of filters."""
        flat = w.reshape(w.shape[0], -1)
        units = flat.shape[1]
        for start in range(0, flat.shape[0], self.block):
            gone = self.rng.permutation(units)[: round(units * self.rate)]
            flat[start : start + self.block, gone] = 0
        return flat.reshape(w.shape)

    def conv(self, x, cin, cout, k, stride=1, group=1, act=None, add=None):
        name = self.fresh("conv")
        w = self.rng.standard_normal((cout, cin // group, k, k)) * np.sqrt(2.0 / (cin // group * k * k))
        if self.rate > 0 and not self.first and group == 1:
            w = self.punched(w)
        self.first = False
        inputs = [x, self.tensor(name + ".w", w), self.tensor(name + ".b", self.rng.standard_normal(cout) * 0.1)]
        self.nodes.append(helper.make_node("Conv", inputs, [name], name, kernel_shape=[k, k], strides=[stride] * 2, pads=[k // 2] * 4, group=group))
        y = name
        if add:
            z = self.fresh("add")
            self.nodes.append(helper.make_node("Add", [y, add], [z], z))
            y = z
        return self.act(y, act)

    def act(self, y, act):
        if act == "relu":
            z = self.fresh("relu")
            self.nodes.append(helper.make_node("Relu", [y], [z], z))
            return z
        if act == "relu6":
            z = self.fresh("clip")
            if not any(w.name == "zero" for w in self.weights):
                self.weights += [numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.float32(6), "six")]
            self.nodes.append(helper.make_node("Clip", [y, "zero", "six"], [z], z))
            return z
        return y

    def pool(self, x, k, stride, pad=0):
        z = self.fresh("pool")
        self.nodes.append(helper.make_node("MaxPool", [x], [z], z, kernel_shape=[k, k], strides=[stride] * 2, pads=[pad] * 4))
        return z

    def op(self, kind, x, **attributes):
        z = self.fresh(kind.lower())
        self.nodes.append(helper.make_node(kind, [x], [z], z, **attributes))
        return z

    def linear(self, x, cin, cout, act=None):
        name = self.fresh("linear")
        w = self.rng.standard_normal((cout, cin)) * np.sqrt(2.0 / cin)
        if self.rate > 0:
            w = self.punched(w)
        self.nodes.append(helper.make_node("Gemm", [x, self.tensor(name + ".w", w), self.tensor(name + ".b", np.zeros(cout))], [name], name, transB=1))
        return self.act(name, act)

    def save(self, out, last):
        graph = helper.make_graph(
            self.nodes, self.name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = os.path.join(out, f"{self.name}{'' if self.rate == 0 else f'_b{self.block}_s{self.rate:g}'}.onnx")
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        print(path)


def resnet18(net):
    x = net.pool(net.conv("input", 3, 64, 7, 2, act="relu"), 3, 2, 1)
    c = 64
    for width, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        for i in range(2):
            s = stride if i == 0 else 1
            skip = net.conv(x, c, width, 1, s) if s != 1 or c != width else x
            y = net.conv(x, c, width, 3, s, act="relu")
            x = net.conv(y, width, width, 3, act="relu", add=skip)
            c = width
    return net.linear(net.op("Flatten", net.op("GlobalAveragePool", x)), 512, 1000)


def resnet50(net):
    x = net.pool(net.conv("input", 3, 64, 7, 2, act="relu"), 3, 2, 1)
    c = 64
    for width, stride, n in [(64, 1, 3), (128, 2, 4), (256, 2, 6), (512, 2, 3)]:
        for i in range(n):
            s = stride if i == 0 else 1
            skip = net.conv(x, c, 4 * width, 1, s) if i == 0 else x
            y = net.conv(x, c, width, 1, act="relu")
            y = net.conv(y, width, width, 3, s, act="relu")
            x = net.conv(y, width, 4 * width, 1, act="relu", add=skip)
            c = 4 * width
    return net.linear(net.op("Flatten", net.op("GlobalAveragePool", x)), 2048, 1000)


def vgg16(net):
    x, c = "input", 3
    for w in [64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0]:
        if w == 0:
            x = net.pool(x, 2, 2)
        else:
            x, c = net.conv(x, c, w, 3, act="relu"), w
    x = net.linear(net.op("Flatten", x), 25088, 4096, "relu")
    return net.linear(net.linear(x, 4096, 4096, "relu"), 4096, 1000)


def mobilenetv2(net):
    x = net.conv("input", 3, 32, 3, 2, act="relu6")
    c = 32
    for t, w, n, s in [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for i in range(n):
            stride = s if i == 0 else 1
            y = net.conv(x, c, c * t, 1, act="relu6") if t > 1 else x
            y = net.conv(y, c * t, c * t, 3, stride, group=c * t, act="relu6")
            x = net.conv(y, c * t, w, 1, add=x if stride == 1 and c == w else None)
            c = w
    x = net.conv(x, 320, 1280, 1, act="relu6")
    return net.linear(net.op("Flatten", net.op("GlobalAveragePool", x)), 1280, 1000)


# (channels in, filters, kernel, size): ResNet, VGG and CIFAR shapes. Each is a chain of six, there and back, so that the way into
# and out of a runtime's own layout counts little.
LAYERS = [(64, 64, 3, 56), (128, 128, 3, 28), (256, 256, 3, 14), (512, 512, 3, 7), (64, 256, 1, 56), (512, 128, 1, 28),
          (1024, 256, 1, 14), (2048, 512, 1, 7), (16, 16, 3, 32), (32, 32, 3, 16), (64, 64, 3, 8)]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--rates", default="0,0.5,0.75")
    p.add_argument("--block", type=int, default=16)
    p.add_argument("--only", default="")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    only = [o for o in a.only.split(",") if o]
    for rate in map(float, a.rates.split(",")):
        for build in [resnet18, resnet50, vgg16, mobilenetv2]:
            if not only or build.__name__ in only:
                net = Net(build.__name__, [1, 3, 224, 224], rate, a.block)
                net.save(a.out, build(net))
        for cin, cout, k, size in LAYERS:
            name = f"layer_{cin}x{cout}k{k}at{size}"
            if not only or "layers" in only:
                net = Net(name, [1, cin, size, size], rate, a.block)
                net.first = False
                x = "input"
                for i in range(6):
                    x = net.conv(x, *((cin, cout) if i % 2 == 0 else (cout, cin)), k, act="relu")
                net.save(a.out, net.op("GlobalAveragePool", x))


if __name__ == "__main__":
    main()
