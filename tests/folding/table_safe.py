"""Graphs that are easy to get wrong: arithmetic that only looks like a norm, and folds that are optional.

Nothing is claimed here about whether the optional ones fold; their meaning must survive either way.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from normexport import norms
from tests.folding.build import GraphBuilder, bias_like
from tests.folding.case import Cases, Make, chain, conv, norm, weights

CASES = Cases()


# ---- elementwise arithmetic that is no per-channel affine map -----------------------------------------------------


def _no_chain(op: str, shape: tuple[int, ...], first: bool, b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 6, 6)), 2, 3, (4, 4))  # (1, 3, 3, 3): every axis but one has size 3
    constant = b.const(2.5 + weights(*shape))
    b.output(b.node(op, [constant, y] if first else [y, constant]))


def _refuse(name: str, make: Make) -> None:
    CASES.refuses(untouched=True)(_named(name, make))


def _named(name: str, make: Make) -> Make:
    def named(b: GraphBuilder) -> None:
        make(b)

    named.__name__ = name
    return named


for _shape in (
    (3,),
    (3, 1),
    (3, 3),
    (3, 3, 3),
    (1, 1, 3),
    (1, 3, 1),
    (2, 1, 1, 1),
    (1, 1, 3, 1, 1),
    (1, 3, 1, 1, 1),
    (2, 3, 1, 1),
):
    for _op in ("Mul", "Sub"):
        _refuse(f"{_op}_of_a_constant_of_shape_{_shape}", partial(_no_chain, _op, _shape, False))
_refuse("constant_divided_by_the_signal", partial(_no_chain, "Div", (3, 1, 1), True))


@CASES.refuses(untouched=True)
def constant_that_widens_one_channel_to_three(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 1)
    b.output(chain(b, y, [("Mul", weights(3), False), ("Add", bias_like(3), False)]))


@CASES.refuses()
def constant_that_widens_one_channel_before_a_conv(b: GraphBuilder) -> None:
    y = chain(b, b.input((1, 1, 5, 5)), [("Mul", weights(3), False), ("Add", bias_like(3), False)])
    b.output(conv(b, y, 3, 2))


@CASES.refuses(untouched=True)
def constant_per_sample_of_a_square_matrix(b: GraphBuilder) -> None:
    y = b.node("Gemm", [b.input((3, 4)), b.const(weights(4, 3))])
    b.output(b.node("Mul", [y, b.const(weights(3, 1))]))


@CASES.refuses(untouched=True)
def constant_that_adds_an_axis_to_a_single_sample(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5)), 2, 3, (3,))  # (1, 3, 3) * (3, 1, 1) is (3, 3, 3)
    b.output(b.node("Mul", [y, b.const(weights(3, 1, 1))]))


@CASES.refuses(untouched=True)
def arithmetic_of_two_signals(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    y, z = conv(b, x, 2, 3), conv(b, x, 2, 3)
    b.output(b.node("Div", [b.node("Sub", [y, z]), b.node("Mul", [y, y])]))


# ---- nothing to gain: the fold would put an Add behind the MatMul ---------------------------------------------


@CASES.refuses(untouched=True)
def shift_after_matmul(b: GraphBuilder) -> None:
    y = b.node("MatMul", [b.input((2, 4)), b.const(weights(4, 3))])
    b.output(b.node("Sub", [y, b.const(bias_like(3))]))


@CASES.refuses(untouched=True)
def shift_before_matmul(b: GraphBuilder) -> None:
    y = b.node("Sub", [b.input((2, 4)), b.const(bias_like(4))])
    b.output(b.node("MatMul", [y, b.const(weights(4, 3))]))


# ---- optional, but easy to get wrong ---------------------------------------------------------------------------------


@CASES.safe()
def positive_gamma_but_negative_scale_after_max_pool(b: GraphBuilder) -> None:
    y = b.node("MaxPool", [conv(b, b.input((1, 2, 6, 6)), 2, 3)], kernel_shape=[2, 2])
    links = [("Div", np.array([-1.0, 2.0, 3.0]), False), ("Mul", np.array([1.0, 2.0, 3.0]), False)]
    b.output(chain(b, y, links))


@CASES.safe()
def norm_without_shift_before_padded_conv(b: GraphBuilder) -> None:
    b.output(conv(b, chain(b, b.input((1, 2, 4, 4)), [("Mul", weights(2), False)]), 2, 3, pads=[1] * 4))


@CASES.safe()
def norm_before_transposed_conv(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 4, 3, 3)), 4)
    operands = [y, b.const(weights(4, 3, 3, 3)), b.const(bias_like(6))]
    b.output(b.node("ConvTranspose", operands, group=2, strides=[2, 2]))


@CASES.safe()
def chain_that_may_widen_a_channel_count_known_only_at_inference(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, "one", 4, 4)), 3, form="naive")
    b.output(conv(b, y, 3, 4))


@CASES.safe()
def norm_before_flatten_and_gemm(b: GraphBuilder) -> None:
    y = b.node("Flatten", [norm(b, b.input((2, 3, 2, 2)), 3)])
    b.output(b.node("Gemm", [y, b.const(weights(12, 4)), b.const(bias_like(4))]))


@CASES.safe()
def norm_after_the_sum_of_a_conv_with_itself(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(norm(b, b.node("Add", [y, y]), 3))


@CASES.safe()
def norm_after_a_concat_of_one_value_twice(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(norm(b, b.node("Concat", [y, y], axis=1), 6))


@CASES.safe()
def norm_after_concat_along_another_axis(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    b.output(norm(b, b.node("Concat", [conv(b, x, 2, 3), conv(b, x, 2, 3)], axis=2), 3))


@CASES.safe()
def norm_after_concat_with_a_graph_input(b: GraphBuilder) -> None:
    x = b.input((1, 2, 4, 4))
    b.output(norm(b, b.node("Concat", [conv(b, x, 2, 3, (1, 1)), x], axis=1), 5))


@CASES.safe()
def norm_after_add_that_broadcasts_over_space(b: GraphBuilder) -> None:
    x = b.input((1, 2, 5, 5))
    gate = conv(b, b.node("GlobalAveragePool", [x]), 2, 3, (1, 1))
    b.output(norm(b, b.node("Add", [conv(b, x, 2, 3), gate]), 3))


@CASES.safe()
def norm_after_an_add_of_different_ranks(b: GraphBuilder) -> None:
    """(1, 3, 3, 3) + (3, 3): axis 1 of the sum is no axis 1 of the matrix."""
    image = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    matrix = b.node("Gemm", [b.input((3, 4), "m"), b.const(weights(4, 3))])
    b.output(norm(b, b.node("Add", [image, matrix]), 3))


@CASES.safe()
def norm_after_a_rounding_up_average_pool(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 6, 6)), 2, 3, (1, 1))
    y = b.node("AveragePool", [y], kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1, count_include_pad=1)
    b.output(norm(b, y, 3))


@CASES.safe()
def norm_after_pooling_a_shift_that_had_to_stay(b: GraphBuilder) -> None:
    y = chain(b, b.node("Relu", [b.input((1, 3, 4, 4))]), [("Sub", bias_like(3), False)])
    b.output(norm(b, b.node("GlobalAveragePool", [y]), 3, form="shift"))


@CASES.safe()
def norm_after_pooling_a_batch_normalization_that_had_to_stay(b: GraphBuilder) -> None:
    y = norm(b, b.node("Relu", [b.input((1, 3, 4, 4))]), 3, form="batchnorm")
    b.output(norm(b, b.node("GlobalAveragePool", [y]), 3))


@CASES.safe()
def norm_after_pooling_a_scale_that_had_to_stay(b: GraphBuilder) -> None:
    y = chain(b, b.node("Relu", [b.input((1, 3, 4, 4))]), [("Mul", weights(3), False)])
    y = b.node("GlobalAveragePool", [y])
    b.output(chain(b, y, [("Mul", weights(3) + 0.5, False)]))


@CASES.safe()
def shifting_norm_after_pooling_a_scale_that_had_to_stay(b: GraphBuilder) -> None:
    y = chain(b, b.node("Relu", [b.input((1, 3, 4, 4))]), [("Mul", weights(3), False)])
    b.output(norm(b, b.node("GlobalAveragePool", [y]), 3))


@CASES.safe()
def norm_after_pooling_a_shift_and_a_conv(b: GraphBuilder) -> None:
    y = b.node("Add", [b.const(bias_like(3).reshape(3, 1, 1)), conv(b, b.input((1, 2, 5, 5)), 2, 3)])
    b.output(norm(b, b.node("GlobalAveragePool", [y]), 3))


@CASES.safe()
def norm_that_changes_nothing_between_input_and_output(b: GraphBuilder) -> None:
    constants = [b.const(value) for value in (np.zeros(3), np.ones(3), np.ones(3), np.zeros(3))]
    x = b.input((1, 3, 4, 4))
    b.output(b.node("RunningNorm", [x, *constants], domain=norms.DOMAIN, kind="l1"))


@CASES.safe()
def norm_before_reshape_and_gemm(b: GraphBuilder) -> None:
    rows = b.const(np.array([0, -1], np.int64), keep_type=True)
    y = b.node("Reshape", [norm(b, b.input((2, 3, 2, 2)), 3), rows])
    b.output(b.node("Gemm", [y, b.const(weights(12, 4)), b.const(bias_like(4))]))


@CASES.safe()
def norm_before_squeeze_and_gemm(b: GraphBuilder) -> None:
    axes = b.const(np.array([2, -1], np.int64), keep_type=True)
    y = b.node("Squeeze", [norm(b, b.input((2, 3, 1, 1)), 3), axes])
    b.output(b.node("Gemm", [y, b.const(weights(3, 4)), b.const(bias_like(4))]))


@CASES.safe()
def norm_after_identity_after_matmul(b: GraphBuilder) -> None:
    y = b.node("MatMul", [b.input((2, 4)), b.const(weights(4, 3))])
    b.output(norm(b, b.node("Identity", [y]), 3, rank=2))


@CASES.safe()
def two_norms_read_one_producer(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(norm(b, y, 3), norm(b, y, 3, form="naive"))


@CASES.safe()
def two_chains_share_their_first_nodes(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    start = chain(b, y, [("Sub", bias_like(3), False), ("Mul", weights(3), False)])
    b.output(chain(b, start, [("Add", bias_like(3), False)]), chain(b, start, [("Mul", weights(3), True)]))


@CASES.safe()
def norm_between_two_convs_the_first_read_elsewhere(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 6, 6)), 2, 3)
    b.output(conv(b, norm(b, y, 3), 3, 2), b.node("Relu", [y]))


@CASES.safe()
def dead_channel(b: GraphBuilder) -> None:
    y = conv(b, b.input((1, 2, 5, 5)), 2, 3)
    b.output(chain(b, y, [("Mul", np.array([1.0, 0.0, 2.0]), False), ("Add", bias_like(3), False)]))
