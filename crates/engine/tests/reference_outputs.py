"""Outputs of a model in ONNX Runtime, as raw f32: OUTPUT_DIR/0.f32 and so on.

usage: reference_outputs.py MODEL OUTPUT_DIR NAME=FILE=d0,d1,...
"""
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import sys

import numpy as np
import onnxruntime as ort

o = ort.SessionOptions()
o.log_severity_level = 3
s = ort.InferenceSession(sys.argv[1], o, providers=["CPUExecutionProvider"])
feed = {}
for given in sys.argv[3:]:
    name, path, shape = given.split("=")
    feed[name] = np.fromfile(path, "<f4").reshape([int(d) for d in shape.split(",")])
for i, y in enumerate(s.run(None, feed)):
    y.astype("<f4").tofile(os.path.join(sys.argv[2], f"{i}.f32"))
