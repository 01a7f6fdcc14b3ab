"""Folding random networks: the claims of `claims.check_fold`, witnessed by onnx.reference and by torch in float64."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.folding import torch_eval
from tests.folding.choices import DrawnChoices, SeededChoices
from tests.folding.claims import assert_close, by_reference, check_fold
from tests.folding.random_graphs import random_feeds, random_model

pytestmark = pytest.mark.slow

WITNESSES = (by_reference, torch_eval.evaluate)
RULES = {"producer", "consumer", "pool", "concat", "add"}


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    return random_model(DrawnChoices(draw))


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(models())
def test_fold_keeps_every_claim_on_random_networks(model: onnx.ModelProto) -> None:
    check_fold(model, random_feeds(model), WITNESSES)


def test_witnesses_compute_in_float64_and_agree_before_any_fold() -> None:
    for seed in range(200):
        model = random_model(SeededChoices(seed))
        feeds = random_feeds(model)
        ours, other = (witness(model, feeds) for witness in WITNESSES)
        assert {value.dtype for value in ours.values()} <= {np.dtype(np.float64), np.dtype(np.int64)}
        for name, value in other.items():
            assert_close(name, ours[name], value)


def test_random_networks_reach_every_rule_and_every_fate() -> None:
    rules: Counter[str] = Counter()
    fates: Counter[str] = Counter()
    for seed in range(400):
        model = random_model(SeededChoices(seed))
        for outcome in check_fold(model, random_feeds(model), ()).result.norms:
            fates[outcome.fate] += 1
            rules[outcome.rule] += outcome.fate == "folded"
    assert {rule for rule in RULES if rules[rule] >= 3} == RULES, rules
    assert min(fates[fate] for fate in ("folded", "lowered", "live")) >= 10, fates
