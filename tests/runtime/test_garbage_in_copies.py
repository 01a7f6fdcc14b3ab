"""A session of ONNX Runtime that is garbage when this process is copied: its threads are not in the copy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: To destroy it there waits for its threads for ever, or ends the copy.
PROGRAM = """
import gc
import numpy as np
import onnx.parser
import onnxruntime
from normexport.runtime.guarded import in_child

gc.disable()
head = '<ir_version: 10, opset_import: ["": 20]>'
model = onnx.parser.parse_model(head + " g (float[N] x) => (float[N] y) { y = Relu(x) }")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 4
held = [onnxruntime.InferenceSession(model.SerializeToString(), options)]
held[0].run(None, {"x": np.ones(4, np.float32)})
held.append(held)
del held
print(in_child(lambda: (gc.enable(), gc.collect(), "through")[-1], "model"))
"""


def test_garbage_of_the_original_is_left_alone_in_a_copy() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "through", done.stderr
