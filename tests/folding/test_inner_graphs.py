"""Norms inside branches and functions stay, and are told."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array


def _steps(x: str, op: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    if op == "BatchNormalization":
        names = [f"{op}_{i}" for i in range(4)]
        nodes = [helper.make_node(op, [x, *names], ["inner"], name="inner_norm")]
        return nodes, [numpy_helper.from_array(np.ones(3), name) for name in names]
    nodes = [
        helper.make_node("Sub", [x, "mean"], ["centred"], name="inner_norm"),
        helper.make_node("Mul", ["centred", "scale"], ["inner"], name="scaled"),
    ]
    return nodes, [numpy_helper.from_array(array(3, 1, 1), name) for name in ("mean", "scale")]


def test_norms_in_a_branch_are_told_once_each() -> None:
    for op in ("BatchNormalization", "chain"):
        b = GraphBuilder()
        x = b.node("Relu", [b.input((1, 3, 4, 4))])
        nodes, tensors = _steps(x, op)
        out = helper.make_tensor_value_info("inner", onnx.TensorProto.DOUBLE, None)
        with_norm = helper.make_graph(nodes, "with", [], [out], tensors)
        without = helper.make_graph([helper.make_node("Neg", [x], ["inner"])], "without", [], [out])
        b.output(b.node("If", [b.input((), "x0")], then_branch=with_norm, else_branch=without))
        b.inputs[-1].type.tensor_type.elem_type = onnx.TensorProto.BOOL
        result = fold(ir.from_proto(b.model()))
        assert [(norm.node, norm.fate) for norm in result.norms] == [("inner_norm", "live")]
        assert "stands inside a branch or a loop" in result.norms[0].reason
        assert not result.changed


def test_norms_in_a_function_are_told() -> None:
    nodes, tensors = _steps("x", "chain")
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor, name=f"make_{tensor.name}") for tensor in tensors
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Block", ["x"], ["inner"], [*constants, *nodes], opsets[:1])
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Block", ["x"], ["y"], domain="own", name="call")],
        "g",
        [value("x", onnx.TensorProto.DOUBLE, [1, 3, 4, 4])],
        [value("y", onnx.TensorProto.DOUBLE, [1, 3, 4, 4])],
    )
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=10)
    (norm,) = fold(ir.from_proto(model)).norms
    assert norm.node == "inner_norm"
    assert "inside the function Block" in norm.reason
