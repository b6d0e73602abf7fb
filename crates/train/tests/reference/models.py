"""Makes models.json: outputs of the real networks from ONNX Runtime on fixed inputs.

    SECATEUR_DATA=… python crates/train/tests/reference/models.py
"""
import json
import os
import pathlib

import numpy as np
import onnxruntime as ort

cases = []
for path in sorted(pathlib.Path(os.environ["SECATEUR_DATA"]).glob("models/*.onnx")):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    shape = [2] + [int(d) for d in given.shape[1:]]
    # Exactly representable: the same numbers in every language.
    x = ((np.arange(np.prod(shape), dtype=np.int64) * 37 % 101 - 50) / 64).astype(np.float32).reshape(shape)
    outputs = [o.ravel() for o in session.run(None, {given.name: x})]
    cases.append({"file": path.name, "shape": shape, "outputs": [
        {"len": int(o.size), "mean_abs": float(np.abs(o).mean()), "some": [float(v) for v in o[:: max(1, o.size // 16)][:16]]} for o in outputs]})
pathlib.Path(__file__).with_name("models.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
print(len(cases), "networks")
