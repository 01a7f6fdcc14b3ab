"""Norms change places with pools where that is exact, and refuse by channel where it is not."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest
from onnx import TensorProto

from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, int64, only, operators, refusal, running, scaling


def after(pool: str, b: GraphBuilder, positive: bool = False, **attrs: Any) -> str:
    y = b.node("Conv", [b.input((1, 2, 7, 7)), b.const(array(3, 2, 3, 3))])
    return running(b, b.node(pool, [y], **attrs), 3, positive)


def before(pool: str, b: GraphBuilder, positive: bool = False, **attrs: Any) -> str:
    y = b.node(pool, [running(b, b.input((1, 2, 7, 7)), 2, positive)], **attrs)
    return b.node("Conv", [y, b.const(array(3, 2, 1, 1))])


SIDES = pytest.mark.parametrize("side", [after, before])
WINDOW: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}


@SIDES
def test_max_pool_is_passed_by_positive_scales(side: Any) -> None:
    b = GraphBuilder()
    y = side("MaxPool", b, positive=True, pads=[1, 0, 1, 1], **WINDOW)
    assert set(operators(folded(b, y))) == {"MaxPool", "Conv"}


@SIDES
def test_max_pool_refuses_negative_scales_and_names_the_channels(side: Any) -> None:
    b = GraphBuilder()
    assert "(scale < 0) in channels [1] at MaxPool" in refusal(b, side("MaxPool", b, **WINDOW))


def test_max_pool_whose_indices_are_read_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 7, 7)), b.const(array(3, 2, 3, 3))])
    pool = b.node("MaxPool", [y], outputs=2, **WINDOW)
    indices = b.nodes[-1].output[1]
    b.output(running(b, pool, 3, positive=True), b.node("Cast", [indices], to=TensorProto.DOUBLE))
    (outcome,) = fold(ir.from_proto(b.model())).norms
    assert outcome.fate == "lowered"
    assert "also gives indices" in outcome.reason


@SIDES
@pytest.mark.parametrize(
    "attrs", [{}, {"count_include_pad": 1}, {"pads": [1, 0, 1, 0]}, {"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}]
)
def test_average_pool_is_passed_where_windows_sum_to_one(side: Any, attrs: dict[str, Any]) -> None:
    b = GraphBuilder()
    assert set(operators(folded(b, side("AveragePool", b, **WINDOW, **attrs)))) == {"AveragePool", "Conv"}


@SIDES
@pytest.mark.parametrize("attrs", [{"pads": [1, 0, 1, 0]}, {"auto_pad": "SAME_UPPER"}, {"ceil_mode": 1}])
def test_average_pool_that_counts_its_padding_refuses(side: Any, attrs: dict[str, Any]) -> None:
    b = GraphBuilder()
    assert "counts its zero padding" in refusal(b, side("AveragePool", b, count_include_pad=1, **WINDOW, **attrs))


@SIDES
@pytest.mark.parametrize("pool", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools_are_passed(side: Any, pool: str) -> None:
    b = GraphBuilder()
    assert set(operators(folded(b, side(pool, b, positive=True)))) == {pool, "Conv"}


@pytest.mark.parametrize("keepdims", [0, 1])
def test_mean_over_space_is_passed_to_the_conv_before(keepdims: int) -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 7, 7)), b.const(array(3, 2, 3, 3))])
    y = b.node("ReduceMean", [y, int64(b, 2, -1)], keepdims=keepdims)
    result = folded(b, running(b, y, 3))
    assert operators(result) == ["Conv", "ReduceMean"]
    assert only(result).rule == "pool"


def test_mean_over_space_is_passed_to_the_linear_layer_behind() -> None:
    b = GraphBuilder()
    y = b.node("ReduceMean", [running(b, b.input((2, 4, 3, 3)), 4), int64(b, 2, 3)], keepdims=0)
    result = folded(b, b.node("Gemm", [y, b.const(array(4, 5))]))
    assert operators(result) == ["ReduceMean", "Gemm"]


def test_mean_over_channels_refuses() -> None:
    b = GraphBuilder()
    y = b.node("ReduceMean", [running(b, b.input((1, 3, 7, 7)), 3), int64(b, 1)], keepdims=1)
    assert "takes the mean over axes [1], and the norm is on axis 1" in refusal(b, y)


def test_mean_over_channels_passes_one_scale_for_all_of_them() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 7, 7)), b.const(array(3, 2, 3, 3))])
    norm = running(b, b.node("ReduceMean", [y, int64(b, 1)], keepdims=1), 1)
    assert operators(folded(b, norm)) == ["Conv", "ReduceMean"]


def test_a_mean_that_drops_the_batch_moves_the_channels() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [b.input((5, 2, 4)), b.const(array(4, 3))])
    y = b.node("ReduceMean", [y, int64(b, 0)], keepdims=0)
    assert operators(folded(b, scaling(b, y, 3, rank=2))) == ["MatMul", "ReduceMean"]


def test_pooled_value_that_something_else_reads_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 7, 7)), b.const(array(3, 2, 3, 3))])
    norm = running(b, b.node("AveragePool", [y], **WINDOW), 3)
    assert "'conv_2' has more than one reader" in refusal(b, norm, b.node("Relu", [y]))
