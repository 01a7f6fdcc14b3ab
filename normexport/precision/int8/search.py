"""A folded float32 model -> int8: calibrate, quantise, leave in float32 what hurts, judge on samples new to it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from normexport.errors import UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.accuracy import Accuracy, measure_accuracy
from normexport.precision.collected import Data, collect
from normexport.precision.config import NORMS, TRAINED, Int8, Limits
from normexport.precision.int8.calibration import Calibration, calibrate, read_calibration
from normexport.precision.int8.contradiction import Comparison
from normexport.precision.int8.corrections import NONE
from normexport.precision.int8.edits import Improved, improve
from normexport.precision.int8.from_norms import calibrate_by_norms
from normexport.precision.int8.from_training import REFERENCE, Trained, calibrate_by_training
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
from normexport.precision.int8.quantise import Quantized, quantize
from normexport.precision.int8.sensitivity import Sensitivity, rescue, sensitivities
from normexport.precision.labelled_output import check_labels, labelled_output, require_limit
from normexport.precision.labels import Labelled
from normexport.precision.output_errors import output_errors
from normexport.precision.reduced import Finish, Judged, OnBatch, Precision, Reduced
from normexport.precision.samples import Batches, batches_in, batches_of, digest_of
from normexport.proof.inputs.batches import fixed_batches_in
from normexport.proof.inputs.mixed import numbers_in
from normexport.runtime import OnnxRuntime, Opener, Runtime
from normexport.verdicts import Verdict, failed, inconclusive, passed, together

RANKED_ON = 16  # samples at least, on which models are timed
#: Numbers of all inputs on which modules are ranked, each in a run of its own: 13 images of 224 by 224, 1 of 640.
#: With half as many a detector of 320 by 320 keeps 36 of its 99 modules in float32 in place of 32.
_MOST_NUMBERS = 1 << 21
_CHOSEN_ON, _IMAGES = 64, 4  # samples at most that edits are measured on, and how many times those that modules are


def lower_to_int8(
    model: ir.Model,
    config: Int8,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    on_batch: OnBatch | None,
    on: Opener,
    finish: Finish,
    weights: Mapping[str, WeightGrid] | None = None,
) -> Reduced:
    """See `normexport.precision.reduce`."""
    limits = Limits(config.min_snr, config.max_drop)
    if config.method == TRAINED:
        return _lower_as_trained(model, weights or {}, config, inputs, judged, on, finish)
    kept = asked_for(model, config)
    if config.method == NORMS and judged is None:
        by_norms = calibrate_by_norms(model, inputs, symmetric=config.symmetric)
        found = Trained(model, by_norms.calibration, NONE, by_norms.lacking, by_norms.notes)
        return _unjudged(found, config, finish)
    if judged is not None and judged.labelled is not None:
        require_limit(judged.labelled, limits)
        _check_labels(OnnxRuntime(model), model, judged, judged.labelled, inputs)
    parted = _part_samples(config, inputs, judged)
    from_cache = _is_cached(config) and config.calibration is None
    read = parted.calibration.read
    notes = [note for note in (parted.note, read.note if read is not None else "") if note]
    calibration, lacking = _calibrate(model, config, inputs, parted, notes, on_batch)
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

    few = _few(fresh.judging, inputs, max(config.batch, RANKED_ON))
    ranked_on = _few(few, inputs, _most_ranked(few, inputs))
    fitted_on = _known(parted, calibration.seen, config, inputs) if from_cache else parted.calibration
    improved = _improve(model, calibration, config, inputs, fitted_on, fresh, kept)
    model, ranges = improved.model, improved.ranges
    symmetric, corrections = config.symmetric, improved.corrections
    result, curve = rescue(
        model,
        ranges,
        few,
        judge,
        ranked_on=ranked_on,
        symmetric=symmetric,
        exclude=tuple(kept),
        corrections=corrections,
        on=on,
    )
    table: tuple[Sensitivity, ...] = ()
    if config.table:
        table = sensitivities(model, ranges, ranked_on, symmetric=symmetric, corrections=corrections)
    finished = finish(result.model)
    accuracy = measure(finished, on(finished))
    integers = sum(is_quantized(node) for node in result.model.graph)
    shown = [accuracy.judgement or passed(), inconclusive(fresh.reason) if fresh.reason else passed()]
    if not integers and len(result.excluded) > len(kept):
        shown.append(failed("the limit holds only with nothing in int8"))
    summary = Precision(
        "int8",
        kept=listing(model, kept, lacking, result.excluded),
        integer_nodes=integers,
        norms=result.norms,
        accuracy=accuracy,
        sensitivity=table,
        curve=curve,
        edits=improved.edits,
        calibration=told(calibration, read),
        judgement=together(shown),
        notes=tuple(notes),
    )
    return Reduced(finished, summary)


def _unjudged(found: Trained, config: Int8, finish: Finish) -> Reduced:
    """With nothing to judge the result on: it is written, and its verdict says so."""
    kept = asked_for(found.model, config)
    result = _quantised(found, kept, config)
    summary = Precision(
        "int8",
        kept=listing(found.model, kept, found.lacking, result.excluded),
        integer_nodes=sum(is_quantized(node) for node in result.model.graph),
        norms=result.norms,
        calibration=told(found.calibration, None),
        judgement=inconclusive("no data judged it; give --data"),
        notes=found.notes,
    )
    return Reduced(finish(result.model), summary)


def _quantised(found: Trained, kept: Mapping[str, str], config: Int8) -> Quantized:
    exclude = (*kept, *(found.lacking if found.corrections is not NONE else ()))
    return quantize(
        found.model,
        found.calibration.ranges,
        symmetric=config.symmetric,
        exclude=tuple(dict.fromkeys(exclude)),
        corrections=found.corrections,
    )


def _lower_as_trained(
    model: ir.Model,
    weights: Mapping[str, WeightGrid],
    config: Int8,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    on: Opener,
    finish: Finish,
) -> Reduced:
    """On the integers of training; held to the network's own fake-quantised forward, of which nothing is left out."""
    found = calibrate_by_training(model, weights, config)
    unjudged = _unjudged(found, config, finish)
    if judged is None:
        return unjudged
    limits, labelled = Limits(config.min_snr, config.max_drop), judged.labelled
    own = OnnxRuntime(model, simulated=True)
    if labelled is not None:
        require_limit(labelled, limits)
        _check_labels(own, model, judged, labelled, inputs)
    exact = collect(own, judged.data, model=model)
    ours = collect(on(unjudged.model), judged.data, model=unjudged.model, batch=exact.batch)
    accuracy = measure_accuracy(ours, labelled, exact, limits)
    notes = (*found.notes, f"judged against {REFERENCE}")
    done = replace(unjudged.precision, accuracy=accuracy, judgement=accuracy.judgement or passed(), notes=notes)
    return replace(unjudged, precision=done)


def _check_labels(
    runtime: Runtime, model: ir.Model, judged: Judged, labelled: Labelled, inputs: Sequence[InputSpec]
) -> None:
    """Labels that do not fit are told before the long part."""
    few = collect(runtime, _few(judged.data, inputs, 2), model=model)
    samples = [len(judged.data[spec.name]) for spec in inputs if spec.batched]
    runs = fixed_batches_in(inputs, judged.data)
    total = min(samples) if samples else few.samples // min(2, runs) * runs
    check_labels(labelled, few.values[labelled_output(few, labelled)], total)


def _part_samples(config: Int8, inputs: Sequence[InputSpec], judged: Judged | None) -> Parted:
    """Which samples calibrate and which judge."""
    if config.method == NORMS and judged is not None:
        return Parted(Batches(lambda: iter(())), dict(judged.data))
    if config.calibration is not None:
        batches = batches_of(config.calibration, inputs, config.batch, config.preprocess)
        return part_stream(batches, inputs) if judged is None else Parted(batches, dict(judged.data))
    if judged is None:
        raise UsageError("--precision int8", "needs samples to calibrate on", "give --calibration-data or --data")
    if _is_cached(config):  # the cache says which samples it has seen
        return Parted(Batches(lambda: iter(())), dict(judged.data))
    return part_arrays(judged.data, inputs, config.batch)


def _is_cached(config: Int8) -> bool:
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
    config: Int8,
    inputs: Sequence[InputSpec],
    parted: Parted,
    notes: list[str],
    on_batch: OnBatch | None,
) -> tuple[Calibration, Mapping[str, str]]:
    """The ranges, and the modules that they lack, each with its reason."""
    if config.method == NORMS:
        by_norms = calibrate_by_norms(model, inputs, symmetric=config.symmetric)
        notes += by_norms.notes
        return by_norms.calibration, by_norms.lacking
    if config.cache is not None and _is_cached(config):
        found = read_calibration(config.cache, model, config.method, symmetric=config.symmetric)
        if config.calibration is not None and digest_of(parted.calibration) != found.data:
            cause = f"was made from other data than {config.calibration}"
            raise UsageError(str(config.cache), cause, "remove it, and calibrate again")
        notes.insert(0, f"ranges read from {config.cache}")
        return found, {}
    total, seen = parted.calibration.count, set[str]()
    counted = None if on_batch is None else lambda samples: on_batch(samples, total)
    stream = watch(parted.calibration, inputs, seen)
    compared = Comparison.of(model)
    found = calibrate(
        model, stream, config.method, symmetric=config.symmetric, on_batch=counted, on_tensor=compared.look
    )
    found = replace(found, seen=tuple(sorted(seen)))
    notes += compared.notes()
    if config.cache is not None:
        found.save(config.cache)
        notes.append(f"ranges written to {config.cache}")
    return found, {}


def _improve(
    model: ir.Model,
    calibration: Calibration,
    config: Int8,
    inputs: Sequence[InputSpec],
    batches: Batches,
    fresh: Parted,
    kept: Collection[str],
) -> Improved:
    """The edits that help, fitted on what calibrated and measured on a part of what judges."""
    chosen_on = _few(fresh.judging, inputs, min(_CHOSEN_ON, _IMAGES * _most_ranked(fresh.judging, inputs)))
    exact = collect(OnnxRuntime(model), chosen_on, model=model)

    def level(candidate: ir.Model) -> float:
        found = collect(OnnxRuntime(candidate), chosen_on, model=candidate, batch=exact.batch)
        return min((error.level for error in output_errors(exact, found, -math.inf, 100)), default=math.inf)

    refused = "no samples are left to measure it on" if fresh.reason else ""
    if config.method == NORMS:
        refused = "the ranges come from the norms, and no samples are there to fit it on"
    elif batches.count == 0:
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


def _known(parted: Parted, seen: Collection[str], config: Int8, inputs: Sequence[InputSpec]) -> Batches:
    """The samples given to judge on that a cache says calibrated: those that a run without it calibrates on."""
    known = [index for index, digest in enumerate(digests_of(parted.judging, inputs)) if digest in seen]
    if not known or not isinstance(parted.judging, Mapping):
        return Batches(lambda: iter(()), 0)
    return batches_in(choose_samples(parted.judging, inputs, np.array(known)), inputs, config.batch)


def _most_ranked(data: Data, inputs: Sequence[InputSpec]) -> int:
    """How many samples have at most `_MOST_NUMBERS` numbers, and at least one."""
    one = _few(data, inputs, 1)
    runs = one if not isinstance(one, Mapping) else [one]
    return max(1, _MOST_NUMBERS // max(1, sum(map(numbers_in, runs))))


def _few(data: Data, inputs: Sequence[InputSpec], most: int) -> Data:
    if not isinstance(data, Mapping):
        return data[:most]
    if not any(spec.batched for spec in inputs):
        return choose_samples(data, inputs, np.arange(min(most, fixed_batches_in(inputs, data))))
    return {spec.name: data[spec.name][:most] if spec.batched else data[spec.name] for spec in inputs}
