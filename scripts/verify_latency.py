#!/usr/bin/env python3
"""Measure networks side by side in ONNX Runtime, independently of secateur.

usage: verify_latency.py DENSE.onnx PRUNED.onnx... [--budget 0.5] [--tolerance 0.02] [--rounds 1500] [--threads 1]

Every round runs every network once to warm its caches and once timed, in random order. Prints the median of the
per-round ratios to the first network, and, with --budget, whether it lies in [budget*(1-tolerance), budget].
needs: pip install onnxruntime numpy
"""
import os
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import argparse, json, random, statistics, time
import numpy as np, onnxruntime as ort


def session(path, threads):
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    o.inter_op_num_threads = 1
    o.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    o.log_severity_level = 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def bound(s, rng):
    """Inputs and outputs bound once, so that the inference is timed and not Python's packing of arrays (10 to 20 us a call)."""
    binding = s.io_binding()
    for i in s.get_inputs():
        shape = [d if isinstance(d, int) and d > 0 else 1 for d in i.shape]
        binding.bind_ortvalue_input(i.name, ort.OrtValue.ortvalue_from_numpy(rng.standard_normal(shape).astype(np.float32)))
    for o in s.get_outputs():
        shape = [d if isinstance(d, int) and d > 0 else 1 for d in o.shape]
        binding.bind_ortvalue_output(o.name, ort.OrtValue.ortvalue_from_numpy(np.empty(shape, np.float32)))
    return binding


def main():
    p = argparse.ArgumentParser()
    p.add_argument("models", nargs="+")
    p.add_argument("--budget", type=float)
    p.add_argument("--tolerance", type=float, default=0.02)
    p.add_argument("--rounds", type=int, default=1500)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    rng, order = np.random.default_rng(0), random.Random(0)
    sessions = [session(m, a.threads) for m in a.models]
    bindings = [bound(s, rng) for s in sessions]
    times = [[] for _ in sessions]
    for s, b in zip(sessions, bindings):
        for _ in range(30):
            s.run_with_iobinding(b)
    indices = list(range(len(sessions)))
    for _ in range(a.rounds):
        order.shuffle(indices)
        for k in indices:
            sessions[k].run_with_iobinding(bindings[k])
            start = time.perf_counter()
            sessions[k].run_with_iobinding(bindings[k])
            times[k].append(time.perf_counter() - start)
    for k, m in enumerate(a.models):
        ratios = sorted(t / d for t, d in zip(times[k], times[0]))
        ratio = statistics.median(ratios)
        # interval of the median from order statistics, 95 %
        half = int(0.98 * len(ratios) ** 0.5)
        row = dict(model=m, median_ms=round(1e3 * statistics.median(times[k]), 4), ratio=round(ratio, 4),
                   interval=[round(ratios[max(0, len(ratios) // 2 - half)], 4), round(ratios[min(len(ratios) - 1, len(ratios) // 2 + half)], 4)])
        if a.budget and k:
            row["within"] = a.budget * (1 - a.tolerance) <= ratio <= a.budget
        print(json.dumps(row))


main()
