"""Two ONNX files judged against each other."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from normexport.errors import FoldError, UsageError
from normexport.onnx_export import parse_inputs
from normexport.proof import compare, input_specs
from normexport.runtime.float64.operators import control_flow
from tests.proof.nets import Writer, plain, tiny_model


def test_two_onnx_files_of_one_net_compare_equal_and_boundaries_by_name() -> None:
    torch.manual_seed(0)
    net = plain(4, 8)
    first, second = (ir.from_proto(Writer(fold=fold).write(net, (3, 8, 8)).model) for fold in (False, True))
    report = compare(first, second)
    assert report.passed
    assert report.reference == "float64 interpreter"
    assert {row.tensor for row in report.layers} == {v.name for node in second.graph for v in node.outputs}


def test_a_wrong_fold_between_two_onnx_files_is_located() -> None:
    torch.manual_seed(0)
    net = plain(4, 8)
    first = ir.from_proto(Writer(fold=False).write(net, (3, 8, 8)).model)
    wrong = Writer(faults={"7": lambda affine: (affine.weight, affine.bias)}).write(net, (3, 8, 8))
    report = compare(first, ir.from_proto(wrong.model))
    assert not report.passed
    assert report.first_divergence.tensor == "7.out"


def test_where_the_interpreter_lacks_an_operator_float32_stands_in_and_it_is_said() -> None:
    nodes = [helper.make_node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft")]
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    first, second = (
        tiny_model(nodes, {"w": w}, 64),
        tiny_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w}, 64),
    )
    first.opset_imports["com.microsoft"] = 1
    report = compare(first, second)
    assert report.passed
    assert "no float64 reference" in report.notes[0]
    wrong = tiny_model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": w + np.float32(1e-4)}, 64)
    assert not compare(first, wrong).passed


def test_files_with_other_inputs_or_open_sizes_are_usage_errors() -> None:
    first = tiny_model([helper.make_node("Relu", ["x"], ["y"])], {}, 3)
    second = tiny_model([helper.make_node("Relu", ["x"], ["y"])], {}, 3)
    second.graph.inputs[0].name = "z"
    with pytest.raises(UsageError, match="the inputs differ: x against z"):
        compare(first, second)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    open_model = ir.from_proto(helper.make_model(graph, ir_version=10))
    with pytest.raises(UsageError, match="input x: has open sizes"):
        input_specs(open_model)


@pytest.mark.parametrize("trips", ["", "t"])
def test_a_loop_without_end_never_reaches_a_runtime_that_would_run_it(
    trips: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_flow, "MOST_TRIPS", 1000)
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    body = onnx.helper.make_graph(
        [node("Identity", ["c"], ["again"]), node("Add", ["v", "one"], ["more"])],
        "body",
        [value("i", onnx.TensorProto.INT64, []), value("c", onnx.TensorProto.BOOL, []), value("v", 1, ["N", 4])],
        [value("again", onnx.TensorProto.BOOL, []), value("more", 1, ["N", 4])],
    )
    constants = {"one": np.array([1], np.float32), "true": np.array(True), "t": np.array(2**62)}
    graph = onnx.helper.make_graph(
        [node("Loop", [trips, "true", "x"], ["y"], body=body)],
        "g",
        [value("x", 1, ["N", 4])],
        [value("y", 1, ["N", 4])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(FoldError, match=r"Loop y: has not ended after 1,000 trips"):
        compare(ir.from_proto(proto), ir.from_proto(proto))


def test_two_sizes_that_an_exporter_calls_by_a_question_mark_are_two() -> None:
    """Paddle2ONNX and others write "?" for every size without a name."""
    ends = [helper.make_tensor_value_info(name, 1, [-1, 3, "?", "?"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    (found,) = input_specs(model, parse_inputs(["x=3x48x192"]))
    assert (found.shape, found.batched) == ((3, 48, 192), True)
