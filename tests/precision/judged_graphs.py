"""Small ONNX graphs of one float input x (N, 6), written as text, with weights as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir


def graph(signature: str, body: str, weights: Mapping[str, np.ndarray] | None = None) -> ir.Model:
    """A model from `(float[N,6] x) => (float[N,4] y)` and the lines of its graph."""
    text = f'<ir_version: 10, opset_import: ["": 20]> g {signature} {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    arrays = (weights or {}).items()
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inputs(samples: int = 64, seed: int = 9) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).normal(size=(samples, 6)).astype(np.float32)}


def classes(bias: float = 0.0, *, last: str = "y = Identity(s)", kind: str = "float[N,5] y") -> ir.Model:
    """Scores of five classes, and what is made of them; `bias` moves the weights of class 2."""
    weights = weight(6, 5)
    weights[:, 2] += np.float32(bias)
    return graph(f"(float[N,6] x) => ({kind})", f"s = MatMul(x, w) {last}", {"w": weights})
