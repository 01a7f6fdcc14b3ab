"""Ratios and their intervals: exact, as scipy's signed-rank test has them, and no difference where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normexport.timing.intervals import CONFIDENCE, LEAST, Interval, interval_of, ranks_left_out

LOGS = st.lists(st.floats(-1, 1), min_size=1, max_size=24)


@pytest.mark.parametrize("count", [8, 10, 13, 20, 30])
def test_the_interval_holds_what_a_signed_rank_test_does_not_refuse(count: int) -> None:
    """The witness: scipy's exact test of a centre, just inside and just outside of both bounds."""
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    logs = np.random.default_rng(count).normal(0.02, 0.05, count)
    found = interval_of(logs.tolist())
    for bound, inward in ((math.log(found.low), 1e-9), (math.log(found.high), -1e-9)):
        inside = stats.wilcoxon(logs - bound - inward, method="exact").pvalue
        outside = stats.wilcoxon(logs - bound + inward, method="exact").pvalue
        assert outside <= 1 - CONFIDENCE < inside


def test_intervals_hold_the_true_ratio_as_often_as_they_say() -> None:
    dice = np.random.default_rng(0)
    for draw in (lambda: dice.standard_t(2, 10), lambda: dice.normal(size=10), lambda: dice.choice((-1.0, 1.0), 10)):
        held = [interval_of(list(0.01 * draw())) for _ in range(2000)]
        missed = sum(not each.low <= 1 <= each.high for each in held)
        assert missed <= 2000 * (1 - CONFIDENCE) + 3 * math.sqrt(2000 * (1 - CONFIDENCE))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(LOGS)
def test_the_ratio_of_the_other_way_round_is_its_inverse(logs: list[float]) -> None:
    one, other = interval_of(logs), interval_of([-each for each in logs])
    assert one.ratio * other.ratio == pytest.approx(1)
    assert one.differs == other.differs
    if math.isfinite(one.half_width):
        assert one.low * other.high == pytest.approx(1)
        assert one.low <= one.ratio <= one.high


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(LOGS, st.integers(1, 50))
def test_more_comparisons_make_no_interval_narrower(logs: list[float], comparisons: int) -> None:
    assert interval_of(logs, comparisons).half_width >= interval_of(logs).half_width


@pytest.mark.parametrize("count", range(1, 8))
def test_too_few_openings_tell_no_difference_however_far_apart(count: int) -> None:
    assert ranks_left_out(count, 1 - CONFIDENCE) is None
    found = interval_of([math.log(3.0)] * count)
    assert not found.differs
    assert found.ratio == pytest.approx(3)


def test_a_difference_below_the_least_is_none_and_nan_is_none() -> None:
    assert not interval_of([math.log(1 + LEAST / 2)] * 12).differs
    assert interval_of([math.log(1 + 2 * LEAST)] * 12).differs
    assert not Interval(math.nan, math.nan, math.nan).differs
