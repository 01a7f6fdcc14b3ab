"""int8 on the integers of training, as plain functions: broken copies of the library must not hold them."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from normexport.verdicts import Verdict
from tests.models.trained_integers import REDUCED, images, prepared, trained
from tests.precision.int8.trained_files import int8_of


def made(given: bool = True, **options: Any) -> Any:
    """The conversion of a network with the integers of training, with data to judge on or without."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of its own quantisation
        data = Path(folder) / "images.npz"
        np.savez(data, x=images().numpy())
        return int8_of(trained(prepared(REDUCED)), Path(folder), data if given else None, REDUCED, **options)[0]


def unjudged_it_is_inconclusive() -> None:
    found = made(given=False)
    assert found.judgement.verdict is Verdict.INCONCLUSIVE
    assert "no data judged it; give --data" in found.judgement.reasons
    assert found.precision.accuracy is None
    assert found.precision.calibration["method"] == "trained"


def it_is_judged_against_its_own_fake_quantised_forward() -> None:
    """To which it is as near as its integers are: int8 is no error of it."""
    found = made()
    assert found.judgement.verdict is Verdict.PASSED
    assert "judged against the network's own fake-quantised forward" in found.precision.notes
    assert found.precision.accuracy.snr_db > 40
    assert found.precision.kept == ()
    assert found.precision.integer_nodes > 0


def limits_are_held() -> None:
    assert made(min_snr=300).judgement.verdict is Verdict.FAILED


CLAIMS = (unjudged_it_is_inconclusive, it_is_judged_against_its_own_fake_quantised_forward, limits_are_held)
