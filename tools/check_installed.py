#!/usr/bin/env python3
"""Check an installed normexport: both libraries for the CPU are there, and right, also inside ONNX Runtime.

    python tools/check_installed.py

Run where wheels are tested, in an environment that has the wheel and ONNX Runtime and need have nothing else. Each
result is held against numpy in float64.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from normexport import norms, plugins
from normexport.plugins import norm_call
from normexport.plugins.overview import overview

#: Of the inputs below, which are of the size of 1: float32 rounds them and the sums of a hundred of them.
TOLERANCE = 1e-5


def main() -> int:
    """Print what was looked at; a check that fails ends it."""
    for library in overview().libraries:
        print(f"{library.name}: {library.path if library.present else 'absent'}, {library.words}")
        if library.name in ("kernels", "onnxruntime") and not library.healthy:
            raise SystemExit(f"error: {library.name} is not there or not healthy")
    x = np.random.default_rng(0).normal(size=(2, 3, 10, 10)).astype(np.float32)
    scale, bias = np.array([1, 2, -3], np.float32), np.array([0, 1, 2], np.float32)
    for name, y in (("kernels", norm_call.norm("l1", x, scale, bias)), ("onnxruntime", _in_session(x, scale, bias))):
        error = float(np.abs(y - _l1(x, scale, bias)).max())
        print(f"{name}: largest error {error:.1e}")
        if not error <= TOLERANCE:
            raise SystemExit(f"error: {name} computes something else")
    print(f"instruction set: {norm_call.target()}")
    return 0


def _l1(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Hoffer et al. 2018, eq. 5, in float64."""
    d = x.astype(np.float64) - x.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64)
    statistic = math.sqrt(math.pi / 2) * np.abs(d).mean(axis=(0, 2, 3), keepdims=True) + 1e-5
    result: np.ndarray = scale[:, None, None] * d / statistic + bias[:, None, None]
    return result


def _in_session(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """By the operator inside ONNX Runtime. The model has no body for it: without the library it does not load."""
    values = {"x": x.shape, "scale": scale.shape, "bias": bias.shape}
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in values.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)
    node = helper.make_node("L1BatchNorm", list(values), ["y"], domain=norms.DOMAIN, epsilon=1e-5)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(norms.DOMAIN, 1)]
    model = helper.make_model(helper.make_graph([node], "one", given, [result]), opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(plugins.require("onnxruntime")))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (y,) = session.run(None, {"x": x, "scale": scale, "bias": bias})
    answer: np.ndarray = y
    return answer


if __name__ == "__main__":
    sys.exit(main())
