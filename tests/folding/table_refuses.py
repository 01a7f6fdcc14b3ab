"""Graphs in which no norm may be folded, each for one reason."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from normexport import norms
from tests.folding.build import GraphBuilder, bias_like
from tests.folding.case import Cases, branch, chain, conv, norm, weights

CASES = Cases()
INT64: dict[str, Any] = {"keep_type": True}


# ---- somebody else reads it -----------------------------------------------------------------------------------


@CASES.refuses(says="conv_3")
def producer_with_a_second_consumer(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(norm(b, y, 3), b.node("Relu", [y]))


@CASES.refuses(says="conv_3")
def producer_that_is_a_graph_output(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(norm(b, y, 3), y)


@CASES.refuses(says="conv_3")
def producer_read_inside_a_branch(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(norm(b, y, 3), branch(b, y))


@CASES.refuses(says="weight_1")
def weight_read_inside_a_branch(b: GraphBuilder) -> None:
    weight = b.const(weights(3, 2, 1, 1), "weight")
    y = conv(b, b.input((1, 2, 4, 4)), 2, 3, (1, 1), weight=weight)
    b.output(norm(b, y, 3), branch(b, weight))


@CASES.refuses(says="weight_1")
def weight_shared_by_two_layers(b: GraphBuilder) -> None:
    weight = b.const(weights(2, 2, 1, 1), "weight")
    y = conv(b, b.input((1, 2, 4, 4)), 2, 2, (1, 1), weight=weight)
    b.output(norm(b, conv(b, b.node("Relu", [y]), 2, 2, (1, 1), weight=weight), 2))


@CASES.refuses(says="weight_1")
def weight_that_the_caller_may_replace(b: GraphBuilder) -> None:
    weight = b.const(weights(3, 2, 1, 1), "weight")
    x = b.input((1, 2, 4, 4))
    b.input((3, 2, 1, 1), weight)
    b.output(norm(b, conv(b, x, 2, 3, (1, 1), weight=weight), 3))


@CASES.refuses(says="weight_1")
def weight_that_is_a_graph_output(b: GraphBuilder) -> None:
    weight = b.const(weights(3, 2, 1, 1), "weight")
    b.output(norm(b, conv(b, b.input((1, 2, 4, 4)), 2, 3, (1, 1), weight=weight), 3), weight)


@CASES.refuses()
def norm_whose_parameters_the_caller_may_replace(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 4, 4)), 2, 3)
    gamma = b.const(weights(3), "gamma")
    b.input((3,), gamma)
    constants = [b.const(bias_like(3)), b.const(bias_like(3)), gamma, b.const(bias_like(3))]
    b.output(b.node("RunningNorm", [y, *constants], domain=norms.DOMAIN, kind="l1"))


@CASES.refuses()
def weight_computed_from_an_input(b: GraphBuilder) -> None:
    x, w = b.input((1, 2, 4, 4)), b.input((3, 2, 1, 1), "w")
    b.output(norm(b, b.node("Conv", [x, w]), 3))


@CASES.refuses(untouched=True)
def norm_computed_from_an_input(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 4, 4)), 2, 3)
    b.output(b.node("Add", [b.node("Mul", [y, b.input((3, 1, 1), "a")]), b.input((3, 1, 1), "shift")]))


@CASES.refuses()
def norm_before_conv_that_is_also_an_output(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 2, 5, 5)), 2)
    b.output(conv(b, y, 2, 3), y)


@CASES.refuses()
def norm_before_conv_and_something_else(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 2, 5, 5)), 2)
    b.output(conv(b, y, 2, 3), b.node("Relu", [y]))


@CASES.refuses()
def norm_before_conv_of_a_shared_weight(b: GraphBuilder) -> None:
    weight = b.const(weights(2, 2, 1, 1), "weight")
    x = b.input((1, 2, 4, 4))
    y = conv(b, norm(b, x, 2), 2, 2, (1, 1), weight=weight)
    b.output(y, conv(b, x, 2, 2, (1, 1), weight=weight))


# ---- the arithmetic is not the same there -----------------------------------------------------------------------


@CASES.refuses()
def norm_after_a_nonlinearity(b: GraphBuilder) -> None:
    b.output(norm(b, b.node("Relu", [conv(b, b.input((1, 2, 5, 5)), 2, 3)]), 3))


@CASES.refuses()
def norm_before_a_nonlinearity(b: GraphBuilder) -> None:
    b.output(conv(b, b.node("Relu", [norm(b, b.input((1, 2, 5, 5)), 2)]), 2, 3))


def _padded_consumer(b: GraphBuilder, **padding: Any) -> None:
    b.output(conv(b, norm(b, b.input((1, 2, 5, 5)), 2), 2, 3, **padding))


@CASES.refuses()
def norm_before_zero_padded_conv(b: GraphBuilder) -> None:
    _padded_consumer(b, pads=[0, 0, 0, 1])


@CASES.refuses()
def norm_before_automatically_padded_conv(b: GraphBuilder) -> None:
    _padded_consumer(b, auto_pad="SAME_UPPER")


@CASES.refuses()
def norm_before_a_pad_with_zeros_and_conv(b: GraphBuilder) -> None:
    pads = b.const(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), **INT64)
    y = b.node("Pad", [norm(b, b.input((1, 2, 4, 4)), 2), pads])
    b.output(conv(b, y, 2, 3))


@CASES.refuses()
def scale_before_a_pad_with_ones_and_conv(b: GraphBuilder) -> None:
    pads = b.const(np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64), **INT64)
    y = chain(b, b.input((1, 2, 4, 4)), [("Mul", weights(2), False)])
    b.output(conv(b, b.node("Pad", [y, pads, b.const(1.0)]), 2, 3))


@CASES.refuses()
def norm_after_dropout_in_training_mode(b: GraphBuilder) -> None:
    training = b.const(np.array(True), keep_type=True)
    y = b.node("Dropout", [conv(b, b.input((1, 2, 5, 5)), 2, 3), b.const(0.5), training], seed=1)
    b.output(norm(b, y, 3))


@CASES.refuses(untouched=True)
def dead_channel_after_a_max_pool_that_also_gives_indices(b: GraphBuilder) -> None:
    y = b.node("MaxPool", [conv(b, b.input((1, 2, 6, 6)), 2, 3)], outputs=2, kernel_shape=[2, 2])
    indices = b.nodes[-1].output[1]
    b.output(chain(b, y, [("Mul", np.array([1.0, 0.0, 2.0]), False)]))
    b.output(b.node("Cast", [indices], to=TensorProto.DOUBLE))


@CASES.refuses()
def norm_after_automatically_padded_average_pool_whose_padding_counts(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 7, 7)), 2, 3)
    attrs: dict[str, Any] = {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "count_include_pad": 1}
    b.output(norm(b, b.node("AveragePool", [y], **attrs), 3))


@CASES.refuses()
def norm_of_mixed_signs_after_max_pool(b: GraphBuilder) -> None:
    y = b.node("MaxPool", [conv(b, b.input((1, 2, 6, 6)), 2, 3)], kernel_shape=[2, 2])
    b.output(norm(b, y, 3))


@CASES.refuses()
def norm_after_average_pool_whose_padding_counts(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 6, 6)), 2, 3)
    y = b.node("AveragePool", [y], kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1)
    b.output(norm(b, y, 3))


def _mean_then_norm(b: GraphBuilder, axis: int) -> None:
    y = conv(b, b.input((2, 2, 3, 3)), 2, 3, (1, 1))  # (2, 3, 3, 3), so that every axis 1 has size 3
    axes = b.const(np.array([axis], np.int64), **INT64)
    b.output(norm(b, b.node("ReduceMean", [y, axes], keepdims=0), 3, rank=3))


@CASES.refuses()
def norm_after_a_mean_that_removes_the_batch(b: GraphBuilder) -> None:
    _mean_then_norm(b, 0)


@CASES.refuses()
def norm_after_a_mean_that_removes_the_channels(b: GraphBuilder) -> None:
    _mean_then_norm(b, -3)


@CASES.refuses()
def norm_on_axis_1_after_linear_on_axis_2_of_equal_size(b: GraphBuilder) -> None:
    y = b.node("MatMul", [b.input((2, 3, 4)), b.const(weights(4, 3))])
    b.output(norm(b, y, 3, rank=3))


@CASES.refuses()
def norm_on_axis_1_before_linear_on_axis_2_of_equal_size(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, 3, 3)), 3, rank=3)
    b.output(b.node("MatMul", [y, b.const(weights(3, 4))]))


@CASES.refuses()
def norm_before_gemm_that_transposes_it(b: GraphBuilder) -> None:
    b.output(b.node("Gemm", [norm(b, b.input((3, 3)), 3, rank=2), b.const(weights(3, 3))], transA=1))


@CASES.refuses()
def norm_of_what_a_gemm_adds(b: GraphBuilder) -> None:
    c = norm(b, b.input((3, 3), "c"), 3, rank=2)
    b.output(b.node("Gemm", [b.input((3, 3)), b.const(weights(3, 3)), c]))


@CASES.refuses()
def norm_of_a_weight_computed_at_inference(b: GraphBuilder) -> None:
    x, w = b.input((1, 2, 5, 5)), b.input((3, 2, 2, 2), "w")
    b.output(b.node("Conv", [x, norm(b, w, 2)]))


@CASES.refuses()
def norm_after_the_sum_of_a_conv_and_its_own_input(b: GraphBuilder) -> None:
    x = b.input((1, 2, 4, 4))
    b.output(norm(b, b.node("Add", [conv(b, x, 2, 2, (1, 1)), x]), 2))


@CASES.refuses()
def norm_after_an_add_with_a_branch_read_elsewhere(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    first, second = conv(b, x, 2, 3), conv(b, x, 2, 3)
    b.output(norm(b, b.node("Add", [first, second]), 3), b.node("Relu", [second]))


@CASES.refuses()
def norm_after_a_value_added_to_itself(b: GraphBuilder) -> None:
    y = b.node("Relu", [conv(b, b.input((1, 2, 5, 5)), 2, 3)])
    b.output(norm(b, b.node("Add", [y, y]), 3))


@CASES.refuses()
def norm_after_the_product_of_two_convs(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    b.output(norm(b, b.node("Mul", [conv(b, x, 2, 3), conv(b, x, 2, 3)]), 3))


def _quantised(b: GraphBuilder, x: str) -> str:
    scale, zero = b.const(0.1), b.const(np.array(0, np.int8), **INT64)
    q = b.node("QuantizeLinear", [x, scale, zero])
    return b.node("DequantizeLinear", [q, scale, zero])


@CASES.refuses(dtype=np.float32)  # QuantizeLinear takes no float64
def norm_after_fake_quantisation(b: GraphBuilder) -> None:
    b.output(norm(b, _quantised(b, conv(b, b.input((1, 2, 5, 5)), 2, 3)), 3))


@CASES.refuses(dtype=np.float32)
def norm_after_conv_of_a_quantised_weight(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    b.output(norm(b, conv(b, x, 2, 3, weight=_quantised(b, b.const(weights(3, 2, 3, 3)))), 3))


# ---- statistics that are not known ------------------------------------------------------------------------------


@CASES.refuses(untouched=True)
def live_statistics(b: GraphBuilder) -> None:
    y = conv(b, b.input((2, 2, 5, 5)), 2, 3)
    constants = [b.const(weights(3)), b.const(bias_like(3))]
    b.output(b.node("L1BatchNorm", [y, *constants], domain=norms.DOMAIN, epsilon=1e-3, correction=0.0))


@CASES.refuses(untouched=True)
def batch_normalization_in_training_mode(b: GraphBuilder) -> None:
    y = conv(b, b.input((2, 2, 5, 5)), 2, 3)
    constants = [b.const(value) for value in (weights(3), bias_like(3), bias_like(3), bias_like(3))]
    b.output(b.node("BatchNormalization", [y, *constants], outputs=3, training_mode=1))
