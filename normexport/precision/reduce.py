"""A folded float32 model -> the same in float16, bfloat16, int8 or fp8, with the proof and what it cost.

reduced = reduce_precision(folded, Int8(calibration="images.npz"), inputs)
reduced.model      # the ONNX model: every type stands in the graph, nothing is left to builder flags
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from normexport.dtypes import HALVES
from normexport.graphs.constant_nodes import store_constants
from normexport.graphs.upgrade import upgraded
from normexport.logs import in_words, logger
from normexport.onnx_export import InputSpec, Layer
from normexport.precision.accuracy import measure_accuracy
from normexport.precision.collected import BATCH, collect
from normexport.precision.config import TRAINED, EightBit, Fp8, Half, Int8, Limits
from normexport.precision.file_precision import require_float32
from normexport.precision.half.search import asked_for as asked_for_in_half
from normexport.precision.half.search import halve
from normexport.precision.half.types import first_opset
from normexport.precision.int8.first_samples import check_labels_fit
from normexport.precision.int8.grids import WeightGrid
from normexport.precision.int8.insert import first_opset as first_opset_of
from normexport.precision.int8.layer_constants import CHANNELS_FROM
from normexport.precision.int8.listing import asked_for
from normexport.precision.int8.remainder import HALF_SCALES_FROM
from normexport.precision.int8.sample_roles import calibration_stream
from normexport.precision.int8.search import lower_to_int8
from normexport.precision.int8.storage import Storage
from normexport.precision.numbered import Numbered
from normexport.precision.reduced import Finish, Judged, OnBatch, Precision, Reduced
from normexport.precision.runs import Given
from normexport.precision.samples import batches_of
from normexport.runtime import Array, OnnxRuntime, Opener
from normexport.runtime.exact import Reference
from normexport.text import one_line
from normexport.verdicts import Verdict, together

__all__ = [
    "Fp8",
    "Half",
    "Int8",
    "Judged",
    "Precision",
    "Reduced",
    "check_asked",
    "is_as_trained",
    "prepared",
    "reduce_precision",
]

_LOG = logger(__name__)

# Parity has judged the outputs by the error of the half type itself; what is asked here is whether they are numbers.
_FINITE = Limits(-math.inf, math.inf)


def _unchanged(model: ir.Model) -> ir.Model:
    return model


def is_as_trained(config: Half | EightBit | None) -> bool:
    """Whether int8 takes its integers from training: the model then has fake quantisation."""
    return isinstance(config, Int8) and config.method == TRAINED


def prepared(model: ir.Model, config: Half | EightBit) -> ir.Model:
    """The model in an operator set that the precision needs, where ONNX's converter can take it there; else itself.

    int8 needs scales per channel, with a half remainder scales of its type; fp8 types in attributes; a half type a Cast
    to it. Whether it still computes the same is for parity to say.
    """
    if isinstance(config, Half):
        return upgraded(model, first_opset(config.dtype))
    scales = HALF_SCALES_FROM if config.rest in HALVES else CHANNELS_FROM
    return upgraded(model, max(scales, first_opset_of(Storage.of(config))))


def check_asked(model: ir.Model, config: Half | EightBit, inputs: Sequence[InputSpec], judged: Judged | None) -> None:
    """Refuse at once what `reduce_precision` would refuse of this model later: patterns, samples, labels.

    A batch of calibration is read, and two samples are run where there are labels.

    Raises:
        UsageError: a pattern of `keep` matches nothing; samples are not what the model reads; labels fit no output.
        FoldError: half precision of a graph with If or Loop.
    """
    if isinstance(config, Half):
        asked_for_in_half(model, config)
    elif not is_as_trained(config):
        asked_for(model, config)
        _look_at_first(config, inputs)
    if judged is not None and judged.labelled is not None and not is_as_trained(config):
        check_labels_fit(OnnxRuntime(model), model, judged, judged.labelled, inputs)


def _look_at_first(config: EightBit, inputs: Sequence[InputSpec]) -> None:
    """Read a batch of the samples that calibrate, where they lie in files."""
    if not isinstance(config.calibration, str | Path):
        return
    stream = calibration_stream(config, inputs)
    if stream is not None:
        stream.rows(config.batch)
    else:
        next(batches_of(config.calibration, inputs, config.batch, config.preprocess)(), None)


def reduce_precision(
    model: ir.Model,
    config: Half | EightBit,
    inputs: Sequence[InputSpec],
    *,
    judged: Judged | None = None,
    source: Reference | None = None,
    layers: Sequence[Layer] = (),
    on_batch: OnBatch | None = None,
    on: Opener = OnnxRuntime,
    finish: Finish = _unchanged,
    weights: Mapping[str, WeightGrid] | None = None,
    for_engine: bool = False,
) -> Reduced:
    """Convert a folded float32 model, which is not changed. Weights in Constant nodes count as initializers.

    Args:
        inputs: what the model reads.
        judged: real data: half precision is judged on it beside random inputs, int8 on it alone.
        source: half precision's reference in float64, the torch or ONNX model that `model` came from; None: `model`.
        layers: module boundaries for half precision's report.
        on_batch: called after each batch of calibration with the samples seen, and how many there will be (None: not
            known).
        on: the runtime that the result is judged on.
        finish: what the file is made of the result by; that is judged, and returned.
        weights: for int8 on the integers of training, the grids of weights (`take_weights`), of which the model has the
            rounded numbers; its activations are in pairs of QuantizeLinear and DequantizeLinear.
        for_engine: whether an engine is built of it: then the default remainder of eight bits is float16, and what ONNX
            Runtime's CPU by itself makes of a half remainder is told and does not judge.

    Raises:
        UsageError: no calibration data, or unfit data; patterns that match nothing.
        FoldError: half precision of a graph with If or Loop; the model is quantised, or computes in another type.
    """
    if not is_as_trained(config):
        require_float32(model)
    model = store_constants(model)
    if isinstance(config, Half):
        reduced = _half(model, config, inputs, judged, source, layers, on, finish)
    else:
        reduced = lower_to_int8(model, config, inputs, judged, on_batch, on, finish, weights or {}, for_engine)
    if judged is not None and reduced.precision.accuracy is not None:
        accuracy = replace(reduced.precision.accuracy, skipped=judged.skipped)
        reduced = replace(reduced, precision=replace(reduced.precision, accuracy=accuracy))
    done = reduced.precision
    for module in done.kept:
        _LOG.debug("%r: kept in float32, %s", module.path, one_line(module.reason))
    _LOG.info("%s, modules kept in float32: %d; %s", done.dtype, len(done.kept), in_words(done.judgement))
    return reduced


def _few(data: Given) -> Mapping[str, Array]:
    """As many samples as parity looks at."""
    return data.rows(BATCH) if isinstance(data, Numbered) else data


def _half(
    model: ir.Model,
    config: Half,
    inputs: Sequence[InputSpec],
    judged: Judged | None,
    source: Reference | None,
    layers: Sequence[Layer],
    on: Opener,
    finish: Finish,
) -> Reduced:
    from normexport.precision.half.baseline import HalfParity
    from normexport.precision.half.rounding import rounding_in_float32
    from normexport.runtime.around import in_float32

    few = None if judged is None else _few(judged.data)
    rule = HalfParity(source, inputs, config.dtype, model, few)
    result = halve(model, config, [batch.feeds for batch in rule.batches], rule.accepts)
    result = replace(result, model=finish(result.model))
    parity = rule.report(result, layers, on)
    accuracy = None
    if judged is not None:
        runtime = in_float32(OnnxRuntime(rounding_in_float32(result.model)), f"ONNX Runtime, rounded to {config.dtype}")
        exact = collect(OnnxRuntime(model), judged.data, model=model)
        found = collect(runtime, judged.data, model=result.model, batch=exact.batch)
        accuracy = measure_accuracy(found, judged.labelled, exact, _FINITE)
    shown = [parity.judgement]
    if accuracy is not None and accuracy.judgement is not None and accuracy.judgement.verdict is Verdict.FAILED:
        shown.append(accuracy.judgement)  # NaN where float32 has a number; what else real data show, parity has judged
    summary = Precision(
        config.dtype, result.kept, result.losses, accuracy=accuracy, judgement=together(shown), notes=result.notes
    )
    return Reduced(result.model, summary, parity)
