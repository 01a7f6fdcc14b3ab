"""Edits that make int8 better stay where they do so on samples that they were not fitted on, and say what they gave."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from normexport.errors import UsageError
from normexport.precision import Int8, Judged, Reduced, reduce_precision
from normexport.precision.int8 import edits
from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.calibration import calibrate
from normexport.precision.int8.corrections import NONE, Corrections, pairs_of
from normexport.precision.int8.extremes import channel_extremes
from normexport.precision.int8.fitting import Fits, Fitting
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.quantise import modules_of, quantize
from normexport.precision.int8.sensitivity import rescue, sensitivities
from normexport.precision.samples import Batches
from normexport.runtime import OnnxRuntime, Runtime
from tests.narrow import present
from tests.precision import nets
from tests.precision.int8.linked_graphs import Graph
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


def fitted(seed: int) -> tuple[edits.Improved, np.ndarray, Int8, Batches]:
    """Three layers and what cuts between them, with biases that were fitted in sequence on these samples."""
    g = Graph(seed, (16, 4, 5, 5), np.float32)
    hidden = g.node("Relu", [g.conv("x", 6, 3)], (16, 6, 5, 5))
    hidden = g.node("Relu", [g.conv(hidden, 6, 3)], (16, 6, 5, 5))
    model = g.model(g.conv(hidden, 3))
    x = np.random.default_rng(seed).standard_normal((16, 4, 5, 5)).astype(np.float32)
    found = calibrate(model, [{"x": x}], "minmax").ranges
    ranges = {name: (0.4 * low, 0.4 * high) for name, (low, high) in found.items()}
    config, batches = Int8(calibration=[x]), Batches(lambda: iter([{"x": x}]), 16)
    plain = quantize(model, ranges).model
    shifts, alone = (
        Corrections(shifts=each)
        for each in (
            mean_errors_in_sequence(model, plain, batches()),
            mean_errors_by_layer(model, pairs_of(model, plain), batches()),
        )
    )
    return edits.Improved(model, ranges, shifts, alone=alone, in_sequence=True), x, config, batches


def mean_error(given: edits.Improved, x: np.ndarray, corrections: Corrections, excluded: tuple[str, ...]) -> float:
    """The largest mean error of a channel of the result, in float32 beside int8, over that of the result's size."""
    model = quantize(given.model, given.ranges, exclude=excluded, corrections=corrections).model
    exact, found = (next(iter(OnnxRuntime(each).run({"x": x}).values())) for each in (given.model, model))
    return float(np.abs((found - exact).mean(axis=(0, 2, 3))).max() / np.abs(exact).max())


@pytest.mark.parametrize("seed", range(3))
def test_biases_fit_what_is_left_where_modules_are_in_float32(seed: int) -> None:
    improved, x, config, batches = fitted(seed)
    fits = edits.fits_of(improved, config, batches, ())
    first, second, _ = modules_of(improved.model)
    assert fits.without(()) is improved.corrections
    for left in ((first,), (first, second)):
        stale, anew = (mean_error(improved, x, each, left) for each in (improved.corrections, fits.without(left)))
        assert anew < 0.2 * stale
        assert fits.without(left) is fits.without(tuple(reversed(left)))  # fitted once
    stale, alone = (mean_error(improved, x, each, (first, second)) for each in (improved.corrections, fits.alone))
    assert alone < 0.2 * stale  # of the third layer's own result


def test_biases_of_each_layer_by_itself_fit_whatever_is_left() -> None:
    improved, _, config, batches = fitted(0)
    by_layer = replace(improved, corrections=improved.alone, in_sequence=False)
    assert edits.fits_of(by_layer, config, batches, ()).without(("anything",)) is improved.alone


def test_a_rescue_asks_for_the_biases_that_fit_each_model_that_it_tries() -> None:
    improved, x, config, batches = fitted(1)
    modules = modules_of(improved.model)
    fits = edits.fits_of(improved, config, batches, ())
    asked: list[frozenset[str]] = []

    def without(excluded: Collection[str]) -> Corrections:
        asked.append(frozenset(excluded))
        return fits.without(excluded)

    def judge(candidate: ir.Model, _: Runtime) -> tuple[float, float | None, bool]:
        return 0.0, None, sum(map(is_quantized, candidate.graph)) < 3

    found, curve = rescue(improved.model, improved.ranges, {"x": x}, judge, fits=replace(fits, without=without))
    assert [frozenset(step.excluded) for step in curve] == asked == [frozenset(), frozenset(found.excluded)]
    assert len(found.excluded) == 1
    expected = quantize(improved.model, improved.ranges, exclude=found.excluded, corrections=fits.without(asked[1]))
    assert ir.to_proto(found.model) == ir.to_proto(expected.model)
    table = sensitivities(improved.model, improved.ranges, {"x": x}, fits=fits)
    stale = sensitivities(
        improved.model, improved.ranges, {"x": x}, fits=Fits(fits.alone, lambda _: improved.corrections)
    )
    assert [each.path for each in table] == list(modules)
    assert all(one.alone == other.alone for one, other in zip(table, stale, strict=True))
    assert table[0].without > stale[0].without
    assert table[-1].without == pytest.approx(stale[-1].without, abs=0.5)  # nothing was fitted to what it makes


def test_channels_below_a_clip_are_tried_and_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    g = Graph(3, (16, 3, 6, 6), np.float32)
    ends = [g.const(np.array(end, np.float32)) for end in (0.0, 6.0)]
    first = g.node("Clip", [g.conv("x", 8, 3, bias=False), *ends], (16, 8, 6, 6))
    second = g.node("Clip", [g.conv(first, 8, 3, group=8, bias=False), *ends], (16, 8, 6, 6))
    model = g.model(g.conv(second, 4))
    x = np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32)
    batches = Batches(lambda: iter([{"x": x}]), 16)
    ranges = calibrate(model, batches(), "minmax").ranges
    levels = iter([10.0, 20.0])  # as it is, and past the Clips: the other ways find nothing here
    monkeypatch.setattr(Fitting, "quantised", lambda self, given, corrections: given.model)
    monkeypatch.setattr(Fitting, "in_sequence", lambda self, given, samples: NONE)
    work = edits.Improvement(Fitting(Int8(method="minmax"), batches, lambda _: next(levels), ()))
    found, _ = work.equalised(edits.Improved(model, ranges), channel_extremes(model, batches()))
    (edit,) = found.edits
    assert (edit.kept, edit.before_db, edit.after_db) == (True, 10.0, 20.0)
    assert "below half of a Clip's end" in edit.reasons[0]
    exact, got = (next(iter(OnnxRuntime(each).run({"x": x}).values())) for each in (model, found.model))
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-5 * np.abs(exact).max())


def test_an_unknown_effort_is_one_clear_line() -> None:
    with pytest.raises(UsageError, match="is not an effort"):
        Int8(effort="more")
