"""Whether a file has nodes of a domain is told from its bytes, and its weights do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from normexport.io.onnx_scan import has_nodes_of
from tests.engine import networks


def scanned(
    path: Path, nodes: list[onnx.NodeProto], functions: Sequence[onnx.FunctionProto] = (), weights: bytes = b"weights!"
) -> bool:
    """Of a model that has these nodes."""
    ends = [networks.value("x", ["N", 4])], [networks.value("y", ["N", 4])]
    weight = numpy_helper.from_array(np.frombuffer(weights, np.uint8), "w")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("example", 1)]
    graph = helper.make_graph(nodes, "network", *ends, [weight])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, producer_name="example")
    path.write_bytes(model.SerializeToString())
    return has_nodes_of("example", path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


RELU = helper.make_node("Relu", ["x"], ["y"])
NORM = helper.make_node("Norm", ["x"], ["y"], domain="example")


def test_a_node_of_the_graph_is_found(path: Path) -> None:
    assert scanned(path, [RELU, NORM])


def test_a_node_of_a_subgraph_is_found(path: Path) -> None:
    branch = helper.make_graph([NORM], "branch", [], [networks.value("y", ["N", 4])])
    true = helper.make_node("Constant", [], ["true"], value=helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    assert scanned(path, [true, helper.make_node("If", ["true"], ["y"], then_branch=branch, else_branch=branch)])


def test_a_node_of_a_function_is_found(path: Path) -> None:
    opsets = [helper.make_opsetid("example", 1)]
    function = helper.make_function("other", "Twice", ["x"], ["y"], [NORM], opsets)
    assert scanned(path, [helper.make_node("Twice", ["x"], ["y"], domain="other")], [function])


def test_neither_weights_nor_names_nor_imports_are_nodes(path: Path) -> None:
    assert not scanned(path, [RELU], weights=NORM.SerializeToString())


@pytest.mark.parametrize("content", [b"", b"no ONNX file", b"\x3a\xff\xff\xff\xff\xff"])
def test_what_is_no_onnx_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"empty|ONNX"):
        has_nodes_of("example", path)
