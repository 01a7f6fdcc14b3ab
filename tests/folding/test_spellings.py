"""Every spelling of a norm, wherever it stands, folds away exactly."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest

from normexport.runtime import Float64Runtime
from tests.folding.build import GraphBuilder
from tests.folding.claims import check_fold, fold_proto, operators
from tests.folding.random_graphs import random_feeds
from tests.folding.spellings import FORMS, PLACES


def built(place: str, form: str, dtype: type) -> GraphBuilder:
    b = GraphBuilder(dtype)
    b.output(PLACES[place][0](b, FORMS[form]))
    return b


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_it_folds_away_exactly(place: str, form: str) -> None:
    model = built(place, form, np.float64).model()
    folded = check_fold(model, random_feeds(model))
    outcomes = folded.result.norms
    assert outcomes
    assert [outcome.fate for outcome in outcomes] == ["folded"] * len(outcomes), [each.reason for each in outcomes]
    assert operators(folded.after) == Counter(PLACES[place][1])


@pytest.mark.parametrize("form", FORMS)
def test_in_float32_it_is_within_rounding_in_onnx_runtime_and_in_the_float64_interpreter(form: str) -> None:
    model = built("channels last", form, np.float32).model()
    folded, feeds = fold_proto(model), random_feeds(model)
    expected = Float64Runtime(folded.before).run(feeds)
    got = Float64Runtime(folded.after).run(feeds)
    session = onnxruntime.InferenceSession(folded.after.SerializeToString())
    measured = dict(zip(expected, session.run(list(expected), feeds), strict=True))
    for name, value in expected.items():
        size = np.abs(value).max()
        assert np.abs(got[name] - value).max() <= 2e-6 * size  # constants rounded once to float32
        assert np.abs(measured[name] - value).max() <= 2e-5 * size
