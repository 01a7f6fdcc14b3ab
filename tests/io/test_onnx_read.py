"""A model read for a look at it: all of it but the values of its floats, and refused where the whole would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.errors import FoldError
from normexport.io.onnx_read import read_onnx
from normexport.io.onnx_walk import nodes_of


def model() -> onnx.ModelProto:
    """y = Add(x, w) inside a branch; z of int8; a function; floats as values and as raw data."""
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    branch = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"], "inner")], "branch", [], [value])
    nodes = [helper.make_node("If", ["c"], ["y"], "outer", then_branch=branch, else_branch=branch)]
    constants = [
        numpy_helper.from_array(np.ones(3, np.float32), "w"),
        numpy_helper.from_array(np.array([1, 2], np.int8), "z"),
        helper.make_tensor("values", TensorProto.FLOAT, [2], [1.0, 2.0]),
    ]
    inputs = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [3]),
    ]
    graph = helper.make_graph(nodes, "net", inputs, [value], constants)
    body = [helper.make_node("Relu", ["a"], ["b"], "body")]
    function = helper.make_function("other", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("other", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=[function])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(model().SerializeToString())
    return path


def test_without_floats_only_the_raw_floats_are_missing(path: Path) -> None:
    right = model()
    right.graph.initializer[0].ClearField("raw_data")
    assert read_onnx(path, floats=False) == right
    assert read_onnx(path) == model()


def test_without_floats_a_cut_file_is_refused_where_it_is_with_them(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert is_refused(path, floats=False) == is_refused(path, floats=True), size


def is_refused(path: Path, floats: bool) -> bool:
    try:
        read_onnx(path, floats=floats)
    except FoldError:
        return True
    return False


def test_nodes_of_subgraphs_and_functions_are_nodes_too(path: Path) -> None:
    assert [node.name for node in nodes_of(read_onnx(path))] == ["outer", "inner", "inner", "body"]


@pytest.mark.parametrize("floats", [True, False])
def test_a_type_that_nobody_knows_is_refused(path: Path, floats: bool) -> None:
    proto = model()
    proto.graph.value_info.add(name="odd").type.tensor_type.elem_type = 77
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(FoldError, match="odd: is of the unknown type 77"):
        read_onnx(path, floats=floats)
