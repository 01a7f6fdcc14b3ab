"""Shapes are inferred without following values that a constant says are many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from normexport.folding import fold
from normexport.graphs.shapes import Shapes, few_values
from normexport.io.onnx_model import open_onnx


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
def test_ranks_are_known_and_nothing_is_made_of_huge_sizes(op: str, as_node: bool) -> None:
    for numbers in ([2**62], [10**5, 10**6], [3, 4]):
        found = model(op, numbers, as_node=as_node)
        assert Shapes(found).rank(found.graph.outputs[0]) == len(numbers)


@pytest.mark.parametrize("size", [2**40, 4])
@pytest.mark.parametrize("op", ["RandomNormal", "RandomUniform"])
def test_nothing_is_made_of_the_size_of_random_numbers(op: str, size: int) -> None:
    """Inference follows values through Sub, and would make as many as the attribute says."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    nodes = [node(op, [], ["many"], shape=[size]), node("Sub", ["many", "x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, [1])], [value("y", 1, None)])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    model = ir.from_proto(proto)
    assert few_values(model.graph) == (size == 4)
    assert Shapes(model).of(model.graph.outputs[0]) == (size,)


def test_a_shape_in_a_data_file_is_read_so_that_a_fold_is_the_same_as_of_one_file(tmp_path: Path) -> None:
    value, rng = onnx.helper.make_tensor_value_info, np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        "w": rng.standard_normal((12, 4)).astype(np.float32),
        "shape": np.array([0, 2, -1], np.int64),
    }
    constants["scale"] = np.array([[[0.5], [2.0]]], np.float32)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["product"]),
        onnx.helper.make_node("Relu", ["product"], ["m"]),
        onnx.helper.make_node("Reshape", ["m", "shape"], ["r"]),
        onnx.helper.make_node("Mul", ["r", "scale"], ["s"]),
        onnx.helper.make_node("Mul", ["s", "scale"], ["y"]),
    ]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, [3, 12])], [value("y", 1, [3, 2, 2])], tensors)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    whole = ir.from_proto(proto)
    ir.save(whole, tmp_path / "split.onnx", external_data="split.data", size_threshold_bytes=0)
    split = open_onnx(tmp_path / "split.onnx")
    middle = next(node.outputs[0] for node in split.graph if node.op_type == "Reshape")
    assert Shapes(split).of(middle) == (3, 2, 2)
    once, inside = fold(split).model, fold(ir.from_proto(proto)).model
    assert (
        [node.op_type for node in once.graph]
        == [node.op_type for node in inside.graph]
        == ["MatMul", "Relu", "Reshape", "Mul"]
    )
    assert not fold(once).changed
