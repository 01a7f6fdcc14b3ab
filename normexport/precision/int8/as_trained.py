"""int8 on the integers that a network was trained on, held to its own fake-quantised forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from normexport.dtypes import INT8
from normexport.onnx_export import InputSpec
from normexport.precision.accuracy import measure_accuracy
from normexport.precision.collected import collect
from normexport.precision.config import EightBit, Limits
from normexport.precision.int8.corrections import NONE
from normexport.precision.int8.first_samples import check_labels_fit
from normexport.precision.int8.from_training import REFERENCE, Trained, calibrate_by_training
from normexport.precision.int8.grids import WeightGrid
from normexport.precision.int8.listing import asked_for, listing, told
from normexport.precision.int8.pairs import is_quantized
from normexport.precision.int8.quantise import Quantized, quantize
from normexport.precision.labelled_output import require_limit
from normexport.precision.reduced import Finish, Judged, Precision, Reduced
from normexport.runtime import OnnxRuntime, Opener
from normexport.verdicts import inconclusive, passed


def lower_as_trained(
    model: ir.Model,
    weights: Mapping[str, WeightGrid],
    config: EightBit,
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
        check_labels_fit(own, model, judged, labelled, inputs)
    exact = collect(own, judged.data, model=model)
    ours = collect(on(unjudged.model), judged.data, model=unjudged.model, batch=exact.batch)
    accuracy = measure_accuracy(ours, labelled, exact, limits)
    notes = (*found.notes, f"judged against {REFERENCE}")
    done = replace(unjudged.precision, accuracy=accuracy, judgement=accuracy.judgement or passed(), notes=notes)
    return replace(unjudged, precision=done)


def _unjudged(found: Trained, config: EightBit, finish: Finish) -> Reduced:
    """With nothing to judge the result on: it is written, and its verdict says so."""
    kept = asked_for(found.model, config)
    result = _quantised(found, kept, config)
    summary = Precision(
        INT8,
        kept=listing(found.model, kept, found.lacking, result.excluded),
        integer_nodes=sum(is_quantized(node) for node in result.model.graph),
        norms=result.norms,
        calibration=told(found.calibration, None, result.model, found.calibration.ranges),
        judgement=inconclusive("no data judged it; give --data"),
        notes=found.notes,
    )
    return Reduced(finish(result.model), summary)


def _quantised(found: Trained, kept: Mapping[str, str], config: EightBit) -> Quantized:
    exclude = (*kept, *(found.lacking if found.corrections is not NONE else ()))
    return quantize(
        found.model,
        found.calibration.ranges,
        symmetric=config.symmetric,
        exclude=tuple(dict.fromkeys(exclude)),
        corrections=found.corrections,
    )
