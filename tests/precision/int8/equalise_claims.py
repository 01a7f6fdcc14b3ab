"""What equalisation must hold, as plain functions: run by pytest, and against broken copies of the library."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from normexport.precision.int8.equalise import equalise
from normexport.precision.int8.links import Extremes
from normexport.runtime import Float64Runtime
from tests.precision.int8.linked_graphs import PASSING, Graph, passing, random_graph

EXACT = 1e-9  # relative to the largest number of an output


def feeds_of(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    value = model.graph.inputs[0]
    assert value.shape is not None
    sizes = [int(size) for size in value.shape.numpy()]
    return {str(value.name): np.random.default_rng(seed).standard_normal(sizes)}


def check_same(before: ir.Model, after: ir.Model, feeds: dict[str, np.ndarray]) -> None:
    """All outputs of both in float64, to 1e-9."""
    expected, found = (Float64Runtime(each, torch=False).run(feeds) for each in (before, after))
    assert list(expected) == list(found)
    for name in expected:
        largest = np.abs(expected[name]).max(initial=0.0)
        assert np.isfinite(found[name]).all(), name
        assert np.abs(expected[name] - found[name]).max(initial=0.0) <= EXACT * largest, name


def seen_in(model: ir.Model, feeds: dict[str, np.ndarray]) -> Extremes:
    """The extremes of every channel of every tensor (axis 1), of the float64 interpreter."""
    names = [str(value.name) for node in model.graph for value in node.outputs]
    values = Float64Runtime(model, torch=False).run(feeds, names)
    found = {}
    for name, value in values.items():
        others = tuple(axis for axis in range(value.ndim) if axis != 1)
        found[name] = value.min(axis=others), value.max(axis=others)
    return found


def check_random(seed: int) -> int:
    """One graph with and without samples; the number of channels that got a factor."""
    model = random_graph(seed)
    feeds = feeds_of(model, seed)
    alone = equalise(model)
    check_same(model, alone.model, feeds)
    check_same(model, alone.model, {name: 100 * array for name, array in feeds.items()})
    seen = equalise(model, seen_in(model, feeds))
    check_same(model, seen.model, feeds)
    check_same(model, seen.model, {name: -30 * array for name, array in feeds.items()})
    return sum(layer.scaled for layer in (*alone.layers, *seen.layers))


def each_operator() -> None:
    """Every operator alone between two layers, of which most let factors pass."""
    passed = []
    for choice in range(PASSING):
        g = Graph(choice, (2, 3, 4, 4))
        between = passing(g, g.conv("x", 6, 3), choice)
        model = g.model(g.conv(between, 5))
        feeds = feeds_of(model)
        for found in (equalise(model), equalise(model, seen_in(model, feeds))):
            check_same(model, found.model, feeds)
        passed.append(found.layers[0].scaled > 0)
    assert sum(passed) >= 14, passed


def many_graphs() -> None:
    """Sixteen random graphs, in most of which something has a factor."""
    assert sum(check_random(seed) > 0 for seed in range(16)) >= 12


def evens_out() -> None:
    """A channel a hundred times smaller than the others is as large as they are behind a depthwise layer's ReLU."""
    g = Graph(0, (4, 3, 6, 6))
    first = g.node("Relu", [g.conv("x", 6, 3, bias=False)], (4, 6, 6, 6))
    second = g.node("Relu", [g.conv(first, 6, 3, group=6, bias=False)], (4, 6, 6, 6))
    model = g.model(g.conv(second, 4))
    feeds = feeds_of(model)
    found = equalise(model, seen_in(model, feeds))
    largest = seen_in(found.model, feeds)[first][1]
    before = seen_in(model, feeds)[first][1]
    assert before.max() / before.min() > 3
    assert largest.max() / largest.min() < 1.05, largest


def clipped(seed: int, low: float, high: float) -> tuple[ir.Model, str, str]:
    """A layer, a Clip, a depthwise layer, a Clip, a layer; the tensors in front of and behind the first Clip."""
    g = Graph(seed, (4, 3, 6, 6))
    ends = [g.const(np.array(end)) for end in (low, high)]
    first = g.conv("x", 8, 3)
    clip = g.node("Clip", [first, *ends], (4, 8, 6, 6))
    second = g.node("Clip", [g.conv(clip, 8, 3, group=8), *ends], (4, 8, 6, 6))
    return g.model(g.conv(second, 4)), first, clip


def check_clipped(seed: int, low: float, high: float) -> int:
    """Of a network with Clips, those channels alone have factors that stay far below the ends, before and after.

    Nothing changes on what was seen; the number of channels with a factor.
    """
    model, first, clip = clipped(seed, low, high)
    feeds = feeds_of(model, seed)
    seen = seen_in(model, feeds)
    found = equalise(model, seen, past_clips=True)
    check_same(model, found.model, feeds)
    moved = found.factors[first] != 1.0 if found.factors else np.zeros(8, bool)
    for graph in (model, found.model):
        lowest, highest = seen_in(graph, feeds)[first]
        assert highest[moved].max(initial=0.0) <= high * (0.5 + 1e-9)
        assert lowest[moved].min(initial=0.0) >= (low * (0.5 + 1e-9) if low else -np.inf)
    if found.factors:
        np.testing.assert_array_equal(found.factors[first], found.factors[clip])
    plain = equalise(model, seen)
    assert not plain.factors or np.all(plain.factors[first] == 1.0)
    return int(moved.sum())


def stays_below_clips() -> None:
    """At six, as ReLU6 has it; on both sides; far away, where all channels pass; near, where none does."""
    assert sum(check_clipped(seed, 0.0, 6.0) > 0 for seed in range(6)) >= 4
    assert sum(check_clipped(seed, -4.0, 4.0) > 0 for seed in range(6)) >= 2
    assert check_clipped(0, 0.0, 1e3) == check_clipped(0, -1e3, 1e3) == 7  # all but the largest
    assert check_clipped(0, 0.0, 1e-3) == 0


CLAIMS = (each_operator, evens_out, many_graphs, stays_below_clips)
