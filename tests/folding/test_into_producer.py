"""Folding into the layer before the norm: the new weights by hand, and every reason to refuse."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.folding.build import GraphBuilder
from tests.folding.graphs import A, B, array, folded, only, operand, operators, refusal, running, scaling


def test_conv_weight_is_scaled_by_row_and_bias_takes_both() -> None:
    b, weight, bias = GraphBuilder(), array(4, 2, 3, 3), array(4)
    y = b.node("Conv", [b.input((1, 4, 6, 6)), b.const(weight), b.const(bias)], group=2, pads=[1, 1, 1, 1])
    result = folded(b, running(b, y, 4))
    np.testing.assert_allclose(operand(result, "Conv", 1), weight * A[:4, None, None, None], rtol=1e-14)
    np.testing.assert_allclose(operand(result, "Conv", 2), A[:4] * bias + B[:4], rtol=1e-14)


def test_conv_without_bias_gets_one() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(4, 2, 3, 3))])
    result = folded(b, running(b, y, 4))
    np.testing.assert_allclose(operand(result, "Conv", 2), B[:4], rtol=1e-14)
    assert only(result).reason == "scaled into Conv 'node_conv_2'"


def test_conv_without_bias_stays_without_under_a_pure_scale() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(4, 2, 3, 3))])
    result = folded(b, scaling(b, y, 4))
    (conv,) = result.after.graph.node
    assert len(conv.input) == 2


def test_transposed_conv_is_scaled_group_by_group() -> None:
    b, weight = GraphBuilder(), array(4, 3, 2, 2)
    y = b.node("ConvTranspose", [b.input((1, 4, 3, 3)), b.const(weight)], group=2, strides=[2, 2])
    result = folded(b, running(b, y, 6))
    expected = np.concatenate([weight[:2] * A[:3, None, None], weight[2:] * A[3:, None, None]])
    np.testing.assert_allclose(operand(result, "ConvTranspose", 1), expected, rtol=1e-14)


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 3), (2, 1), (2, 3), (1, 1), None])
def test_gemm_bias_of_every_broadcast_shape(trans: int, shape: tuple[int, ...] | None) -> None:
    b, weight = GraphBuilder(), array(5, 3)
    inputs = [b.input((2, 5)), b.const(weight.T if trans else weight)]
    if shape is not None:
        inputs.append(b.const(array(*shape)))
    result = folded(b, running(b, b.node("Gemm", inputs, transB=trans, alpha=0.5, beta=2.0), 3))
    assert operators(result) == ["Gemm"]
    got = operand(result, "Gemm", 1)
    np.testing.assert_allclose(got.T if trans else got, weight * A[:3], rtol=1e-14)


def test_gemm_that_ignores_its_bias_gets_a_new_one() -> None:
    b = GraphBuilder()
    y = b.node("Gemm", [b.input((2, 5)), b.const(array(5, 3)), b.const(array(3))], beta=0.0)
    result = folded(b, running(b, y, 3))
    np.testing.assert_allclose(operand(result, "Gemm", 2), B[:3], rtol=1e-14)


def test_matmul_gets_an_add_only_for_a_shift() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [b.input((2, 5)), b.const(array(5, 3))])
    assert operators(folded(b, scaling(b, y, 3, rank=2))) == ["MatMul"]
    b = GraphBuilder()
    y = b.node("MatMul", [b.input((2, 5)), b.const(array(5, 3))])
    result = folded(b, running(b, y, 3))
    assert operators(result) == ["MatMul", "Add"]
    assert only(result).into == ("node_matmul_2", "node_matmul_2_bias")


def test_matmul_with_its_bias_add_stays_two_nodes() -> None:
    b, bias = GraphBuilder(), array(3)
    y = b.node("Add", [b.node("MatMul", [b.input((2, 5)), b.const(array(5, 3))]), b.const(bias)])
    result = folded(b, running(b, y, 3))
    assert operators(result) == ["MatMul", "Add"]
    np.testing.assert_allclose(operand(result, "Add", 1), A[:3] * bias + B[:3], rtol=1e-14)


def test_lone_bias_add_after_matmul_is_no_norm() -> None:
    b = GraphBuilder()
    result = folded(b, b.node("Add", [b.node("MatMul", [b.input((2, 5)), b.const(array(5, 3))]), b.const(array(3))]))
    assert not result.result.norms
    assert not result.result.changed


def test_lone_shift_after_matmul_is_not_worth_a_rewrite() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [b.input((2, 5)), b.const(array(5, 3))])
    result = folded(b, b.node("Sub", [y, b.const(array(3))]))
    assert not result.result.changed
    assert "would add 1 nodes where 1 can stay" in only(result).reason


def test_matmul_on_another_axis_refuses_by_axis_though_sizes_agree() -> None:
    b = GraphBuilder()
    y = b.node("MatMul", [b.input((2, 3, 5)), b.const(array(5, 3))])
    assert "MatMul 'node_matmul_2' works on axis 2, the norm on axis 1" in refusal(b, running(b, y, 3))


def test_second_consumer_refuses_and_is_named() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(3, 2, 3, 3))])
    norm = running(b, y, 3)
    reason = refusal(b, norm, b.node("Sigmoid", [y]))
    assert "'conv_2' has more than one reader" in reason
    assert "Sigmoid 'node_sigmoid_8'" in reason


def test_producer_that_is_an_output_refuses() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 6, 6)), b.const(array(3, 2, 3, 3))])
    assert "'conv_2' is a graph output" in refusal(b, running(b, y, 3), y)


def test_shared_weight_refuses_and_names_the_other_layer() -> None:
    b = GraphBuilder()
    weight = b.const(array(2, 2, 1, 1), "weight")
    y = b.node("Conv", [b.input((1, 2, 4, 4)), weight])
    reason = refusal(b, running(b, b.node("Conv", [b.node("Relu", [y]), weight]), 2))
    assert "the weight 'weight_1' of Conv 'node_conv_4' is shared: it also feeds Conv 'node_conv_2'" in reason


def test_weight_shared_through_a_transpose_refuses() -> None:
    b = GraphBuilder()
    weight = b.const(array(3, 3), "weight")
    y = b.node("MatMul", [b.input((2, 3)), weight])
    y = b.node("MatMul", [b.node("Relu", [y]), b.node("Transpose", [weight], perm=[1, 0])])
    reason = refusal(b, running(b, y, 3))
    assert "the weight 'weight_1'" in reason
    assert "also feeds MatMul 'node_matmul_2'" in reason


def test_weight_computed_from_its_own_constants_is_not_shared() -> None:
    b, raw, rho = GraphBuilder(), array(3, 8), np.array([[0.5], [1.0], [2.0]])
    v = b.const(raw, "v")
    scale = b.node("Div", [b.const(rho), b.node("ReduceL2", [v, int64_axes(b)], keepdims=1)])
    weight = b.node("Reshape", [b.node("Mul", [v, scale]), b.const(np.array([3, 2, 2, 2]), keep_type=True)])
    result = folded(b, running(b, b.node("Conv", [b.input((1, 2, 4, 4)), weight]), 3))
    assert operators(result) == ["Conv"]
    expected = (rho * raw / np.linalg.norm(raw, axis=1, keepdims=True)).reshape(3, 2, 2, 2) * A[:3, None, None, None]
    np.testing.assert_allclose(operand(result, "Conv", 1), expected, rtol=1e-13)


def int64_axes(b: GraphBuilder) -> str:
    return b.const(np.array([1], np.int64), keep_type=True)


def test_biases_and_statistics_may_be_shared() -> None:
    b = GraphBuilder()
    same, x = b.const(array(3), "same"), b.input((1, 2, 6, 6))
    outputs = []
    for _ in range(2):
        y = b.node("Conv", [x, b.const(array(3, 2, 3, 3)), same])
        outputs.append(b.node("RunningNorm", [y, same, same, same, same], domain="normexport", kind="linf"))
    result = folded(b, *outputs)
    assert operators(result) == ["Conv", "Conv"]
    assert [outcome.kind for outcome in result.result.norms] == ["linf", "linf"]


def test_weight_that_a_caller_may_override_refuses() -> None:
    b = GraphBuilder()
    x, weight = b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1), "weight")
    b.input((3, 2, 1, 1), weight)
    reason = refusal(b, running(b, b.node("Conv", [x, weight]), 3))
    assert "'weight_1' is also a graph input, so a caller may override it unless --fixed-weights" in reason


def test_quantised_weight_refuses() -> None:
    b = GraphBuilder(np.float32)
    q = b.const(np.ones((3, 2, 1, 1), np.int8), keep_type=True)
    weight = b.node("DequantizeLinear", [q, b.const(0.5)])
    reason = refusal(b, running(b, b.node("Conv", [b.input((1, 2, 4, 4)), weight]), 3))
    assert "comes from fake-quantisation (DequantizeLinear 'node_dequantizelinear_3'); fold before quantising" in reason


def test_quantised_activation_refuses() -> None:
    b = GraphBuilder(np.float32)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    zero = b.const(np.array(0, np.int8), keep_type=True)
    q = b.node("QuantizeLinear", [y, b.const(0.5), zero])
    norm = running(b, b.node("DequantizeLinear", [q, b.const(0.5), zero]), 3)
    assert "fake-quantisation stands before the norm (DequantizeLinear" in refusal(b, norm)


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Tanh", "Abs", "LeakyRelu", "HardSigmoid"])
def test_nothing_passes_a_nonlinearity(op: str) -> None:
    b = GraphBuilder()
    y = b.node(op, [b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1))])])
    assert f"{op} 'node_{op.lower()}_3' stands before the norm" in refusal(b, running(b, y, 3))


def test_a_cast_to_another_type_refuses_in_words() -> None:
    b = GraphBuilder(np.float32)
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    y = b.node("Cast", [y], to=TensorProto.DOUBLE)
    norm = b.node("Mul", [y, b.const(A[:3].reshape(3, 1, 1), keep_type=True)])
    back = b.node("Cast", [norm], to=TensorProto.FLOAT)
    assert "Cast 'node_cast_3' changes the type before the norm" in refusal(b, back)


def test_constant_that_broadcasts_one_channel_to_many_is_no_norm_of_it() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(1, 2, 1, 1))])
    result = folded(b, b.node("Mul", [y, b.const(A[:3].reshape(3, 1, 1))]))
    assert not result.result.norms
    assert operators(result) == ["Conv", "Mul"]


def test_value_captured_by_a_subgraph_has_a_second_consumer() -> None:
    b = GraphBuilder()
    y = b.node("Conv", [b.input((1, 2, 4, 4)), b.const(array(3, 2, 1, 1))])
    out = helper.make_tensor_value_info("inner", TensorProto.DOUBLE, None)
    bodies = {
        f"{name}_branch": helper.make_graph([helper.make_node("Neg", [y], ["inner"])], name, [], [out])
        for name in ("then", "else")
    }
    taken = b.node("If", [b.const(np.array(True), keep_type=True)], **bodies)
    assert "'conv_2' has more than one reader" in refusal(b, running(b, y, 3), taken)


def test_norms_of_a_value_from_around_their_branches_stay_and_are_told() -> None:
    b = GraphBuilder()
    y = b.node("Relu", [b.input((1, 3, 4, 4))])
    scale = b.const(A[:3].reshape(3, 1, 1))
    out = helper.make_tensor_value_info("inner", TensorProto.DOUBLE, None)
    bodies = {
        f"{name}_branch": helper.make_graph([helper.make_node("Mul", [y, scale], ["inner"])], name, [], [out])
        for name in ("then", "else")
    }
    result = folded(b, b.node("If", [b.const(np.array(True), keep_type=True)], **bodies))
    assert [(norm.node, norm.fate) for norm in result.result.norms] == [("inner", "lowered")] * 2  # one in each branch
    assert all("comes from around the branch or loop" in norm.reason for norm in result.result.norms)
    assert not result.result.changed
