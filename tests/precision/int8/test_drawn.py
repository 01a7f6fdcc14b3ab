"""Samples drawn to fit norms: their numbers by numpy, and what edits make of them; breaking a rule is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normexport.precision import Fp8, Int8, Judged
from normexport.precision.reduce import reduce_precision
from normexport.runtime import OnnxRuntime
from tests.claims import Claim
from tests.mutation import Mutation, check_noticed
from tests.precision.int8 import drawn_claims as claims
from tests.precision.int8.drawn_claims import SPEC, case, pictures


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: claim.__name__)
def test_claim_that_mutations_are_held_against_holds(claim: Claim) -> None:
    claim()


@settings(max_examples=15, deadline=None)
@given(mean=st.floats(0.01, 0.99), share=st.floats(0.02, 0.95))
def test_any_mean_and_deviation_within_two_ends_is_met(mean: float, share: float) -> None:
    claims.check_clipped(mean, max(share * np.sqrt(mean * (1 - mean)), 0.002))


@settings(max_examples=8, deadline=None)
@given(power=st.floats(0.0, 2.2))
def test_any_spectrum_is_met(power: float) -> None:
    claims.check_spectrum(power)


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum()))


@pytest.mark.parametrize(("config", "least"), [(Int8, 0.1), (Fp8, 1.0)])
def test_without_a_sample_the_result_is_better_on_real_ones(config: type[Int8 | Fp8], least: float) -> None:
    """Data that the norms know of, but nothing else has seen; SNR of the only output in numpy."""
    model, _ = case(1.0, 0.9)
    unseen = pictures(64, 1.0, 0.9, seed=99)
    (exact,) = OnnxRuntime(model).run({"x": unseen}).values()
    levels = []
    for effort in ("none", "standard"):
        reduced = reduce_precision(model, config(method="norms", effort=effort), [SPEC])
        (found,) = OnnxRuntime(reduced.model).run({"x": unseen}).values()
        levels.append(snr(exact, found))
    assert levels[1] > levels[0] + least


def test_data_that_judges_measures_each_edit() -> None:
    model, _ = case(1.0, 0.9)
    judged = Judged({"x": pictures(64, 1.0, 0.9, seed=98)})
    found = reduce_precision(model, Int8(method="norms", min_snr=-np.inf, effort="high"), [SPEC], judged=judged)
    edits = {edit.name: edit for edit in found.precision.edits}
    assert edits["biases absorbed"].reasons == ("no norm tells what a channel has at least",)
    for name in ("equalised", "biases corrected", "weights rounded"):
        edit = edits[name]
        assert edit.before_db is not None
        assert edit.after_db is not None
        assert edit.kept == (edit.after_db > edit.before_db + 0.1)


def test_without_data_nothing_is_equalised_and_no_weight_moved() -> None:
    model, _ = case(1.0, 0.9)
    found = reduce_precision(model, Int8(method="norms", effort="high"), [SPEC])
    reasons = {edit.name: edit.reasons[0] for edit in found.precision.edits}
    assert reasons["equalised"] == reasons["weights rounded"] == "no data is there to measure it on"
    (biases,) = (edit for edit in found.precision.edits if edit.name == "biases corrected")
    assert biases.compared.startswith("on 64 samples drawn to fit the norms: 1/f^1, misfit 0.0")
    assert biases.compared.endswith("; no data measured it")


def _mutation(claim: str, old: str, new: str, file: str = "drawn") -> Mutation:
    return Mutation(claim, f"precision/int8/{file}.py", old, new)


MUTATIONS = (
    _mutation("amplitudes fall with frequency", "frequency**-power", "frequency**power"),
    _mutation("the width of clipped numbers is searched upwards", "if found < deviation", "if found > deviation"),
    _mutation("their level too", "if found < mean", "if found > mean"),
    _mutation(
        "a deviation can't be beyond all", "min(max(deviation, 1e-3), _ROOM *", "max(min(deviation, 1e-3), _ROOM *"
    ),
    _mutation("colours are alike", "math.sqrt(alike) * common", "math.sqrt(1 - alike) * common"),
    _mutation("the texture that fits best", "= min(found)", "= max(found)"),
    _mutation("means are compared", "np.square(center - moments.mean)", "0 * np.square(center)"),
    _mutation("widths are compared", "np.square(size - moments.std)", "0 * np.square(size)"),
    _mutation(
        "L1 has a statistic of its own", 'size * _PER_MEAN if moments.kind == "l1"', 'size if moments.kind == "l1"'
    ),
    _mutation("of others the deviation", "else np.sqrt(size)", "else size"),
    _mutation("a channel counts once", "posinf=1.0), 1.0)", "posinf=1.0), 1e9)"),
    _mutation("moments of single samples do not measure", "or moments.per_sample", ""),
    _mutation("samples that judge are others", "part * size : (part + 1) * size", "0:size"),
    _mutation("rows of a fixed batch", "(runs * self.rows, *self.shape)", "(runs, *self.shape)"),
    _mutation("samples along another axis", "spec.axes != (0,) or", ""),
    _mutation("what does not fit measures nothing", "misfit > _FITS", "misfit > 9", "edits_by_norms"),
    _mutation(
        "ranges are those of the edited model",
        "model, self.inputs, symmetric",
        "self._of_edited[0][0], self.inputs, symmetric",
        "edits_by_norms",
    ),
    _mutation("fitted on what was drawn", "self.drawn.fitted_on", "Batches(lambda: iter(()), 0)", "edits_by_norms"),
    _mutation(
        "other halves judge",
        "level_on(model, drawn.judging)",
        "level_on(model, next(drawn.fitted_on()))",
        "edits_by_norms",
    ),
    _mutation("and are fitted on again", "improved.fitted_on or batches", "batches", "edits"),
    Mutation("moments are divided too", "graphs/moments.py", "moments.mean / divisor", "moments.mean * divisor"),
    Mutation("widths of moments too", "graphs/moments.py", "moments.std / divisor", "moments.std * divisor"),
)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.claim)
def test_breaking_a_rule_of_drawing_is_noticed(mutation: Mutation, tmp_path: Path) -> None:
    check_noticed(mutation, "tests.precision.int8.drawn_claims", tmp_path)
