"""Of shares that are few and saturated the log-odds tell which model is better; of many the shares themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normexport.precision.int8.few_shares import FEW, hang_on, level_of_shares, log_odds
from normexport.precision.int8.judging import level_on
from tests.mutation import Mutation, check_noticed
from tests.precision.int8.test_judging import CLASSES, RARE, SEEN, WEIGHT, X, network


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(exact - exact.mean(axis=0)).sum() / np.square(found - exact).sum()))


@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 6.0))
def test_log_odds_are_the_logits_of_a_sigmoid_and_of_two_classes(seed: int, size: float) -> None:
    logits = np.clip(size * np.random.default_rng(seed).standard_normal((20, 2)), -6, 6)
    np.testing.assert_allclose(log_odds(1 / (1 + np.exp(-logits))), logits, atol=1e-8)
    apart = logits[:, :1] - logits[:, 1:]
    np.testing.assert_allclose(log_odds(softmax(logits)), np.concatenate([apart, -apart], axis=1), atol=1e-8)


def test_log_odds_end_at_one_in_a_million_and_keep_nan() -> None:
    found = log_odds(np.array([0.0, 1e-9, 1e-6, 1 - 1e-9, 1.0, np.nan], np.float32))
    np.testing.assert_allclose(found[:3], np.log(1e-6), atol=1e-4)
    np.testing.assert_allclose(found[3:5], -np.log(1e-6), atol=1e-4)
    assert np.isnan(found[5])


def test_shares_hang_on_those_that_are_undecided() -> None:
    sure, undecided = np.tile([1 - 1e-6, 1e-6], (50, 1)), np.tile([0.4, 0.6], (7, 1))
    assert hang_on(np.concatenate([sure, undecided])) == pytest.approx(14, rel=1e-3)
    assert hang_on(undecided) == pytest.approx(14)
    assert hang_on(np.array([[0.0, 1.0]] * 8)) == 0.0


def sure_but_one() -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits of 16 samples, one undecided; errors that make the others surer still, and small ones everywhere."""
    random = np.random.default_rng(0)
    apart = np.where(np.arange(16) == 5, 0.1, 5.0 * random.choice([-1.0, 1.0], 16))
    surer, even = np.sign(apart) * np.abs(4.0 * random.standard_normal(16)), 0.5 * random.standard_normal(16)
    surer[5], even[5] = 0.0, 0.6
    exact = np.stack([apart, np.zeros(16)], axis=1)
    return exact, [exact + np.stack([error, np.zeros(16)], axis=1) for error in (surer, even)]


def test_one_undecided_sample_does_not_say_which_model_is_better() -> None:
    exact, (surer, even) = sure_but_one()
    shares, found = softmax(exact), [softmax(each) for each in (surer, even)]
    by_shares = [snr(shares, each) for each in found]
    levels = [level_of_shares(shares, each, own) for each, own in zip(found, by_shares, strict=True)]
    assert by_shares[0] > by_shares[1]
    assert levels[1] > levels[0]
    for level, own, each in zip(levels, by_shares, found, strict=True):
        assert level == pytest.approx((snr(log_odds(shares), log_odds(each)) + own) / 2)


def test_of_many_shares_their_own_level_counts() -> None:
    shares = softmax(np.random.default_rng(0).standard_normal((200, 3)))
    assert hang_on(shares) > FEW
    assert level_of_shares(shares, np.zeros_like(shares), 12.5) == 12.5


def test_nan_among_few_shares_is_the_worst_level() -> None:
    shares = softmax(sure_but_one()[0])
    assert level_of_shares(shares, np.where(np.arange(16)[:, None] == 3, np.nan, shares), -np.inf) == -np.inf


@pytest.mark.parametrize("behind", [(), ("Identity",), ("Reshape",)])
def test_models_are_ranked_by_log_odds_where_samples_are_few(behind: tuple[str, ...]) -> None:
    few = {"x": X[:6]}
    level = level_on(network(RARE, ("Softmax", *behind)), few)
    logits = X[:6].astype(np.float64) @ WEIGHT
    exact = softmax(logits + RARE)
    assert hang_on(exact) < FEW
    for bias, noise in ((SEEN, 0.0), (RARE, 0.3)):
        weight = WEIGHT + noise * np.random.default_rng(2).standard_normal(WEIGHT.shape)
        found = softmax(X[:6].astype(np.float64) @ weight + bias)
        expected = (snr(log_odds(exact), log_odds(found)) + snr(exact, found)) / 2
        assert level(network(bias, ("Softmax", *behind), noise=noise)) == pytest.approx(expected, abs=0.05)
    assert exact.shape[1] == CLASSES


def test_logits_themselves_are_measured_as_they_were() -> None:
    few = {"x": X[:6]}
    exact, candidate = network(RARE, ()), network(RARE, (), noise=0.3)
    logits = [X[:6] @ (WEIGHT + noise) for noise in (0.0, 0.3 * np.random.default_rng(2).standard_normal(WEIGHT.shape))]
    assert level_on(exact, few)(candidate) <= snr(logits[0] + RARE, logits[1] + RARE) + 0.05


def _mutation(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/few_shares.py", old, new)


MUTATIONS = (
    _mutation("log-odds are of a share and the rest", "np.log(wide) - np.log1p(-wide)", "np.log(wide)"),
    _mutation("nobody reads beyond a million", "_LEAST = 1e-6", "_LEAST = 1e-9"),
    _mutation("sure shares hardly move", "weights = wide * (1 - wide)", "weights = wide"),
    _mutation("many shares count themselves", "if hang_on(exact) >= FEW:", "if False:"),
    _mutation("both count", "return (by_odds + level) / 2", "return level"),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_few_shares_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.few_shares_claims", tmp_path)
