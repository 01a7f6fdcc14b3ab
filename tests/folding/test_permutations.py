"""Any order of channels, any grid, any cut between a layer and a norm: what is computed stays the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.folding.build import GraphBuilder
from tests.folding.graphs import array, folded, int64, operators

Change = tuple[str, list[str], dict[str, Any]]  # operator, operands behind the tensor, attributes
SETTINGS = settings(max_examples=25, suppress_health_check=list(HealthCheck))


def affine(b: GraphBuilder, x: str, channels: int, rank: int = 4) -> str:
    """y = a*x + b along axis 1, with numbers that differ in every channel."""
    shape = (channels, *[1] * (rank - 2))
    numbers = np.random.default_rng(channels).standard_normal((2, *shape))
    return b.node("Add", [b.node("Mul", [x, b.const(numbers[0])]), b.const(numbers[1])])


def around(b: GraphBuilder, change: list[Change], before: int, behind: int) -> str:
    """A 1 x 1 convolution, a norm where `behind` tells the channels, the change between; or a norm before it."""
    if behind:
        y = b.node("Conv", [b.input((2, 2, 3, 2)), b.const(array(before, 2, 1, 1))])
    else:
        y = affine(b, b.node("Relu", [b.input((2, before, 3, 2))]), before)
    for op, operands, attributes in change:
        y = b.node(op, [y, *operands], **attributes)
    return b.node("Relu", [affine(b, y, behind)]) if behind else y


@SETTINGS
@given(st.data())
def test_a_grid_of_channels_in_any_order(data: st.DataObject) -> None:
    grid = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    channels = int(np.prod(grid))
    front = data.draw(st.sampled_from((0, 2, -1)))
    others = data.draw(st.integers(0, 4)) == 0  # other axes move too: most of these are no shuffles
    moved = 3 + len(grid) if others else 1 + len(grid)
    perm = [0, *data.draw(st.permutations(range(1, moved))), *range(moved, 3 + len(grid))]
    b = GraphBuilder()
    change: list[Change] = [
        ("Reshape", [int64(b, front, *grid, 3, 2)], {}),
        ("Transpose", [], {"perm": perm}),
        ("Reshape", [int64(b, 2, channels, 3, 2)], {}),
    ]
    if data.draw(st.booleans()):
        folded(b, around(b, change, channels, channels))
    else:
        y = around(b, change, channels, 0)
        folded(b, b.node("Conv", [y, b.const(array(2, channels, 1, 1))]))


@SETTINGS
@given(st.data())
def test_channels_taken_by_any_places(data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(-5, 4), min_size=1, max_size=7))
    b = GraphBuilder()
    change: list[Change] = [("Gather", [int64(b, *places)], {"axis": 1})]
    if data.draw(st.booleans()):
        folded(b, around(b, change, 5, len(places)))
    else:
        y = around(b, change, 5, 0)
        result = folded(b, b.node("Conv", [y, b.const(array(2, len(places), 1, 1))]))
        assert operators(result) == ["Relu", "Gather", "Conv"]


@SETTINGS
@given(st.data())
def test_channels_cut_from_anywhere_to_anywhere_in_any_steps(data: st.DataObject) -> None:
    start, end = data.draw(st.integers(-9, 9)), data.draw(st.integers(-9, 9))
    step = data.draw(st.sampled_from((-3, -2, -1, 1, 2, 3)))
    taken = range(*slice(start, end, step).indices(5))
    count = len(taken)
    b = GraphBuilder()
    change: list[Change] = [("Slice", [int64(b, start, 0), int64(b, end, 2), int64(b, 1, 3), int64(b, step, 1)], {})]
    if not count:
        return
    result = folded(b, around(b, change, 5, count))
    assert operators(result) == (["Conv", "Relu"] if taken == range(5) else ["Conv", "Slice", "Relu"])


@SETTINGS
@given(st.data())
def test_splits_with_norms_behind_some_parts_and_concats_in_any_order(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    b = GraphBuilder()
    y = b.node("Conv", [b.input((2, 2, 3, 2)), b.const(array(sum(sizes), 2, 1, 1))])
    if data.draw(st.booleans()):
        y = affine(b, b.node("Relu", [y]), sum(sizes))
    b.node("Split", [y, int64(b, *sizes)], outputs=len(sizes), axis=1)
    parts = list(b.nodes[-1].output)
    normed = [
        affine(b, part, size) if data.draw(st.booleans()) else part for part, size in zip(parts, sizes, strict=True)
    ]
    taken = data.draw(st.lists(st.sampled_from(range(len(sizes))), min_size=1, max_size=5))
    joined = b.node("Concat", [normed[each] for each in taken], axis=1)
    folded(b, b.node("Conv", [joined, b.const(array(2, sum(sizes[each] for each in taken), 1, 1))]))
