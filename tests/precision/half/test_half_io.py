"""The types of a half file's inputs and outputs, whatever else they are, and names that its Casts would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.dtypes import HALVES
from normexport.precision.half.graph import HalfConfig, to_half
from normexport.precision.half.rounding import rounding_in_float32
from normexport.runtime import OnnxRuntime
from tests.foreign import skip_before_onnxruntime

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
ROW = np.array([0.5, 1.25, -2.0], np.float32)  # float16 and bfloat16 hold these
FLOAT = TensorProto.FLOAT


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], outputs: Sequence[str], opset: int = 17
) -> onnx.ModelProto:
    """Nodes over "x" (2, 3) and the stored "row" (3)."""
    shapes = {"row": (3,), "whole": (2, 3)}

    def infos(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, FLOAT, shapes.get(name, (2, 3))) for name in names]

    graph = helper.make_graph(nodes, "g", infos(inputs), infos(outputs), [numpy_helper.from_array(ROW, "row")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def halved(proto: onnx.ModelProto, dtype: str, *, half_io: bool) -> onnx.ModelProto:
    found = ir.to_proto(to_half(ir.from_proto(proto), HalfConfig(dtype, half_io)))
    onnx.checker.check_model(found, full_check=True)
    for before, after in zip(
        (*proto.graph.input, *proto.graph.output), (*found.graph.input, *found.graph.output), strict=True
    ):
        assert after.name == before.name
        assert after.type.tensor_type.elem_type == (HALVES[dtype].onnx if half_io else FLOAT), after.name
    return found


def node(op: str, reads: Sequence[str], makes: str, name: str = "") -> onnx.NodeProto:
    return helper.make_node(op, reads, [makes], name=name)


ADD = [node("Add", ["x", "row"], "y")]
GRAPHS = {
    "a stored value is an output": (ADD, ["x"], ["y", "row"]),
    "a stored value is an output that nothing reads": ([node("Relu", ["x"], "y")], ["x"], ["y", "row"]),
    "a stored value is an input": (ADD, ["x", "row"], ["y"]),
    "a stored value is both": (ADD, ["x", "row"], ["y", "row"]),
    "an input is an output": (ADD, ["x"], ["y", "x"]),
    "a stored output feeds what stays in float32": (
        [node("Add", ["x", "row"], "s"), node("Softmax", ["s"], "y")],
        ["x"],
        ["y", "row"],
    ),
    "a stored output feeds nothing but float32": (
        [node("ReduceSumSquare", ["row"], "s"), node("Add", ["x", "s"], "y")],
        ["x"],
        ["y", "row"],
    ),
    "an output feeds on": ([node("Relu", ["x"], "r"), node("Add", ["r", "row"], "y")], ["x"], ["y", "r"]),
    "an output of float32 feeds on": ([node("Softmax", ["x"], "r"), node("Add", ["r", "row"], "y")], ["x"], ["y", "r"]),
}


@pytest.mark.parametrize("half_io", [False, True])
@pytest.mark.parametrize("name", GRAPHS)
def test_inputs_and_outputs_have_the_type_that_was_asked_for(name: str, half_io: bool) -> None:
    proto = model_of(*GRAPHS[name])
    halved(proto, "bfloat16", half_io=half_io)
    if name == "an input is an output":
        skip_before_onnxruntime("1.23", "writes over an input that is an output too")
    if name in ("a stored value is an input", "a stored value is both") and half_io:
        skip_before_onnxruntime("1.30", "dies of a stored value in float16 that the caller may give", since="1.23")
    runtime = OnnxRuntime(halved(proto, "float16", half_io=half_io))
    x = X.astype(np.float16).astype(np.float32)
    got = runtime.run({port.name: x.astype(port.dtype) for port in runtime.inputs})
    for output, exact in OnnxRuntime(proto).run({"x": x}).items():
        np.testing.assert_allclose(got[output], exact, rtol=2e-3, atol=2e-3)


def test_a_stored_input_takes_half_numbers_and_holds_half_numbers() -> None:
    skip_before_onnxruntime("1.30", "dies of a stored value in float16 that the caller may give", since="1.23")
    runtime = OnnxRuntime(halved(model_of(ADD, ["x", "row"], ["y"]), "float16", half_io=True))
    x = X.astype(np.float16)
    (stored,) = runtime.run({"x": x}).values()
    np.testing.assert_allclose(stored, x + ROW.astype(np.float16), rtol=1e-3)


@pytest.mark.parametrize("half_io", [False, True])
def test_casts_take_no_name_that_is_there(half_io: bool) -> None:
    nodes = [
        node("Relu", ["x"], "x_float16", "x_float16_1"),
        node("Softmax", ["x_float16"], "x_float32", "row_float16"),
        node("Add", ["x_float32", "row"], "y_float16", "x_float16_float32"),
        node("Add", ["y_float16", "x"], "y", "y_float16_1"),
    ]
    proto = model_of(nodes, ["x"], ["y", "x_float16"])
    found = halved(proto, "float16", half_io=half_io)
    names = [each.name for each in found.graph.node]
    assert len(set(names)) == len(names)
    runtime = OnnxRuntime(found)
    got = runtime.run({port.name: X.astype(port.dtype) for port in runtime.inputs})
    for output, exact in OnnxRuntime(proto).run({"x": X}).items():
        np.testing.assert_allclose(got[output], exact, rtol=4e-3, atol=4e-3)


def over_relu(nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    """Nodes between r = Relu(x) and y = Relu(t); the shape of t is left to inference."""
    every = [node("Relu", ["x"], "r"), *nodes, node("Relu", ["t"], "y")]
    graph = helper.make_graph(
        every,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, (2, 3))],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True)


@pytest.mark.parametrize("opset", [17, 20, 21, 23])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("made", "constants"),
    [
        (helper.make_node("Bernoulli", ["r"], ["t"], dtype=1), {}),
        (helper.make_node("Bernoulli", ["r"], ["t"]), {}),
        (helper.make_node("RandomUniformLike", ["r"], ["t"], dtype=1), {}),
        (helper.make_node("RandomUniformLike", ["r"], ["t"]), {}),
        (helper.make_node("EyeLike", ["r"], ["t"], dtype=1), {}),
        (helper.make_node("HannWindow", ["n"], ["t"]), {"n": np.int64(5)}),
        (helper.make_node("CastLike", ["n", "r"], ["t"]), {"n": np.array([1, 2], np.int64)}),
        (
            helper.make_node("DequantizeLinear", ["q", "s"], ["t"]),
            {"q": np.array([[1, 2]], np.int8), "s": np.float32(0.5)},
        ),
        (
            helper.make_node("OneHot", ["i", "n", "v"], ["t"]),
            {"i": np.array([1], np.int64), "n": np.int64(3), "v": np.array([0, 1], np.float32)},
        ),
    ],
    ids=lambda part: part.op_type + str(len(part.attribute)) if isinstance(part, onnx.NodeProto) else "",
)
def test_a_type_that_an_attribute_says_stays_float32(
    made: onnx.NodeProto, constants: dict[str, Any], dtype: str, opset: int
) -> None:
    proto = over_relu([made], constants, opset)
    for half_io in (False, True):
        halved(proto, dtype, half_io=half_io)


def test_functions_of_the_model_follow_it_to_another_operator_set() -> None:
    body = [node("Cast", ["a"], "c"), node("Flatten", ["c"], "b")]
    body[0].attribute.append(helper.make_attribute("to", FLOAT))
    function = helper.make_function("local", "Flat", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    proto = model_of(
        [node("Relu", ["x"], "r"), helper.make_node("Flat", ["r"], ["y"], domain="local")], ["x"], ["y"], 20
    )
    proto.functions.append(function)
    proto.opset_import.append(helper.make_opsetid("local", 1))
    onnx.checker.check_model(proto, full_check=True)
    found = halved(proto, "bfloat16", half_io=False)
    assert found.opset_import[0].version == found.functions[0].opset_import[0].version == 22


def test_rounding_in_float32_takes_no_name_that_is_there() -> None:
    nodes = [node("Relu", ["x"], "r/half", "r/round"), node("Abs", ["r/half"], "r"), node("Add", ["r", "row"], "r/raw")]
    proto = model_of([*nodes, node("Neg", ["r/raw"], "y", "r/widen")], ["x"], ["y", "r"])
    runtime = OnnxRuntime(rounding_in_float32(ir.from_proto(halved(proto, "float16", half_io=True))))
    for output, exact in OnnxRuntime(proto).run({"x": X}).items():
        np.testing.assert_allclose(runtime.run({"x": X})[output], exact, rtol=4e-3, atol=4e-3)


def test_group_normalization_of_operator_set_20_keeps_its_meaning() -> None:
    group = helper.make_node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    tensors = [numpy_helper.from_array(np.array([1, 2], np.float32), name) for name in ("s", "b")]
    ends = [helper.make_tensor_value_info(name, FLOAT, (1, 4, 3)) for name in ("x", "y")]
    graph = helper.make_graph([group], "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)
    found = to_half(ir.from_proto(model), HalfConfig("bfloat16"))
    assert found.graph.opset_imports[""] == 20
