"""Large weights: ONNX Runtime maps them from a temporary file, computes the same and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from normexport.errors import FoldError, UsageError
from normexport.runtime import OnnxRuntime, onnx_runtime


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files lie, every weight counting as large."""
    monkeypatch.setattr(onnx_runtime, "_LARGE", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def network() -> onnx.ModelProto:
    """y = relu(x W1) W2 + b, and a weight that nothing reads before one that is read."""
    dice = np.random.default_rng(0)
    shapes = {"w1": (40, 50), "unread": (70, 30), "w2": (50, 60), "b": (60,)}
    tensors = [numpy_helper.from_array(dice.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["y"]),
    ]
    x, y = helper.make_tensor_value_info("x", 1, ["N", 40]), helper.make_tensor_value_info("y", 1, ["N", 60])
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_it_computes_the_formula_captures_inner_values_and_leaves_no_file(home: Path) -> None:
    proto = network()
    weights = {each.name: numpy_helper.to_array(each).astype(np.float64) for each in proto.graph.initializer}
    x = np.random.default_rng(1).normal(size=(3, 40)).astype(np.float32)
    runtime = OnnxRuntime(proto)
    assert list(home.iterdir()) == []
    found = runtime.run({"x": x}, ["r"])
    assert list(home.iterdir()) == []
    r = np.maximum(x @ weights["w1"], 0)
    np.testing.assert_allclose(found["r"], r, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["y"], r @ weights["w2"] + weights["b"], rtol=1e-5, atol=1e-4)


def test_without_room_for_the_file_the_weights_stay_in_memory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse() -> None:
        asked.append(1)
        raise UsageError("temporary files", "No space left on device", "make room")

    monkeypatch.setattr(onnx_runtime, "scratch", refuse)
    x = np.ones((2, 40), np.float32)
    found = OnnxRuntime(network()).run({"x": x})
    assert asked
    monkeypatch.setattr(onnx_runtime, "_LARGE", 1 << 40)
    np.testing.assert_allclose(found["y"], OnnxRuntime(network()).run({"x": x})["y"], rtol=1e-6, atol=1e-6)


def test_a_model_that_onnx_runtime_refuses_is_told_in_a_line_and_leaves_no_file(home: Path) -> None:
    proto = network()
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(FoldError, match="ONNX Runtime can't load it"):
        OnnxRuntime(proto)
    assert list(home.iterdir()) == []
