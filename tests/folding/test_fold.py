"""The fold as a whole: its input stays, rounds end, and files of every age come out valid."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from normexport import norms
from normexport.errors import FoldError, UsageError
from normexport.folding import FoldConfig, fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, operators, running


def network() -> onnx.ModelProto:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1)), b.const(array(3))])
    b.output(b.node("Relu", [running(b, y, 3)]))
    return b.model()


def test_input_model_is_not_changed() -> None:
    graph = ir.from_proto(network())
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    result = fold(graph)
    assert result.changed
    assert result.model is not graph
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before


def test_model_without_norms_is_given_back_as_it_is() -> None:
    b = GraphBuilder()
    b.output(b.node("Relu", [b.input((1, 2))]))
    graph = ir.from_proto(b.model())
    result = fold(graph)
    assert result.model is graph
    assert (result.changed, result.norms, result.warnings) == (False, (), ())


def test_norm_that_a_later_fold_sets_free_is_folded_too() -> None:
    # The first norm's second reader is a norm that changes nothing: with that one dropped, only a pool and a
    # convolution are left behind it, and it can go forward.
    b = GraphBuilder()
    y = running(b, b.node("Relu", [b.input((1, 2, 6, 6))]), 2)
    zeros, ones = b.const(np.zeros(2)), b.const(np.ones(2))
    same = b.node("RunningNorm", [y, zeros, ones, ones, zeros], domain=norms.DOMAIN)
    one = b.node("Conv", [y, b.const(array(3, 2, 3, 3))])
    two = b.node("Conv", [same, b.const(array(3, 2, 3, 3))])
    result = folded(b, one, two)
    assert operators(result) == ["Relu", "Conv", "Conv"]
    assert [outcome.fate for outcome in result.result.norms] == ["folded", "folded"]


def test_one_norm_folds_before_and_one_behind_the_same_conv() -> None:
    b, weight = GraphBuilder(), array(3, 2, 3, 3)
    y = b.node("Conv", [running(b, b.node("Relu", [b.input((1, 2, 6, 6))]), 2), b.const(weight)])
    result = folded(b, b.node("Relu", [running(b, y, 3)]))
    assert operators(result) == ["Relu", "Conv", "Relu"]
    marks = {each.key: each.value for each in result.after.graph.node[1].metadata_props}
    assert marks == {"normexport.folded": "node_runningnorm_6,node_runningnorm_13"}


def test_broken_norm_does_not_hold_back_its_neighbours() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    bad = [b.const(value) for value in (np.zeros(3), np.array([1.0, np.inf, 1.0]), np.ones(3), np.zeros(3))]
    b.output(b.node("RunningNorm", [running(b, y, 3), *bad], domain=norms.DOMAIN))
    result = fold(ir.from_proto(b.model()))
    assert [outcome.fate for outcome in result.norms] == ["folded", "live"]
    assert [(each.code, each.channels) for each in result.warnings] == [("not_finite", (1,))]


def test_dead_channels_are_named_and_fold_to_their_shift() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    y = b.node("Mul", [y, b.const(np.array([1.0, 0.0, 2.0]).reshape(3, 1, 1))])
    result = folded(b, b.node("Add", [y, b.const(np.array([1.0, 5.0, 2.0]).reshape(3, 1, 1))]))
    assert operators(result) == ["Conv"]
    assert [(each.code, each.channels) for each in result.result.warnings] == [("dead_channel", (1,))]
    assert result.result.warnings[0].node == "node_mul_4"


def test_ir_3_files_become_ir_4_where_initializers_need_no_input() -> None:
    # All initializers of IR 3 are graph inputs, so constants are Constant nodes.
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1), as_node=True)])
    b.output(b.node("Mul", [y, b.const(array(3, 1, 1), as_node=True)]))
    model = b.model()
    model.ir_version, model.opset_import[0].version = 3, 8
    result = fold(ir.from_proto(model))
    after = ir.to_proto(result.model)
    assert after.ir_version == 4
    assert [node.op_type for node in after.graph.node] == ["Conv"]
    onnx.checker.check_model(after, full_check=True)


def test_very_long_sums_refuse_instead_of_exhausting_the_stack() -> None:
    b = GraphBuilder()
    x = b.input((1, 2))
    total = b.node("Gemm", [x, b.const(array(2, 2))])
    for _ in range(400):
        total = b.node("Add", [total, b.node("Gemm", [x, b.const(array(2, 2))])])
    b.output(running(b, total, 2))
    (outcome,) = fold(ir.from_proto(b.model())).norms
    assert outcome.fate == "lowered"
    assert "nodes lie between the norm and" in outcome.reason


def test_functions_of_live_norms_stay() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((2, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    ones = b.const(np.ones(3))
    result = folded(
        b, b.node("L1BatchNorm", [running(b, y, 3), ones, ones], domain=norms.DOMAIN, epsilon=1e-5, correction=0.0)
    )
    assert operators(result) == ["Conv", "L1BatchNorm"]
    assert [function.name for function in result.after.functions] == ["L1BatchNorm"]


def test_graph_that_is_not_in_order_is_refused_in_one_line() -> None:
    late = helper.make_node("Relu", ["b"], ["y"])
    early = helper.make_node("Relu", ["x"], ["b"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([late, early], "upside_down", [info[0]], [info[1]])
    with pytest.raises(FoldError, match=r"^upside_down: is not a valid graph: ") as raised:
        fold(ir.from_proto(helper.make_model(graph)))
    assert "\n" not in str(raised.value)


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="'int8'"):
        FoldConfig(precision="int8")
