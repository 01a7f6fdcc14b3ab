"""A file that nobody vouches for is looked at within bounds, whatever sizes it names."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from normexport.recognition import recognise


def norm_with(growth: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> ir.Model:
    """(x - mean) / mean of what `growth` makes of |x - mean|, from "a" to "t"."""
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["x", "axes"], ["m"]),
        node("Sub", ["x", "m"], ["d"]),
        node("Abs", ["d"], ["a"]),
        *growth,
        node("ReduceMean", ["t", "axes"], ["s"]),
        node("Div", ["d", "s"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4, 8]) for name in "xy"]
    arrays = {"axes": np.array([0, 2], np.int64), **constants}
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


TILE = [helper.make_node("Tile", ["a", "by"], ["t"])]
PAD = [helper.make_node("Pad", ["a", "by"], ["t"])]
EXPAND = [
    helper.make_node("Unsqueeze", ["a", "last"], ["u"]),
    helper.make_node("Expand", ["u", "by"], ["e"]),
    helper.make_node("ReduceSum", ["e", "last"], ["t"], keepdims=0),
]


@pytest.mark.parametrize(
    ("growth", "constants"),
    [
        (TILE, {"by": np.array([1, 1, 20_000_000], np.int64)}),
        (PAD, {"by": np.array([0, 0, 0, 0, 0, 100_000_000], np.int64)}),
        (EXPAND, {"by": np.array([1, 1, 1, 100_000_000], np.int64), "last": np.array([3], np.int64)}),
    ],
    ids=["Tile", "Pad", "Expand"],
)
def test_what_grows_without_measure_is_never_computed(
    growth: list[onnx.NodeProto], constants: dict[str, np.ndarray]
) -> None:
    model = norm_with(growth, constants)
    tracemalloc.start()
    found = recognise(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.model is model
    assert peak < 300e6


def test_what_grows_a_little_is_recognised() -> None:
    found = recognise(norm_with(TILE, {"by": np.array([1, 1, 3], np.int64)}))
    assert list(found.recognised.values()) == [6]
