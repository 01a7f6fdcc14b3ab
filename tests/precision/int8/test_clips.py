"""Which numbers a ReLU or Clip keeps, held against what ONNX Runtime makes of them; and what is clipped behind."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from normexport.precision.int8.clips import clip_ends, is_clipped_behind
from normexport.runtime import OnnxRuntime

X = np.array([-300, -6, -2.5, -1, -0.0, 0.5, 1, 2.5, 6, 7, 300], np.float32)


def graph(*nodes: str, opset: int = 18, outputs: str = "float[11] y", inputs: str = "", **stored: float) -> ir.Model:
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[11] x{inputs}) => ({outputs}) {{ {" ".join(nodes)} }}'
    )
    made = parser.parse_model(text)
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in stored.items()
    )
    onnx.checker.check_model(made)
    return ir.from_proto(made)


CLIPS = {
    "ReLU": graph("y = Relu(x)"),
    "both ends": graph("y = Clip(x, l, h)", l=-1, h=6),
    "no lower end": graph("y = Clip(x, , h)", h=2.5),
    "no upper end": graph("y = Clip(x, l)", l=-2.5),
    "no end": graph("y = Clip(x)"),
    "one number in a list": graph("y = Clip(x, l, h)", opset=18, l=-6, h=6),
    "as attributes": graph("y = Clip <min = -1.0, max = 6.0> (x)", opset=6),
    "one attribute": graph("y = Clip <max = 6.0> (x)", opset=10),
    "in nodes": graph("l = Constant <value = float {-2.5}> ()", "y = Clip(x, l)"),
}


@pytest.mark.parametrize("model", CLIPS.values(), ids=CLIPS)
def test_the_numbers_within_the_ends_are_those_that_stay(model: ir.Model) -> None:
    ends = clip_ends(next(node for node in model.graph if node.op_type in ("Relu", "Clip")))
    assert ends is not None
    kept = OnnxRuntime(model).run({"x": X})["y"] == X
    np.testing.assert_array_equal(np.clip(X, *ends) == X, kept)


UNKNOWN = {
    "computed": graph("l = ReduceMin <keepdims = 0> (x)", "y = Clip(x, l)"),
    "a default that a caller may change": graph("y = Clip(x, l)", inputs=", float l", l=-1),
    "an input": graph("y = Clip(x, l)", inputs=", float l"),
}


@pytest.mark.parametrize("model", UNKNOWN.values(), ids=UNKNOWN)
def test_ends_that_are_no_constants_are_not_known(model: ir.Model) -> None:
    assert clip_ends(next(node for node in model.graph if node.op_type == "Clip")) is None


BEHIND = {
    "a ReLU": (graph("v = Neg(x)", "y = Relu(v)"), True),
    "a Clip": (graph("v = Neg(x)", "y = Clip(v, l)", l=0), True),
    "as an end": (graph("v = ReduceMax <keepdims = 0> (x)", "y = Clip(x, v)"), False),
    "another function": (graph("v = Neg(x)", "y = Sigmoid(v)"), False),
    "two readers": (graph("v = Neg(x)", "r = Relu(v)", "y = Add(r, v)"), False),
    "an output": (graph("v = Neg(x)", "y = Relu(v)", outputs="float[11] v, float[11] y"), False),
    "nothing": (graph("v = Neg(x)", "y = Relu(x)"), False),
}


@pytest.mark.parametrize(("model", "alone"), BEHIND.values(), ids=BEHIND)
def test_a_value_is_clipped_behind_where_nothing_else_reads_it(model: ir.Model, alone: bool) -> None:
    assert is_clipped_behind(model.graph[0].outputs[0]) is alone
