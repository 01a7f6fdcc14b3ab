"""Layer norms in ordinary operators stay whole: runtimes compute them in one operator, scale and shift included."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.folding import fold

RNG = np.random.default_rng(0)
C = 8
node = helper.make_node

CENTRED = [node("ReduceMean", ["x", "axes"], ["m"]), node("Sub", ["x", "m"], ["d"])]
ROOT = [
    node("Pow", ["d", "two"], ["p"]),
    node("ReduceMean", ["p", "axes"], ["v"]),
    node("Add", ["v", "eps"], ["e"]),
    node("Sqrt", ["e"], ["q"]),
]
SCALED = [node("Mul", ["z", "g"], ["s"])]
SHIFTED = [*SCALED, node("Add", ["s", "b"], ["n"])]
SPELLINGS = {
    "layer norm": [*CENTRED, *ROOT, node("Div", ["d", "q"], ["z"]), *SHIFTED],
    "by the reciprocal": [
        *CENTRED, *ROOT, node("Reciprocal", ["q"], ["r"]), node("Mul", ["d", "r"], ["z"]), *SHIFTED,
    ],
    "rms norm": [node("Identity", ["x"], ["d"]), *ROOT, node("Div", ["d", "q"], ["z"]), node("Mul", ["z", "g"], ["n"])],
}  # fmt: skip


def model(nodes: list[onnx.NodeProto], axes: list[int], scale: np.ndarray) -> onnx.ModelProto:
    """The nodes from x (N, 5, C) to n, and a MatMul behind them."""
    value = helper.make_tensor_value_info
    arrays: dict[str, np.ndarray] = {
        "axes": np.array(axes, np.int64), "two": np.array(2, np.float32), "eps": np.array(1e-5, np.float32), "g": scale,
        "b": RNG.standard_normal(C).astype(np.float32), "w": RNG.standard_normal((C, 4)).astype(np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        [*nodes, node("MatMul", ["n", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, ["N", 5, C])],
        [value("y", TensorProto.FLOAT, ["N", 5, 4])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    "scale", [RNG.uniform(0.5, 2, C).astype(np.float32), np.array(3, np.float32)], ids=["vector", "scalar"]
)
@pytest.mark.parametrize("nodes", SPELLINGS.values(), ids=SPELLINGS)
def test_the_scale_and_shift_of_a_layer_norm_stay_with_it(nodes: list[onnx.NodeProto], scale: np.ndarray) -> None:
    result = fold(ir.from_proto(model(nodes, [-1], scale)))
    kinds = Counter(each.op_type for each in result.model.graph)
    assert kinds["Mul"] == sum(each.op_type == "Mul" for each in nodes)
    assert not [norm for norm in result.norms if norm.fate == "folded"]
    told = [norm.reason for norm in result.norms if norm.kind == "chain"]
    assert all("belongs to the layer norm" in reason for reason in told)


def test_onnx_runtime_finds_the_layer_norm_after_the_fold(tmp_path: Path) -> None:
    scale = RNG.uniform(0.5, 2, C).astype(np.float32)
    found = fold(ir.from_proto(model(SPELLINGS["layer norm"], [-1], scale))).model
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(ir.to_proto(found).SerializeToString(), options)
    assert {each.op_type for each in onnx.load(tmp_path / "optimized.onnx").graph.node} == {
        "LayerNormalization", "MatMul",
    }  # fmt: skip


def test_a_norm_over_other_axes_gives_its_scale_away() -> None:
    scale = RNG.uniform(0.5, 2, C).astype(np.float32)
    result = fold(ir.from_proto(model(SPELLINGS["layer norm"], [1], scale)))
    assert [norm.fate for norm in result.norms] == ["folded"]
