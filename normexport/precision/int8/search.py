"""A folded float32 model -> int8 or fp8: calibrate, quantise, leave out what hurts, judge on samples new to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from normexport.dtypes import HALVES, SHORT
from normexport.errors import NormExportError, UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.accuracy import Accuracy, measure_accuracy
from normexport.precision.collected import collect
from normexport.precision.config import NORMS, PLACEMENTS, TRAINED, EightBit, Limits, require_samples
from normexport.precision.half.baseline import InFloat32
from normexport.precision.int8.as_trained import lower_as_trained
from normexport.precision.int8.calibrated import calibrate_on, from_cache
from normexport.precision.int8.calibration import Calibration, calibrate
from normexport.precision.int8.contradiction import Comparison
from normexport.precision.int8.edits import Improved, fits_of, improve
from normexport.precision.int8.edits_by_norms import improve_by_norms
from normexport.precision.int8.first_samples import check_labels_fit, first_samples
from normexport.precision.int8.from_norms import NormRanges, calibrate_by_norms
from normexport.precision.int8.grids import WeightGrid
from normexport.precision.int8.held_out import (
    Parted,
    choose_samples,
    digests_of,
    part_arrays,
    part_stream,
    watch,
    without_known,
)
from normexport.precision.int8.listing import asked_for, listing, told
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.placed import placement_of
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.remainder import Remainder, as_written, plan_remainder, with_remainder
from normexport.precision.int8.sensitivity import Sensitivity, rescue, sensitivities
from normexport.precision.int8.storage import Storage
from normexport.precision.labelled_output import require_limit
from normexport.precision.labels import Labelled
from normexport.precision.output_errors import output_errors
from normexport.precision.reduced import Finish, Judged, OnBatch, Precision, Reduced
from normexport.precision.runs import Data
from normexport.precision.samples import Batches, batches_in, batches_of
from normexport.proof import choose_batches
from normexport.proof.inputs.batches import fixed_batches_in, slice_batches
from normexport.proof.inputs.mixed import numbers_in
from normexport.runtime import Feeds, OnnxRuntime, Opener, Runtime, release_memory
from normexport.text import printable
from normexport.verdicts import Judgement, Verdict, failed, inconclusive, passed, together

RANKED_ON = 16  # samples at least, on which models are timed
#: Numbers of all inputs on which modules are ranked, each in a run of its own: 13 images of 224 by 224, 1 of 640.
#: With half as many a detector of 320 by 320 keeps 36 of its 99 modules in float32 in place of 32.
_MOST_NUMBERS = 1 << 21
#: dB beyond the limit that a half remainder has to keep by itself: its noise is a tenth of what the limit allows.
_SPARE = 10.0
_CHOSEN_ON, _IMAGES = 64, 4  # samples at most that edits are measured on, and how many times those that modules are


def lower_to_int8(
    model: ir.Model,
    config: EightBit,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    on_batch: OnBatch | None,
    on: Opener,
    finish: Finish,
    weights: Mapping[str, WeightGrid],
    for_engine: bool,
) -> Reduced:
    """See `normexport.precision.reduce`."""
    if config.method == TRAINED:
        return lower_as_trained(model, weights, config, inputs, judged, on, finish)
    config, defaulted = with_remainder(config, model, for_engine)
    kept = asked_for(model, config)
    limits = Limits(config.min_snr, config.max_drop)
    if config.method == NORMS and judged is None:
        if config.placement != PLACEMENTS[0]:
            raise UsageError(f"--placement {config.placement}", "needs samples to time and judge on", "give --data")
        return _unjudged(model, config, inputs, kept, finish, defaulted)
    if judged is not None and judged.labelled is not None:
        require_limit(judged.labelled, limits)
        check_labels_fit(OnnxRuntime(model), model, judged, judged.labelled, inputs)
    parted = _part_samples(config, inputs, judged)
    only_cached = _is_cached(config) and config.calibration is None
    read = parted.calibration.read
    notes = [note for note in (parted.note, read.note if read is not None else "", *defaulted) if note]
    calibration, by_norms = _calibrate(model, config, inputs, parted, notes, on_batch)
    fresh = without_known(parted, calibration.seen, inputs)
    notes += [fresh.note] if fresh.note and fresh.note != parted.note else []
    labelled = _labels_of_judging(judged, inputs, fresh)
    exact = collect(OnnxRuntime(model), fresh.judging, model=model)

    def measure(candidate: ir.Model, runtime: Runtime) -> Accuracy:
        found = collect(runtime, fresh.judging, model=candidate, batch=exact.batch)
        return measure_accuracy(found, labelled, exact, limits)

    def judge(candidate: ir.Model, runtime: Runtime) -> tuple[float, float | None, bool]:
        found = measure(candidate, runtime)
        assert found.snr_db is not None
        assert found.judgement is not None
        return found.snr_db, found.drop, found.judgement.verdict is not Verdict.FAILED

    few = first_samples(fresh.judging, inputs, max(config.batch, RANKED_ON))
    ranked_on = first_samples(few, inputs, _most_ranked(few, inputs))
    fitted_on = _known(parted, calibration.seen, config, inputs) if only_cached else parted.calibration
    level = _level(model, inputs, fresh)
    if by_norms is not None:
        improved = improve_by_norms(model, by_norms, config, level, tuple(kept))
    else:
        improved = _improve(model, calibration, config, fitted_on, level, fresh, kept)

    def accepts(half: ir.Model) -> bool:
        held = as_written(half)
        found = collect(OnnxRuntime(held), fresh.judging, model=held, batch=exact.batch)
        worst = min((error.level for error in output_errors(exact, found, -math.inf, 100)), default=math.inf)
        return worst >= limits.min_snr + _SPARE

    model, rest = plan_remainder(improved.model, config, _feeds_for_peaks(model, inputs, few, config), accepts)
    ranges, storage = improved.ranges, Storage.of(config)
    judged_on = OnnxRuntime if rest.is_half else on
    fits = fits_of(improved, config, fitted_on, kept)
    improved, placed = placement_of(model, config, improved, fits, ranked_on, judge, kept, judged_on)
    outside = (*kept, *(placed.excluded if placed is not None else ()))
    result, curve = rescue(
        model,
        ranges,
        few,
        judge,
        ranked_on=ranked_on,
        symmetric=config.symmetric,
        exclude=outside,
        fits=fits,
        storage=storage,
        on=judged_on,
        held=lambda quantised: as_written(rest.store(quantised)),
        where=config.on,
    )
    table: tuple[Sensitivity, ...] = ()
    if config.table:
        table = sensitivities(
            model, ranges, ranked_on, symmetric=config.symmetric, fits=fits, storage=storage, where=config.on
        )
    finished = finish(rest.store(result.model))
    held = as_written(finished)
    accuracy = measure(held, _named(judged_on(held), rest))
    integers = sum(is_quantized(node) for node in finished.graph)
    shown = [accuracy.judgement or passed(), inconclusive(fresh.reason) if fresh.reason else passed()]
    if not integers and len(result.excluded) > len(outside):
        shown.append(failed(f"the limit holds only with nothing in {SHORT[config.dtype]}"))
    if rest.is_half:
        judgement, found = _of_the_file(finished, on, measure, for_engine)
        shown, notes = [*shown, judgement], [*notes, *rest.notes, *found]
    summary = Precision(
        config.dtype,
        kept=listing(model, kept, {} if by_norms is None else by_norms.lacking, result.excluded, storage, placed),
        losses=rest.losses,
        integer_nodes=integers,
        norms=result.norms,
        accuracy=accuracy,
        sensitivity=table,
        curve=curve,
        edits=improved.edits,
        placement=placed,
        calibration=told(calibration, read, finished, ranges),
        judgement=together(shown),
        notes=tuple(notes),
        remainder=rest.dtype,
        widened=rest.kept,
    )
    return Reduced(finished, summary)


def _named(runtime: Runtime, rest: Remainder) -> Runtime:
    return InFloat32(runtime, f"{runtime.name}, rounded to {rest.dtype}") if rest.is_half else runtime


def _of_the_file(
    model: ir.Model, on: Opener, measure: Callable[[ir.Model, Runtime], Accuracy], for_engine: bool
) -> tuple[Judgement, list[str]]:
    """The judgement of a file that holds a half type as a runtime computes it by itself, where it takes such files.

    ONNX Runtime 1.32's CPU rewrites a bias in units of both scales' product, where a QuantizeLinear follows; that
    product vanishes in float16, most of all of float8 scales (an example network loses 72 points). For an engine
    that is a note alone.
    """
    try:
        runtime = InFloat32(on(model))
    except NormExportError as error:
        if on is not OnnxRuntime:
            raise
        return passed(), [f"ONNX Runtime's CPU does not open the file itself: {printable(error.cause, 200)}"]
    judgement = measure(model, runtime).judgement or passed()
    if judgement.verdict is not Verdict.FAILED:
        return passed(), []
    reasons = tuple(f"run by {runtime.name} itself, {reason}" for reason in judgement.reasons)
    if for_engine and on is OnnxRuntime:
        return passed(), [f"{each}; an engine does not rewrite it so" for each in reasons[:1]]
    return failed(*reasons[:1]), []


def _feeds_for_peaks(model: ir.Model, inputs: Sequence[InputSpec], few: Data, config: EightBit) -> list[Feeds]:
    """Random inputs and a few real ones, on which a half type must not overflow."""
    if config.rest not in HALVES:
        return []
    real = slice_batches(inputs, few, config.batch) if isinstance(few, Mapping) else few
    return [*real, *(batch.feeds for batch in choose_batches(inputs, graph=model).batches)]


def _unjudged(
    model: ir.Model,
    config: EightBit,
    inputs: Sequence[InputSpec],
    kept: Mapping[str, str],
    finish: Finish,
    defaulted: Sequence[str],
) -> Reduced:
    """By what norms know, with nothing to judge the result on: it is written, and its verdict says so."""
    storage = Storage.of(config)
    found = calibrate_by_norms(model, inputs, symmetric=config.symmetric, storage=storage)
    improved = improve_by_norms(model, found, config, None, tuple(kept))
    model, rest = plan_remainder(model, config, _feeds_for_peaks(model, inputs, [], config), None)
    result = quantize(
        model,
        improved.ranges,
        symmetric=config.symmetric,
        exclude=tuple(kept),
        corrections=improved.corrections,
        storage=storage,
    )
    finished = finish(rest.store(result.model))
    summary = Precision(
        config.dtype,
        kept=listing(model, kept, found.lacking, result.excluded, storage),
        losses=rest.losses,
        integer_nodes=sum(is_quantized(node) for node in finished.graph),
        norms=result.norms,
        edits=improved.edits,
        calibration=told(found.calibration, None, finished, improved.ranges),
        judgement=inconclusive("no data judged it; give --data"),
        notes=(*found.notes, *defaulted, *rest.notes),
        remainder=rest.dtype,
        widened=rest.kept,
    )
    return Reduced(finished, summary)


def _part_samples(config: EightBit, inputs: Sequence[InputSpec], judged: Judged | None) -> Parted:
    """Which samples calibrate and which judge."""
    require_samples(config, judged is not None)
    if config.method == NORMS and judged is not None:
        return Parted(Batches(lambda: iter(())), dict(judged.data))
    if config.calibration is not None:
        batches = batches_of(config.calibration, inputs, config.batch, config.preprocess)
        return part_stream(batches, inputs) if judged is None else Parted(batches, dict(judged.data))
    assert judged is not None
    if _is_cached(config):  # the cache says which samples it has seen
        return Parted(Batches(lambda: iter(())), dict(judged.data))
    return part_arrays(judged.data, inputs, config.batch)


def _is_cached(config: EightBit) -> bool:
    return config.cache is not None and config.cache.exists()


def _labels_of_judging(judged: Judged | None, inputs: Sequence[InputSpec], parted: Parted) -> Labelled | None:
    """The labels of the samples that judge; of a model of a fixed batch, of all samples of the runs that do."""
    if judged is None or judged.labelled is None or judged.labels is None or parted.kept is None:
        return None if judged is None else judged.labelled
    each = 1 if any(spec.batched for spec in inputs) else len(judged.labels) // fixed_batches_in(inputs, judged.data)
    rows = [number * each + place for number in parted.kept for place in range(each)]
    return replace(judged.labelled, labels=judged.labels[rows])


def _calibrate(
    model: ir.Model,
    config: EightBit,
    inputs: Sequence[InputSpec],
    parted: Parted,
    notes: list[str],
    on_batch: OnBatch | None,
) -> tuple[Calibration, NormRanges | None]:
    """The ranges, and all that the norms know where these gave them."""
    storage = Storage.of(config)
    if config.method == NORMS:
        by_norms = calibrate_by_norms(model, inputs, symmetric=config.symmetric, storage=storage)
        notes += by_norms.notes
        return by_norms.calibration, by_norms
    if config.cache is not None and _is_cached(config):
        found = from_cache(config.cache, model, config, inputs, parted)
        if found is not None:
            notes.insert(0, f"ranges read from {config.cache}")
            return found, None
    if config.on is not None:
        found, told = calibrate_on(config.on, model, config, inputs, parted, on_batch)
        notes += told
        return found, None
    total, seen = parted.calibration.count, set[str]()
    counted = None if on_batch is None else lambda samples: on_batch(samples, total)
    stream = watch(parted.calibration, inputs, seen)
    compared = Comparison.of(model)
    found = calibrate(
        model,
        stream,
        config.method,
        symmetric=config.symmetric,
        storage=storage,
        on_batch=counted,
        on_tensor=compared.look,
        also=compared.known,
    )
    found = replace(found, seen=tuple(sorted(seen)))
    notes += compared.notes()
    if config.cache is not None:
        found.save(config.cache)
        notes.append(f"ranges written to {config.cache}")
    return found, None


def _level(model: ir.Model, inputs: Sequence[InputSpec], fresh: Parted) -> Callable[[ir.Model], float]:
    """The SNR in dB of the worst output of an int8 model, on a part of what judges."""
    chosen_on = first_samples(fresh.judging, inputs, min(_CHOSEN_ON, _IMAGES * _most_ranked(fresh.judging, inputs)))
    exact = collect(OnnxRuntime(model), chosen_on, model=model)

    def level(candidate: ir.Model) -> float:
        release_memory()
        found = collect(OnnxRuntime(candidate), chosen_on, model=candidate, batch=exact.batch)
        return min((error.level for error in output_errors(exact, found, -math.inf, 100)), default=math.inf)

    return level


def _improve(
    model: ir.Model,
    calibration: Calibration,
    config: EightBit,
    batches: Batches,
    level: Callable[[ir.Model], float],
    fresh: Parted,
    kept: Collection[str],
) -> Improved:
    """The edits that help, fitted on what calibrated and measured by `level`."""
    refused = "no samples are left to measure it on" if fresh.reason else ""
    if batches.count == 0:
        refused = "the ranges come from a cache, and the samples that made them are not here"
    keep_ranges = "" if config.cache is None else "the cached ranges are those of the model as it is"
    return improve(
        model,
        calibration.ranges,
        config,
        batches,
        level,
        exclude=tuple(kept),
        refused=refused,
        keep_ranges=keep_ranges,
    )


def _known(parted: Parted, seen: Collection[str], config: EightBit, inputs: Sequence[InputSpec]) -> Batches:
    """The samples given to judge on that a cache says calibrated: those that a run without it calibrates on."""
    known = [index for index, digest in enumerate(digests_of(parted.judging, inputs)) if digest in seen]
    if not known or not isinstance(parted.judging, Mapping):
        return Batches(lambda: iter(()), 0)
    return batches_in(choose_samples(parted.judging, inputs, np.array(known)), inputs, config.batch)


def _most_ranked(data: Data, inputs: Sequence[InputSpec]) -> int:
    """How many samples have at most `_MOST_NUMBERS` numbers, and at least one."""
    one = first_samples(data, inputs, 1)
    runs = one if not isinstance(one, Mapping) else [one]
    return max(1, _MOST_NUMBERS // max(1, sum(map(numbers_in, runs))))
