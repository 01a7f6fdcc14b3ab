"""Edits that make int8 better stay where they do so on samples that they were not fitted on, and say what they gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from normexport.errors import UsageError
from normexport.precision import Int8, Judged, Reduced, reduce_precision
from normexport.precision.int8 import edits
from normexport.precision.int8.pairs import is_quantized
from tests.narrow import present
from tests.precision import nets
from tests.precision.test_accuracy import SPEC, samples, uneven

pytestmark = pytest.mark.slow


def reduced(effort: str, *, cache: Path | None = None, count: int = 64) -> Reduced:
    """The network of which one scale holds one channel of eight, judged on every fourth sample."""
    model, _ = nets.folded(uneven)
    config = Int8(method="minmax", min_snr=-100, effort=effort, cache=cache)
    return reduce_precision(model, config, [SPEC], judged=Judged({"input": samples(count)}))


def snr(result: Reduced) -> float:
    return present(present(result.precision.accuracy).snr_db)


def test_what_one_scale_can_not_hold_is_held_once_layers_are_equal() -> None:
    plain, better = reduced("none"), reduced("standard")
    assert plain.precision.edits == ()
    assert snr(plain) < 0
    assert snr(better) > 20
    equalised, absorbed, corrected = better.precision.edits
    assert (equalised.name, equalised.kept, corrected.name) == ("equalised", True, "biases corrected")
    assert present(equalised.after_db) > present(equalised.before_db) + 20
    assert equalised.layers >= 2
    assert "biases corrected" in equalised.compared  # so that the next edit may begin at another level
    assert corrected.compared == ""
    assert not absorbed.kept
    assert sum(map(is_quantized, better.model.graph)) == sum(map(is_quantized, plain.model.graph))


def test_high_effort_rounds_weights_too_and_loses_less() -> None:
    standard, high = reduced("standard"), reduced("high")
    assert [edit.name for edit in high.precision.edits] == list(edits.EDITS["high"])
    rounded = high.precision.edits[-1]
    assert rounded.layers == 4
    assert rounded.kept == (present(rounded.after_db) > present(rounded.before_db) + edits.WORTH)
    assert snr(high) > snr(standard) - 0.5


def test_an_edit_that_is_not_worth_it_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edits, "WORTH", np.inf)
    found = reduced("high")
    assert [edit.kept for edit in found.precision.edits] == [False] * 4
    assert all(edit.reasons[0] == "gains too little" for edit in found.precision.edits if edit.layers)
    assert ir.to_proto(found.model) == ir.to_proto(reduced("none").model)


def test_too_few_samples_measure_nothing_and_change_nothing() -> None:
    found = reduced("standard", count=6)
    assert [edit.reasons for edit in found.precision.edits] == [("no samples are left to measure it on",)] * 3
    assert ir.to_proto(found.model) == ir.to_proto(reduced("none", count=6).model)


def test_a_cache_gives_the_same_file_and_ranges_of_the_model_as_it_is(tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    first, second = reduced("standard", cache=cache), reduced("standard", cache=cache)
    assert first.precision.edits == second.precision.edits
    assert ir.to_proto(first.model) == ir.to_proto(second.model)
    assert first.precision.edits[0].reasons == ("the cached ranges are those of the model as it is",)


def test_a_cache_without_its_samples_fits_nothing(tmp_path: Path) -> None:
    model, _ = nets.folded(uneven)
    cache = tmp_path / "cache.json"
    reduced("none", cache=cache)
    other = Judged({"input": samples(40) + 1})
    found = reduce_precision(model, Int8(method="minmax", min_snr=-100, cache=cache), [SPEC], judged=other)
    assert {reason for edit in found.precision.edits for reason in edit.reasons} == {
        "the ranges come from a cache, and the samples that made them are not here"
    }


def test_an_unknown_effort_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="is not an effort"):
        Int8(effort="more")
