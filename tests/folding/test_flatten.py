"""Norms on their way to a linear layer behind Flatten, Reshape or Squeeze."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from normexport.folding import fold
from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, int64, operand, operators, refusal, running


def linear(b: GraphBuilder, y: str, columns: int, rows: int = 3) -> tuple[str, np.ndarray]:
    weight = array(columns, rows)
    return b.node("Gemm", [y, b.const(weight)]), weight


def test_every_column_belongs_to_the_channel_it_was_flattened_from() -> None:
    b = GraphBuilder()
    y, weight = linear(b, b.node("Flatten", [running(b, b.input((2, 3, 2, 5)), 3)]), 30)
    result = folded(b, y)
    assert operators(result) == ["Flatten", "Gemm"]
    expected = np.array([weight[j] * A[j // 10] for j in range(30)])
    np.testing.assert_allclose(operand(result, "Gemm", 1), expected, rtol=1e-14)
    shift = sum(B[j // 10] * weight[j] for j in range(30))
    np.testing.assert_allclose(operand(result, "Gemm", 2), shift, rtol=1e-12)


@pytest.mark.parametrize("target", [(0, -1), (-1, 12), (2, -1), (2, 12), (0, 12)])
def test_reshape_to_rows_is_a_flatten(target: tuple[int, int]) -> None:
    b = GraphBuilder()
    y = b.node("Reshape", [running(b, b.input((2, 3, 2, 2)), 3), int64(b, *target)])
    assert operators(folded(b, linear(b, y, 12)[0])) == ["Reshape", "Gemm"]


def test_reshape_that_mixes_rows_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Reshape", [running(b, b.input((2, 3, 2, 2)), 3), int64(b, 4, 6)])
    assert "lays channels out in another way than (N, 12): [4, 6]" in refusal(b, linear(b, y, 6)[0])


def test_dynamic_space_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Reshape", [running(b, b.input((2, 3, "h", 2)), 3), int64(b, 0, 12)])
    b.output(linear(b, y, 12)[0])
    (outcome,) = fold(ir.from_proto(b.model())).norms
    assert outcome.fate == "lowered"
    assert "are not static: (2, 3, None, 2)" in outcome.reason


@pytest.mark.parametrize("axis", [0, 2])
def test_flatten_from_another_axis_refuses(axis: int) -> None:
    b = GraphBuilder()
    y = b.node("Flatten", [running(b, b.input((2, 3, 2, 2)), 3)], axis=axis)
    columns = {0: 24, 2: 4}[axis]
    assert f"flattens from axis {axis}, not from axis 1" in refusal(b, linear(b, y, columns)[0])


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_squeeze_of_space_is_passed(axes: tuple[int, ...]) -> None:
    b = GraphBuilder()
    y = b.node("GlobalAveragePool", [running(b, b.input((2, 3, 4, 4)), 3)])
    y = b.node("Squeeze", [y, int64(b, *axes)])
    assert operators(folded(b, linear(b, y, 3)[0])) == ["GlobalAveragePool", "Squeeze", "Gemm"]


def test_squeeze_of_everything_refuses() -> None:
    b = GraphBuilder()
    y: Any = running(b, b.input((2, 3, 1, 1)), 3)
    assert "may drop the batch or the channels" in refusal(b, linear(b, b.node("Squeeze", [y]), 3)[0])


def test_flatten_before_a_norm_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(3, 2, 6, 6))])
    reason = refusal(b, running(b, b.node("Flatten", [y]), 3))
    assert "Flatten 'node_flatten_3' stands before the norm and may move channels off axis 1" in reason
