"""Shapes are inferred without following values that a constant says are many."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from normexport.passes.shapes import Shapes


def model(op: str, numbers: list[int], *, as_node: bool) -> ir.Model:
    """A graph in which `op` makes as many elements as its constant says, beside a Relu of x."""
    value = onnx.helper.make_tensor_value_info
    size = onnx.helper.make_tensor("size", onnx.TensorProto.INT64, [len(numbers)], numbers)
    nodes = [onnx.helper.make_node("Constant", [], ["size"], value=size)] if as_node else []
    inputs = {"ConstantOfShape": ["size"], "Expand": ["x", "size"], "Tile": ["x", "size"]}[op]
    nodes += [onnx.helper.make_node(op, inputs, ["many"]), onnx.helper.make_node("Relu", ["x"], ["y"])]
    ends = [value("x", 1, [1] * len(numbers))], [value("y", 1, None), value("many", 1, None)]
    graph = onnx.helper.make_graph(nodes, "g", *ends, [] if as_node else [size])
    opset = [onnx.helper.make_opsetid("", 20)]
    return ir.from_proto(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10))


@pytest.mark.parametrize("as_node", [True, False])
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_ranks_are_known_and_nothing_is_made_of_huge_sizes(op, as_node):
    for numbers in ([2**62], [10**5, 10**6], [3, 4]):
        found = model(op, numbers, as_node=as_node)
        assert Shapes(found).rank(found.graph.outputs[0]) == len(numbers)
