"""What calibration keeps of a tensor: every value counted, of large arrays a part that stands for all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.histogram import COUNTED, MOST, Histogram

pytestmark = pytest.mark.slow


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 5), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_a_histogram_counts_every_value_in_its_own_bin_however_the_range_grows(
    seed: int, parts: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(rng.uniform(-3, 3), 10.0 ** rng.uniform(-2, 1), 200).astype(np.float32) for _ in range(parts)]
    histogram = Histogram()
    for array in arrays:
        histogram.add(array * np.float32(scale))
    values = np.concatenate(arrays) * np.float32(scale)
    centres, counts = histogram.bins()
    assert counts.sum() == values.size
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert len(counts) <= MOST + 2
    assert histogram.width <= (values.max() - values.min()) / MOST * 2.001
    expected = np.floor(values / histogram.width).astype(int)
    number, expected_counts = np.unique(expected, return_counts=True)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(centres, np.clip((number + 0.5) * histogram.width, values.min(), values.max()))


@settings(max_examples=25, deadline=None)
@given(low=st.floats(-50, 1e6), span=st.floats(1e-3, 1e6))
def test_a_histogram_tells_neighbouring_bins_apart_wherever_it_starts(low: float, span: float) -> None:
    values = np.sort(np.random.default_rng(2).uniform(low, low + span, 3000)).astype(np.float32)
    histogram = Histogram()
    histogram.add(values[::2])
    histogram.add(values[1::2])
    _, expected = np.unique(np.floor(values.astype(np.float64) / histogram.width), return_counts=True)
    np.testing.assert_array_equal(histogram.bins()[1], expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(COUNTED + 1, 5 * COUNTED), shift=st.floats(-2, 2))
def test_of_a_large_array_a_part_stands_for_all_and_the_extremes_are_in_it(seed: int, size: int, shift: float) -> None:
    values = np.random.default_rng(seed).laplace(shift, 1.0, size).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    _, counts = histogram.bins()
    assert abs(counts.sum() - size) < 8  # less than a step, and two ends
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    first, kept = histogram.counts()
    assert [first, first + len(kept) - 1] == [math.floor(end / histogram.width) for end in (values.min(), values.max())]
    again = Histogram.of(histogram.low, histogram.high, first, kept)
    np.testing.assert_array_equal(again.counts()[1], kept)
    inner = np.quantile(values, [0.05, 0.5, 0.95])
    centres, counts = histogram.bins()
    for share, value in zip((0.05, 0.5, 0.95), inner, strict=True):
        assert abs(counts[centres <= value].sum() / counts.sum() - share) < 0.01


@pytest.mark.parametrize("columns", [3, 5, 7, 11, 16, 49, 64, 384, 1000])
def test_of_a_large_array_every_channel_is_counted_wherever_channels_lie(columns: int) -> None:
    rows = 6 * COUNTED // columns
    lanes = np.arange(columns, dtype=np.float32)
    for array in (np.tile(lanes, rows), np.repeat(lanes, rows)):
        histogram = Histogram()
        histogram.add(array)
        found = np.floor(histogram.bins()[0])
        shares = np.bincount(found.astype(int), histogram.bins()[1], minlength=columns) / array.size
        assert np.abs(shares * columns - 1).max() < 0.02 + 3 * math.sqrt(columns / COUNTED)


def test_parts_of_large_arrays_add_up() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(0, 10.0**number, 2 * COUNTED + number).astype(np.float32) for number in range(3)]
    whole = Histogram()
    for array in arrays:
        whole.add(array)
    parts = []
    for array in arrays:
        part = Histogram()
        part.add(array)
        parts.append(part)
    merged = parts[2].merged(parts[0]).merged(parts[1])
    assert (merged.low, merged.high, merged.counts()[0]) == (whole.low, whole.high, whole.counts()[0])
    np.testing.assert_array_equal(merged.counts()[1], whole.counts()[1])
