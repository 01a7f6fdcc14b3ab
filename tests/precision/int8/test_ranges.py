"""Ranges by every method, from what was seen of a tensor."""

from __future__ import annotations

import numpy as np
import pytest

from normexport.precision import METHODS, Int8
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.histogram import COUNTED, Histogram
from normexport.precision.int8.ranges import RANGE_OF, int8_range
from normexport.precision.samples import batches_of
from tests.precision import nets
from tests.precision.nets import images

pytestmark = pytest.mark.slow


SPECS = (nets.SPEC,)


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_of_a_part_is_as_good_as_of_all(symmetric: bool) -> None:
    values = np.random.default_rng(1).laplace(0.3, 1.0, 8 * COUNTED).astype(np.float32)
    part, whole = Histogram(), Histogram()
    part.add(values)
    for start in range(0, len(values), COUNTED):
        whole.add(values[start : start + COUNTED])
    ranges = [int8_range(RANGE_OF["mse"](each, symmetric), symmetric) for each in (part, whole)]
    assert error_of(values, *ranges[0]) <= 1.05 * error_of(values, *ranges[1])  # a step of the search


def error_of(values: np.ndarray, low: float | np.float64, high: float | np.float64) -> np.float64:
    """Mean square error of quantising to 256 levels over [low, high], straight from the definition."""
    step = (high - low) / 255
    zero = np.rint(-low / step)
    return np.square((np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step - values).mean()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", ["normal", "relu", "outlier"])
def test_mse_finds_the_range_with_the_least_error(shape: str, symmetric: bool) -> None:
    values = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    values = {"normal": values, "relu": np.maximum(values, 0), "outlier": np.append(values, np.float32(40))}[shape]
    histogram = Histogram()
    histogram.add(values)
    found = error_of(values, *int8_range(RANGE_OF["mse"](histogram, symmetric), symmetric))
    full = int8_range((values.min(), values.max()), symmetric)
    best = min(error_of(values, full[0] * share, full[1] * share) for share in np.linspace(0.05, 1, 400))
    assert found <= 1.05 * best


def test_percentile_leaves_one_value_in_ten_thousand_out_on_each_side() -> None:
    values = np.arange(-50_000, 50_001, dtype=np.float32) / 50_000
    histogram = Histogram()
    histogram.add(values)
    low, high = RANGE_OF["percentile"](histogram, False)
    assert (low, high) == pytest.approx((-0.9998, 0.9998), abs=1e-3)
    assert RANGE_OF["minmax"](histogram, False) == (-1, 1)


def test_entropy_cuts_a_lone_outlier_off_and_keeps_a_plain_distribution() -> None:
    rng = np.random.default_rng(2)
    for values, share in ((rng.uniform(-1, 1, 100_000), 0.9), (np.append(rng.normal(size=100_000), 60.0), 0.0)):
        histogram = Histogram()
        histogram.add(values.astype(np.float32))
        _, high = RANGE_OF["entropy"](histogram, False)
        if share:
            assert high >= share
        else:
            assert 2.5 < high < 20


def test_every_method_of_the_config_has_its_mathematics() -> None:
    assert set(RANGE_OF) == set(METHODS)
    assert Int8().method in METHODS


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_how_samples_are_batched(method: str) -> None:
    model, _ = nets.folded(nets.centred)
    ranges = [calibrate(model, batches_of(list(images()), SPECS, size)(), method).ranges for size in (4, 20)]
    assert ranges[0].keys() == ranges[1].keys() > {"input"}
    for name, found in ranges[0].items():
        assert found == pytest.approx(ranges[1][name], rel=2e-2, abs=1e-4)
