"""Two ONNX files judged against each other."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from normexport.errors import UsageError
from normexport.proof import compare, input_specs
from tests.proof.nets import Writer, plain, tiny_model


def test_two_onnx_files_of_one_net_compare_equal_and_boundaries_by_name():
    torch.manual_seed(0)
    net = plain(4, 8)
    first, second = (ir.from_proto(Writer(fold=fold).write(net, (3, 8, 8)).model) for fold in (False, True))
    report = compare(first, second)
    assert report.passed
    assert report.reference == "float64 interpreter"
    assert {row.tensor for row in report.layers} == {v.name for node in second.graph for v in node.outputs}


def test_a_wrong_fold_between_two_onnx_files_is_located():
    torch.manual_seed(0)
    net = plain(4, 8)
    first = ir.from_proto(Writer(fold=False).write(net, (3, 8, 8)).model)
    wrong = Writer(faults={"7": lambda affine: (affine.weight, affine.bias)}).write(net, (3, 8, 8))
    report = compare(first, ir.from_proto(wrong.model))
    assert not report.passed
    assert report.first_divergence.tensor == "7.out"


def test_where_the_interpreter_lacks_an_operator_float32_stands_in_and_it_is_said():
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


def test_files_with_other_inputs_or_open_sizes_are_usage_errors():
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
