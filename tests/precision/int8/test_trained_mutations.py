"""Breaking a rule of int8 on the integers of training is noticed: what it is judged against, and that it is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation import Mutation, check_noticed

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _mutation(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "precision/int8/as_trained.py", old, new)


MUTATIONS = (
    _mutation("unjudged is not passed", 'inconclusive("no data judged it; give --data")', "passed()"),
    _mutation(
        "the fake-quantised forward is the reference",
        "own = OnnxRuntime(model, simulated=True)",
        "own = OnnxRuntime(found.model)",
    ),
    _mutation("limits are held", "judgement=accuracy.judgement or passed()", "judgement=passed()"),
    _mutation("what it was judged against is told", '(*found.notes, f"judged against {REFERENCE}")', "found.notes"),
    _mutation("the integers of training are taken", "        corrections=found.corrections,\n", ""),
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim.replace(" ", "_"))
def test_breaking_a_rule_of_trained_integers_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.trained_claims", tmp_path)
