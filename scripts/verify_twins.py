#!/usr/bin/env python3
"""Compares pruned models with their masked twins in ONNX Runtime: `verify_twins.py DIR` looks for NAME.pruned.onnx and
NAME.twin.onnx there, runs both on seeded random inputs, and prints the largest difference relative to the largest value of
each output. Dynamic dimensions are 1. With --plain, graph optimisations are off."""
import glob, os, sys
import numpy as np
import onnxruntime as ort

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
         "tensor(int32)": np.int32, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_}


def session(path, plain):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def draw(info, random, shapes):
    shape = shapes.get(info.name) or [d if isinstance(d, int) and d > 0 else 1 for d in info.shape]
    kind = TYPES[info.type]
    if np.issubdtype(kind, np.floating):
        return random.uniform(-1, 1, shape).astype(kind)
    return random.integers(0, 2 if kind == np.bool_ else 5, shape).astype(kind)


def compare(base, plain):
    twin, pruned = (session(f"{base}.{k}.onnx", plain) for k in ("twin", "pruned"))
    worst, shapes = 0.0, {}
    if os.path.exists(f"{base}.shapes"):
        for line in open(f"{base}.shapes", encoding="utf-8"):
            name, dims = line.rstrip("\n").split("\t")
            shapes[name] = [int(d) for d in dims.split(",") if d]
    for seed in range(2):
        random = np.random.default_rng(seed)
        feed = {i.name: draw(i, random, shapes) for i in twin.get_inputs()}
        for a, b in zip(twin.run(None, feed), pruned.run(None, feed)):
            if np.shape(a) != np.shape(b):
                return f"shape {np.shape(a)} against {np.shape(b)}"
            a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
            if not a.size:
                continue
            if not np.array_equal(np.isnan(a), np.isnan(b)):
                return "NaN in one only"
            d = np.nanmax(np.abs(a - b)) / max(np.nanmax(np.abs(a)), 1e-3)
            worst = max(worst, float(d))
    return worst


def main():
    folder, plain = sys.argv[1], "--plain" in sys.argv
    bad = 0
    for twin in sorted(glob.glob(os.path.join(folder, "*.twin.onnx"))):
        base = twin[: -len(".twin.onnx")]
        try:
            r = compare(base, plain)
        except Exception as e:  # a runtime that refuses a file is a result
            r = str(e)[:200]
        ok = isinstance(r, float) and r <= 1e-3
        bad += not ok
        print(f"{os.path.basename(base):58} {'ok ' if ok else 'BAD'} {r}")
    print(f"{bad} bad")


if __name__ == "__main__":
    main()
