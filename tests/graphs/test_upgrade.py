"""A model in a newer operator set: the same numbers, large weights untouched, or the model itself."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from normexport.graphs.upgrade import upgraded


def old(opset: int = 9, ir_version: int = 4, *extra: onnx.NodeProto) -> onnx.ModelProto:
    """Operators whose form has changed since: Clip, Pad, ReduceSum, Unsqueeze, Softmax; and a weight of 4 kB."""
    dice = np.random.default_rng(0)
    weights = {"w": dice.normal(size=(16, 3, 5, 5)), "v": dice.normal(size=(16, 8))}
    nodes = [
        helper.make_node("Pad", ["x"], ["p"], pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        helper.make_node("Conv", ["p", "w"], ["c"]),
        helper.make_node("Clip", ["c"], ["k"], min=0.0, max=6.0),
        helper.make_node("ReduceSum", ["k"], ["s"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["s", "v"], ["m"]),
        helper.make_node("Softmax", ["m"], ["f"]),
        helper.make_node("Unsqueeze", ["f"], ["y"], axes=[1]),
        *extra,
    ]
    value = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["N", 3, 8, 8])], [value("y", 1, ["N", 1, 8])], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def answer(proto: onnx.ModelProto) -> np.ndarray:
    x = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]


def test_a_newer_operator_set_computes_the_same_with_the_very_same_weights() -> None:
    model = ir.from_proto(old())
    new = upgraded(model, 13)
    proto = ir.to_proto(new)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == 13
    assert proto.ir_version == 7
    assert new.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value
    assert [value.name for value in proto.graph.input] == ["x"]
    np.testing.assert_allclose(answer(proto), answer(old()), rtol=1e-5)


def test_weights_that_are_inputs_too_stay_both() -> None:
    proto = old()
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [16, 3, 5, 5]))
    new = ir.to_proto(upgraded(ir.from_proto(proto), 13))
    assert {value.name for value in new.graph.input} == {"x", "w"}
    assert {"w", "v"} <= {tensor.name for tensor in new.graph.initializer}


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_what_is_as_new_stays_itself(opset: int) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    ends = [helper.make_tensor_value_info(name, 1, ["N"]) for name in "xy"]
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))
    assert upgraded(model, 13) is model


def test_what_is_beyond_the_converter_stays_itself() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["y"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    condition = helper.make_node(
        "Constant", [], ["t"], value=helper.make_tensor("t", onnx.TensorProto.BOOL, [], [True])
    )
    branching = helper.make_node("If", ["t"], ["z"], then_branch=branch, else_branch=branch)
    for extra in ((condition, branching), (helper.make_node("Own", ["y"], ["z"], domain="own"),)):
        model = ir.from_proto(old(9, 4, *extra))
        assert upgraded(model, 13) is model
    unknown = ir.from_proto(old(9, 4, helper.make_node("NoSuchOperator", ["y"], ["z"])))
    assert upgraded(unknown, 13) is unknown
