"""Metrics against values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from normexport.proof import fault, measure

R = np.array([[3.0, -4.0], [0.0, 5.0]])
V = np.array([[3.0, -4.5], [1.0, 5.0]])


def test_errors_of_a_known_pair() -> None:
    errors = measure(R, V.astype(np.float32))
    assert errors.size == 4
    assert errors.max_abs == 1.0
    assert errors.rms == pytest.approx(math.sqrt(1.25 / 4))
    assert errors.scale_rms == pytest.approx(math.sqrt(50 / 4))
    assert errors.scale_max == 5.0
    assert errors.relative_rms == pytest.approx(math.sqrt(1.25 / 50))
    assert errors.snr_db == pytest.approx(10 * math.log10(50 / 1.25))
    assert errors.cosine == pytest.approx((9 + 18 + 25) / math.sqrt(50 * (9 + 20.25 + 1 + 25)))
    assert errors.agreement == 1.0


def test_agreement_counts_rows_with_the_same_argmax() -> None:
    assert measure(np.eye(4), np.eye(4)[[0, 1, 3, 2]]).agreement == 0.5
    assert measure(np.ones((3, 1)), np.ones((3, 1))).agreement is None
    assert measure(np.ones((2, 3, 4)), np.ones((2, 3, 4))).agreement is None


def test_an_exact_tensor_has_infinite_snr_and_a_zero_reference_no_relative_error() -> None:
    assert measure(R, R).snr_db == math.inf
    zero = measure(np.zeros(3), np.array([0.0, 1e-9, 0.0]))
    assert zero.relative_rms == math.inf
    assert zero.snr_db == -math.inf
    assert measure(np.zeros(3), np.zeros(3)).relative_rms == 0.0


def test_long_tensors_are_summed_like_short_ones() -> None:
    rng = np.random.default_rng(0)
    r = rng.standard_normal((3, 70_001))
    v = r + 1e-3 * rng.standard_normal(r.shape)
    errors = measure(r, v)
    assert errors.size == r.size
    assert errors.rms == pytest.approx(np.sqrt(np.mean((v - r) ** 2)), rel=1e-12)
    assert errors.max_abs == np.abs(v - r).max()
    assert errors.cosine == pytest.approx(np.vdot(r, v) / np.linalg.norm(r) / np.linalg.norm(v), rel=1e-12)


def test_nan_and_infinity_in_the_same_places_are_equal_and_leave_the_rest_measured() -> None:
    r = np.array([np.nan, np.inf, -np.inf, 1.0])
    v = np.array([np.nan, np.inf, -np.inf, 1.5], dtype=np.float32)
    assert fault(r, v) is None
    assert measure(r, v).max_abs == 0.5
    assert measure(r, v).size == 1


@pytest.mark.parametrize(
    ("reference", "value", "reason"),
    [
        ([1.0, 2.0], [np.nan, 2.0], "NaN differs from the reference in 1 of 2 elements"),
        ([np.nan, 2.0], [1.0, 2.0], "NaN differs"),
        ([1.0, 2.0], [1.0, np.inf], "+inf differs"),
        ([np.inf, 2.0], [-np.inf, 2.0], "+inf differs"),
        ([[1.0, 2.0]], [1.0, 2.0], "shape (2,), expected (1, 2)"),
        ([1.0, 2.0], [1, 2], "dtype int64, expected floating point"),
    ],
)
def test_what_cannot_be_measured_is_named(
    reference: list[list[float] | float], value: list[float], reason: str
) -> None:
    assert reason in (fault(np.array(reference), np.array(value)) or "")


def test_integer_tensors_count_differing_elements() -> None:
    errors = measure(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 9]))
    assert errors.rms == 0.25
    assert errors.max_abs == 5.0
    assert not errors.floating


@pytest.mark.parametrize("types", [(np.int64, np.int64), (np.uint64, np.uint64), (np.int64, np.uint64)])
def test_whole_numbers_that_float64_takes_for_equal_differ(types: tuple[Any, Any]) -> None:
    reference: np.ndarray = np.array([2**60, 2**62, 7], types[0])
    value: np.ndarray = np.array([2**60, 2**62 + 1, 7], types[1])
    assert float(reference[1]) == float(value[1])
    errors = measure(reference, value)
    assert errors.rms == 1 / 3
    assert errors.max_abs == 1.0
    assert measure(reference, reference.astype(types[1])).max_abs == 0.0


def test_empty_tensors_are_equal() -> None:
    assert measure(np.zeros((0, 3)), np.zeros((0, 3))).rms == 0.0
