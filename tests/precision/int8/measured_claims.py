"""What int8 models are fitted on, judged by and left out of, as plain functions: broken copies must not hold them."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir

from normexport.precision.config import Int8, Limits
from normexport.precision.int8.bias_by_layer import mean_errors_by_layer
from normexport.precision.int8.bias_correction import mean_errors_in_sequence
from normexport.precision.int8.corrections import NONE, Corrections, pairs_of
from normexport.precision.int8.fitting import Fits, Fitting
from normexport.precision.int8.judging import Judging, level_on
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.quantise import modules_of, quantize
from normexport.precision.int8.sensitivity import latency_ms, noise_alone, rescue, sensitivities
from normexport.precision.labels import Labelled
from normexport.precision.samples import Batches
from normexport.precision.snr import CHANNEL_SLACK
from normexport.runtime import OnnxRuntime, Runtime
from normexport.verdicts import Verdict
from tests.claims import about, claim_of
from tests.precision.int8 import test_judging as judging
from tests.precision.int8.edited import Given, chain
from tests.precision.int8.linked_graphs import Graph

ZEROS = np.zeros(judging.CLASSES, np.float32)


# ---- judging


def _levels(noise: float) -> tuple[float, float]:
    """dB of the worst channel, its slack counted, of a network that is off by this; points of decisions that change."""
    exact, found = (
        judging.X.astype(np.float64) @ weight for weight in (judging.WEIGHT, _off(noise).astype(np.float64))
    )
    channels = [judging.snr(exact[:, one], found[:, one]) + CHANNEL_SLACK for one in range(judging.CLASSES)]
    lost = 100 * float((exact.argmax(1) != found.argmax(1)).mean())
    return min(judging.snr(exact, found), *channels), lost


def _off(noise: float) -> np.ndarray:
    return judging.WEIGHT + noise * np.random.default_rng(2).standard_normal(judging.WEIGHT.shape).astype(np.float32)


def _judged_by(limits: Limits, labels: np.ndarray | None = None) -> Judging:
    labelled = None if labels is None else Labelled(labels)
    return Judging.by(judging.network(ZEROS, ()), {"x": judging.X}, labelled, limits)


def limits_decide_what_is_good_enough() -> None:
    candidate = judging.network(ZEROS, (), noise=0.3)
    level, _ = _levels(0.3)
    for spare, good in ((1.0, True), (-1.0, False)):
        judged = _judged_by(Limits(min_snr=level - spare)).judge(candidate, OnnxRuntime(candidate))
        assert abs(judged[0] - level) < 0.01
        assert judged[1:] == (None, good)


def labels_are_held_against_what_float32_gives() -> None:
    candidate = judging.network(ZEROS, (), noise=0.6)
    _, lost = _levels(0.6)
    assert lost > 5
    right = (judging.X @ judging.WEIGHT).argmax(1)
    for most, good in ((lost + 1, True), (lost - 1, False)):
        judged = _judged_by(Limits(-math.inf, most), right).judge(candidate, OnnxRuntime(candidate))
        assert judged[1] is not None
        assert abs(judged[1] - lost) < 1e-6
        assert judged[2] is good, f"{lost} points lost of {most}"


def what_is_inconclusive_is_not_worse() -> None:
    """An output that is the same of all samples proves nothing, and leaving modules out would not mend that."""
    model = judging.network(np.ones_like(ZEROS), ())
    model.graph.initializers["w"].const_value = ir.tensor(np.zeros_like(judging.WEIGHT))
    found = Judging.by(model, {"x": judging.X}, None, Limits())
    measured = found.measure(model, OnnxRuntime(model))
    assert measured.judgement is not None
    assert measured.judgement.verdict is Verdict.INCONCLUSIVE
    assert found.judge(model, OnnxRuntime(model))[2]


def a_half_remainder_keeps_ten_decibels_to_itself() -> None:
    candidate = judging.network(ZEROS, (), noise=0.3)
    level, _ = _levels(0.3)
    for limit, good in ((level - 10.5, True), (level - 9.5, False)):
        assert _judged_by(Limits(min_snr=limit)).accepts(candidate) is good


def of_several_outputs_the_worst_tells() -> None:
    def made(off: float) -> ir.Model:
        g = Graph(5, (16, 8), np.float32)
        first = g.matmul("x", 4)
        weight = g.uneven(8, 4, along=1)
        return g.model(first, g.node("MatMul", ["x", g.const((1 + off) * weight)], (16, 4)))

    x = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    assert abs(level_on(made(0.0), {"x": x})(made(0.01)) - 40) < 0.1  # 1 % off throughout


JUDGED = (
    of_several_outputs_the_worst_tells,
    limits_decide_what_is_good_enough,
    labels_are_held_against_what_float32_gives,
    what_is_inconclusive_is_not_worse,
    a_half_remainder_keeps_ten_decibels_to_itself,
    claim_of(judging.test_a_class_that_never_comes_does_not_say_which_model_is_better, ((),)),
    claim_of(judging.test_a_channel_of_numbers_of_any_size_still_does),
)


# ---- fitting


def _stream(samples: int, numbers: int, count: int | None = None) -> Batches:
    """Batches without end, of so many samples of so many numbers."""
    array = np.broadcast_to(np.float32(0), (samples, numbers))
    return Batches(lambda: ({"x": array} for _ in itertools.count()), count)


def _given(seed: int = 1, tight: float = 0.4) -> Given:
    return chain(seed, tight=tight)


def _fitting(given: Given, level: Any = lambda _: 0.0, exclude: tuple[str, ...] = (), **options: Any) -> Fitting:
    return Fitting(Int8(calibration=[given.x], **options), given.batches, level, exclude)


def samples_are_as_many_as_each_use_needs() -> None:
    small, large, huge = _stream(16, 8), _stream(16, 1 << 16), _stream(1, 1 << 23)
    for batches, expected in ((small, (8, 8, 8)), (large, (8, 4, 2)), (huge, (128, 1, 1))):
        fitting = Fitting(Int8(), batches, lambda _: 0.0, ())
        parts = fitting.fitted_on, fitting.averaged_on, fitting.few
        assert tuple(sum(1 for _ in part()) for part in parts) == expected
        assert [part.count for part in parts] == [None] * 3
    for count in (100, 128, 1000):
        assert Fitting(Int8(), _stream(16, 8, count), lambda _: 0.0, ()).fitted_on.count == min(128, count)


def a_level_is_measured_once_of_the_same_corrections() -> None:
    given, measured = _given(), itertools.count(1)
    fitting = _fitting(given, lambda _: float(next(measured)))
    first, second = Corrections(), Corrections()
    dies = weakref.ref(first)
    assert [fitting.level_of(given, each) for each in (first, first, second, NONE, first)] == [1.0, 1.0, 2.0, 3.0, 1.0]
    del first
    gc.collect()
    assert dies() is not None, "another one may get its identity, and would have its level"


def models_are_quantised_as_the_config_says() -> None:
    given = _given()
    module = modules_of(given.model)[1]
    shifts = Corrections(shifts=mean_errors_by_layer(given.model, _pairs(given), given.batches()))
    for symmetric in (False, True):
        found = _fitting(given, exclude=(module,), symmetric=symmetric).quantised(given, shifts)
        expected = quantize(given.model, given.ranges, symmetric=symmetric, exclude=(module,), corrections=shifts).model
        assert ir.to_proto(found) == ir.to_proto(expected)


def _pairs(given: Given) -> Any:
    return pairs_of(given.model, quantize(given.model, given.ranges).model)


def the_better_biases_are_kept() -> None:
    given = _given()
    plain = quantize(given.model, given.ranges).model
    ways = {
        True: mean_errors_in_sequence(given.model, plain, given.batches()),
        False: mean_errors_by_layer(given.model, _pairs(given), given.batches()),
    }
    stale = replace(given, corrections=Corrections(shifts={name: each + 1 for name, each in ways[True].items()}))
    for start in (given, stale):  # biases that were fitted before count for nothing
        for in_sequence in (True, False):
            levels = iter((1.0, 0.0) if in_sequence else (0.0, 1.0))
            found = _fitting(start, lambda _, levels=levels: next(levels)).shifted(start)
            assert found.in_sequence is in_sequence
            _check_equal(found.corrections, ways[in_sequence])
            _check_equal(found.alone, ways[False])
            assert len(found.pairs) == 3
        _check_equal(_fitting(start).in_sequence(start, start.batches), ways[True])


def _check_equal(found: Corrections, shifts: Any) -> None:
    assert found.shifts.keys() == shifts.keys() != set()
    for name, each in shifts.items():
        np.testing.assert_array_equal(found.shifts[name], each)


FITTED = (
    samples_are_as_many_as_each_use_needs,
    a_level_is_measured_once_of_the_same_corrections,
    models_are_quantised_as_the_config_says,
    the_better_biases_are_kept,
)


# ---- which modules int8 hurts


def _alone(given: Given, corrections: Corrections = NONE) -> dict[str, float]:
    """dB of each module alone in eight bits, by definition."""
    level, modules = level_on(given.model, {"x": given.x}), modules_of(given.model)
    return {
        each: level(
            quantize(
                given.model, given.ranges, exclude=[m for m in modules if m != each], corrections=corrections
            ).model
        )
        for each in modules
    }


def a_module_is_measured_alone_and_left_out() -> None:
    given = _given()
    modules, level = modules_of(given.model), level_on(given.model, {"x": given.x})
    alone = Corrections(shifts=mean_errors_by_layer(given.model, _pairs(given), given.batches()))
    other = Corrections(shifts={name: 0.5 * each for name, each in alone.shifts.items()})
    asked: list[Collection[str]] = []

    def without(excluded: Collection[str]) -> Corrections:
        asked.append(tuple(excluded))
        return other

    found = sensitivities(given.model, given.ranges, {"x": given.x}, fits=Fits(alone, without))
    assert asked == [(each,) for each in modules]
    assert {each.path: each.alone for each in found} == _alone(given, alone)
    for each in found:
        left = quantize(given.model, given.ranges, exclude=[each.path], corrections=other).model
        assert each.without == level(left)


def noise_is_a_share_of_the_signal() -> None:
    for tight in (0.4, 1e-4):  # of the second, nothing is left of some module
        given = _given(tight=tight)
        alone = _alone(given)
        assert (min(alone.values()) < 0) is (tight < 0.1)
        found = noise_alone(given.model, given.ranges, {"x": given.x}, modules_of(given.model))
        for module, level in alone.items():
            assert math.isclose(found[module], min(1.0, 10 ** (-level / 10)), rel_tol=1e-9)


class _Judge:
    """Calls a model good that has so many layers in float32."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.seen: list[ir.Model] = []

    def __call__(self, candidate: ir.Model, runtime: Runtime) -> tuple[float, float, bool]:
        self.seen.append(candidate)
        count = sum(node.op_type == "Conv" and not is_quantized(node) for node in candidate.graph)
        return float(count), -float(count), count >= self.enough


def the_fewest_of_the_worst_modules_are_left_out() -> None:
    given = chain(3, layers=12)
    alone = _alone(given)
    worst = sorted(alone, key=lambda path: alone[path])
    other = {"x": 0.01 * given.x}
    elsewhere = _alone(replace(given, x=other["x"]))
    assert worst != sorted(elsewhere, key=lambda path: elsewhere[path])
    for enough in (0, 1, 4, 7, 11, 12, 13):
        with about(f"{enough} of 12"):
            judge = _Judge(enough)
            found, curve = rescue(given.model, given.ranges, other, judge, ranked_on={"x": given.x})
            assert set(found.excluded) == set(worst[: min(enough, 12)])
            assert [step.excluded for step in curve] == [tuple(worst[: len(step.excluded)]) for step in curve]
            counts = [len(step.excluded) for step in curve]
            assert counts == sorted(set(counts))
            assert counts[0] == 0
            assert len(counts) == len(judge.seen) <= 10
            assert [(step.snr_db, step.drop) for step in curve] == [(count, -count) for count in counts]


def what_is_left_out_from_the_start_stays_out() -> None:
    given = chain(3, layers=4)
    alone = _alone(given)
    worst = sorted(alone, key=lambda path: alone[path])
    found, curve = rescue(given.model, given.ranges, {"x": given.x}, _Judge(3), exclude=worst[1:2])
    assert [step.excluded for step in curve] == [
        (worst[1],),
        (worst[1], worst[0]),
        (worst[1], worst[0], worst[2]),
    ]
    assert set(found.excluded) == set(worst[:3])


def _that_hurts_another(given: Given) -> Corrections:
    """Biases by which another module is the worst than without."""
    found = mean_errors_by_layer(given.model, _pairs(given), given.batches())
    plain = _alone(given)
    for name in found:
        made = Corrections(shifts={**found, name: found[name] + 10})
        levels = _alone(given, made)
        if min(plain, key=lambda path: plain[path]) != min(levels, key=lambda path: levels[path]):
            return made
    raise AssertionError("none does")


def each_model_has_the_biases_that_fit_it_and_is_judged_as_it_is_held() -> None:
    given = _given()
    alone = _that_hurts_another(given)
    parts: dict[frozenset[str], Corrections] = {}

    def without(excluded: Collection[str]) -> Corrections:
        share = 0.1 * (1 + len(excluded))
        made = Corrections(shifts={name: share * each for name, each in alone.shifts.items()})
        return parts.setdefault(frozenset(excluded), made)

    opened: list[ir.Model] = []

    def on(model: ir.Model) -> Runtime:
        opened.append(model)
        return OnnxRuntime(model)

    judge = _Judge(1)
    found, _ = rescue(
        given.model, given.ranges, {"x": given.x}, judge, fits=Fits(alone, without), on=on, held=ir.Model.clone
    )
    levels = _alone(given, alone)
    (left,) = found.excluded
    assert left == min(levels, key=lambda path: levels[path])
    expected = quantize(given.model, given.ranges, exclude=[left], corrections=parts[frozenset([left])]).model
    assert ir.to_proto(found.model) == ir.to_proto(expected)
    assert judge.seen == opened[::2], "what is judged is what is held of a model"
    assert found.model is opened[-1], "what is timed is the model itself"


def the_best_run_of_some_counts() -> None:
    given = _given()
    for seconds, expected, runs in (
        ((0.2, 0.1, 0.15, 0.12, 0.11, 0.01), 100.0, 6),  # five at most, after one that is not timed
        ((0.3, 0.2, 0.5, 9.0), 200.0, 4),  # until they took a second
        ((7.0,), 7000.0, 2),
    ):
        clock = itertools.chain.from_iterable(
            (100.0 * index, 100.0 * index + each) for index, each in enumerate(seconds)
        )
        runtime = mock.Mock(wraps=OnnxRuntime(given.model))
        runtime.input_names = ["x"]
        with mock.patch("time.perf_counter", _ticks(clock)):
            found = latency_ms(runtime, [{"x": given.x}])
        assert (found, runtime.run.call_count) == (expected, runs)


def _ticks(clock: Iterator[float]) -> Any:
    return lambda: next(clock)


MEASURED = (
    the_best_run_of_some_counts,
    a_module_is_measured_alone_and_left_out,
    noise_is_a_share_of_the_signal,
    what_is_left_out_from_the_start_stays_out,
    each_model_has_the_biases_that_fit_it_and_is_judged_as_it_is_held,
    the_fewest_of_the_worst_modules_are_left_out,
)

CLAIMS = (*JUDGED, *MEASURED, *FITTED)
