"""A folded float32 model -> int8 or fp8: calibrate, quantise, leave out what hurts, judge on samples new to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from normexport.dtypes import HALVES, SHORT
from normexport.errors import NormExportError, UsageError
from normexport.onnx_export import InputSpec
from normexport.precision.accuracy import Accuracy
from normexport.precision.config import NORMS, PLACEMENTS, TRAINED, EightBit, Limits
from normexport.precision.int8.as_trained import lower_as_trained
from normexport.precision.int8.edits import Improved, fits_of, improve
from normexport.precision.int8.edits_by_norms import improve_by_norms
from normexport.precision.int8.first_samples import check_labels_fit
from normexport.precision.int8.from_norms import calibrate_by_norms
from normexport.precision.int8.grids import WeightGrid
from normexport.precision.int8.held_out import Parted
from normexport.precision.int8.judging import Judging, level_on
from normexport.precision.int8.layer_constants import note_on_scales
from normexport.precision.int8.listing import asked_for, listing, told
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.placed import placement_of
from normexport.precision.int8.quantise import quantize
from normexport.precision.int8.ranges_for import Ranges, ranges_for
from normexport.precision.int8.remainder import Remainder, as_written, plan_remainder, with_remainder
from normexport.precision.int8.sample_roles import Roles, is_cached, part_samples, roles_of
from normexport.precision.int8.sensitivity import rescue, sensitivities
from normexport.precision.int8.storage import Storage
from normexport.precision.labelled_output import require_limit
from normexport.precision.reduced import Finish, Judged, OnBatch, Precision, Reduced
from normexport.precision.runs import Data
from normexport.proof import choose_batches
from normexport.proof.inputs.batches import slice_batches
from normexport.runtime import Feeds, OnnxRuntime, Opener, Runtime
from normexport.runtime.around import in_float32
from normexport.text import printable
from normexport.verdicts import Judgement, Verdict, failed, inconclusive, passed, together


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
    defaulted = (*defaulted, *note_on_scales(model))
    kept = asked_for(model, config)
    limits = Limits(config.min_snr, config.max_drop)
    if config.method == NORMS and judged is None:
        if config.placement != PLACEMENTS[0]:
            raise UsageError(f"--placement {config.placement}", "needs samples to time and judge on", "give --data")
        return _unjudged(model, config, inputs, kept, finish, defaulted)
    if judged is not None and judged.labelled is not None:
        require_limit(judged.labelled, limits)
        check_labels_fit(OnnxRuntime(model), model, judged, judged.labelled, inputs)
    parted = part_samples(config, inputs, judged)
    was_cached = is_cached(config) and config.calibration is None
    found = ranges_for(model, config, inputs, parted, on_batch)
    roles = roles_of(parted, found.calibration.seen, config, inputs, judged, was_cached)
    judging = Judging.by(model, roles.fresh.judging, roles.labelled, limits)
    improved = _improve(model, found, config, roles, kept, inputs)
    peaks = _feeds_for_peaks(model, inputs, roles.few, config)
    model, rest = plan_remainder(improved.model, config, peaks, judging.accepts)
    judged_on = OnnxRuntime if rest.is_half else on
    fits = fits_of(improved, config, roles.fitted_on, kept)
    improved, placed = placement_of(model, config, improved, fits, roles.ranked_on, judging.judge, kept, judged_on)
    how: dict[str, Any] = {
        "symmetric": config.symmetric,
        "fits": fits,
        "storage": Storage.of(config),
        "where": config.on,
    }
    outside = (*kept, *(placed.excluded if placed is not None else ()))
    result, curve = rescue(
        model,
        improved.ranges,
        roles.few,
        judging.judge,
        ranked_on=roles.ranked_on,
        exclude=outside,
        on=judged_on,
        held=lambda quantised: as_written(rest.store(quantised)),
        **how,
    )
    table = sensitivities(model, improved.ranges, roles.ranked_on, **how) if config.table else ()
    finished = finish(rest.store(result.model))
    held = as_written(finished)
    accuracy = judging.measure(held, _named(judged_on(held), rest))
    integers = sum(is_quantized(node) for node in finished.graph)
    shown = [accuracy.judgement or passed(), inconclusive(roles.fresh.reason) if roles.fresh.reason else passed()]
    if not integers and len(result.excluded) > len(outside):
        shown.append(failed(f"the limit holds only with nothing in {SHORT[config.dtype]}"))
    notes = _notes(parted, found, roles, defaulted)
    if rest.is_half:
        judgement, told_of_it = _of_the_file(finished, on, judging.measure, for_engine)
        shown, notes = [*shown, judgement], [*notes, *rest.notes, *told_of_it]
    lacking = {} if found.by_norms is None else found.by_norms.lacking
    summary = Precision(
        config.dtype,
        kept=listing(model, kept, lacking, result.excluded, Storage.of(config), placed),
        losses=rest.losses,
        integer_nodes=integers,
        norms=result.norms,
        accuracy=accuracy,
        sensitivity=table,
        curve=curve,
        edits=improved.edits,
        placement=placed,
        calibration=told(found.calibration, parted.calibration.read, finished, improved.ranges),
        judgement=together(shown),
        notes=tuple(notes),
        remainder=rest.dtype,
        widened=rest.kept,
    )
    return Reduced(finished, summary)


def _notes(parted: Parted, found: Ranges, roles: Roles, defaulted: Sequence[str]) -> list[str]:
    """What to know of samples and ranges, in words."""
    read = parted.calibration.read
    again = roles.fresh.note if roles.fresh.note != parted.note else ""
    left_out = (f"left out of what calibrates: {line}" for line in parted.skipped)
    said = read.note if read is not None else ""
    told_of = (found.read_from, parted.note, said, *left_out, *defaulted, *found.notes, again)
    return [note for note in told_of if note]


def _improve(
    model: ir.Model,
    found: Ranges,
    config: EightBit,
    roles: Roles,
    kept: Collection[str],
    inputs: Sequence[InputSpec],
) -> Improved:
    """The edits that help, fitted on what calibrated and measured on a part of what judges."""
    level = level_on(model, roles.chosen_on)
    if found.by_norms is not None:
        return improve_by_norms(model, found.by_norms, config, level, tuple(kept), inputs)
    refused = "no samples are left to measure it on" if roles.fresh.reason else ""
    if roles.fitted_on.count == 0:
        refused = "the ranges come from a cache, and the samples that made them are not here"
    keep_ranges = "" if config.cache is None else "the cached ranges are those of the model as it is"
    return improve(
        model,
        found.calibration.ranges,
        config,
        roles.fitted_on,
        level,
        exclude=tuple(kept),
        refused=refused,
        keep_ranges=keep_ranges,
    )


def _named(runtime: Runtime, rest: Remainder) -> Runtime:
    return in_float32(runtime, f"{runtime.name}, rounded to {rest.dtype}") if rest.is_half else runtime


def _of_the_file(
    model: ir.Model, on: Opener, measure: Callable[[ir.Model, Runtime], Accuracy], for_engine: bool
) -> tuple[Judgement, list[str]]:
    """The judgement of a file that holds a half type as a runtime computes it by itself, where it takes such files.

    ONNX Runtime 1.32's CPU rewrites a bias in units of both scales' product, where a QuantizeLinear follows; that
    product vanishes in float16, most of all of float8 scales (an example network loses 72 points). For an engine
    that is a note alone.
    """
    try:
        runtime = in_float32(on(model))
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
    improved = improve_by_norms(model, found, config, None, tuple(kept), inputs)
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
