"""Prints the median latency of a model in ONNX Runtime's own Python package.

usage: ort_loop.py MODEL THREADS

An independent reference for the `ort` runtime: same library, another binding, another clock.
"""
import os
import sys
import time

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
random = np.random.default_rng(0)
feed = {
    i.name: random.standard_normal([d if isinstance(d, int) else 1 for d in i.shape]).astype(np.float32)
    for i in session.get_inputs()
}
binding = session.io_binding()
for name, array in feed.items():
    binding.bind_cpu_input(name, array)
for output in session.get_outputs():
    binding.bind_output(output.name)
start = time.perf_counter()
while time.perf_counter() - start < 0.3:
    session.run_with_iobinding(binding)


def waited():
    """Nanoseconds this thread was kept from its core by other programs."""
    try:
        with open("/proc/thread-self/schedstat") as f:
            return int(f.read().split()[1])
    except OSError:
        return 0


samples, every = [], []
for _ in range(200):
    before = waited()
    start = time.perf_counter()
    session.run_with_iobinding(binding)
    every.append(time.perf_counter() - start)
    if waited() - before < 0.005e9 * every[-1]:
        samples.append(every[-1])
samples = samples or every
print(f"latency: {1e3 * np.median(samples):.6f} ms")
