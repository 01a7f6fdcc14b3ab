"""Claims about samples drawn to fit norms, which broken copies of the library must not hold; witnesses are numpy's."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import onnx_ir as ir
import pytest

from normexport.folding import fold
from normexport.graphs.moments import KEY, moments_in
from normexport.graphs.refusal import Refuse
from normexport.onnx_export import InputSpec
from normexport.precision import Int8
from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.corrections import pairs_of
from normexport.precision.int8.drawn import Drawn, before_clipping, draw_samples, texture, why_not_drawn
from normexport.precision.int8.edits import Improved, fits_of
from normexport.precision.int8.edits_by_norms import improve_by_norms
from normexport.precision.int8.equalise import equalise
from normexport.precision.int8.from_norms import calibrate_by_norms
from normexport.precision.int8.judging import level_on
from normexport.precision.int8.quantise import quantize
from normexport.precision.samples import Batches
from normexport.runtime import OnnxRuntime
from tests.folding.build import GraphBuilder

SPEC = InputSpec("x", (3, 16, 16))


def pictures(count: int, power: float, alike: float, seed: int = 7) -> np.ndarray:
    """Waves of amplitude 1/f^power in sums of cosines, darker than not, cut off at 0 and 1."""
    dice = np.random.default_rng(seed)
    grid = np.arange(16) / 16
    found = np.zeros((count, 3, 16, 16))
    for down in range(-7, 8):
        for across in range(8):
            size = max(np.hypot(down, across), 1.0) ** -power
            wave = 2 * np.pi * (down * grid[:, None] + across * grid)
            for part in (np.cos(wave), np.sin(wave)):
                common, own = dice.normal(size=(count, 1)), dice.normal(size=(count, 3))
                amount = size * (np.sqrt(alike) * common + np.sqrt(1 - alike) * own)
                found += amount[:, :, None, None] * part
    return np.clip(0.2 + 0.5 * found / found.std(), 0, 1).astype(np.float32)


def folded(data: np.ndarray) -> ir.Model:
    """Convolution, norm, ReLU, convolution, norm, ReLU, mean, linear; the norms know `data`."""
    graph, dice = GraphBuilder(np.float32), np.random.default_rng(4)
    value = graph.input(("N", 3, 16, 16))
    for rows, columns in ((16, 3), (12, 16)):
        weight = dice.normal(0, 0.3, (rows, columns, 3, 3)) * np.exp(dice.normal(0, 1, (rows, 1, 1, 1)))
        value = graph.node("Conv", [value, graph.const(weight)], pads=[1, 1, 1, 1])
        graph.output(value)
        seen = next(iter(OnnxRuntime(ir.from_proto(graph.model())).run({"x": data}).values()))
        graph.outputs.clear()
        affine = dice.uniform(0.2, 3, rows), dice.normal(0, 0.5, rows), seen.mean((0, 2, 3)), seen.var((0, 2, 3))
        value = graph.node("BatchNormalization", [value, *(graph.const(each) for each in affine)])
        value = graph.node("Relu", [value])
    value = graph.node("Flatten", [graph.node("GlobalAveragePool", [value])])
    graph.output(graph.node("Gemm", [value, graph.const(dice.normal(0, 1, (12, 10)))]))
    return fold(ir.from_proto(graph.model())).model


@cache
def case(power: float, alike: float) -> tuple[ir.Model, np.ndarray]:
    data = pictures(96, power, alike)
    return folded(data), data


def drawn_for(model: ir.Model, spec: InputSpec = SPEC, batch: int = 64) -> Drawn:
    return draw_samples(model, calibrate_by_norms(model, [spec]), [spec], batch)


def rows_of(drawn: Drawn) -> np.ndarray:
    return np.concatenate([feeds["x"] for feeds in drawn.fitted_on()])


def check_clipped(mean: float, deviation: float) -> None:
    """A million normal numbers, clipped."""
    level, width = before_clipping(mean, deviation)
    numbers = np.clip(level + width * np.random.default_rng(0).standard_normal(1_000_000), 0, 1)
    assert abs(numbers.mean() - mean) < 0.003
    assert abs(numbers.std() - deviation) < 0.003


def clipped_numbers_have_mean_and_deviation() -> None:
    for mean, deviation in ((0.5, 0.1), (0.13, 0.31), (0.9, 0.2), (0.02, 0.05)):
        check_clipped(mean, deviation)


def a_deviation_beyond_all_is_nearly_the_largest() -> None:
    level, width = before_clipping(0.2, 0.9)
    numbers = np.clip(level + width * np.random.default_rng(0).standard_normal(100_000), 0, 1)
    assert abs(numbers.mean() - 0.2) < 0.01
    assert 0.95 * 0.4 < numbers.std() < 0.4


def check_spectrum(power: float) -> None:
    """Amplitudes of three octaves, by an independent transform along each axis alone."""
    field = texture((64, 1, 64, 64), power, 0.0, np.random.default_rng(1))
    assert abs(field.std() - 1) < 1e-6
    amplitudes = np.sqrt(np.square(np.abs(np.fft.rfft(field.mean(axis=2), axis=2))).mean(axis=(0, 1)))
    slope = np.polyfit(np.log(np.arange(1, 17)), np.log(amplitudes[1:17]), 1)[0]
    assert abs(slope + power) < 0.1


def fields_have_their_spectrum() -> None:
    for power in (0.0, 1.0, 2.0):
        check_spectrum(power)


def colours_are_alike_by_their_share() -> None:
    for alike in (0.0, 0.9):
        field = texture((32, 3, 16, 16), 0.5, alike, np.random.default_rng(2))
        found = np.corrcoef(field[:, 0].reshape(-1), field[:, 2].reshape(-1))[0, 1]
        assert abs(found - alike) < 0.05


def the_texture_is_that_of_the_data() -> None:
    for power, alike in ((0.0, 0.0), (1.0, 0.9), (1.5, 0.0)):
        model, data = case(power, alike)
        drawn = drawn_for(model)
        assert drawn.power == power
        rows = rows_of(drawn)
        assert abs(rows.mean() - data.mean()) < 0.05
        assert abs(rows.std() - data.std()) < 0.05
        assert 0 <= rows.min() <= rows.max() <= 1
        alike_found = np.corrcoef(rows[:, 0].reshape(-1), rows[:, 2].reshape(-1))[0, 1]
        assert (alike_found > 0.5) == (alike > 0.5)
        assert drawn.misfit < 0.1


def by_numpy(model: ir.Model, rows: np.ndarray) -> float:
    """The misfit of samples, by its formula."""
    known = moments_in(model)
    values = OnnxRuntime(model).run({"x": rows}, sorted(known))
    misfits = []
    for name, moments in known.items():
        numbers = values[name].astype(np.float64)
        mean = numbers.mean((0, 2, 3))
        away = numbers - mean[:, None, None]
        squares = np.sqrt(np.square(away).mean((0, 2, 3)))
        width = np.sqrt(2) * np.abs(away).mean((0, 2, 3)) if moments.kind == "l1" else squares
        off = (np.square(mean - moments.mean) + np.square(width - moments.std)) / np.square(moments.std)
        misfits.append(np.minimum(off, 1).mean())
    return float(np.mean(misfits))


def of_kind(model: ir.Model, **fields: object) -> ir.Model:
    """The model, its first norm with other fields."""
    copy = model.clone()
    told = json.loads(copy.metadata_props[KEY])
    name = next(iter(told))
    told[name].update(fields)
    copy.metadata_props[KEY] = json.dumps(told)
    return copy


def misfits_are_those_of_numpy() -> None:
    for kind in ("batchnorm", "l1"):
        model = of_kind(case(1.0, 0.9)[0], kind=kind)
        drawn = drawn_for(model)
        assert abs(drawn.misfit - by_numpy(model, rows_of(drawn))) < 0.3 * drawn.misfit + 0.01


def channels_that_do_not_fit_count_once() -> None:
    """A norm that knows nothing like it: its misfit is 1, however far off it is."""
    model, _ = case(1.0, 0.9)
    told = json.loads(model.metadata_props[KEY])
    last = list(told)[-1]
    far = model.clone()
    told[last]["mean"] = [1e6 for _ in told[last]["mean"]]
    far.metadata_props[KEY] = json.dumps(told)
    assert 0.49 < drawn_for(far).misfit < 0.6


def statistics_of_each_sample_do_not_measure() -> None:
    """Of two norms, one whose moments are those of single samples: the other measures alone."""
    model, _ = case(1.0, 0.9)
    told = json.loads(model.metadata_props[KEY])
    last = list(told)[-1]
    far = model.clone()
    told[last].update(mean=[1e6 for _ in told[last]["mean"]], per_sample=True)
    far.metadata_props[KEY] = json.dumps(told)
    assert drawn_for(far).misfit < 0.1


def halves_are_others_of_the_same() -> None:
    drawn = drawn_for(case(1.0, 0.9)[0])
    fitted, judging = rows_of(drawn), drawn.judging["x"]
    assert fitted.shape == judging.shape
    assert fitted.shape[0] == drawn.fitted_on.count == 64
    assert not np.isclose(fitted, judging).all(axis=(1, 2, 3)).any()
    np.testing.assert_array_equal(fitted, rows_of(drawn_for(case(1.0, 0.9)[0])))


def a_batch_that_is_fixed_is_kept() -> None:
    model, _ = case(1.0, 0.9)
    spec = InputSpec("x", (8, 3, 16, 16), batched=False)
    drawn = drawn_for(model, spec)
    assert [feeds["x"].shape for feeds in drawn.fitted_on()] == [(8, 3, 16, 16)] * 64
    assert drawn.judging["x"].shape == (512, 3, 16, 16)
    assert drawn.power == 1.0


def what_is_not_told_is_not_drawn() -> None:
    model, _ = case(1.0, 0.9)
    known = calibrate_by_norms(model, [SPEC])
    for specs, words in (
        ([InputSpec("ids", (3,), "int64")], "nothing tells what numbers input 'ids' has"),
        ([InputSpec("x", (3, 16, 16), axes=(1,))], "does not hold any number of samples along its first axis"),
        ([], "no inputs"),
    ):
        assert words in why_not_drawn(known, specs)
        with pytest.raises(Refuse, match=words):
            draw_samples(model, known, specs, 8)
    assert why_not_drawn(known, [SPEC]) == ""


def equalised_models_know_their_tensors() -> None:
    model, data = case(1.0, 0.9)
    found = equalise(model)
    assert found.factors
    known = moments_in(found.model)
    before = moments_in(model)
    values = OnnxRuntime(found.model).run({"x": data}, sorted(known))
    assert any(np.abs(known[name].mean / before[name].mean - 1).max() > 0.1 for name in known)
    for name, moments in known.items():
        np.testing.assert_allclose(values[name].mean((0, 2, 3)), moments.mean, atol=2e-3 * np.abs(moments.mean).max())
        np.testing.assert_allclose(values[name].std((0, 2, 3)), moments.std, rtol=5e-3)


def improved_without_data() -> tuple[ir.Model, Improved]:
    model, _ = case(1.0, 0.9)
    return model, improve_by_norms(model, calibrate_by_norms(model, [SPEC]), Int8(method="norms"), None, inputs=[SPEC])


def biases_are_fitted_on_what_was_drawn() -> None:
    """Each is that of one of both ways to fit on samples; it is measured on others of their kind."""
    model, improved = improved_without_data()
    (edit,) = (each for each in improved.edits if each.kept)
    assert edit.name == "biases corrected"
    assert "drawn to fit the norms" in edit.reasons[0]
    assert improved.fitted_on is not None
    plain = quantize(model, improved.ranges).model
    in_turn = mean_errors_in_sequence(model, plain, improved.fitted_on())
    alone = mean_errors_by_layer(model, pairs_of(model, plain), improved.fitted_on())
    expected = in_turn if improved.in_sequence else alone
    assert improved.corrections.shifts.keys() == expected.keys()
    assert len(expected) == 3
    for name, shift in improved.corrections.shifts.items():
        np.testing.assert_allclose(shift, expected[name], atol=1e-6)
    judged = level_on(model, drawn_for(model).judging)
    with_them = quantize(model, improved.ranges, corrections=improved.corrections).model
    for told, quantised in ((edit.before_db, plain), (edit.after_db, with_them)):
        assert told is not None
        assert abs(told - judged(quantised)) < 1e-3


def biases_fit_where_modules_are_left_out() -> None:
    """They are fitted again on what was drawn; of samples that calibrated there are none."""
    model, improved = improved_without_data()
    config, none = Int8(method="norms"), Batches(lambda: iter(()), 0)
    again = fits_of(replace(improved, in_sequence=True), config, none, ()).without(("another",))
    assert improved.fitted_on is not None
    plain = quantize(model, improved.ranges).model
    expected = mean_errors_in_sequence(model, plain, improved.fitted_on())
    assert again.shifts.keys() == expected.keys() != set()
    for name, shift in again.shifts.items():
        np.testing.assert_allclose(shift, expected[name], atol=1e-6)


def what_does_not_fit_measures_nothing() -> None:
    """Where norms know nothing like what is drawn, biases are those that the norms tell, as without drawn samples."""
    model, _ = case(1.0, 0.9)
    told = json.loads(model.metadata_props[KEY])
    far = model.clone()
    for each in told.values():
        each["mean"] = [number + 3 * width for number, width in zip(each["mean"], each["std"], strict=True)]
    far.metadata_props[KEY] = json.dumps(told)
    assert drawn_for(far).misfit > 0.5
    known, config = calibrate_by_norms(far, [SPEC]), Int8(method="norms")
    found, told_alone = (improve_by_norms(far, known, config, None, inputs=inputs) for inputs in ([SPEC], []))
    for each, words in ((found, "they fit the norms too badly: misfit"), (told_alone, "the model has no inputs")):
        assert all(edit.before_db is None for edit in each.edits)
        (kept,) = (edit for edit in each.edits if edit.kept)
        assert kept.reasons[0] == "by what the norms tell; no data measured it"
        assert words in kept.reasons[1]
    for name, shift in told_alone.corrections.shifts.items():
        np.testing.assert_array_equal(found.corrections.shifts[name], shift)


def equalised_models_have_ranges_of_their_own() -> None:
    """Data that judge take the equalised model; its ranges are those that norms tell of it."""
    model, _ = case(1.0, 0.9)
    seen: list[ir.Model] = []

    def level(candidate: ir.Model) -> float:
        seen.append(candidate)
        return float(len(seen))  # what is measured last is the best

    known = calibrate_by_norms(model, [SPEC])
    improved = improve_by_norms(model, known, Int8(method="norms"), level, inputs=[SPEC])
    assert [(edit.name, edit.kept) for edit in improved.edits][:2] == [("equalised", True), ("biases absorbed", False)]
    assert improved.model is not model
    expected = calibrate_by_norms(improved.model, [SPEC]).calibration.ranges
    assert improved.ranges == expected != known.calibration.ranges


CLAIMS = (
    clipped_numbers_have_mean_and_deviation,
    a_deviation_beyond_all_is_nearly_the_largest,
    fields_have_their_spectrum,
    colours_are_alike_by_their_share,
    the_texture_is_that_of_the_data,
    misfits_are_those_of_numpy,
    channels_that_do_not_fit_count_once,
    statistics_of_each_sample_do_not_measure,
    halves_are_others_of_the_same,
    a_batch_that_is_fixed_is_kept,
    what_is_not_told_is_not_drawn,
    equalised_models_know_their_tensors,
    equalised_models_have_ranges_of_their_own,
    biases_are_fitted_on_what_was_drawn,
    what_does_not_fit_measures_nothing,
    biases_fit_where_modules_are_left_out,
)
