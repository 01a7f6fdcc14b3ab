"""A candidate that does not run where the reference does fails; inputs that nothing runs on stay an error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from normexport.errors import UsageError
from normexport.proof import check
from normexport.proof.inputs.batches import Batch
from normexport.proof.verdict import ParityReport
from normexport.runtime.base import Array
from normexport.verdicts import Verdict
from tests.proof.inputs.test_bearing import Computed

BATCHES = [Batch(f"up to {most}", 2, {"x": np.linspace(-1, most, 8).reshape(2, 4)}) for most in (1, 2, 300)]


def refusing_above(most: float) -> Callable[[Array], dict[str, Array]]:
    """Twice the numbers, and none above `most`."""

    def double(x: Array) -> dict[str, Array]:
        if x.max() > most:
            raise UsageError("x", f"is above {most:g}", "give less")
        return {"y": 2 * x}

    return double


def judged(reference: float, baseline: float, candidate: float) -> ParityReport:
    sides = [Computed(refusing_above(most)) for most in (reference, baseline, candidate)]
    return check(lambda: sides[0], lambda: sides[1], lambda: sides[2], BATCHES)


def test_every_output_fails_on_the_first_inputs_that_it_does_not_run_on() -> None:
    report = judged(1000, 1000, 1)
    assert report.judgement.verdict is Verdict.FAILED
    assert [(row.tensor, row.batch) for row in report.outputs] == [("y", "up to 2")]
    assert "does not run on up to 2, where the reference does: is above 1" in report.judgement.reasons[0]
    assert report.batches == tuple(BATCHES)
    assert judged(1000, 1000, 2).outputs[0].batch == "up to 300"
    assert judged(1000, 1000, 1000).judgement.verdict is Verdict.PASSED


WRONG_INPUTS = ((1, 1000, 1), (1000, 1, 1), (1000, 1000, 0))


@pytest.mark.parametrize(("reference", "baseline", "candidate"), WRONG_INPUTS)
def test_it_is_an_error_where_a_reference_refuses_too_or_the_candidate_runs_on_nothing(
    reference: float, baseline: float, candidate: float
) -> None:
    with pytest.raises(UsageError, match=f"is above {candidate}; give less"):
        judged(reference, baseline, candidate)
