"""Norms and what moves numbers about: Transpose, Flatten, Reshape, Squeeze, Unsqueeze."""

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
    reason = refusal(b, linear(b, y, 6)[0])
    assert "Reshape 'node_reshape_7' takes the 3 channels of axis 1 apart: (2, 3, 2, 2) to (4, 6)" in reason


def test_dynamic_space_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Reshape", [running(b, b.input((2, 3, "h", 2)), 3), int64(b, 0, 12)])
    b.output(linear(b, y, 12)[0])
    (outcome,) = fold(ir.from_proto(b.model())).norms
    assert outcome.fate == "lowered"
    assert "are not static: (2, 3, None, 2)" in outcome.reason


def test_flatten_of_channels_into_the_batch_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Flatten", [running(b, b.input((2, 3, 2, 2)), 3)], axis=2)
    assert "Gemm 'node_gemm_8' works on axis 1, the norm on axis 0" in refusal(b, linear(b, y, 4)[0])


def test_flatten_of_a_fixed_batch_lays_the_channels_out_for_each_sample() -> None:
    b = GraphBuilder()
    y, weight = linear(b, b.node("Flatten", [running(b, b.input((2, 3, 2, 2)), 3)], axis=0), 24)
    expected = np.array([weight[j] * A[j % 12 // 4] for j in range(24)])
    np.testing.assert_allclose(operand(folded(b, y), "Gemm", 1), expected, rtol=1e-14)


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_squeeze_of_space_is_passed(axes: tuple[int, ...]) -> None:
    b = GraphBuilder()
    y = b.node("GlobalAveragePool", [running(b, b.input((2, 3, 4, 4)), 3)])
    y = b.node("Squeeze", [y, int64(b, *axes)])
    assert operators(folded(b, linear(b, y, 3)[0])) == ["GlobalAveragePool", "Squeeze", "Gemm"]


def test_squeeze_of_every_axis_of_size_one_is_passed() -> None:
    b = GraphBuilder()
    y: Any = running(b, b.input((2, 3, 1, 1)), 3)
    assert operators(folded(b, linear(b, b.node("Squeeze", [y]), 3)[0])) == ["Squeeze", "Gemm"]


def test_flatten_before_a_norm_is_passed_where_each_column_is_a_channel() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(3, 2, 6, 6))])
    assert operators(folded(b, running(b, b.node("Flatten", [y]), 3))) == ["Conv", "Flatten"]


def test_a_norm_per_column_behind_a_flatten_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(3, 2, 6, 5))])
    reason = refusal(b, running(b, b.node("Flatten", [y]), 6))
    assert "Flatten 'node_flatten_3' takes the 6 channels of axis 1 apart: (1, 6) to (1, 3, 1, 2)" in reason


def test_a_norm_that_is_the_same_in_every_column_of_a_channel_is_passed() -> None:
    b, weight = GraphBuilder(), array(3, 2, 6, 5)
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(weight)])
    y = b.node("Mul", [b.node("Flatten", [y]), b.const(np.repeat(A[:3], 2))])
    result = folded(b, y)
    np.testing.assert_allclose(operand(result, "Conv", 1), weight * A[:3, None, None, None], rtol=1e-14)


def test_a_norm_behind_a_reshape_of_a_linear_layer_scales_every_column_of_its_channel() -> None:
    b, weight = GraphBuilder(), array(4, 12)
    y = b.node("Reshape", [b.node("Gemm", [b.input((2, 4)), b.const(weight)]), int64(b, 0, 3, 2, 2)])
    result = folded(b, running(b, y, 3))
    assert operators(result) == ["Gemm", "Reshape"]
    np.testing.assert_allclose(operand(result, "Gemm", 1), weight * np.repeat(A[:3], 4), rtol=1e-14)
    np.testing.assert_allclose(operand(result, "Gemm", 2), np.repeat(B[:3], 4), rtol=1e-14)


def test_channels_last_flattened_are_laid_out_once_per_position() -> None:
    b = GraphBuilder()
    y = b.node("Mul", [b.input((2, 2, 5, 3)), b.const(A[:3])])
    y, weight = linear(b, b.node("Flatten", [y]), 30)
    expected = np.array([weight[j] * A[j % 3] for j in range(30)])
    np.testing.assert_allclose(operand(folded(b, y), "Gemm", 1), expected, rtol=1e-14)


def test_a_transpose_moves_the_channels_either_way() -> None:
    b, weight = GraphBuilder(), array(3, 2, 2, 2)
    y = b.node("Conv", [b.input((1, 2, 4, 5)), b.const(weight)])
    y = b.node("Mul", [b.node("Transpose", [y], perm=[0, 2, 3, 1]), b.const(A[:3])])
    result = folded(b, y)
    assert operators(result) == ["Conv", "Transpose"]
    np.testing.assert_allclose(operand(result, "Conv", 1), weight * A[:3, None, None, None], rtol=1e-14)
    b, weight = GraphBuilder(), array(2, 3, 2, 2)
    y = b.node("Mul", [b.input((1, 4, 5, 3)), b.const(A[:3])])
    y = b.node("Conv", [b.node("Transpose", [y], perm=[0, 3, 1, 2]), b.const(weight)])
    np.testing.assert_allclose(operand(folded(b, y), "Conv", 1), weight * A[None, :3, None, None], rtol=1e-14)


def test_transposes_that_undo_each_other_go_with_the_norm_between_them() -> None:
    b = GraphBuilder()
    y = b.node("Transpose", [b.node("Conv", [b.input((1, 2, 4, 5)), b.const(array(3, 2, 2, 2))])], perm=[0, 2, 3, 1])
    for op in ("Sub", "Div", "Mul", "Add"):
        y = b.node(op, [y, b.const(array(3))])
    y = b.node("Relu", [b.node("Transpose", [y], perm=[0, 3, 1, 2])])
    assert operators(folded(b, y)) == ["Conv", "Relu"]


def test_the_axis_decides_behind_a_transpose_though_sizes_agree() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 3, 3)), b.const(array(3, 2, 1, 1))])
    y = b.node("Transpose", [y], perm=[0, 1, 3, 2])
    assert "works on axis 1, the norm on axis 2" in refusal(b, b.node("Mul", [y, b.const(A[:3])]))


def test_a_shape_that_is_asked_for_does_not_stop_a_fold() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input(("n", 2, "h", "w")), b.const(array(3, 2, 2, 2))])
    whole = b.node("Shape", [y])
    y = b.node("Reshape", [y, int64(b, 0, 3, -1)])
    y = b.node("Mul", [y, b.const(A[:3].reshape(3, 1))])
    y = b.node("Reshape", [b.node("Add", [y, b.const(B[:3].reshape(3, 1))]), whole])
    b.output(b.node("Relu", [y]))
    result = fold(ir.from_proto(b.model()))
    assert [outcome.fate for outcome in result.norms] == ["folded"]
    assert [node.op_type for node in result.model.graph] == ["Conv", "Relu"]  # the second Reshape undid the first


def test_a_norm_of_one_size_among_unknown_ones_is_followed_by_its_place() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input(("n", 2, "w")), b.const(array(3, 2, 2))])
    y = b.node("Unsqueeze", [y, int64(b, 2)])
    y = b.node("Mul", [y, b.const(A[:3].reshape(3, 1, 1))])
    b.output(b.node("Relu", [b.node("Squeeze", [y, int64(b, 2)])]))
    result = fold(ir.from_proto(b.model()))
    assert [outcome.fate for outcome in result.norms] == ["folded"]
