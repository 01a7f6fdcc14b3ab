"""Histograms for people: coarse bins hold every value that was counted, where numpy would count it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.from_norms import calibrate_by_norms
from normexport.precision.int8.histogram import SHOWN, Coarse, Histogram
from normexport.precision.int8.listing import told
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.spreads import spread_of
from tests.precision.int8.test_from_norms import MODEL, SPEC, images

#: Multiples of 2^-6 below 2^18: a number of 1e-45 beside 4097 is counted as 0, which is not what is asked here.
NUMBERS = st.lists(st.integers(-(1 << 24), 1 << 24).map(lambda number: number / 64), min_size=1, max_size=200)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=4))
def test_coarse_bins_count_what_numpy_counts(parts: list[list[float]]) -> None:
    histogram = Histogram()
    for part in parts:
        histogram.add(np.array(part, np.float32))
    shown = histogram.coarse()
    assert shown is not None
    values = np.array([value for part in parts for value in part], np.float32).astype(np.float64)
    assert 1 <= len(shown.counts) <= SHOWN
    edges = shown.low + shown.width * np.arange(len(shown.counts) + 1)
    expected = [int(((low <= values) & (values < high)).sum()) for low, high in pairwise(edges)]
    assert sum(shown.counts) == len(values)
    assert list(shown.counts) == expected
    assert shown.counts[0]
    assert shown.counts[-1]


def test_extremes_alone_are_no_histogram() -> None:
    histogram = Histogram()
    histogram.look(np.array([1.0, 2.0], np.float32))
    assert histogram.coarse() is None
    assert Histogram().coarse() is None


@settings(max_examples=30)
@given(st.floats(-100, 100), st.floats(0.01, 100), st.integers(1, 5))
def test_what_norms_say_is_shown_as_the_numbers_that_they_say_it_of(mean: float, std: float, count: int) -> None:
    """A spread of normal channels, against as many drawn numbers: a million of them, within their own noise."""
    spread = spread_of(np.full(count, mean), np.full(count, std), tails="light")
    shown = spread.histogram().coarse()
    assert shown is not None
    assert sum(shown.counts) == pytest.approx(1e6, rel=1e-3)
    middles = shown.low + shown.width * (np.arange(len(shown.counts)) + 0.5)
    weights = np.array(shown.counts) / sum(shown.counts)
    assert (weights * middles).sum() == pytest.approx(mean, abs=0.05 * std)
    assert np.sqrt((weights * (middles - mean) ** 2).sum()) == pytest.approx(std, rel=0.1)


def test_one_value_alone_is_no_histogram() -> None:
    assert spread_of(np.array([3.0]), np.zeros(1)).histogram().coarse() is None


def listed(method: str) -> tuple[ir.Model, dict[str, Any]]:
    """An int8 model, and what is said of its tensors."""
    if method == "norms":
        found = calibrate_by_norms(MODEL, [SPEC]).calibration
    else:
        found = calibrate(MODEL, [{"x": images(16)}], method)
    model = quantize(MODEL, found.ranges).model
    return model, told(found, None, model, found.ranges)


@pytest.mark.parametrize(("method", "histograms"), [("minmax", False), ("mse", True), ("norms", True)])
def test_every_int8_tensor_has_a_histogram_or_its_range_and_why_there_is_none(method: str, histograms: bool) -> None:
    model, said = listed(method)
    read = {str(node.inputs[0].name) for node in model.graph if node.op_type == "QuantizeLinear"}
    pictures, alone = said["histograms"], said["ranges"]
    assert {each["tensor"] for each in [*pictures, *alone]} == read - set(model.graph.initializers)
    assert bool(pictures) == histograms
    for each in alone:
        assert each["why"]
        assert each["range"][0] <= each["range"][1]


def test_an_edit_that_moved_a_range_is_the_reason_that_is_given() -> None:
    found = calibrate(MODEL, [{"x": images(16)}], "mse")
    model = quantize(MODEL, found.ranges).model
    moved = {name: (low * 2, high * 2) for name, (low, high) in found.ranges.items()}
    said = told(found, None, model, moved)
    assert said["histograms"] == []
    assert {each["why"] for each in said["ranges"]} == {"an edit changed its values and its range"}


def test_ranges_out_of_a_file_say_so() -> None:
    found = calibrate(MODEL, [{"x": images(16)}], "mse")
    kept = type(found)(**{**vars(found), "shown": dict[str, Coarse]()})  # as a cache gives it back
    said = told(kept, None, quantize(MODEL, found.ranges).model, found.ranges)
    assert {each["why"] for each in said["ranges"]} == {"from a file, which keeps ranges alone"}
