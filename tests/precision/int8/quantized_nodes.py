"""One integer operator as a model of its own, run by its body."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx.helper as helper
import onnxruntime as ort

from normexport import norms


def model_of(op: str, rank: int, **attributes: Any) -> onnx.ModelProto:
    """X int8 (N, C, *) of that rank, scale and bias float32 (C) -> Y int8."""
    node = helper.make_node(op, ["X", "scale", "bias"], ["Y"], domain=norms.DOMAIN, **attributes)
    sizes = ["N", "C", "H", "W", "D"][:rank]
    tensor = helper.make_tensor_value_info
    inputs = [tensor("X", onnx.TensorProto.INT8, sizes)]
    inputs += [tensor(name, onnx.TensorProto.FLOAT, ["C"]) for name in ("scale", "bias")]
    graph = helper.make_graph([node], "one", inputs, [tensor("Y", onnx.TensorProto.INT8, sizes)])
    opsets = [helper.make_opsetid("", norms.OPSET), helper.make_opsetid(norms.DOMAIN, norms.VERSION)]
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=norms.IR_VERSION, functions=[norms.functions()[op]]
    )


@lru_cache(maxsize=64)
def _session(op: str, rank: int, attributes: tuple[tuple[str, float], ...]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    proto = model_of(op, rank, **dict(attributes))
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(op: str, q: np.ndarray, scale: np.ndarray, bias: np.ndarray, **attributes: Any) -> np.ndarray:
    """The body on ONNX Runtime."""
    session = _session(op, q.ndim, tuple(sorted(attributes.items())))
    return session.run(None, {"X": q, "scale": scale, "bias": bias})[0]
