"""Graphs of norms around what orders channels anew: shuffles, cuts, choices, splits, and slices that meet again."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.folding.build import GraphBuilder
from tests.folding.case import Cases, conv, norm, weights

CASES = Cases()
C = 6


def ints(b: GraphBuilder, *values: int) -> str:
    return b.const(np.array(values, np.int64), keep_type=True)


def shuffled(b: GraphBuilder, x: str, grid: tuple[int, ...], perm: tuple[int, ...], back: tuple[int, ...]) -> str:
    y = b.node("Transpose", [b.node("Reshape", [x, ints(b, *grid)])], perm=perm)
    return b.node("Reshape", [y, ints(b, *back)])


def split(b: GraphBuilder, x: str, *sizes: int, axis: int = 1) -> list[str]:
    b.node("Split", [x, ints(b, *sizes)], outputs=len(sizes), axis=axis)
    return list(b.nodes[-1].output)


def last(b: GraphBuilder, x: str, channels: int, **attrs: Any) -> str:
    """A 2 x 2 convolution without padding."""
    return conv(b, x, channels, 2, (2, 2), **attrs)


@CASES.folds(Conv=1, Reshape=2, Transpose=1)
def norm_behind_a_channel_shuffle(b: GraphBuilder) -> None:
    y = shuffled(b, conv(b, b.input((2, 2, 5, 4)), 2, C), (2, 2, 3, 3, 2), (0, 2, 1, 3, 4), (2, C, 3, 2))
    b.output(norm(b, y, C))


@CASES.folds(Conv=1, Reshape=2, Transpose=1)
def norm_behind_a_channel_shuffle_of_open_sizes(b: GraphBuilder) -> None:
    y = conv(b, b.input(("n", 2, 5, "w")), 2, C, pads=[1] * 4)
    b.output(norm(b, shuffled(b, y, (0, 3, 2, 5, -1), (0, 2, 1, 3, 4), (0, C, 5, -1)), C))


@CASES.folds(Conv=1, Reshape=2, Transpose=1)
def norm_before_a_channel_shuffle(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, C, 4, 3)), C)
    b.output(last(b, shuffled(b, y, (2, 2, 3, 4, 3), (0, 2, 1, 3, 4), (2, C, 4, 3)), C))


@CASES.folds(Conv=1, Reshape=2, Transpose=1)
def norm_behind_a_shuffle_of_three_axes(b: GraphBuilder) -> None:
    y = shuffled(b, conv(b, b.input((2, 2, 5, 4)), 2, 8), (2, 2, 2, 2, 3, 2), (0, 2, 3, 1, 4, 5), (2, 8, 3, 2))
    b.output(norm(b, y, 8))


@CASES.folds(Gemm=1, Reshape=2, Transpose=1)
def norm_behind_a_shuffle_of_columns(b: GraphBuilder) -> None:
    y = b.node("Gemm", [b.input((3, 5)), b.const(weights(5, C))])
    b.output(norm(b, shuffled(b, y, (-1, 2, 3), (0, 2, 1), (-1, C)), C, 2))


@CASES.refuses(says="apart")
def norm_behind_a_shuffle_with_the_batch(b: GraphBuilder) -> None:
    y = shuffled(b, conv(b, b.input((2, 2, 5, 4)), 2, C), (2, 2, 3, 3, 2), (1, 2, 0, 3, 4), (2, C, 3, 2))
    b.output(norm(b, y, C))


@CASES.refuses(says="apart")
def norm_behind_a_shuffle_with_the_width(b: GraphBuilder) -> None:
    y = shuffled(b, conv(b, b.input((2, 2, 5, 5)), 2, C), (2, 2, 3, 3, 3), (0, 1, 3, 2, 4), (2, C, 3, 3))
    b.output(norm(b, y, C))


@CASES.refuses(says="has more than one reader")
def norm_behind_a_shuffle_that_another_node_looks_into(b: GraphBuilder) -> None:
    y = shuffled(b, conv(b, b.input((2, 2, 5, 4)), 2, C), (2, 2, 3, 3, 2), (0, 2, 1, 3, 4), (2, C, 3, 2))
    transposed = b.nodes[-2].output[0]
    b.output(norm(b, y, C), b.node("Relu", [transposed]))


@CASES.folds(Conv=1, Gather=1)
def norm_behind_channels_in_another_order(b: GraphBuilder) -> None:
    y = conv(b, b.input((2, 2, 5, 4)), 2, C)
    b.output(norm(b, b.node("Gather", [y, ints(b, 3, 0, -1, 1, 4, 2)], axis=1), C))


@CASES.folds(Conv=1, Gather=1)
def norm_before_channels_some_of_which_are_repeated(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, 3, 5, 4)), 3)
    b.output(last(b, b.node("Gather", [y, ints(b, 2, 2, 0, 1, 0)], axis=1), 5))


@CASES.refuses(says="takes a channel several times, which the norm scales differently")
def norm_behind_a_channel_that_is_repeated(b: GraphBuilder) -> None:
    y = conv(b, b.input((2, 2, 5, 4)), 2, C)
    b.output(norm(b, b.node("Gather", [y, ints(b, 3, 0, 3)], axis=1), 3))


@CASES.folds(Conv=1, Slice=1)
def norm_behind_a_cut_of_channels_turned_round(b: GraphBuilder) -> None:
    y = conv(b, b.input((2, 2, 5, 4)), 2, C)
    y = b.node("Slice", [y, ints(b, -1), ints(b, -100), ints(b, 1), ints(b, -2)])
    b.output(norm(b, y, 3))


@CASES.folds(Conv=1, Slice=1)
def norm_before_a_cut_of_its_channels(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, C, 5, 4)), C)
    b.output(last(b, b.node("Slice", [y, ints(b, 1, 1), ints(b, -1, 4), ints(b, 1, 2)]), 4))


@CASES.folds(Conv=1, Tile=1)
def norm_before_a_tile_of_its_channels(b: GraphBuilder) -> None:
    y = norm(b, b.input((2, 3, 5, 4)), 3)
    b.output(last(b, b.node("Tile", [y, ints(b, 1, 2, 1, 1)]), C))


@CASES.folds(Conv=1, Split=1, Relu=2)
def norm_of_one_half_behind_a_split(b: GraphBuilder) -> None:
    first, second = split(b, conv(b, b.input((2, 2, 5, 4)), 2, C), 2, 4)
    b.output(b.node("Relu", [norm(b, second, 4)]), b.node("Relu", [first]))


@CASES.folds(Conv=1, Split=1)
def norms_of_both_halves_behind_a_split(b: GraphBuilder) -> None:
    first, second = split(b, conv(b, b.input((2, 2, 5, 4)), 2, C), 2, 4)
    b.output(norm(b, second, 4), norm(b, first, 2, form="naive"))


@CASES.folds(Conv=2, Split=1)
def norm_before_a_split_of_its_channels(b: GraphBuilder) -> None:
    first, _, third = split(b, norm(b, b.input((2, C, 5, 4)), C), 2, 1, 3)
    b.output(last(b, first, 2), last(b, third, 3))


@CASES.folds(Conv=2, Split=1)
def norm_before_a_split_of_the_width(b: GraphBuilder) -> None:
    first, second = split(b, norm(b, b.input((2, C, 5, 4)), C), 2, 2, axis=3)
    b.output(last(b, first, C), last(b, second, C))


@CASES.refuses(says="parts axis 3, and the norm is of one part alone")
def norm_of_one_part_of_the_width(b: GraphBuilder) -> None:
    first, second = split(b, conv(b, b.input((2, 2, 5, 4)), 2, C), 1, 1, axis=3)
    b.output(norm(b, first, C), second)


def focus(b: GraphBuilder, x: str) -> str:
    """A quarter of the positions each, four times as many channels."""
    parts = [
        b.node("Slice", [x, ints(b, i, j), ints(b, 9, 9), ints(b, 2, 3), ints(b, 2, 2)]) for j in (0, 1) for i in (0, 1)
    ]
    return b.node("Concat", parts, axis=1)


@CASES.folds(Conv=1, Slice=4, Concat=1)
def norm_before_the_focus_layer(b: GraphBuilder) -> None:
    b.output(last(b, focus(b, norm(b, b.input((1, 3, 6, 4)), 3)), 12))


@CASES.folds(Conv=1, Slice=4, Concat=1)
def scale_before_the_focus_layer_and_a_padded_convolution(b: GraphBuilder) -> None:
    y = b.node("Mul", [b.input((1, 3, 6, 4)), b.const(np.array([0.3, -2.0, 0.7]).reshape(3, 1, 1))])
    b.output(last(b, focus(b, y), 12, pads=[1] * 4))


@CASES.folds(Conv=2, Slice=4, Concat=2)
def norm_whose_ways_meet_twice(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 3, 6, 4)), 3)
    halves = [b.node("Slice", [y, ints(b, i), ints(b, 9), ints(b, 2), ints(b, 2)]) for i in (0, 1)]
    inner = b.node("Concat", halves, axis=1)
    more = [b.node("Slice", [y, ints(b, 2 - i), ints(b, 5 - i), ints(b, 2)]) for i in (0, 1)]
    b.output(last(b, b.node("Concat", [more[0], inner, more[1]], axis=1), 12), last(b, inner, 6))


@CASES.folds(Conv=1, Concat=1)
def norm_that_a_concat_reads_twice(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 3, 6, 4)), 3)
    b.output(last(b, b.node("Concat", [y, y], axis=1), 6))


@CASES.folds(Conv=1, Slice=2, Concat=1)
def norm_whose_halves_are_joined_the_other_way_round(b: GraphBuilder) -> None:
    y = norm(b, b.input((1, 3, 6, 4)), 3)
    halves = [b.node("Slice", [y, ints(b, i), ints(b, i + 3), ints(b, 2)]) for i in (3, 0)]
    b.output(last(b, b.node("Concat", halves, axis=2), 3))


@CASES.refuses(says="joins axis 2, the norm is on axis 1")
def norm_of_one_half_of_the_height(b: GraphBuilder) -> None:
    x = b.node("Relu", [b.input((1, 3, 6, 4))])
    b.output(last(b, b.node("Concat", [norm(b, x, 3), x], axis=2), 3))
