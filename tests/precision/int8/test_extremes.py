"""The extremes of channels on samples: those of all values, as the float64 interpreter hands them out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.extremes import channel_extremes
from normexport.precision.int8.links import Links
from tests.precision.int8.equalise_claims import seen_in
from tests.precision.int8.linked_graphs import Graph, random_graph

SETTINGS = settings(max_examples=8, deadline=None)


def of_samples(model: ir.Model, count: int, seed: int) -> list[dict[str, np.ndarray]]:
    value = model.graph.inputs[0]
    assert value.shape is not None
    sizes = [int(size) for size in value.shape.numpy()]
    dice = np.random.default_rng(seed)
    return [{str(value.name): (1 + n) * dice.standard_normal(sizes).astype(np.float32)} for n in range(count)]


def over_all(model: ir.Model, batches: list[dict[str, np.ndarray]]) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Of every tensor and batch, taken together here."""
    each = [seen_in(model, feeds) for feeds in batches]
    return {
        name: (np.min([one[name][0] for one in each], axis=0), np.max([one[name][1] for one in each], axis=0))
        for name in each[0]
    }


def check_random(seed: int, count: int) -> int:
    """One graph; how many tensors were looked at."""
    model = random_graph(seed, np.float32)
    batches = of_samples(model, count, seed)
    found, expected = channel_extremes(model, iter(batches)), over_all(model, batches)
    channels = {str(value.name): len(ids) for value, (axis, ids) in Links(model).channels.items() if axis == 1}
    for name, ends in found.items():
        if name not in channels:
            continue
        for ours, theirs in zip(ends, expected[name], strict=True):
            assert ours.shape == (channels[name],)
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    return len(found)


@SETTINGS
@given(seed=st.integers(0, 10_000), count=st.integers(1, 3))
def test_extremes_are_those_of_all_samples(seed: int, count: int) -> None:
    check_random(seed, count)


def many_extremes() -> None:
    assert sum(check_random(seed, 1 + seed % 3) for seed in range(6)) > 12


def tensors_with_a_nan_are_left_out() -> None:
    """Of any batch; of one number at any place, which reductions to the least and the largest may pass over."""
    g = Graph(0, (2, 1, 5, 5), np.float32)
    first = g.node("Conv", ["x", g.const(np.ones((1, 1, 1, 1), np.float32))], (2, 1, 5, 5))
    model = g.model(g.conv(g.node("Relu", [first], (2, 1, 5, 5)), 4, bias=False))
    ones = np.ones((2, 1, 5, 5), np.float32)
    assert first in channel_extremes(model, [{"x": ones}, {"x": -ones}])
    for place in range(ones.size):
        x = ones.copy()
        x.flat[place] = np.nan
        assert first not in channel_extremes(model, [{"x": x}]), place
    for batches in ([x, ones], [ones, x]):
        assert first not in channel_extremes(model, [{"x": each} for each in batches])


def test_tensors_with_a_nan_are_left_out() -> None:
    tensors_with_a_nan_are_left_out()


def test_many_graphs() -> None:
    many_extremes()


def test_without_samples_or_layers_nothing_is_known() -> None:
    assert channel_extremes(random_graph(0, np.float32), []) == {}
    g = Graph(0, (2, 3), np.float32)
    assert channel_extremes(g.model(g.node("Relu", ["x"], (2, 3))), [{"x": np.ones((2, 3), np.float32)}]) == {}
