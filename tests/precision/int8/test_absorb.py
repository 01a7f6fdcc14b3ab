"""High biases move behind a ReLU without a change of what was seen, and only where that is exact."""

from __future__ import annotations

import numpy as np
import pytest

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
    how = {"columns": {"transA": 1}, "scaled": {"alpha": 0.5}}.get(way, {})
    model = g.model(g.node("Gemm", [relu, g.const(g.uneven(4, 2, along=1)), g.const(np.ones(2))], (4, 2), **how))
    feeds = {"x": np.abs(feeds_of(model)["x"]) + 1.0}
    found = absorb_biases(model, seen_in(model, feeds))
    assert found.model is model
    assert reason in found.reasons[0]
