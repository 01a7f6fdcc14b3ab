"""Histograms for people: coarse bins hold every value that was counted, where numpy would count it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision.int8.histogram import SHOWN, Histogram

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
