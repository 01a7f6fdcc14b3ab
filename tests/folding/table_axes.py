"""Norms whose channels lie on another axis than 1: what stands in their way, and what must not be taken for nothing."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tests.folding.build import GraphBuilder, bias_like
from tests.folding.case import Cases, conv, weights

CASES = Cases()


def scaled(b: GraphBuilder, y: str, channels: int) -> str:
    """y * a + c along the last axis, a above zero."""
    y = b.node("Mul", [y, b.const(np.abs(weights(channels)) + 0.5)])
    return b.node("Add", [y, b.const(bias_like(channels))])


def last(b: GraphBuilder, y: str) -> str:
    """(N, C, H, W) -> (N, H, W, C)."""
    return b.node("Transpose", [y], perm=[0, 2, 3, 1])


@CASES.refuses(says="takes the mean over axes [1]")
def norm_before_a_mean_over_its_channels(b: GraphBuilder) -> None:
    y = b.node("Relu", [conv(b, b.input((1, 2, 5, 5)), 2, 3)])
    y = b.node("Mul", [y, b.const(weights(3, 1, 1))])
    y = b.node("Add", [y, b.const(bias_like(3).reshape(3, 1, 1))])
    axes = b.const(np.array([1]), keep_type=True)
    b.output(conv(b, b.node("ReduceMean", [y, axes], keepdims=1), 1, 2, (1, 1)))


@CASES.refuses(says="pools axis 3")
def norm_channels_last_before_a_pool_that_takes_them_for_space(b: GraphBuilder) -> None:
    y = b.node("Relu", [last(b, conv(b, b.input((1, 2, 5, 5)), 2, 4, (1, 1)))])
    y = b.node("MaxPool", [scaled(b, y, 4)], kernel_shape=[1, 2], strides=[1, 2])
    b.output(conv(b, y, 5, 2, (1, 1)))


@CASES.refuses(says="pads the batch or the channels")
def norm_channels_last_before_padding_of_the_channels(b: GraphBuilder) -> None:
    y = b.node("Relu", [last(b, conv(b, b.input((1, 2, 4, 4)), 2, 3, (1, 1)))])
    pads = b.const(np.array([0, 0, 0, 1, 0, 0, 0, 1]), keep_type=True)
    y = b.node("Pad", [scaled(b, y, 3), pads], mode="reflect")
    b.output(b.node("MatMul", [y, b.const(weights(5, 2))]))


@CASES.refuses(says="joins axis 1, the norm is on axis 3")
def norm_channels_last_after_a_concat_of_rows(b: GraphBuilder) -> None:
    x = b.input((1, 2, 4, 4))
    parts = [last(b, conv(b, x, 2, 3, (1, 1))) for _ in range(2)]
    b.output(scaled(b, b.node("Concat", parts, axis=1), 3))


@CASES.safe()
def norm_around_a_cast_to_whole_numbers_and_back(b: GraphBuilder) -> None:
    y = b.node("Mul", [conv(b, b.input((1, 2, 4, 4)), 2, 3), b.const(weights(3, 1, 1) * 3)])
    y = b.node("Cast", [b.node("Cast", [y], to=TensorProto.INT32)], to=TensorProto.DOUBLE)
    b.output(b.node("Add", [y, b.const(bias_like(3).reshape(3, 1, 1))]))


@CASES.safe()
def norm_around_a_tile_that_repeats_rows(b: GraphBuilder) -> None:
    y = b.node("Mul", [conv(b, b.input((1, 2, 4, 4)), 2, 3), b.const(weights(3, 1, 1))])
    y = b.node("Tile", [y, b.const(np.array([1, 1, 2, 1]), keep_type=True)])
    b.output(b.node("Add", [y, b.const(bias_like(3).reshape(3, 1, 1))]))
