#!/usr/bin/env python3
"""Compare the engine with ONNX Runtime: results, and time in one interleaved run (one thread, batch 1, f32).

usage: against_ort.py MODEL.onnx... [--engine target/release/examples/against_ort] [--rounds 40] [--isa avx2] [--layers]
       [--baseline DENSE.onnx] [--core-time] [--openvino]

Every round runs every model once in each runtime to warm its caches and once timed, in random order. Per model: largest difference
relative to
the largest magnitude, medians, the median of the per-round ratios ONNX Runtime / engine with its 10th and 90th percentile, and the
ratio of the least times.
--core-time counts the time that a runtime's thread spent on a core instead of the time that passed: for machines that others use.
With --baseline the ratio is that network in ONNX Runtime over each model in the engine.
--openvino runs the same network in OpenVINO too (f32 forced: its default on CPUs that have bf16 is bf16), with its own ratio.
build: cargo build --release -p secateur-engine --example against_ort     needs: pip install onnxruntime numpy, openvino for --openvino
"""
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import argparse
import math
import random
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime as ort


# Inferences per sample of --core-time.
RUNS = 8


def session(path, threads=1):
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    o.inter_op_num_threads = 1
    o.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    o.log_severity_level = 3
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])


def feed(s, seed=0):
    rng = np.random.default_rng(seed)
    shape = lambda i: [d if isinstance(d, int) and d > 0 else 1 for d in i.shape]
    return {i.name: rng.standard_normal(shape(i)).astype(np.float32) for i in s.get_inputs()}


class Ort:
    def __init__(self, path):
        self.s = session(path)
        self.feed = feed(self.s)
        self.binding = self.s.io_binding()
        for name, value in self.feed.items():
            self.binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value))
        self.results = self.s.run(None, self.feed)
        for o, r in zip(self.s.get_outputs(), self.results):
            self.binding.bind_ortvalue_output(o.name, ort.OrtValue.ortvalue_from_numpy(np.empty_like(r)))

    def time(self, clock=time.perf_counter):
        n = 1 if clock is time.perf_counter else RUNS
        start = clock()
        for _ in range(n):
            self.s.run_with_iobinding(self.binding)
        return (clock() - start) / n


class OpenVino:
    """One thread, f32; the process's clock, since inference may run on a thread of its own."""

    def __init__(self, path, feed):
        import openvino

        hints = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        model = openvino.Core().read_model(path)
        model.reshape({name: list(v.shape) for name, v in feed.items()})
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() in ("f32", "float"), "not f32"
        self.request = compiled.create_infer_request()
        for name, v in feed.items():
            self.request.set_tensor(name, openvino.Tensor(v))

    def time(self, clock=time.perf_counter):
        n = 1 if clock is time.perf_counter else RUNS
        clock = clock if n == 1 else time.process_time
        start = clock()
        for _ in range(n):
            self.request.infer()
        return (clock() - start) / n


class Engine:
    """The example as a process that answers requests."""

    def __init__(self, program, path, isa=None):
        self.p = subprocess.Popen([program, path] + ([isa] if isa else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = self.p.stdout.readline().strip()
        self.error = self.first[6:] if self.first.startswith("error") else None

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().strip()

    def set(self, values, folder):
        for name, v in values.items():
            path = os.path.join(folder, "input")
            v.tofile(path)
            assert self.ask(f"input {name} {path}") == "ok"

    def output(self, i, shape, folder):
        path = os.path.join(folder, "output")
        assert self.ask(f"output {i} {path}") == "ok"
        return np.fromfile(path, np.float32).reshape(shape)

    def time(self, clock=time.perf_counter):
        if clock is time.perf_counter:
            return int(self.ask("run 1")) * 1e-9
        # Time on a core, as the kernel counts it; several runs, since answering the request counts too.
        used = lambda: int(open(f"/proc/{self.p.pid}/schedstat").read().split()[0]) * 1e-9
        start = used()
        self.ask(f"run {RUNS}")
        return (used() - start) / RUNS

    def layers(self, n):
        return [self.p.stdout.readline().split(None, 5) for _ in range(int(self.ask(f"layers {n}")))]

    def close(self):
        self.ask_quit = self.p.stdin.write("quit\n")
        self.p.stdin.close()
        self.p.wait()


def difference(engine, reference, folder):
    engine.ask("run 1")
    worst = 0.0
    for i, r in enumerate(reference.results):
        y = engine.output(i, r.shape, folder)
        worst = max(worst, float(np.abs(y - r).max() / max(np.abs(r).max(), 1e-6)))
        if not np.isfinite(y).all():
            return math.inf
    return worst


def interleaved(candidates, rounds, clock, seed=0):
    """Seconds per candidate and round; every round in random order, each candidate warmed by an untimed run of its own."""
    order, times = random.Random(seed), [[] for _ in candidates]
    for c in candidates:
        for _ in range(3):
            c.time()
    indices = list(range(len(candidates)))
    for _ in range(rounds):
        order.shuffle(indices)
        for k in indices:
            candidates[k].time()
            times[k].append(candidates[k].time(clock))
    return times


def percentiles(values):
    v = sorted(values)
    at = lambda q: v[min(len(v) - 1, int(q * len(v)))]
    return statistics.median(v), at(0.1), at(0.9)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("models", nargs="+")
    root = os.path.join(os.path.dirname(__file__), "..")
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
    p.add_argument("--engine", default=os.path.join(target, "release/examples/against_ort"))
    p.add_argument("--rounds", type=int, default=40)
    p.add_argument("--isa")
    p.add_argument("--baseline")
    p.add_argument("--core-time", action="store_true")
    p.add_argument("--layers", action="store_true")
    p.add_argument("--openvino", action="store_true")
    a = p.parse_args()
    ratios = []
    extra = (" OpenVINO / engine |", "---|") if a.openvino else ("", "")
    print("| model | difference | ONNX Runtime, ms | engine, ms | ONNX Runtime / engine (p10–p90) | of least times |" + extra[0])
    print("|---|---|---|---|---|---|" + extra[1])
    with tempfile.TemporaryDirectory() as folder:
        for path in a.models:
            name = os.path.basename(path).removesuffix(".onnx")
            engine = Engine(a.engine, path, a.isa)
            if engine.error:
                print(f"| {name} | not run: {engine.error} | | | | |", flush=True)
                continue
            reference = Ort(path)
            engine.set(reference.feed, folder)
            worst = difference(engine, reference, folder)
            if a.rounds == 0:
                print(f"| {name} | {worst:.1e} | | | | |", flush=True)
                engine.close()
                continue
            clock = time.thread_time if a.core_time else time.perf_counter
            candidates = [Ort(a.baseline) if a.baseline else reference, engine]
            if a.openvino:
                candidates.append(OpenVino(a.baseline or path, reference.feed))
            theirs, ours, *others = interleaved(candidates, a.rounds, clock)
            ratio = lambda times: "{:.2f} ({:.2f}–{:.2f})".format(*percentiles([t / o for t, o in zip(times, ours)]))
            ratios.append(percentiles([t / o for t, o in zip(theirs, ours)])[0])
            row = [name, f"{worst:.1e}", f"{statistics.median(theirs) * 1e3:.3f}", f"{statistics.median(ours) * 1e3:.3f}", ratio(theirs), f"{min(theirs) / min(ours):.2f}"]
            print(f"| {' | '.join(row + [ratio(t) for t in others])} |", flush=True)
            if a.layers:
                for ns, least, kept, all_, operators, layer in engine.layers(15):
                    print(f"    {int(ns) / 1e3:9.1f} us (least {int(least) / 1e3:.1f})  {kept}/{all_}  {operators}  {layer.strip()}")
            engine.close()
    if len(ratios) > 1:
        print(f"geometric mean {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}")


if __name__ == "__main__":
    main()
