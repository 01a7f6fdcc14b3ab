"""High biases move behind a ReLU without a change of what was seen, and only where that is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.absorb import absorb_biases
from tests.precision.int8.equalise_claims import check_same, feeds_of, seen_in
from tests.precision.int8.linked_graphs import Graph

pytestmark = pytest.mark.slow


def high(g: Graph) -> str:
    """A layer of which channels 1 and 3 are far above zero; its result."""
    weight = g.const(0.1 * g.uneven(4, 3, 1, 1, along=0))
    bias = g.const(np.array([0.0, 9.0, -2.0, 6.0]))
    return g.node("Conv", ["x", weight, bias], (2, 4, 5, 5))


@pytest.mark.parametrize("way", ["plain", "groups", "two readers", "no bias"])
def test_what_a_channel_has_at_least_moves_behind(way: str) -> None:
    g = Graph(0, (2, 3, 5, 5))
    relu = g.node("Relu", [high(g)], (2, 4, 5, 5))
    kernel = g.const(g.uneven(4, 2 if way == "groups" else 4, 3, 3, along=0))
    bias = [] if way == "no bias" else [g.const(np.ones(4))]
    outputs = [g.node("Conv", [relu, kernel, *bias], (2, 4, 3, 3), group=2 if way == "groups" else 1)]
    if way == "two readers":
        outputs.append(g.conv(relu, 2))
    model = g.model(*outputs)
    feeds = feeds_of(model)
    found = absorb_biases(model, seen_in(model, feeds))
    assert found.layers == 1
    check_same(model, found.model, feeds)
    before, after = (seen_in(each, feeds)[relu][1] for each in (model, found.model))
    assert np.array_equal(after[[0, 2]], before[[0, 2]])
    assert after[1] < 0.5 * before[1]
    assert after[3] < 0.5 * before[3]


NOT_EXACT = (
    ("padded", "does not read each channel everywhere"),
    ("pooled", "reads"),
    ("output", "is an output of the graph"),
    ("before", "has other readers than one ReLU"),
    ("beside", "has other readers than one ReLU"),
    ("sigmoid", "has other readers than one ReLU"),
    ("transposed", "does not read each channel everywhere"),
)


@pytest.mark.parametrize(("way", "reason"), NOT_EXACT)
def test_where_that_is_not_exact_nothing_moves(way: str, reason: str) -> None:
    g = Graph(0, (2, 3, 5, 5))
    first = high(g)
    relu = g.node("Sigmoid" if way == "sigmoid" else "Relu", [first], (2, 4, 5, 5))
    outputs = {"output": [relu], "before": [first]}.get(way, [])
    if way == "beside":
        outputs.append(g.node("Neg", [first], (2, 4, 5, 5)))
    read = g.node("GlobalAveragePool", [relu], (2, 4, 1, 1)) if way == "pooled" else relu
    last = g.transposed(read, 4) if way == "transposed" else g.conv(read, 4, 3 if way == "padded" else 1)
    model = g.model(last, *outputs)
    found = absorb_biases(model, seen_in(model, feeds_of(model)))
    assert found.model is model
    assert found.layers == 0
    assert reason in found.reasons[0]


COLUMNS = (
    ("columns", "does not read each channel everywhere"),
    ("scaled", "scales its bias"),
    ("no bias", "has no bias"),
)


@pytest.mark.parametrize(("way", "reason"), COLUMNS)
def test_of_matrices_nothing_moves_that_a_bias_does_not_take(way: str, reason: str) -> None:
    """A Gemm that reads columns as rows, one whose bias is scaled, and a MatMul whose results are high."""
    g = Graph(0, (4, 3))
    weight = np.abs(g.uneven(3, 4, along=1))
    if way == "no bias":
        first = g.node("MatMul", ["x", g.const(weight)], (4, 4))
    else:
        first = g.node("Gemm", ["x", g.const(0.1 * weight), g.const(np.array([9.0, 0.0, 6.0, -2.0]))], (4, 4))
    relu = g.node("Relu", [first], (4, 4))
    ways: dict[str, dict[str, Any]] = {"columns": {"transA": 1}, "scaled": {"alpha": 0.5}}
    how = ways.get(way, {})
    model = g.model(g.node("Gemm", [relu, g.const(g.uneven(4, 2, along=1)), g.const(np.ones(2))], (4, 2), **how))
    feeds = {"x": np.abs(feeds_of(model)["x"]) + 1.0}
    found = absorb_biases(model, seen_in(model, feeds))
    assert found.model is model
    assert reason in found.reasons[0]


def check_random(seed: int) -> int:
    """A layer with biases of any height, a ReLU, and one to three layers that read it, in float64.

    Nothing changes on what was seen; the number of channels that gave some of their bias away.
    """
    dice = np.random.default_rng(seed)
    g = Graph(seed, (3, 2, 5, 5))
    channels = int(dice.integers(1, 4)) * 2
    weight = g.const(0.2 * g.uneven(channels, 2, 1, 1, along=0))
    first = g.node("Conv", ["x", weight, g.const(dice.uniform(-3, 8, channels))], (3, channels, 5, 5))
    relu = g.node("Relu", [first], (3, channels, 5, 5))
    outputs = []
    for _ in range(int(dice.integers(1, 4))):
        groups, kernel, step = int(dice.choice([1, 2, channels])), int(dice.integers(1, 4)), int(dice.integers(1, 3))
        size = (5 - kernel) // step + 1
        weight = g.const(g.uneven(2 * groups, channels // groups, kernel, kernel, along=0))
        bias = [g.const(dice.standard_normal(2 * groups))] if dice.random() < 0.5 else []
        shape = (3, 2 * groups, size, size)
        outputs.append(g.node("Conv", [relu, weight, *bias], shape, group=groups, strides=[step, step]))
    model = g.model(*outputs)
    feeds = feeds_of(model, seed)
    found = absorb_biases(model, seen_in(model, feeds))
    check_same(model, found.model, feeds)
    before, after = (seen_in(each, feeds)[first] for each in (model, found.model))
    spare = before[0] - 0.1 * (before[1] - before[0])
    moved = spare > 0
    np.testing.assert_allclose(before[1] - after[1], np.maximum(spare, 0.0), atol=1e-9)
    assert (after[0][moved] >= 0.1 * (before[1] - before[0])[moved] - 1e-9).all()  # room below what was seen
    return int(moved.sum())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_result_moves_by_more_than_a_billionth(seed: int) -> None:
    check_random(seed)


def test_most_of_such_networks_have_something_to_give_away() -> None:
    assert sum(check_random(seed) > 0 for seed in range(20)) > 12
