"""What stays takes its cheapest form, and a file that is already there is not touched."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, only, operand, operators, running


def test_running_norm_becomes_one_mul_and_one_add() -> None:
    b = GraphBuilder()
    result = folded(b, b.node("Relu", [running(b, b.node("Relu", [b.input((1, 3, 4, 4))]), 3)]))
    assert operators(result) == ["Relu", "Mul", "Add", "Relu"]
    assert operand(result, "Mul", 1).shape == (3, 1, 1)
    np.testing.assert_allclose(operand(result, "Mul", 1).ravel(), A[:3], rtol=1e-15)
    np.testing.assert_allclose(operand(result, "Add", 1).ravel(), B[:3], rtol=1e-15)
    assert only(result).fate == "lowered"
    assert only(result).rule == "lower"
    assert not result.after.functions
    assert [each.domain for each in result.after.opset_import] == [""]


def test_raw_chain_of_four_becomes_two_nodes() -> None:
    b = GraphBuilder()
    y = b.node("Relu", [b.input((1, 3, 4, 4))])
    for op in ("Sub", "Div", "Mul", "Add"):
        y = b.node(op, [y, b.const(array(1, 3, 1, 1))])
    assert operators(folded(b, b.node("Relu", [y]))) == ["Relu", "Mul", "Add", "Relu"]


@pytest.mark.parametrize("ops", [("Mul", "Add"), ("Sub", "Mul"), ("Sub",), ("Div",)])
def test_chain_no_longer_than_its_cheapest_form_is_not_touched(ops: tuple[str, ...]) -> None:
    b = GraphBuilder()
    y = b.node("Relu", [b.input((1, 3, 4, 4))])
    for op in ops:
        y = b.node(op, [y, b.const(array(3, 1, 1))])
    result = folded(b, b.node("Relu", [y]))
    assert not result.result.changed
    assert only(result).fate == "lowered"
    assert "stays as it is" in only(result).reason


def test_pure_shift_becomes_an_add_and_a_pure_scale_a_mul() -> None:
    b = GraphBuilder()
    y = b.node("Relu", [b.input((1, 3, 4, 4))])
    y = b.node("Add", [b.node("Sub", [y, b.const(array(3, 1, 1))]), b.const(np.ones((3, 1, 1)))])
    assert operators(folded(b, b.node("Relu", [y]))) == ["Relu", "Add", "Relu"]
    b = GraphBuilder()
    y = b.node("Relu", [b.input((1, 3, 4, 4))])
    y = b.node("Div", [b.node("Mul", [y, b.const(array(3, 1, 1))]), b.const(np.array([2.0, 4.0, 8.0])[:, None, None])])
    assert operators(folded(b, b.node("Relu", [y]))) == ["Relu", "Mul", "Relu"]


def test_batchnorm_that_cannot_fold_is_not_touched() -> None:
    b = GraphBuilder()
    y = b.node(
        "BatchNormalization", [b.node("Relu", [b.input((1, 3, 4, 4))]), *(b.const(np.ones(3) * 2) for _ in "abcd")]
    )
    result = folded(b, b.node("Relu", [y]))
    assert not result.result.changed
    assert only(result).fate == "lowered"
    assert only(result).reason.endswith("stays as it is (BatchNormalization)")


def test_batchnorm_and_a_chain_become_one_batchnorm() -> None:
    b = GraphBuilder()
    y = b.node(
        "BatchNormalization", [b.node("Relu", [b.input((1, 3, 4, 4))]), *(b.const(np.ones(3) * 2) for _ in "abcd")]
    )
    y = b.node("Mul", [y, b.const(array(3, 1, 1))])
    result = folded(b, b.node("Relu", [y]))
    assert operators(result) == ["Relu", "BatchNormalization", "Relu"]


def identity(b: GraphBuilder, x: str) -> str:
    zeros, ones = b.const(np.zeros(3)), b.const(np.ones(3))
    return b.node("RunningNorm", [x, zeros, ones, ones, zeros], domain=norms.DOMAIN, kind="l1")


def test_norm_that_changes_nothing_is_dropped_and_its_name_stays() -> None:
    b = GraphBuilder()
    y = identity(b, b.node("Relu", [b.input((1, 3, 4, 4))]))
    result = folded(b, y)
    assert operators(result) == ["Relu"]
    assert list(result.after.graph.node[0].output) == [y]
    assert (only(result).fate, only(result).reason) == ("folded", "it changes nothing (scale 1, shift 0): dropped")


def test_norm_that_changes_nothing_between_input_and_output_leaves_an_identity() -> None:
    b = GraphBuilder()
    result = folded(b, identity(b, b.input((1, 3, 4, 4))))
    assert operators(result) == ["Identity"]
    assert only(result).reason.startswith("it changes nothing, but 'x' and ")


def test_running_norm_of_unknown_rank_becomes_a_batchnorm() -> None:
    b = GraphBuilder()
    shape = b.input((4,), "shape")
    b.inputs[-1].type.tensor_type.elem_type = ir.DataType.INT64.value
    y = b.node("Reshape", [b.input((1, 3, 4, 4)), b.node("Compress", [shape, b.node("Cast", [shape], to=9)], axis=0)])
    b.output(b.node("Relu", [running(b, b.node("Relu", [y]), 3)]))
    result = fold(ir.from_proto(b.model()))
    assert [node.op_type for node in result.model.graph][-3:] == ["Relu", "BatchNormalization", "Relu"]
    assert not fold(result.model).changed


def test_running_statistics_that_are_not_constant_stay_live() -> None:
    b = GraphBuilder()
    x = b.input((1, 3, 4, 4))
    parameters = [b.input((3,), name) for name in ("mean", "inv", "gamma", "beta")]
    result = folded(b, b.node("RunningNorm", [x, *parameters], domain=norms.DOMAIN, kind="range"))
    assert not result.result.changed
    assert (only(result).kind, only(result).fate) == ("range", "live")
    assert "'mean' is a graph input, not a constant" in only(result).reason


def test_batch_statistics_stay_live() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((2, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    ones = b.const(np.ones(3))
    result = folded(
        b,
        b.node("LinfBatchNorm", [y, ones, ones], domain=norms.DOMAIN),
        b.node("RangeInstanceNorm", [y, ones, ones], domain=norms.DOMAIN),
    )
    assert not result.result.changed
    assert [(n.kind, n.fate) for n in result.result.norms] == [("linf", "live"), ("range", "live")]
    assert "computes the statistics of the batch at inference" in result.result.norms[0].reason
    assert "computes the statistics of each sample at inference" in result.result.norms[1].reason


def test_constants_that_overflow_their_type_are_not_written() -> None:
    b = GraphBuilder(np.float16)
    x = b.node("Relu", [b.input((1, 2, 2, 2))])
    numbers = (np.zeros(2), np.array([1.0, 6e4]), np.array([1.0, 3.0]), np.zeros(2))
    constants = [b.const(np.float32(value), keep_type=True) for value in numbers]
    b.output(b.node("Relu", [b.node("RunningNorm", [x, *constants], domain=norms.DOMAIN)]))
    result = fold(ir.from_proto(b.model()))
    assert not result.changed
    (warning,) = result.warnings
    assert (warning.code, warning.channels) == ("overflow", (1,))
    assert result.norms[0].fate == "live"
    assert "overflows float16 in channels [1]" in result.norms[0].reason
