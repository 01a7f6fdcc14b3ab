"""Folding into what reads the norm: the new weights by hand, and every reason to refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, int64, only, operand, operators, refusal, running, scaling
from tests.foreign import skip_before_onnx


def test_unpadded_conv_is_scaled_by_column_and_bias_sums_the_shift() -> None:
    b, weight, bias = GraphBuilder(), array(6, 2, 3, 3), array(6)
    y = running(b, b.input((1, 4, 6, 6)), 4)
    result = folded(b, b.node("Conv", [y, b.const(weight), b.const(bias)], group=2, dilations=[1, 2], strides=[2, 1]))
    assert operators(result) == ["Conv"]
    expected, shift = weight.copy(), bias.copy()
    for row in range(6):
        for column in range(2):
            channel = 2 * (row // 3) + column
            expected[row, column] *= A[channel]
            shift[row] += B[channel] * weight[row, column].sum()
    np.testing.assert_allclose(operand(result, "Conv", 1), expected, rtol=1e-14)
    np.testing.assert_allclose(operand(result, "Conv", 2), shift, rtol=1e-12)
    assert only(result).rule == "consumer"
    assert only(result).reason == "folded forward into Conv 'node_conv_8'"


@pytest.mark.parametrize("padding", [{"pads": [0, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}])
def test_zero_padded_conv_refuses_forward_fold(padding: dict[str, Any]) -> None:
    b = GraphBuilder()
    y = b.node("Conv", [running(b, b.input((1, 2, 6, 6)), 2), b.const(array(3, 2, 3, 3))], **padding)
    assert "Conv 'node_conv_7' pads its input with zeros" in refusal(b, y)


def test_pointwise_conv_with_same_padding_is_not_padded() -> None:
    skip_before_onnx("1.23", "pads by less than nothing here")
    b = GraphBuilder()
    y = running(b, b.input((1, 2, 6, 6)), 2)
    result = folded(b, b.node("Conv", [y, b.const(array(3, 2, 1, 1))], auto_pad="SAME_UPPER", strides=[2, 2]))
    assert operators(result) == ["Conv"]


def test_pure_scale_folds_under_zero_padding() -> None:
    b, weight = GraphBuilder(), array(3, 2, 3, 3)
    y = b.node("Conv", [scaling(b, b.input((1, 2, 6, 6)), 2), b.const(weight)], pads=[1, 1, 1, 1])
    result = folded(b, y)
    assert operators(result) == ["Conv"]
    np.testing.assert_allclose(operand(result, "Conv", 1), weight * A[:2, None, None], rtol=1e-14)


def test_transposed_conv_takes_a_pure_scale_but_no_shift() -> None:
    b, weight = GraphBuilder(), array(4, 3, 2, 2)
    y = b.node("ConvTranspose", [scaling(b, b.input((1, 4, 3, 3)), 4), b.const(weight)], group=2, strides=[2, 2])
    np.testing.assert_allclose(operand(folded(b, y), "ConvTranspose", 1), weight * A[:4, None, None, None], rtol=1e-14)
    b = GraphBuilder()
    y = b.node("ConvTranspose", [running(b, b.input((1, 4, 3, 3)), 4), b.const(weight)], group=2)
    assert "ConvTranspose 'node_convtranspose_7' covers its positions unequally" in refusal(b, y)


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_rows_are_scaled_and_bias_takes_the_shift(trans: int) -> None:
    b, weight, bias = GraphBuilder(), array(4, 3), array(2, 3)
    inputs = [running(b, b.input((2, 4)), 4), b.const(weight.T if trans else weight), b.const(bias)]
    result = folded(b, b.node("Gemm", inputs, transB=trans, alpha=0.5, beta=-2.0))
    got = operand(result, "Gemm", 1)
    np.testing.assert_allclose(got.T if trans else got, weight * A[:4, None], rtol=1e-14)
    np.testing.assert_allclose(operand(result, "Gemm", 2), bias + 0.5 * (B[:4] @ weight) / -2.0, rtol=1e-12)


def test_gemm_of_a_transposed_input_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Gemm", [running(b, b.input((4, 4)), 4), b.const(array(4, 3))], transA=1)
    assert "Gemm 'node_gemm_7' transposes its input" in refusal(b, y)


def test_matmul_hands_the_shift_to_its_bias_add() -> None:
    b, weight, bias = GraphBuilder(), array(4, 3), array(3)
    y = b.node("MatMul", [running(b, b.input((2, 4)), 4), b.const(weight)])
    result = folded(b, b.node("Add", [b.const(bias), y]))
    assert operators(result) == ["MatMul", "Add"]
    np.testing.assert_allclose(operand(result, "Add", 0), bias + B[:4] @ weight, rtol=1e-12)


def test_matmul_without_bias_add_gets_one_that_keeps_the_name() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [running(b, b.input((2, 4)), 4), b.const(array(4, 3))])
    z = b.node("Relu", [y])
    result = folded(b, z)
    assert operators(result) == ["MatMul", "Add", "Relu"]
    add = next(node for node in result.after.graph.node if node.op_type == "Add")
    assert list(add.output) == [y]


def test_matmul_on_another_axis_refuses_by_axis() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [running(b, b.input((2, 4, 4)), 4), b.const(array(4, 4))])
    assert "works on axis 2, the norm on axis 1" in refusal(b, y)


def test_norm_as_the_weight_of_a_layer_refuses() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [b.const(array(5, 2)), running(b, b.input((2, 4)), 4)])
    assert "the weight of MatMul 'node_matmul_7' has no number for each channel of axis 1" in refusal(b, y)


def test_all_readers_take_the_norm() -> None:
    b = GraphBuilder()
    y = running(b, b.input((1, 2, 6, 6)), 2)
    one = b.node("Conv", [y, b.const(array(3, 2, 3, 3))])
    two = b.node("Conv", [y, b.const(array(4, 2, 1, 1)), b.const(array(4))], strides=[2, 2])
    result = folded(b, one, two)
    assert operators(result) == ["Conv", "Conv"]
    assert only(result).into == ("node_conv_7", "node_conv_10")


def test_one_reader_that_refuses_keeps_the_norm_for_all() -> None:
    b = GraphBuilder()
    y = running(b, b.input((1, 2, 6, 6)), 2)
    one = b.node("Conv", [y, b.const(array(3, 2, 3, 3))])
    result = folded(b, one, b.node("Relu", [y]))
    assert operators(result) == ["Mul", "Add", "Conv", "Relu"]
    assert "Relu 'node_relu_8' reads it" in only(result).reason
    assert only(result).reason.endswith("lowered to Mul and Add")
    assert only(result).into == ("node_runningnorm_5_mul", "node_runningnorm_5_add")


def test_shared_weight_of_a_reader_refuses() -> None:
    b = GraphBuilder()
    x, weight = b.input((1, 2, 6, 6)), b.const(array(3, 2, 3, 3), "weight")
    one, two = b.node("Conv", [running(b, x, 2), weight]), b.node("Conv", [x, weight])
    assert "the weight 'weight_1' of Conv 'node_conv_7' is shared: it also feeds Conv 'node_conv_8'" in refusal(
        b, one, two
    )


def test_norm_that_is_an_output_refuses() -> None:
    b = GraphBuilder()
    y = running(b, b.input((1, 2, 6, 6)), 2)
    assert f"'{y}' is a graph output" in refusal(b, b.node("Conv", [y, b.const(array(3, 2, 3, 3))]), y)


def test_producer_is_preferred_to_consumer() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(4, 2, 1, 1))])
    y = b.node("Conv", [running(b, y, 4), b.const(array(3, 4, 1, 1))])
    assert only(folded(b, y)).into == ("node_conv_2",)


def test_two_matmuls_are_not_worth_two_adds() -> None:
    b = GraphBuilder()
    y = running(b, b.input((2, 4)), 4)
    outputs = [b.node("MatMul", [y, b.const(array(4, size))]) for size in (2, 3)]
    assert "would add 2 nodes where 2 can stay" in refusal(b, *outputs)


def test_reflected_padding_of_the_raw_tensor_folds_forward() -> None:
    b = GraphBuilder()
    y = b.node("Pad", [running(b, b.input((1, 2, 4, 4)), 2), int64(b, 0, 0, 1, 1, 0, 0, 1, 1)], mode="reflect")
    result = folded(b, b.node("Conv", [y, b.const(array(3, 2, 3, 3))]))
    assert operators(result) == ["Pad", "Conv"]
    assert only(result).reason == "folded forward into Conv 'node_conv_9', through Pad 'node_pad_7'"


def test_constant_that_widens_a_single_channel_does_not_go_forward() -> None:
    b = GraphBuilder()
    wide = b.node("Mul", [b.input((1, 1, 4, 4)), b.const(A[:3].reshape(3, 1, 1))])
    result = folded(b, b.node("Conv", [wide, b.const(array(2, 3, 1, 1))]))
    assert not result.result.norms
    assert operators(result) == ["Mul", "Conv"]


def test_a_norm_right_behind_a_dequantize_linear_stays_before_a_conv() -> None:
    """Between the two, ONNX Runtime takes the Conv for a quantised one and rounds its float weights to int8."""
    b = GraphBuilder(np.float32)
    zero, step = b.const(np.array(0, np.int8), keep_type=True), b.const(0.05)
    q = b.node("QuantizeLinear", [b.input((1, 3, 4, 4)), step, zero])
    norm = running(b, b.node("DequantizeLinear", [q, step, zero]), 3)
    y = b.node("Conv", [norm, b.const(array(2, 3, 1, 1)), b.const(array(2))])
    result = folded(b, b.node("DequantizeLinear", [b.node("QuantizeLinear", [y, step, zero]), step, zero]))
    (conv,) = [node for node in result.after.graph.node if node.op_type == "Conv"]
    made_by = {name: node.op_type for node in result.after.graph.node for name in node.output}
    assert made_by[conv.input[0]] != "DequantizeLinear"
    np.testing.assert_array_equal(operand(result, "Conv", 1), array(2, 3, 1, 1).astype(np.float32))
