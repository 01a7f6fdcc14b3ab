"""The SNR of an output is about its mean over samples, of every channel, and never a number that means nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from normexport.precision.snr import CHANNEL_SLACK, OutputError, measure_output
from normexport.verdicts import Verdict
from tests.narrow import present

PASSED, FAILED, INCONCLUSIVE = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def noisy(array: np.ndarray, decibels: int, seed: int = 1) -> np.ndarray:
    """The array with white noise at this SNR about its mean over samples."""
    spread = np.sqrt(np.square(array - array.mean(0)).mean())
    return array + (spread * 10 ** (-decibels / 20) * numbers(*array.shape, seed=seed)).astype(np.float32)


def by_numpy(reference: np.ndarray, value: np.ndarray) -> np.float64:
    r, v = reference.astype(np.float64), value.astype(np.float64)
    return 10 * np.log10(np.square(r - r.mean(0)).sum() / np.square(v - r).sum())


def judged(reference: np.ndarray, value: np.ndarray, least: float = 25.0, axes: Sequence[Any] = ()) -> OutputError:
    return measure_output("out", reference, value, least, axes)


@pytest.mark.parametrize("shape", [(40,), (40, 7), (40, 3, 5, 6), (5000, 300)])
def test_snr_is_the_variance_over_samples_by_the_error(shape: tuple[int, ...]) -> None:
    exact = numbers(*shape) * 3 + 100
    value = noisy(exact, 31)
    found = judged(exact, value)
    assert found.snr_db == pytest.approx(by_numpy(exact, value), abs=1e-6)
    assert found.judgement.verdict is PASSED
    assert judged(exact, value, least=33).judgement.verdict is FAILED


def test_a_head_that_became_constant_is_at_0_db_and_fails() -> None:
    exact = (33.4 + 1.27 * numbers(200, 1)).astype(np.float32)
    found = judged(exact, np.full_like(exact, exact.mean()))
    assert found.snr_db == pytest.approx(0, abs=0.01)
    assert found.judgement.verdict is FAILED
    about_zero = 20 * np.log10(np.linalg.norm(exact) / np.linalg.norm(exact - exact.mean()))
    assert about_zero > 25  # what a ratio to the output itself would have passed


def test_an_exact_output_passes_and_one_of_nothing_but_error_does_not() -> None:
    exact = numbers(32, 4)
    assert judged(exact, exact).snr_db == np.inf
    assert judged(exact, exact).judgement.verdict is PASSED
    assert judged(exact, np.full_like(exact, 3e38)).judgement.verdict is FAILED
    assert judged(exact * 1e30, exact * -1e30).judgement.verdict is FAILED


NAN, INF = np.float32("nan"), np.float32("inf")


def spoiled(array: np.ndarray, value: np.float32, place: tuple[int, ...] = (3, 1)) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("reference", "value", "verdict"),
    [
        (lambda x: x, lambda x: spoiled(x, NAN), FAILED),
        (lambda x: x, lambda x: spoiled(x, INF), FAILED),
        (lambda x: spoiled(x, INF), lambda x: spoiled(x, -INF), FAILED),
        (lambda x: spoiled(x, INF), lambda x: x, FAILED),
        (lambda x: spoiled(x, -INF), lambda x: spoiled(x, -INF), PASSED),  # a mask
        (lambda x: spoiled(x, NAN), lambda x: spoiled(x, NAN), INCONCLUSIVE),
        (lambda x: spoiled(x, NAN), lambda x: x, INCONCLUSIVE),
        (lambda x: spoiled(x, NAN), lambda x: spoiled(x, NAN, (4, 2)), FAILED),
        (lambda x: x * NAN, lambda x: x * NAN, INCONCLUSIVE),
        (lambda x: np.full_like(x, INF), lambda x: np.full_like(x, INF), INCONCLUSIVE),
    ],
)
def test_nan_never_passes_and_infinity_only_where_the_reference_has_it(
    reference: Callable[..., Any], value: Callable[..., Any], verdict: Verdict
) -> None:
    x = numbers(32, 5)
    found = judged(reference(x), value(x), axes=(1,))
    assert found.judgement.verdict is verdict
    assert found.judgement.reasons or verdict is PASSED
    assert not np.isnan(found.level)


def test_infinities_that_agree_take_no_part_in_the_ratio() -> None:
    exact = numbers(64, 6)
    value = noisy(exact, 30)
    expected = by_numpy(exact[:, :5], value[:, :5])
    exact[:, 5] = value[:, 5] = -np.inf
    assert judged(exact, value, axes=(1,)).snr_db == pytest.approx(expected, abs=1e-6)


def test_one_sample_proves_nothing_but_can_fail() -> None:
    exact = numbers(1, 50) + 9
    assert judged(exact, exact).judgement.verdict is INCONCLUSIVE
    assert judged(exact, -exact).judgement.verdict is FAILED
    assert "one sample" in judged(exact, exact).judgement.reasons[0]


def test_a_constant_output_is_equal_or_off_and_has_no_snr() -> None:
    exact = np.broadcast_to(numbers(1, 8) + 5, (20, 8))
    same, near, far = exact * (1 + 1e-5), exact * 1.01, exact * 1.5
    assert judged(exact, same).judgement.verdict is PASSED
    assert not judged(exact, same).varies
    assert judged(exact, near).judgement.verdict is INCONCLUSIVE
    assert judged(exact, far).judgement.verdict is FAILED
    assert judged(exact, near).snr_db is None


@pytest.mark.parametrize(("shape", "verdict"), [((0, 4), INCONCLUSIVE), ((4, 0), INCONCLUSIVE)])
def test_nothing_at_all_proves_nothing(shape: tuple[int, ...], verdict: Verdict) -> None:
    assert judged(np.zeros(shape, np.float32), np.zeros(shape, np.float32)).judgement.verdict is verdict


def test_another_shape_fails() -> None:
    assert judged(numbers(8, 4), numbers(8, 5)).judgement.verdict is FAILED


def detector(samples: int = 32) -> np.ndarray:
    """(samples, boxes, 6): four corners of 0 to 640, a score and a class score of 0 to 1."""
    rng = np.random.default_rng(4)
    corners = rng.uniform(0, 640, (samples, 50, 4))
    return np.concatenate([corners, rng.uniform(0, 1, (samples, 50, 2))], axis=2).astype(np.float32)


def test_broken_scores_beside_large_boxes_are_seen() -> None:
    exact = detector()
    broken = exact.copy()
    broken[..., 4] = broken[::-1, :, 4]
    assert judged(exact, broken).judgement.verdict is PASSED  # in the sum alone they are not
    found = judged(exact, broken, axes=(1, 2))
    assert found.judgement.verdict is FAILED
    assert found.channel == "index 4 of axis 2"
    assert found.channel_db == pytest.approx(by_numpy(exact[..., 4], broken[..., 4]), abs=1e-6)
    assert found.level == present(found.channel_db) + CHANNEL_SLACK


@pytest.mark.parametrize("change", ["constant", "swapped", "negated", "zero"])
def test_one_wrong_class_of_a_thousand_is_seen(change: str) -> None:
    exact = numbers(64, 1000)
    value = noisy(exact, 45)
    column = exact[:, 7]
    value[:, 7] = {"constant": column.mean(), "swapped": exact[:, 8], "negated": -column, "zero": 0}[change]
    assert judged(exact, value).judgement.verdict is PASSED
    assert judged(exact, value, axes=(1,)).judgement.verdict is FAILED
    assert "index 7 of axis 1" in judged(exact, value, axes=(1,)).judgement.reasons[0]


@pytest.mark.parametrize("samples", [2, 3, 5, 9, 16, 64])
@pytest.mark.parametrize("seed", range(5))
def test_honest_noise_never_fails_for_want_of_samples(samples: int, seed: int) -> None:
    exact = numbers(samples, 1000, seed=seed)
    found = judged(exact, noisy(exact, 27, seed=100 + seed), axes=(1,))
    assert found.judgement.verdict is PASSED, found


@pytest.mark.parametrize("samples", [2, 4, 8])
def test_a_class_that_is_lost_is_not_passed_on_few_samples(samples: int) -> None:
    exact = numbers(samples, 100)
    value = noisy(exact, 45)
    value[:, 7] = exact[:, 7].mean() + 1
    assert judged(exact, value, axes=(1,)).judgement.verdict in (FAILED, INCONCLUSIVE)


def test_channels_that_are_silent_or_constant_are_held_to_the_noise_of_the_whole() -> None:
    exact = numbers(64, 10)
    exact[:, 3], exact[:, 4] = 0, 7
    value = noisy(exact, 40)
    assert judged(exact, value, axes=(1,)).judgement.verdict is PASSED
    value[:, 3] += 2
    assert judged(exact, value, axes=(1,)).judgement.verdict is FAILED
